//! `q8_0`: 8 bits a value and one scale per 32. `x = d · q`.
//!
//! ```text
//! byte  0    2                                         34
//!       | d  | qs: 32 signed bytes                      |
//! ```

use bytemuck::{Pod, Zeroable};

use super::fit::{inverse, max_abs, truncate};
use super::{Block, F16Le, Quantize};

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

/// Scale and rounded values (ties away from zero) of `q8_0` and `q8_1`.
pub(super) fn encode8(x: &[f32; 32]) -> (f32, [i8; 32]) {
    let d = max_abs(x) / 127.0;
    let id = inverse(d);
    (d, x.map(|x| truncate((x * id).round()) as i8))
}

impl Quantize<32> for BlockQ8_0 {
    fn quantize(x: &[f32; 32]) -> Self {
        let (d, qs) = encode8(x);
        BlockQ8_0 { d: F16Le::from_f32(d), qs }
    }
}
