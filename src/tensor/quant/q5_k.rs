//! `q5_K`: 5 bits a value, super-blocks of 256 in 8 groups of 32. `x = d · sc · q - dmin · m`.
//!
//! ```text
//! byte  0    2      4            16         48                        176
//!       | d  | dmin | scales: 12 | qh: 32   | qs: 128                 |
//!
//! scales, qs   as in q4_K
//! qh[l]        bit g: bit 4 of q of value 32·g + l
//! ```

use bytemuck::{Pod, Zeroable};

use super::q4_k::scale_min_k4;
use super::{Block, F16Le};

/// 256 values of `q5_K`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ5K {
    /// Scale of the scales.
    pub d: F16Le,
    /// Scale of the minimums.
    pub dmin: F16Le,
    /// Scales and minimums of six bits: [`scale_min_k4`].
    pub scales: [u8; 12],
    /// The fifth bits.
    pub qh: [u8; 32],
    /// The low four bits, two values a byte.
    pub qs: [u8; 128],
}

assert_layout!(BlockQ5K, Q5K, 256);

impl Block<256> for BlockQ5K {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        for (g, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (sc, m) = scale_min_k4(&self.scales, g);
            let (scale, min) = (d * f32::from(sc), dmin * f32::from(m));
            let shift = g % 2 * 4;
            for ((y, q), h) in y.iter_mut().zip(&self.qs[g / 2 * 32..]).zip(self.qh) {
                *y = scale * f32::from(q >> shift & 15 | (h >> g & 1) << 4) - min;
            }
        }
    }
}
