//! `q4_1`: 4 bits a value, scale and minimum per 32. `x = d · q + m`.
//!
//! ```text
//! byte  0    2    4                                    20
//!       | d  | m  | qs: 16 bytes                        |
//!
//! qs[j]   bits 7..4       bits 3..0
//!         q of j + 16     q of j
//! ```

use bytemuck::{Pod, Zeroable};

use super::fit::{inverse, min_max, truncate};
use super::q4_0::pack4;
use super::{Block, F16Le, Quantize};

/// 32 values of `q4_1`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ4_1 {
    /// Scale.
    pub d: F16Le,
    /// Minimum.
    pub m: F16Le,
    /// Two 4-bit values a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockQ4_1, Q4_1, 32);

impl Block<32> for BlockQ4_1 {
    #[inline]
    fn dequantize(&self, y: &mut [f32; 32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        for (j, q) in self.qs.into_iter().enumerate() {
            y[j] = f32::from(q & 15) * d + m;
            y[j + 16] = f32::from(q >> 4) * d + m;
        }
    }
}

impl Quantize<32> for BlockQ4_1 {
    fn quantize(x: &[f32; 32]) -> Self {
        let (min, max) = min_max(x, (f32::MAX, f32::MIN));
        let d = (max - min) / 15.0;
        let id = inverse(d);
        let q = x.map(|x| (truncate((x - min) * id + 0.5) as i8).min(15) as u8);
        BlockQ4_1 { d: F16Le::from_f32(d), m: F16Le::from_f32(min), qs: pack4(&q) }
    }
}
