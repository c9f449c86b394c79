//! `mxfp6_e3m2`: the OCP microscaling format MXFP6 with E3M2 values and an E8M0 scale per 32. `x = 2^(e - 127) · v`.
//!
//! As `mxfp6_e2m3` in all but the codes: more range, fewer steps. It is Quark's `fp6_e3m2`.
//!
//! ```text
//! byte  0   1                                                        25
//!       | e | qs: 24 bytes, four codes in three bytes, 8 times        |
//!
//! code           bit 5    4..2                 1..0
//!                sign     exponent, bias 3     fraction        at most 28, no infinity, no NaN
//! ```

use bytemuck::{Pod, Zeroable};

use super::minifloat::Fp6;
use super::{Block, Quantize};

/// The values of the 64 E3M2 codes.
pub static E3M2_VALUES: [f32; 64] = E3M2.values();

const E3M2: Fp6 = Fp6 { fraction_bits: 2, bias: 3 };

/// 32 values of `mxfp6_e3m2`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockMxfp6E3m2 {
    /// Exponent of the scale, biased by 127; 255 is NaN.
    pub e: u8,
    /// Four 6-bit codes in three bytes.
    pub qs: [u8; 24],
}

assert_layout!(BlockMxfp6E3m2, Mxfp6E3m2, 32);

impl Block<32> for BlockMxfp6E3m2 {
    fn dequantize(&self, y: &mut [f32; 32]) {
        Fp6::dequantize(self.e, &self.qs, &E3M2_VALUES, y);
    }
}

/// The scale takes the largest magnitude to the topmost binade (Quark's mode `even`), values round to nearest, ties to even.
/// A block with an infinity or a NaN gets the NaN scale.
impl Quantize<32> for BlockMxfp6E3m2 {
    fn quantize(x: &[f32; 32]) -> Self {
        let (e, qs) = E3M2.quantize(x);
        BlockMxfp6E3m2 { e, qs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_standard() {
        assert_eq!(E3M2_VALUES[..9], [0.0, 0.0625, 0.125, 0.1875, 0.25, 0.3125, 0.375, 0.4375, 0.5]);
        assert_eq!(E3M2_VALUES[31], 28.0);
        assert_eq!(E3M2_VALUES[32 + 31], -28.0);
    }

    #[test]
    fn every_code_comes_back_as_itself() {
        for half in [0, 32] {
            let x: [f32; 32] = std::array::from_fn(|i| E3M2_VALUES[half + i] * 8.0);
            let mut y = [0.0; 32];
            BlockMxfp6E3m2::quantize(&x).dequantize(&mut y);
            assert_eq!(x.map(f32::to_bits), y.map(f32::to_bits));
        }
    }

    #[test]
    fn a_maximum_that_would_round_up_takes_the_next_scale() {
        let mut x = [0.0; 32];
        let mut y = [0.0; 32];
        for (max, e, back) in [(29.9, 127, 28.0), (30.0, 128, 32.0)] {
            x[0] = max;
            let b = BlockMxfp6E3m2::quantize(&x);
            b.dequantize(&mut y);
            assert_eq!((b.e, y[0]), (e, back));
        }
    }
}
