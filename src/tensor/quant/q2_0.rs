//! `q2_0`: 2 bits a value and one scale per 64. `x = d · (q - 1)`: -1, 0, 1 or 2 times the scale.
//!
//! ```text
//! byte  0    2                        18
//!       | d  | qs: 16                 |
//!
//! qs[j]   bits 7..6    5..4         3..2         1..0
//!         q of 4·j+3   q of 4·j+2   q of 4·j+1   q of 4·j
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, F16Le};

/// 64 values of `q2_0`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ2_0 {
    /// Scale.
    pub d: F16Le,
    /// Four values a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockQ2_0, Q2_0, 64);

impl Block<64> for BlockQ2_0 {
    fn dequantize(&self, y: &mut [f32; 64]) {
        let d = self.d.to_f32();
        for (y, q) in y.as_chunks_mut::<4>().0.iter_mut().zip(self.qs) {
            *y = std::array::from_fn(|i| f32::from((q >> (2 * i) & 3) as i8 - 1) * d);
        }
    }
}
