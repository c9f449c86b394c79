//! `q8_0`: 8 bits a value and one scale per 32. `x = d · q`.
//!
//! ```text
//! byte  0    2                                         34
//!       | d  | qs: 32 signed bytes                      |
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, F16Le};

/// 32 values of `q8_0`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ8_0 {
    /// Scale.
    pub d: F16Le,
    /// One value a byte.
    pub qs: [i8; 32],
}

assert_layout!(BlockQ8_0, Q8_0, 32);

impl Block<32> for BlockQ8_0 {
    #[inline]
    fn dequantize(&self, y: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (y, q) in y.iter_mut().zip(self.qs) {
            *y = f32::from(q) * d;
        }
    }
}
