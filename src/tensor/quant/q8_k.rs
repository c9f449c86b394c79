//! `q8_K`: 8 bits a value and one f32 scale per 256. `x = d · q`. ggml quantizes activations to it for K-quants.
//!
//! ```text
//! byte  0         4                     260                  292
//!       | d: f32  | qs: 256 signed bytes | bsums: 16 × i16    |
//!
//! bsums[i] = Σ qs[16·i .. 16·i + 16]
//! ```

use bytemuck::{Pod, Zeroable};

use super::Block;

/// 256 values of `q8_K`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ8K {
    /// Scale, a little-endian f32: [`BlockQ8K::d`].
    pub d: [u8; 4],
    /// One value a byte.
    pub qs: [i8; 256],
    /// Sums of 16 values each, little-endian i16.
    pub bsums: [[u8; 2]; 16],
}

assert_layout!(BlockQ8K, Q8K, 256);

impl BlockQ8K {
    /// The scale.
    #[inline]
    pub fn d(&self) -> f32 {
        f32::from_le_bytes(self.d)
    }
}

impl Block<256> for BlockQ8K {
    #[inline]
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d();
        for (y, q) in y.iter_mut().zip(self.qs) {
            *y = d * f32::from(q);
        }
    }
}
