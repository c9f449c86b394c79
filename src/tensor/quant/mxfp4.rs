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

use super::Block;
use super::minifloat::{FP4_VALUES, e8m0_half_to_f32};

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
