//! `q8_1`: 8 bits a value, a scale and the scaled sum per 32. `x = d · q`, `s = d · Σq`.
//!
//! ggml quantizes activations to it where the weights have a minimum, which then meets only `s`.
//!
//! ```text
//! byte  0    2    4                                    36
//!       | d  | s  | qs: 32 signed bytes                 |
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, F16Le};

/// 32 values of `q8_1`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ8_1 {
    /// Scale.
    pub d: F16Le,
    /// Scale times the sum of `qs`.
    pub s: F16Le,
    /// One value a byte.
    pub qs: [i8; 32],
}

assert_layout!(BlockQ8_1, Q8_1, 32);

impl Block<32> for BlockQ8_1 {
    #[inline]
    fn dequantize(&self, y: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (y, q) in y.iter_mut().zip(self.qs) {
            *y = f32::from(q) * d;
        }
    }
}
