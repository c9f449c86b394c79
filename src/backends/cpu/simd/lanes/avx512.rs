//! Sixteen lanes as one AVX-512 register.

use super::{Kernel, Simd, dot_bf16};
use std::arch::x86_64::*;

/// AVX-512 F, BW, VL, DQ and VNNI; `BF16`: with the dot products of bf16 (AVX512_BF16).
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool>(());

/// An intrinsic, or several.
macro_rules! isa {
    ($e:expr) => {
        // SAFETY: a value of this type exists, so the processor has the level (`assume`); pointers are used within the
        // promises of the method's caller.
        unsafe { $e }
    };
}

/// The first `n` lanes.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

/// Where the words of both results of each stage of `transpose_u16` are in the 64 of two registers. Bits of a place, from the highest on, `c`
/// of a column, `r` of a row: `r3 c3 c2 c1 c0`, then `r3 c3 c2 c1 r2`, `r3 c3 c2 r2 r1`, and `c3 r3 r2 r1 r0`.
static TURN: [[[u16; 32]; 2]; 3] = {
    let mut turn = [[[0; 32]; 2]; 3];
    let mut to = 0;
    while to < 32 {
        let mut high = 0;
        while high < 2 {
            let other = (to & 1) << 5;
            turn[0][high][to] = (other | to & 0b11110 | high) as u16;
            turn[1][high][to] = (other | to & 0b11100 | high << 1 | to >> 1 & 1) as u16;
            turn[2][high][to] = (other | (to & 8) << 1 | (to & 16) >> 1 | high << 2 | to >> 1 & 3) as u16;
            high += 1;
        }
        to += 1;
    }
    turn
};

// SAFETY: each method computes on 16 lanes what the trait says.
unsafe impl<const BF16: bool> Simd for Avx512<BF16> {
    type F = __m512;
    type I = __m512i;

    const ROWS: usize = 4;
    const TOKENS: usize = 8;
    const FLOAT_TOKENS: usize = 8;
    const SHIFTED: bool = true;

    #[inline(always)]
    unsafe fn assume() -> Self {
        Avx512(())
    }

