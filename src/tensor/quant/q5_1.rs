//! `q5_1`: 5 bits a value, scale and minimum per 32. `x = d · q + m`.
//!
//! ```text
//! byte  0    2    4         8                          24
//!       | d  | m  | qh      | qs: 16 bytes              |
//!
//! qs[j]   bits 7..4                 bits 3..0
//!         low bits of q of j + 16   low bits of q of j
//! qh      u32, bit j: bit 4 of q of j
//! ```

use bytemuck::{Pod, Zeroable};

use super::fit::{inverse, min_max, truncate};
use super::q4_0::pack4;
use super::q5_0::{pack_fifth, unpack5};
use super::{Block, F16Le, Quantize};

/// 32 values of `q5_1`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ5_1 {
    /// Scale.
    pub d: F16Le,
    /// Minimum.
    pub m: F16Le,
    /// The fifth bits, a little-endian u32.
    pub qh: [u8; 4],
    /// The low four bits, two values a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockQ5_1, Q5_1, 32);

impl Block<32> for BlockQ5_1 {
    #[inline]
    fn dequantize(&self, y: &mut [f32; 32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        for (y, q) in y.iter_mut().zip(unpack5(&self.qs, self.qh)) {
            *y = f32::from(q) * d + m;
        }
    }
}

impl Quantize<32> for BlockQ5_1 {
    fn quantize(x: &[f32; 32]) -> Self {
        let (min, max) = min_max(x, (f32::MAX, f32::MIN));
        let d = (max - min) / 31.0;
        let id = inverse(d);
        let q = x.map(|x| truncate((x - min) * id + 0.5) as u8);
        BlockQ5_1 { d: F16Le::from_f32(d), m: F16Le::from_f32(min), qh: pack_fifth(&q), qs: pack4(&q) }
    }
}
