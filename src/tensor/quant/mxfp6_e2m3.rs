//! `mxfp6_e2m3`: the OCP microscaling format MXFP6 with E2M3 values and an E8M0 scale per 32. `x = 2^(e - 127) · v`.
//!
//! GGUF has no number for it. The bytes of `qs` are as AMD's Quark writes them to a checkpoint (`fp6_e2m3`) and as the
//! matrix instructions of CDNA4 read them; the scales, which a checkpoint has as a tensor of their own, stand before their
//! values. Quark's older packing of whole blocks (`mx`: two bit planes, a scale without bias) is another layout.
//!
//! ```text
//! byte  0   1                                                        25
//!       | e | qs: 24 bytes, four codes in three bytes, 8 times        |
//!
//! qs[3·i]        bits 7..6               bits 5..0
//!                low of code 4·i+1       code 4·i
//! qs[3·i + 1]    bits 7..4               bits 3..0
//!                low of code 4·i+2       high of code 4·i+1
//! qs[3·i + 2]    bits 7..2               bits 1..0
//!                code 4·i+3              high of code 4·i+2
//!
//! code           bit 5    4..3                 2..0
//!                sign     exponent, bias 1     fraction        at most 7.5, no infinity, no NaN
//! ```

use bytemuck::{Pod, Zeroable};

use super::minifloat::Fp6;
use super::{Block, Quantize};

/// The values of the 64 E2M3 codes.
pub static E2M3_VALUES: [f32; 64] = E2M3.values();

const E2M3: Fp6 = Fp6 { fraction_bits: 3, bias: 1 };

/// 32 values of `mxfp6_e2m3`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockMxfp6E2m3 {
    /// Exponent of the scale, biased by 127; 255 is NaN.
    pub e: u8,
    /// Four 6-bit codes in three bytes.
    pub qs: [u8; 24],
}

assert_layout!(BlockMxfp6E2m3, Mxfp6E2m3, 32);

impl Block<32> for BlockMxfp6E2m3 {
    fn dequantize(&self, y: &mut [f32; 32]) {
        Fp6::dequantize(self.e, &self.qs, &E2M3_VALUES, y);
    }
}

/// The scale takes the largest magnitude to the topmost binade (Quark's mode `even`), values round to nearest, ties to even.
/// A block with an infinity or a NaN gets the NaN scale.
impl Quantize<32> for BlockMxfp6E2m3 {
    fn quantize(x: &[f32; 32]) -> Self {
        let (e, qs) = E2M3.quantize(x);
        BlockMxfp6E2m3 { e, qs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_standard() {
        assert_eq!(E2M3_VALUES[..10], [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.125]);
        assert_eq!(E2M3_VALUES[31], 7.5);
        assert_eq!(E2M3_VALUES[32 + 31], -7.5);
    }

    #[test]
    fn codes_are_packed_from_the_lowest_bit() {
        let mut x = [0.0; 32];
        // Codes 1, 2 and 3, and 31, which makes the scale 1.
        x[..4].copy_from_slice(&[0.125, 0.25, 0.375, 7.5]);
        let b = BlockMxfp6E2m3::quantize(&x);
        assert_eq!((b.e, &b.qs[..4]), (127, &[1 | 2 << 6, 3 << 4, 31 << 2, 0][..]));
    }

    #[test]
    fn every_code_comes_back_as_itself() {
        for half in [0, 32] {
            let x: [f32; 32] = std::array::from_fn(|i| E2M3_VALUES[half + i] * 0.25);
            let mut y = [0.0; 32];
            BlockMxfp6E2m3::quantize(&x).dequantize(&mut y);
            assert_eq!(x.map(f32::to_bits), y.map(f32::to_bits));
        }
    }

    #[test]
    fn ties_go_to_even_and_the_top_is_clipped() {
        let mut x = [0.0; 32];
        // The last is below 7.75, where the next scale starts.
        x[..5].copy_from_slice(&[0.0625, 0.1875, 1.0625, -1.1875, 7.7]);
        let mut y = [0.0; 32];
        BlockMxfp6E2m3::quantize(&x).dequantize(&mut y);
        assert_eq!(y[..5], [0.0, 0.25, 1.0, -1.25, 7.5]);
    }

    #[test]
    fn what_is_not_finite_stays_visible() {
        let mut x = [1.0; 32];
        x[5] = f32::INFINITY;
        let b = BlockMxfp6E2m3::quantize(&x);
        let mut y = [0.0; 32];
        b.dequantize(&mut y);
        assert_eq!(b.e, 255);
        assert!(y.iter().all(|v| v.is_nan()));
    }
}
