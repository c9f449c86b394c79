//! Sixteen lanes as four NEON registers, with and without the dot product instructions.
//!
//! Bytes are multiplied signed by signed, so weights of eight bits are made signed by one exclusive or, and narrower ones
//! are signed numbers as they are. `sdot` adds four products to a lane at once and takes its quad of activations from a lane of a
//! register. Without it products are summed in 16 bits as long as they fit: weights of four bits for eight quads.
//!
//! `vdotq_laneq_s32` and the conversions of half-precision numbers are not stable in all versions of Rust that the crate
//! supports, so these instructions are written as assembly.

use super::{Kernel, LANES, Simd};
use std::arch::aarch64::*;
use std::arch::asm;

/// NEON, which every AArch64 processor has; `DOTPROD`: with `sdot` (the extension FEAT_DotProd).
#[derive(Clone, Copy)]
pub(crate) struct Neon<const DOTPROD: bool>(());

/// An intrinsic, or several.
macro_rules! isa {
    ($e:expr) => {
        // SAFETY: a value of this type exists, so the processor has the level (`assume`); pointers are used within the
        // promises of the method's caller.
        unsafe { $e }
    };
}

/// The same intrinsic on all four registers.
macro_rules! all {
    ($f:ident($a:expr $(, $b:expr)*)) => {
        isa!([
            $f($a[0] $(, $b[0])*),
            $f($a[1] $(, $b[1])*),
            $f($a[2] $(, $b[2])*),
            $f($a[3] $(, $b[3])*),
        ])
    };
}

