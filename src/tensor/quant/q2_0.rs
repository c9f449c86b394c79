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

use super::fit::{extreme, inverse, truncate};
use super::{Block, F16Le, Quantize};

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

/// The scale is the largest magnitude, so the code for twice the scale is never written.
impl Quantize<64> for BlockQ2_0 {
    fn quantize(x: &[f32; 64]) -> Self {
        let d = extreme(x).abs();
        let id = inverse(d);
        let q = x.map(|x| (truncate((x * id).round()).clamp(-1, 2) + 1) as u8);
        let qs = std::array::from_fn(|j| (0..4).fold(0, |byte, i| byte | q[4 * j + i] << (2 * i)));
        BlockQ2_0 { d: F16Le::from_f32(d), qs }
    }
}
