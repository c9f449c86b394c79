//! Sixteen lanes as a pair of AVX2 registers.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and saturates its pair sums at 16 bits. Weights below 2^6 cannot
//! saturate it, and narrower ones let several pair sums accumulate in 16 bits before `vpmaddwd` widens them. Weights of
//! eight bits are made signed and their sign moved to the activations.

use super::{Kernel, LANES, Quads, Simd, apart, opaque};
use std::arch::x86_64::*;

/// AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// An intrinsic, or several.
macro_rules! isa {
    ($e:expr) => {
        // SAFETY: a value of this type exists, so the processor has the level (`assume`); pointers are used within the
        // promises of the method's caller.
        unsafe { $e }
    };
}

/// The same intrinsic on both halves.
macro_rules! both {
    ($f:ident$([$g:expr])?($a:expr $(, $b:expr)*)) => {
        isa!([$f$(::<{ $g }>)?($a[0] $(, $b[0])*), $f$(::<{ $g }>)?($a[1] $(, $b[1])*)])
    };
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// An 8 × 8 matrix, transposed.
#[inline(always)]
fn transpose8(_: Avx2, r: [__m256; 8]) -> [__m256; 8] {
    let mut out = r;
    isa!({
        // Half L of u[4g + c] holds column 4L + c of rows 4g .. 4g + 3.
        let mut u = r;
        for g in 0..2 {
            let (a, b) = (_mm256_unpacklo_ps(r[4 * g], r[4 * g + 1]), _mm256_unpacklo_ps(r[4 * g + 2], r[4 * g + 3]));
            let (c, d) = (_mm256_unpackhi_ps(r[4 * g], r[4 * g + 1]), _mm256_unpackhi_ps(r[4 * g + 2], r[4 * g + 3]));
            u[4 * g] = _mm256_shuffle_ps::<0x44>(a, b);
            u[4 * g + 1] = _mm256_shuffle_ps::<0xee>(a, b);
            u[4 * g + 2] = _mm256_shuffle_ps::<0x44>(c, d);
            u[4 * g + 3] = _mm256_shuffle_ps::<0xee>(c, d);
        }
        for c in 0..4 {
            out[c] = _mm256_permute2f128_ps::<0x20>(u[c], u[4 + c]);
            out[4 + c] = _mm256_permute2f128_ps::<0x31>(u[c], u[4 + c]);
        }
    });
    out
}

/// Of eight rows of 16 two-byte elements, columns i and i + 8 in the halves of result i.
#[inline(always)]
pub(super) fn transpose_columns<S: Simd>(_: S, r: [__m256i; 8]) -> [__m256i; 8] {
    let (mut a, mut b, mut out) = (r, r, r);
    isa!({
        for i in 0..4 {
            a[2 * i] = _mm256_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
            a[2 * i + 1] = _mm256_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..2 {
            for j in 0..2 {
                b[4 * i + 2 * j] = _mm256_unpacklo_epi32(a[4 * i + j], a[4 * i + j + 2]);
                b[4 * i + 2 * j + 1] = _mm256_unpackhi_epi32(a[4 * i + j], a[4 * i + j + 2]);
            }
        }
        for i in 0..4 {
            out[2 * i] = _mm256_unpacklo_epi64(b[i], b[i + 4]);
            out[2 * i + 1] = _mm256_unpackhi_epi64(b[i], b[i + 4]);
        }
    });
    out
}

// SAFETY: each method computes on 16 lanes, eight in each half, what the trait says.
unsafe impl Simd for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];

    const ROWS: usize = 1;
    const TOKENS: usize = 4;
    const FLOAT_TOKENS: usize = 6;
    const SHIFTED: bool = false;

    #[inline(always)]
    unsafe fn assume() -> Self {
        Avx2(())
    }

    #[inline(always)]
    unsafe fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline(never)]
        unsafe fn inner<K: Kernel>(s: Avx2, kernel: K) -> K::Output {
            // SAFETY: the caller's promise is the kernel's contract.
            unsafe { kernel.run(s) }
        }
        isa!(inner(self, kernel))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        isa!([_mm256_set1_ps(x); 2])
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        isa!([_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))])
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize) -> Self::F {
        let mut part = [0f32; LANES];
        isa!(std::ptr::copy_nonoverlapping(p, part.as_mut_ptr(), n));
        isa!(self.load(part.as_ptr()))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        isa!({
            _mm256_storeu_ps(p, x[0]);
            _mm256_storeu_ps(p.add(8), x[1]);
        })
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize, x: Self::F) {
        let mut part = [0f32; LANES];
        isa!({
            self.store(part.as_mut_ptr(), x);
            std::ptr::copy_nonoverlapping(part.as_ptr(), p, n);
        })
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        both!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        both!(_mm256_round_ps[NEAREST](a))
    }
    #[inline(always)]
    fn scale2(self, a: Self::F, n: Self::F) -> Self::F {
        let n = self.to_i(n);
        let h = both!(_mm256_srai_epi32[1](n));
        let rest = both!(_mm256_sub_epi32(n, h));
        let bias = self.splat_i(127);
        let low = self.from_bits(self.shl::<23>(self.add_i(h, bias)));
        let high = self.from_bits(self.shl::<23>(self.add_i(rest, bias)));
        self.mul(self.mul(a, low), high)
    }
    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        let m = both!(_mm256_cmp_ps[_CMP_LT_OQ](a, b));
        both!(_mm256_blendv_ps(y, x, m))
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::F) -> f32 {
        isa!({
            let v8 = _mm256_add_ps(a[0], a[1]);
            let v4 = _mm_add_ps(_mm256_castps256_ps128(v8), _mm256_extractf128_ps::<1>(v8));
            let v2 = _mm_add_ps(v4, _mm_movehl_ps(v4, v4));
            _mm_cvtss_f32(_mm_add_ss(v2, _mm_shuffle_ps::<1>(v2, v2)))
        })
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::F) -> f32 {
        isa!({
            let v8 = _mm256_max_ps(a[0], a[1]);
            let v4 = _mm_max_ps(_mm256_castps256_ps128(v8), _mm256_extractf128_ps::<1>(v8));
            let v2 = _mm_max_ps(v4, _mm_movehl_ps(v4, v4));
            _mm_cvtss_f32(_mm_max_ss(v2, _mm_shuffle_ps::<1>(v2, v2)))
        })
    }
    #[inline(always)]
    fn transpose(self, r: [Self::F; 16]) -> [Self::F; 16] {
        let mut out = r;
        for rows in 0..2 {
            for columns in 0..2 {
                let mut block = [r[0][0]; 8];
                for i in 0..8 {
                    block[i] = r[8 * rows + i][columns];
                }
                let block = transpose8(self, block);
                for i in 0..8 {
                    out[8 * columns + i][rows] = block[i];
                }
            }
        }
        out
    }
    #[inline(always)]
    fn to_bits(self, a: Self::F) -> Self::I {
        both!(_mm256_castps_si256(a))
    }
    #[inline(always)]
    fn from_bits(self, a: Self::I) -> Self::F {
        both!(_mm256_castsi256_ps(a))
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Self::F {
        isa!([_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(8).cast()))])
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, x: Self::F) {
        isa!({
            _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[0]));
            _mm_storeu_si128(p.add(8).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[1]));
        })
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> Self::F {
        let i = isa!([
            _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())),
            _mm256_cvtepu16_epi32(_mm_loadu_si128(p.add(8).cast()))
        ]);
        self.from_bits(both!(_mm256_slli_epi32[16](i)))
    }
    #[inline(always)]
    unsafe fn transpose_u16(self, rows: &[*const u8; 16], at: usize, out: *mut u16, stride: usize) {
        for half in 0..2 {
            let mut r = isa!([_mm256_setzero_si256(); 8]);
            for (r, row) in r.iter_mut().zip(&rows[8 * half..]) {
                *r = isa!(_mm256_loadu_si256(row.add(at).cast()));
            }
            for (i, x) in transpose_columns(self, r).into_iter().enumerate() {
                isa!({
                    _mm_storeu_si128(out.add(i * stride + 8 * half).cast(), _mm256_castsi256_si128(x));
                    _mm_storeu_si128(out.add((i + 8) * stride + 8 * half).cast(), _mm256_extracti128_si256::<1>(x));
                })
            }
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const u8) -> Self::F {
        let i = isa!([
            _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())),
            _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.add(8).cast()))
        ]);
        self.to_f(i)
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> Self::F {
        let i = isa!([
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())),
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8).cast()))
        ]);
        self.to_f(i)
    }

    #[inline(always)]
    unsafe fn load_u8_i(self, p: *const u8) -> Self::I {
        isa!([_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())), _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8).cast()))])
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        isa!(_mm_prefetch::<_MM_HINT_T1>(p.cast()))
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        isa!([_mm256_set1_epi32(x); 2])
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8) -> Self::I {
        isa!([_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())])
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, x: Self::I) {
        isa!({
            _mm256_storeu_si256(p.cast(), x[0]);
            _mm256_storeu_si256(p.add(32).cast(), x[1]);
        })
    }
    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        both!(_mm256_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn to_i(self, a: Self::F) -> Self::I {
        // Rounded first, so that the conversion is exact whatever the rounding mode.
        let a = self.round(a);
        both!(_mm256_cvttps_epi32(a))
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, p: *mut u8, x: Self::I) {
        isa!({
            // The lowest byte of each lane, gathered to the low four bytes of each 128-bit half.
            let pick = _mm256_setr_epi8(
                0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1,
                -1, -1, -1, -1, -1,
            );
            for (h, v) in x.into_iter().enumerate() {
                let v = _mm256_shuffle_epi8(v, pick);
                let low = _mm_cvtsi128_si32(_mm256_castsi256_si128(v));
                let high = _mm_cvtsi128_si32(_mm256_extracti128_si256::<1>(v));
                p.add(8 * h).cast::<i32>().write_unaligned(low);
                p.add(8 * h + 4).cast::<i32>().write_unaligned(high);
            }
        })
    }
    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_and_si256(a, b))
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_or_si256(a, b))
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_add_epi32(a, b))
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_max_epi32(a, b))
    }
    #[inline(always)]
    fn reduce_add_i(self, a: Self::I) -> i32 {
        isa!({
            let v8 = _mm256_add_epi32(a[0], a[1]);
            let v4 = _mm_add_epi32(_mm256_castsi256_si128(v8), _mm256_extracti128_si256::<1>(v8));
            let v2 = _mm_add_epi32(v4, _mm_shuffle_epi32::<0b01_00_11_10>(v4));
            _mm_cvtsi128_si32(_mm_add_epi32(v2, _mm_shuffle_epi32::<0b00_00_00_01>(v2)))
        })
    }
    #[inline(always)]
    fn reduce_max_i(self, a: Self::I) -> i32 {
        isa!({
            let v8 = _mm256_max_epi32(a[0], a[1]);
            let v4 = _mm_max_epi32(_mm256_castsi256_si128(v8), _mm256_extracti128_si256::<1>(v8));
            let v2 = _mm_max_epi32(v4, _mm_shuffle_epi32::<0b01_00_11_10>(v4));
            _mm_cvtsi128_si32(_mm_max_epi32(v2, _mm_shuffle_epi32::<0b00_00_00_01>(v2)))
        })
    }
    #[inline(always)]
    fn shl<const N: u32>(self, a: Self::I) -> Self::I {
        isa!([_mm256_sll_epi32(a[0], _mm_cvtsi32_si128(N as i32)), _mm256_sll_epi32(a[1], _mm_cvtsi32_si128(N as i32))])
    }
    #[inline(always)]
    fn shr<const N: u32>(self, a: Self::I) -> Self::I {
        isa!([_mm256_srl_epi32(a[0], _mm_cvtsi32_si128(N as i32)), _mm256_srl_epi32(a[1], _mm_cvtsi32_si128(N as i32))])
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16], index: Self::I) -> Self::I {
        let table = isa!([_mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())); 2]);
        both!(_mm256_shuffle_epi8(table, index))
    }

    #[inline(always)]
    unsafe fn load_i8_pairs(self, p: *const u8) -> Self::I {
        isa!([_mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast())), _mm256_cvtepi8_epi16(_mm_loadu_si128(p.add(16).cast()))])
    }
    #[inline(always)]
    fn dot_pairs(self, acc: Self::I, a: Self::I, b: Self::I) -> Self::I {
        let products = both!(_mm256_madd_epi16(a, b));
        self.add_i(acc, products)
    }

    #[inline(always)]
    unsafe fn dot_start<const BITS: u32>(self, offset: *const i32) -> Self::I {
        if BITS == 8 {
            return self.splat_i(0);
        }
        // The sum is a multiple of 128, so nothing is lost.
        self.splat_i(isa!(offset.read_unaligned()) >> (8 - BITS))
    }
    #[inline(always)]
    unsafe fn dot<const N: usize, const BITS: u32>(self, start: Self::I, w: &[Self::I; N], x: *const i8) -> Self::I {
        isa!({
            let ones = _mm256_set1_epi16(1);
            let mut acc = start;
            if BITS == 8 {
                let bias = _mm256_set1_epi8(-128);
                for (q, w) in w.iter().enumerate() {
                    let x = _mm256_set1_epi32(x.cast::<i32>().add(q).read_unaligned());
                    for h in 0..2 {
                        // |w| ≤ 128 and |x| ≤ 127: a pair sum is at most 32 512.
                        let signed = _mm256_xor_si256(w[h], bias);
                        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(x, signed));
                        acc[h] = _mm256_add_epi32(acc[h], _mm256_madd_epi16(pairs, ones));
                    }
                }
                return acc;
            }
            // 2·(2^BITS − 1)·127 per pair sum, so this many fit 16 bits: 8 of 4 bits, 4 of 5 bits, 2 of 6 bits.
            let group = if BITS <= 4 { 8 } else { 1 << (7 - BITS) };
            let mut pairs = [_mm256_setzero_si256(); 2];
            for (q, w) in w.iter().enumerate() {
                let x = _mm256_set1_epi32(x.cast::<i32>().add(q).read_unaligned());
                for h in 0..2 {
                    pairs[h] = _mm256_add_epi16(pairs[h], _mm256_maddubs_epi16(w[h], x));
                }
                if (q + 1) % group == 0 || q + 1 == N {
                    for h in 0..2 {
                        acc[h] = _mm256_add_epi32(acc[h], _mm256_madd_epi16(pairs[h], ones));
                        pairs[h] = _mm256_setzero_si256();
                    }
                }
            }
            acc
        })
    }

    #[inline(always)]
    unsafe fn dots<W: Quads<Self>, const T: usize, const N: usize, const BITS: u32>(
        self,
        w: &W,
        from: usize,
        x: *const i8,
        offset: *const i32,
        stride: usize,
    ) -> [Self::I; T] {
        isa!({
            let ones = _mm256_set1_epi16(1);
            let mut sums = [[_mm256_setzero_si256(); 2]; T];
            if BITS == 8 {
                // An offset goes with weights whose zero is 128: they are made signed instead.
                let bias = _mm256_set1_epi8(-128);
                let count = if W::UNIFORM && T > 1 { opaque(N) } else { N };
                for i in 0..count {
                    let [w0, w1] = w.quad(self, from + i);
                    let signed = [_mm256_xor_si256(w0, bias), _mm256_xor_si256(w1, bias)];
                    let sizes = [_mm256_abs_epi8(signed[0]), _mm256_abs_epi8(signed[1])];
                    for (t, sum) in sums.iter_mut().enumerate() {
                        let x = _mm256_set1_epi32(x.add(t * stride + 4 * i).cast::<i32>().read_unaligned());
                        for h in 0..2 {
                            // |w| ≤ 128 and |x| ≤ 127: a pair sum is at most 32 512.
                            let pairs = _mm256_maddubs_epi16(sizes[h], _mm256_sign_epi8(x, signed[h]));
                            sum[h] = _mm256_add_epi32(sum[h], _mm256_madd_epi16(pairs, ones));
                        }
                    }
                    if T == 1 {
                        apart();
                    }
                }
                return sums;
            }
            if !offset.is_null() {
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = self.dot_start::<BITS>(offset.byte_add(t * stride));
                }
            }
            // 2·(2^BITS − 1)·127 per pair sum, so this many fit 16 bits: 8 of 4 bits, 4 of 5 bits, 2 of 6 bits.
            let group = if BITS <= 4 { 8 } else { 1 << (7 - BITS) };
            for first in (0..N).step_by(group) {
                let mut pairs = [[_mm256_setzero_si256(); 2]; T];
                let count = group.min(N - first);
                let count = if W::UNIFORM && T > 1 { opaque(count) } else { count };
                for n in 0..count {
                    // Quads that share a vector of nibbles follow each other.
                    let i = first + if !W::UNIFORM && group == 8 && N == 8 { (n % 2) * 4 + n / 2 } else { n };
                    let [w0, w1] = w.quad(self, from + i);
                    for (t, pairs) in pairs.iter_mut().enumerate() {
                        let x = _mm256_set1_epi32(x.add(t * stride + 4 * i).cast::<i32>().read_unaligned());
                        pairs[0] = _mm256_add_epi16(pairs[0], _mm256_maddubs_epi16(w0, x));
                        pairs[1] = _mm256_add_epi16(pairs[1], _mm256_maddubs_epi16(w1, x));
                    }
                    if T == 1 && n % 2 == 1 {
                        apart();
                    }
                }
                for (sum, pairs) in sums.iter_mut().zip(pairs) {
                    sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(pairs[0], ones));
                    sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(pairs[1], ones));
                }
            }
            sums
        })
    }

    #[inline(always)]
    unsafe fn spin_bytes<const C: usize>(self, chains: &mut [Self::I; C], _x: *const i8) {
        let w = self.splat_i(0x0101_0101);
        for chain in chains {
            *chain = both!(_mm256_maddubs_epi16(w, chain));
        }
    }
}
