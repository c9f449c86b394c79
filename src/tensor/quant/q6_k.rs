//! `q6_K`: 6 bits a value, super-blocks of 256 in 16 groups of 16. `x = d · scale · (q - 32)`.
//!
//! ```text
//! byte  0                        128             192          208  210
//!       | ql: 128                | qh: 64        | scales: 16 | d  |
//!
//! values 0..128 are in ql[0..64] and qh[0..32], values 128..256 in the other halves; for l < 32:
//! ql[l]        bits 7..4         bits 3..0
//!              low of l+64       low of l
//! ql[l + 32]   low of l+96       low of l+32
//! qh[l]        bits 7..6     5..4          3..2          1..0
//!              high of l+96  high of l+64  high of l+32  high of l
//! scales[g]    signed, of values 16·g .. 16·g + 16
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, F16Le};

/// 256 values of `q6_K`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ6K {
    /// The low four bits, two values a byte.
    pub ql: [u8; 128],
    /// The high two bits, four values a byte.
    pub qh: [u8; 64],
    /// Scale of each group.
    pub scales: [i8; 16],
    /// Scale of the scales.
    pub d: F16Le,
}

assert_layout!(BlockQ6K, Q6K, 256);

impl Block<256> for BlockQ6K {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (g, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = d * f32::from(self.scales[g]);
            // The quarter of its half of the block that the group is in, and whether it is the first in that quarter.
            let (half, quarter, first) = (g / 8, g % 8 / 2, g % 2 * 16);
            let low = &self.ql[half * 64 + quarter % 2 * 32 + first..][..16];
            let high = &self.qh[half * 32 + first..][..16];
            for ((y, l), h) in y.iter_mut().zip(low).zip(high) {
                let q = l >> (quarter / 2 * 4) & 15 | (h >> (quarter * 2) & 3) << 4;
                *y = scale * f32::from(q as i8 - 32);
            }
        }
    }
}