    #[inline(always)]
    unsafe fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
        #[inline(never)]
        unsafe fn plain<K: Kernel>(s: Avx512<false>, kernel: K) -> K::Output {
            // SAFETY: the caller's promise is the kernel's contract.
            unsafe { kernel.run(s) }
        }
        #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
        #[inline(never)]
        unsafe fn bf16<K: Kernel>(s: Avx512<true>, kernel: K) -> K::Output {
            // SAFETY: the caller's promise is the kernel's contract.
            unsafe { kernel.run(s) }
        }
        if BF16 { isa!(bf16(Avx512(()), kernel)) } else { isa!(plain(Avx512(()), kernel)) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        isa!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        isa!(_mm512_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize) -> __m512 {
        isa!(_mm512_maskz_loadu_ps(mask(n), p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: __m512) {
        isa!(_mm512_storeu_ps(p, x))
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize, x: __m512) {
        isa!(_mm512_mask_storeu_ps(p, mask(n), x))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        isa!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        isa!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn scale2(self, a: __m512, n: __m512) -> __m512 {
        isa!(_mm512_scalef_ps(a, n))
    }
    #[inline(always)]
    fn select_lt(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        isa!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x))
    }
    #[inline(always)]
    fn reduce_add(self, a: __m512) -> f32 {
        isa!({
            let v8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let v4 = _mm_add_ps(_mm256_castps256_ps128(v8), _mm256_extractf128_ps::<1>(v8));
            let v2 = _mm_add_ps(v4, _mm_movehl_ps(v4, v4));
            _mm_cvtss_f32(_mm_add_ss(v2, _mm_shuffle_ps::<1>(v2, v2)))
        })
    }
    #[inline(always)]
    fn reduce_max(self, a: __m512) -> f32 {
        isa!(_mm512_reduce_max_ps(a))
    }
    #[inline(always)]
    fn transpose(self, r: [__m512; 16]) -> [__m512; 16] {
        let mut out = r;
        isa!({
            // Four rows at a time: quarter L of u[4g + c] holds column 4L + c of rows 4g .. 4g + 3.
            let mut u = r;
            for g in 0..4 {
                let (a, b) =
                    (_mm512_unpacklo_ps(r[4 * g], r[4 * g + 1]), _mm512_unpacklo_ps(r[4 * g + 2], r[4 * g + 3]));
                let (c, d) =
                    (_mm512_unpackhi_ps(r[4 * g], r[4 * g + 1]), _mm512_unpackhi_ps(r[4 * g + 2], r[4 * g + 3]));
                let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
                let (c, d) = (_mm512_castps_pd(c), _mm512_castps_pd(d));
                u[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                u[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                u[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
                u[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
            }
            // Then quarters: 0x88 takes the even ones of both operands, 0xdd the odd ones.
            for c in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(u[c], u[4 + c]);
                let odd = _mm512_shuffle_f32x4::<0xdd>(u[c], u[4 + c]);
                let even_high = _mm512_shuffle_f32x4::<0x88>(u[8 + c], u[12 + c]);
                let odd_high = _mm512_shuffle_f32x4::<0xdd>(u[8 + c], u[12 + c]);
                out[c] = _mm512_shuffle_f32x4::<0x88>(even, even_high);
                out[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd, odd_high);
                out[8 + c] = _mm512_shuffle_f32x4::<0xdd>(even, even_high);
                out[12 + c] = _mm512_shuffle_f32x4::<0xdd>(odd, odd_high);
            }
        });
        out
    }
    #[inline(always)]
    fn to_bits(self, a: __m512) -> __m512i {
        isa!(_mm512_castps_si512(a))
    }
    #[inline(always)]
    fn from_bits(self, a: __m512i) -> __m512 {
        isa!(_mm512_castsi512_ps(a))
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> __m512 {
        isa!(_mm512_cvtph_ps(_mm256_loadu_si256(p.cast())))
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, x: __m512) {
        isa!(_mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)))
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> __m512 {
        isa!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())))))
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, x: __m512) {
        isa!({
            let bits = _mm512_castps_si512(x);
            // Half of the last place that stays, less one, and one more where that place is odd. Not a number stays one.
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            let rounded = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x), quiet);
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded)));
        })
    }
    #[inline(always)]
    unsafe fn transpose_u16(self, rows: &[*const u8; 16], at: usize, out: *mut u16, stride: usize) {
        // Rows j and j + 8 in register j. Each stage turns a bit of the register's number, from the highest on, into the lowest bit of
        // the place, and a bit of the column into that bit of the register's number.
        let mut r = isa!([_mm512_setzero_si512(); 8]);
        for (j, r) in r.iter_mut().enumerate() {
            *r = isa!(_mm512_inserti64x4::<1>(
                _mm512_castsi256_si512(_mm256_loadu_si256(rows[j].add(at).cast())),
                _mm256_loadu_si256(rows[j + 8].add(at).cast())
            ));
        }
        for (stage, bit) in [4, 2, 1].into_iter().enumerate() {
            let [low, high] = isa!([
                _mm512_loadu_si512(TURN[stage][0].as_ptr().cast()),
                _mm512_loadu_si512(TURN[stage][1].as_ptr().cast())
            ]);
            for j in (0..8).filter(|j| j & bit == 0) {
                let (a, b) = (r[j], r[j | bit]);
                r[j] = isa!(_mm512_permutex2var_epi16(a, low, b));
                r[j | bit] = isa!(_mm512_permutex2var_epi16(a, high, b));
            }
        }
        for (j, &r) in r.iter().enumerate() {
            let column = (j >> 2) | (j & 2) | (j & 1) << 2;
            isa!({
                _mm256_storeu_si256(out.add(column * stride).cast(), _mm512_castsi512_si256(r));
                _mm256_storeu_si256(out.add((column + 8) * stride).cast(), _mm512_extracti64x4_epi64::<1>(r));
            })
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const u8) -> __m512 {
        isa!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))))
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        self.to_f(unsafe { self.load_u8_i(p) })
    }
    #[inline(always)]
    unsafe fn load_u8_i(self, p: *const u8) -> __m512i {
        isa!(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())))
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        isa!(_mm_prefetch::<_MM_HINT_T1>(p.cast()))
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> __m512i {
        isa!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8) -> __m512i {
        isa!(_mm512_loadu_si512(p.cast()))
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, x: __m512i) {
        isa!(_mm512_storeu_si512(p.cast(), x))
    }
    #[inline(always)]
    fn to_f(self, a: __m512i) -> __m512 {
        isa!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn to_i(self, a: __m512) -> __m512i {
        isa!(_mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, p: *mut u8, x: __m512i) {
        isa!(_mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(x)))
    }
    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        isa!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        isa!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn add_i(self, a: __m512i, b: __m512i) -> __m512i {
        isa!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn max_i(self, a: __m512i, b: __m512i) -> __m512i {
        isa!(_mm512_max_epi32(a, b))
    }
    #[inline(always)]
    fn reduce_add_i(self, a: __m512i) -> i32 {
        isa!(_mm512_reduce_add_epi32(a))
    }
    #[inline(always)]
    fn reduce_max_i(self, a: __m512i) -> i32 {
        isa!(_mm512_reduce_max_epi32(a))
    }
    #[inline(always)]
    fn shl<const N: u32>(self, a: __m512i) -> __m512i {
        isa!(_mm512_slli_epi32::<N>(a))
    }
    #[inline(always)]
    fn shr<const N: u32>(self, a: __m512i) -> __m512i {
        isa!(_mm512_srli_epi32::<N>(a))
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16], index: __m512i) -> __m512i {
        isa!({
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, index)
        })
    }

    #[inline(always)]
    unsafe fn load_i8_pairs(self, p: *const u8) -> __m512i {
        isa!(_mm512_cvtepi8_epi16(_mm256_loadu_si256(p.cast())))
    }
    #[inline(always)]
    fn dot_pairs(self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
        isa!(_mm512_dpwssd_epi32(acc, a, b))
    }

    #[inline(always)]
    fn dot_bf16(self, acc: __m512, a: __m512i, b: __m512i) -> __m512 {
        if BF16 {
            // SAFETY: the processor has AVX512_BF16; the vectors of both types are the same 512 bits.
            isa!(_mm512_dpbf16_ps(
                acc,
                std::mem::transmute::<__m512i, __m512bh>(a),
                std::mem::transmute::<__m512i, __m512bh>(b)
            ))
        } else {
            dot_bf16(self, acc, a, b)
        }
    }

    #[inline(always)]
    unsafe fn dot_start<const BITS: u32>(self, offset: *const i32) -> __m512i {
        isa!(_mm512_set1_epi32(offset.read_unaligned()))
    }
    #[inline(always)]
    unsafe fn dot<const N: usize, const BITS: u32>(self, start: __m512i, w: &[__m512i; N], x: *const i8) -> __m512i {
        let mut acc = start;
        for (q, &w) in w.iter().enumerate() {
            acc = isa!(_mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(x.cast::<i32>().add(q).read_unaligned())));
        }
        acc
    }
}
