//! Activations in eight bits ([`DType::Q8A`]): what the integer matrix kernels multiply weights with.
//!
//! ```text
//! a block of 32 activations, 52 bytes:
//!   d: f32 | ds: f32 | off: i32 | off16: [i32; 2] | qs: [i8; 32]
//!   x ≈ d·q, d = max|x| / 127
//!   ds    = d·Σq                     the factor of a weight block's minimum
//!   off   = −128·Σq                  where a dot product with unsigned weights around 128 starts
//!   off16 = the same for each half   for weights with a scale per 16
//! ```
//! One format serves all weight types, so matrices of different types share one quantization of their input.

use super::isa::Level;
use super::lanes::{Kernel, LANES, Simd};
use crate::tensor::DType;

/// Activations a block holds.
pub const BLOCK: usize = 32;

/// A block of quantized activations; the layout that kernels read.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct BlockQ8A {
    /// What a step of the integers is worth.
    pub d: f32,
    /// `d` times the sum of the integers.
    pub ds: f32,
    /// −128 times the sum of the integers.
    pub off: i32,
    /// −128 times the sums of the first and the second 16.
    pub off16: [i32; 2],
    /// The integers, −127 ..= 127.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8A>() == DType::Q8A.block_bytes() && BLOCK == DType::Q8A.block_len());

/// Field offsets, for kernels that go by address.
pub(crate) const DS: usize = std::mem::offset_of!(BlockQ8A, ds);
pub(crate) const OFF: usize = std::mem::offset_of!(BlockQ8A, off);
pub(crate) const OFF16: usize = std::mem::offset_of!(BlockQ8A, off16);
pub(crate) const QS: usize = std::mem::offset_of!(BlockQ8A, qs);
pub(crate) const BYTES: usize = size_of::<BlockQ8A>();

/// The exponent bits of an f32: bits from here on are infinities and NaNs.
const NOT_FINITE: i32 = 0x7f80_0000;

/// Quantizes a row: `round(x·127 / max|x|)` per 32, ties to even. All levels give the same bits. A block with an infinity or a
/// NaN becomes a block whose `d` is NaN, so that the results show it; a block too small to scale (max|x| below 2^-120)
/// becomes zero.
///
/// # Panics
/// If the lengths do not fit: `x` in whole blocks, `out` as many blocks of 52 bytes.
pub fn quantize_q8a(level: Level, x: &[f32], out: &mut [u8]) {
    assert!(x.len().is_multiple_of(BLOCK) && out.len() == x.len() / BLOCK * BYTES, "whole blocks of 32 activations");
    // SAFETY: the lengths were checked just now.
    unsafe { (level.kernels().quantize)(x.as_ptr(), x.len() / BLOCK, out.as_mut_ptr()) }
}

/// # Safety
/// `32·blocks` floats are readable at `x`, `52·blocks` bytes writable at `out`.
pub(crate) unsafe fn quantize<S: Simd>(x: *const f32, blocks: usize, out: *mut u8) {
    // SAFETY: the table of a level is used only where the level is available; the rest is the caller's promise.
    unsafe { S::assume().vectorize(Quantize { x, blocks, out }) }
}

struct Quantize {
    x: *const f32,
    blocks: usize,
    out: *mut u8,
}

impl Kernel for Quantize {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let magnitude = s.splat_i(0x7fff_ffff);
        for b in 0..self.blocks {
            // SAFETY: block b is within both buffers (the contract of `quantize`).
            unsafe {
                let (lo, hi) = (s.load(self.x.add(b * BLOCK)), s.load(self.x.add(b * BLOCK + LANES)));
                let out = self.out.add(b * BYTES);
                // Magnitudes compare like their bits, and NaN is above infinity, which is above all numbers.
                let bits = s.max_i(s.and(s.to_bits(lo), magnitude), s.and(s.to_bits(hi), magnitude));
                let bits = s.reduce_max_i(bits);
                let max = f32::from_bits(bits as u32);
                let (d, inverse) = if bits >= NOT_FINITE {
                    (f32::NAN, 0.0)
                } else if max < f32::from_bits(7 << 23) {
                    (0.0, 0.0)
                } else {
                    (max / 127.0, 127.0 / max)
                };
                let (mut q0, mut q1) = (s.splat_i(0), s.splat_i(0));
                if inverse != 0.0 {
                    let inverse = s.splat(inverse);
                    (q0, q1) = (s.to_i(s.mul(lo, inverse)), s.to_i(s.mul(hi, inverse)));
                }
                let (s0, s1) = (s.reduce_add_i(q0), s.reduce_add_i(q1));
                out.cast::<f32>().write_unaligned(d);
                out.add(DS).cast::<f32>().write_unaligned(d * (s0 + s1) as f32);
                out.add(OFF).cast::<[i32; 3]>().write_unaligned([-128 * (s0 + s1), -128 * s0, -128 * s1]);
                s.store_low_bytes(out.add(QS), q0);
                s.store_low_bytes(out.add(QS + LANES), q1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(level: Level, x: &[f32]) -> Vec<BlockQ8A> {
        let mut out = vec![0u8; x.len() / BLOCK * BYTES];
        quantize_q8a(level, x, &mut out);
        out.chunks_exact(BYTES).map(bytemuck::pod_read_unaligned).collect()
    }

    fn wave(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * i % 97) as f32 - 40.0) * 0.037 * (1 + i / 32) as f32).collect()
    }

    #[test]
    fn values_come_back_within_half_a_step_and_the_sums_are_right() {
        let x = wave(320);
        for level in Level::available() {
            for (b, block) in quantized(level, &x).iter().enumerate() {
                let x = &x[b * 32..][..32];
                let max = x.iter().fold(0f32, |m, v| m.max(v.abs()));
                assert_eq!(block.d, max / 127.0);
                for (q, x) in block.qs.iter().zip(x) {
                    assert!((f32::from(*q) * block.d - x).abs() <= block.d * 0.5001);
                }
                let sum = |q: &[i8]| q.iter().map(|&q| i32::from(q)).sum::<i32>();
                assert_eq!(block.off, -128 * sum(&block.qs));
                assert_eq!(block.off16, [-128 * sum(&block.qs[..16]), -128 * sum(&block.qs[16..])]);
                assert_eq!(block.ds, block.d * sum(&block.qs) as f32);
            }
        }
    }

    #[test]
    fn levels_agree_to_the_bit_also_on_odd_values() {
        let mut x = wave(32 * 12);
        x[32..64].fill(0.0);
        x[64..96].fill(1e-41);
        x[96..128].fill(3e38);
        x[130] = -f32::MAX;
        x[164] = f32::MIN_POSITIVE;
        for (i, v) in x[192..224].iter_mut().enumerate() {
            *v = (i as f32 - 15.5) / 15.5 * 127.0; // ties
        }
        let want = quantized(Level::Portable, &x);
        assert_eq!((want[1].d, want[1].qs), (0.0, [0; 32]));
        for level in Level::available() {
            assert_eq!(quantized(level, &x), want, "{level}");
        }
    }

    #[test]
    fn what_is_not_finite_shows_in_the_scale() {
        for level in Level::available() {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = wave(64);
                x[40] = bad;
                let got = quantized(level, &x);
                assert!(got[0].d.is_finite() && got[1].d.is_nan(), "{level} {bad}");
            }
        }
    }
}