/// `sdot` of four quads of weights with quad `$lane` of the activations.
macro_rules! sdot {
    ($acc:expr, $w:expr, $x:expr, $lane:literal) => {
        asm!(
            concat!("sdot {acc:v}.4s, {w:v}.16b, {x:v}.4b[", $lane, "]"),
            acc = inout(vreg) $acc,
            w = in(vreg) $w,
            x = in(vreg) $x,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
}

/// A 4 × 4 matrix, transposed.
#[inline(always)]
fn transpose4<const DOTPROD: bool>(_: Neon<DOTPROD>, r: [float32x4_t; 4]) -> [float32x4_t; 4] {
    isa!({
        // Columns 0 and 2, then 1 and 3, of two rows, interleaved.
        let (a, b) = (vtrn1q_f32(r[0], r[1]), vtrn2q_f32(r[0], r[1]));
        let (c, d) = (vtrn1q_f32(r[2], r[3]), vtrn2q_f32(r[2], r[3]));
        let (a, b) = (vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b));
        let (c, d) = (vreinterpretq_f64_f32(c), vreinterpretq_f64_f32(d));
        [
            vreinterpretq_f32_f64(vtrn1q_f64(a, c)),
            vreinterpretq_f32_f64(vtrn1q_f64(b, d)),
            vreinterpretq_f32_f64(vtrn2q_f64(a, c)),
            vreinterpretq_f32_f64(vtrn2q_f64(b, d)),
        ]
    })
}

impl<const DOTPROD: bool> Neon<DOTPROD> {
    /// Signed bytes as integers.
    #[inline(always)]
    fn widen_i8(self, x: int8x16_t) -> [int32x4_t; 4] {
        isa!({
            let (low, high) = (vmovl_s8(vget_low_s8(x)), vmovl_s8(vget_high_s8(x)));
            [
                vmovl_s16(vget_low_s16(low)),
                vmovl_s16(vget_high_s16(low)),
                vmovl_s16(vget_low_s16(high)),
                vmovl_s16(vget_high_s16(high)),
            ]
        })
    }

    /// The weights as signed bytes: those of eight bits less 128.
    #[inline(always)]
    fn signed<const BITS: u32>(self, w: int32x4_t) -> int8x16_t {
        isa!({
            let w = vreinterpretq_u8_s32(w);
            vreinterpretq_s8_u8(if BITS == 8 { veorq_u8(w, vdupq_n_u8(0x80)) } else { w })
        })
    }

    /// [`Simd::dot`] by `sdot`.
    ///
    /// # Safety
    /// `4·N` bytes are readable at `x`, and `DOTPROD` holds.
    #[inline(always)]
    unsafe fn dot_sdot<const N: usize, const BITS: u32>(
        self,
        start: [int32x4_t; 4],
        w: &[[int32x4_t; 4]; N],
        x: *const i8,
    ) -> [int32x4_t; 4] {
        let mut acc = start;
        isa!({
            let mut q = 0;
            while q + 4 <= N {
                let x = vld1q_s8(x.add(4 * q));
                for r in 0..4 {
                    sdot!(acc[r], self.signed::<BITS>(w[q][r]), x, 0);
                    sdot!(acc[r], self.signed::<BITS>(w[q + 1][r]), x, 1);
                    sdot!(acc[r], self.signed::<BITS>(w[q + 2][r]), x, 2);
                    sdot!(acc[r], self.signed::<BITS>(w[q + 3][r]), x, 3);
                }
                q += 4;
            }
            while q < N {
                let x = vdupq_n_s32(x.add(4 * q).cast::<i32>().read_unaligned());
                for r in 0..4 {
                    sdot!(acc[r], self.signed::<BITS>(w[q][r]), x, 0);
                }
                q += 1;
            }
        });
        acc
    }

    /// [`Simd::dot`] by multiplications that widen.
    ///
    /// # Safety
    /// `4·N` bytes are readable at `x`.
    #[inline(always)]
    unsafe fn dot_widening<const N: usize, const BITS: u32>(
        self,
        start: [int32x4_t; 4],
        w: &[[int32x4_t; 4]; N],
        x: *const i8,
    ) -> [int32x4_t; 4] {
        // Two products of each of these quads fit 16 bits: 2·(2^BITS − 1)·127 a quad, and 2·128·127 where weights are signed.
        let group = match BITS {
            8 => 1,
            ..=4 => 8,
            bits => 1 << (7 - bits),
        };
        let mut acc = start;
        isa!({
            let zero = vdupq_n_s16(0);
            // Products of the first and the last eight bytes of each register.
            let mut products = [[zero; 2]; 4];
            for (q, w) in w.iter().enumerate() {
                let x = vreinterpretq_s8_s32(vdupq_n_s32(x.add(4 * q).cast::<i32>().read_unaligned()));
                for r in 0..4 {
                    let w = self.signed::<BITS>(w[r]);
                    products[r] = if q % group == 0 {
                        [vmull_s8(vget_low_s8(w), vget_low_s8(x)), vmull_high_s8(w, x)]
                    } else {
                        [vmlal_s8(products[r][0], vget_low_s8(w), vget_low_s8(x)), vmlal_high_s8(products[r][1], w, x)]
                    };
                    if (q + 1) % group == 0 || q + 1 == N {
                        acc[r] = vpadalq_s16(acc[r], vpaddq_s16(products[r][0], products[r][1]));
                    }
                }
            }
        });
        acc
    }
}

// SAFETY: each method computes on 16 lanes, four in each register, what the trait says.
unsafe impl<const DOTPROD: bool> Simd for Neon<DOTPROD> {
    type F = [float32x4_t; 4];
    type I = [int32x4_t; 4];

    const ROWS: usize = 1;
    const TOKENS: usize = 4;
    const FLOAT_TOKENS: usize = 4;
    const SHIFTED: bool = false;

    #[inline(always)]
    unsafe fn assume() -> Self {
        Neon(())
    }

    #[inline(always)]
    unsafe fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        #[inline(never)]
        unsafe fn plain<K: Kernel>(s: Neon<false>, kernel: K) -> K::Output {
            // SAFETY: the caller's promise is the kernel's contract.
            unsafe { kernel.run(s) }
        }
        #[target_feature(enable = "neon,dotprod")]
        #[inline(never)]
        unsafe fn dotprod<K: Kernel>(s: Neon<true>, kernel: K) -> K::Output {
            // SAFETY: the caller's promise is the kernel's contract.
            unsafe { kernel.run(s) }
        }
        if DOTPROD { isa!(dotprod(Neon(()), kernel)) } else { isa!(plain(Neon(()), kernel)) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        isa!([vdupq_n_f32(x); 4])
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        isa!([vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))])
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize) -> Self::F {
        let mut part = [0f32; LANES];
        isa!({
            std::ptr::copy_nonoverlapping(p, part.as_mut_ptr(), n);
            self.load(part.as_ptr())
        })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        isa!({
            vst1q_f32(p, x[0]);
            vst1q_f32(p.add(4), x[1]);
            vst1q_f32(p.add(8), x[2]);
            vst1q_f32(p.add(12), x[3]);
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
        all!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        all!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        all!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        all!(vdivq_f32(a, b))
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        all!(vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        // Not `vmaxq_f32`, which gives a NaN where either is one.
        let m = all!(vcgtq_f32(a, b));
        all!(vbslq_f32(m, a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        let m = all!(vcltq_f32(a, b));
        all!(vbslq_f32(m, a, b))
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        all!(vrndnq_f32(a))
    }
    #[inline(always)]
    fn scale2(self, a: Self::F, n: Self::F) -> Self::F {
        let n = self.to_i(n);
        let h = isa!([vshrq_n_s32::<1>(n[0]), vshrq_n_s32::<1>(n[1]), vshrq_n_s32::<1>(n[2]), vshrq_n_s32::<1>(n[3])]);
        let rest = all!(vsubq_s32(n, h));
        let bias = self.splat_i(127);
        let low = self.from_bits(self.shl::<23>(self.add_i(h, bias)));
        let high = self.from_bits(self.shl::<23>(self.add_i(rest, bias)));
        self.mul(self.mul(a, low), high)
    }
    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        let m = all!(vcltq_f32(a, b));
        all!(vbslq_f32(m, x, y))
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::F) -> f32 {
        isa!({
            let v4 = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
            let v2 = vadd_f32(vget_low_f32(v4), vget_high_f32(v4));
            vget_lane_f32::<0>(v2) + vget_lane_f32::<1>(v2)
        })
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::F) -> f32 {
        isa!(vmaxvq_f32(vmaxq_f32(vmaxq_f32(a[0], a[2]), vmaxq_f32(a[1], a[3]))))
    }
    #[inline(always)]
    fn transpose(self, r: [Self::F; 16]) -> [Self::F; 16] {
        let mut out = r;
        for rows in 0..4 {
            for columns in 0..4 {
                let mut block = [r[0][0]; 4];
                for i in 0..4 {
                    block[i] = r[4 * rows + i][columns];
                }
                let block = transpose4(self, block);
                for i in 0..4 {
                    out[4 * columns + i][rows] = block[i];
                }
            }
        }
        out
    }
    #[inline(always)]
    fn to_bits(self, a: Self::F) -> Self::I {
        all!(vreinterpretq_s32_f32(a))
    }
    #[inline(always)]
    fn from_bits(self, a: Self::I) -> Self::F {
        all!(vreinterpretq_f32_s32(a))
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Self::F {
        let mut out = self.splat(0.0);
        isa!({
            for h in 0..2 {
                let halves = vld1q_u16(p.add(8 * h));
                asm!(
                    "fcvtl {low:v}.4s, {x:v}.4h",
                    "fcvtl2 {high:v}.4s, {x:v}.8h",
                    x = in(vreg) halves,
                    low = out(vreg) out[2 * h],
                    high = lateout(vreg) out[2 * h + 1],
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
        });
        out
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, x: Self::F) {
        isa!({
            for h in 0..2 {
                let halves: uint16x8_t;
                asm!(
                    "fcvtn {x:v}.4h, {low:v}.4s",
                    "fcvtn2 {x:v}.8h, {high:v}.4s",
                    low = in(vreg) x[2 * h],
                    high = in(vreg) x[2 * h + 1],
                    x = out(vreg) halves,
                    options(pure, nomem, nostack, preserves_flags),
                );
                vst1q_u16(p.add(8 * h), halves);
            }
        })
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const u8) -> Self::F {
        self.to_f(self.widen_i8(isa!(vld1q_s8(p.cast()))))
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> Self::F {
        // Below 256, so the sign does not matter.
        self.to_f(isa!(self.load_u8_i(p)))
    }
    #[inline(always)]
    unsafe fn load_u8_i(self, p: *const u8) -> Self::I {
        let i = isa!({
            let x = vld1q_u8(p);
            let (low, high) = (vmovl_u8(vget_low_u8(x)), vmovl_u8(vget_high_u8(x)));
            [
                vmovl_u16(vget_low_u16(low)),
                vmovl_u16(vget_high_u16(low)),
                vmovl_u16(vget_low_u16(high)),
                vmovl_u16(vget_high_u16(high)),
            ]
        });
        all!(vreinterpretq_s32_u32(i))
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        isa!(asm!("prfm pldl2keep, [{p}]", p = in(reg) p, options(readonly, nostack, preserves_flags)))
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        isa!([vdupq_n_s32(x); 4])
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8) -> Self::I {
        // Loads of bytes, as the address need not be aligned.
        let bytes = isa!([vld1q_u8(p), vld1q_u8(p.add(16)), vld1q_u8(p.add(32)), vld1q_u8(p.add(48))]);
        all!(vreinterpretq_s32_u8(bytes))
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, x: Self::I) {
        let bytes = all!(vreinterpretq_u8_s32(x));
        isa!({
            vst1q_u8(p, bytes[0]);
            vst1q_u8(p.add(16), bytes[1]);
            vst1q_u8(p.add(32), bytes[2]);
            vst1q_u8(p.add(48), bytes[3]);
        })
    }
    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        all!(vcvtq_f32_s32(a))
    }
    #[inline(always)]
    fn to_i(self, a: Self::F) -> Self::I {
        all!(vcvtnq_s32_f32(a))
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, p: *mut u8, x: Self::I) {
        isa!({
            let low = vcombine_s16(vmovn_s32(x[0]), vmovn_s32(x[1]));
            let high = vcombine_s16(vmovn_s32(x[2]), vmovn_s32(x[3]));
            vst1q_s8(p.cast(), vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
        })
    }
    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vandq_s32(a, b))
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vorrq_s32(a, b))
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vaddq_s32(a, b))
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        all!(vmaxq_s32(a, b))
    }
    #[inline(always)]
    fn reduce_add_i(self, a: Self::I) -> i32 {
        isa!(vaddvq_s32(vaddq_s32(vaddq_s32(a[0], a[1]), vaddq_s32(a[2], a[3]))))
    }
    #[inline(always)]
    fn reduce_max_i(self, a: Self::I) -> i32 {
        isa!(vmaxvq_s32(vmaxq_s32(vmaxq_s32(a[0], a[1]), vmaxq_s32(a[2], a[3]))))
    }
    #[inline(always)]
    fn shl<const N: u32>(self, a: Self::I) -> Self::I {
        let by = self.splat_i(N as i32);
        all!(vshlq_s32(a, by))
    }
    #[inline(always)]
    fn shr<const N: u32>(self, a: Self::I) -> Self::I {
        // A shift to the left by a negative number of bits.
        let by = self.splat_i(-(N as i32));
        let a = all!(vreinterpretq_u32_s32(a));
        let a = all!(vshlq_u32(a, by));
        all!(vreinterpretq_s32_u32(a))
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16], index: Self::I) -> Self::I {
        let table = isa!([vld1q_u8(table.as_ptr()); 4]);
        let index = all!(vreinterpretq_u8_s32(index));
        let bytes = all!(vqtbl1q_u8(table, index));
        all!(vreinterpretq_s32_u8(bytes))
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
        // SAFETY: the caller's promise.
        unsafe {
            if DOTPROD { self.dot_sdot::<N, BITS>(start, w, x) } else { self.dot_widening::<N, BITS>(start, w, x) }
        }
    }
}
