//! `mxfp4`: the OCP microscaling format MXFP4, E2M1 values with an E8M0 scale per 32. `x = 2^(e - 127) · v`.
//!
//! ```text
//! byte  0   1                        17
//!       | e | qs: 16                 |
//!
//! qs[j]   bits 7..4            bits 3..0           a code: sign, 2 bits exponent, 1 bit fraction
//!         code of j + 16       code of j
//! ```

use bytemuck::{Pod, Zeroable};

use super::fit::{extreme, truncate};
use super::minifloat::{FP4_VALUES, e8m0_half_to_f32, nearest_fp4};
use super::q4_0::pack4;
use super::{Block, Quantize};

/// 32 values of `mxfp4`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockMxfp4 {
    /// Exponent of the scale, biased by 127.
    pub e: u8,
    /// Two 4-bit codes a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockMxfp4, Mxfp4, 32);

impl Block<32> for BlockMxfp4 {
    #[inline]
    fn dequantize(&self, y: &mut [f32; 32]) {
        let d = e8m0_half_to_f32(self.e);
        for (j, q) in self.qs.into_iter().enumerate() {
            y[j] = f32::from(FP4_VALUES[usize::from(q & 15)]) * d;
            y[j + 16] = f32::from(FP4_VALUES[usize::from(q >> 4)]) * d;
        }
    }
}

impl Quantize<32> for BlockMxfp4 {
    fn quantize(x: &[f32; 32]) -> Self {
        let max = extreme(x).abs();
        // The largest E2M1 value is 1.5 · 2²; `max` may be up to a third above what that reaches, and is clipped then.
        let e = if max > 0.0 { truncate(max.log2().floor() - 2.0 + 127.0) as u8 } else { 0 };
        let d = e8m0_half_to_f32(e);
        BlockMxfp4 { e, qs: pack4(&x.map(|x| nearest_fp4(x, d))) }
    }
}
