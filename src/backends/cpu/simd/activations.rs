//! Activations in eight bits ([`DType::Q8A`]): what the integer matrix kernels multiply weights with.
//!
//! The block's layout and scalar quantizer are [`BlockQ8A`]'s. One format serves all weight types, so matrices of different types
//! share one quantization of their input.

use super::isa::Level;
use super::lanes::{Kernel, LANES, Simd};
use crate::tensor::DType;
use crate::tensor::quant::BlockQ8A;

/// Activations a block holds.
pub const BLOCK: usize = 32;

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
/// NaN becomes a block whose `d` is NaN, so that the results show it; a block too small to scale
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
                let scale = 127.0 / max;
                let (mut d, mut q0, mut q1) = (0.0, s.splat_i(0), s.splat_i(0));
                if bits >= NOT_FINITE {
                    d = f32::NAN;
                } else if scale.is_finite() {
                    d = max / 127.0;
                    let scale = s.splat(scale);
                    (q0, q1) = (s.to_i(s.mul(lo, scale)), s.to_i(s.mul(hi, scale)));
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
    use crate::tensor::quant::quantize_row;

    fn quantized(level: Level, x: &[f32]) -> Vec<u8> {
        let mut out = vec![0u8; x.len() / BLOCK * BYTES];
        quantize_q8a(level, x, &mut out);
        out
    }

    fn wave(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * i % 97) as f32 - 40.0) * 0.037 * (1 + i / 32) as f32).collect()
    }

    #[test]
    fn all_levels_give_the_bits_of_the_scalar_quantizer_also_on_odd_values() {
        let mut x = wave(32 * 12);
        x[32..64].fill(0.0);
        x[64..96].fill(1e-41);
        x[96..128].fill(3e38);
        x[130] = -f32::MAX;
        x[164] = f32::MIN_POSITIVE;
        for (i, v) in x[192..224].iter_mut().enumerate() {
            *v = (i as f32 - 15.5) / 15.5 * 127.0; // ties
        }
        x[230] = f32::NAN;
        x[262] = f32::INFINITY;
        x[300] = f32::NEG_INFINITY;
        let mut want = vec![0u8; x.len() / BLOCK * BYTES];
        quantize_row(DType::Q8A, &x, &mut want).unwrap();
        for level in Level::available() {
            for (b, (got, want)) in quantized(level, &x).chunks(BYTES).zip(want.chunks(BYTES)).enumerate() {
                assert_eq!(got, want, "{level}, block {b}");
            }
        }
    }
}
