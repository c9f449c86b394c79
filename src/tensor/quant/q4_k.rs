//! `q4_K`: 4 bits a value, super-blocks of 256 in 8 groups of 32. `x = d · sc · q - dmin · m`.
//!
//! ```text
//! byte  0    2      4            16                        144
//!       | d  | dmin | scales: 12 | qs: 128                 |
//!
//! qs[32·i + l]   bits 7..4            bits 3..0            i < 4, l < 32
//!                q of 64·i + 32 + l   q of 64·i + l
//! scales         six bits sc and m for each of 8 groups:
//!   scales[j]      j < 4:  bits 7..6        bits 5..0
//!                          sc of j+4, high  sc of j
//!   scales[4 + j]  j < 4:  m of j+4, high   m of j
//!   scales[8 + j]  j < 4:  bits 7..4        bits 3..0
//!                          m of j+4, low    sc of j+4, low
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, F16Le};

/// 256 values of `q4_K`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ4K {
    /// Scale of the scales.
    pub d: F16Le,
    /// Scale of the minimums.
    pub dmin: F16Le,
    /// Scales and minimums of six bits: [`scale_min_k4`].
    pub scales: [u8; 12],
    /// Two 4-bit values a byte.
    pub qs: [u8; 128],
}

assert_layout!(BlockQ4K, Q4K, 256);

/// Scale and minimum of group `g` (0 to 7), six bits each, of `q4_K` and `q5_K`.
#[inline]
pub fn scale_min_k4(scales: &[u8; 12], g: usize) -> (u8, u8) {
    if g < 4 {
        (scales[g] & 63, scales[g + 4] & 63)
    } else {
        (scales[g + 4] & 15 | scales[g - 4] >> 6 << 4, scales[g + 4] >> 4 | scales[g] >> 6 << 4)
    }
}

impl Block<256> for BlockQ4K {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        for (g, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (sc, m) = scale_min_k4(&self.scales, g);
            let (scale, min) = (d * f32::from(sc), dmin * f32::from(m));
            let shift = g % 2 * 4;
            for (y, q) in y.iter_mut().zip(&self.qs[g / 2 * 32..]) {
                *y = scale * f32::from(q >> shift & 15) - min;
            }
        }
    }
}
