//! `iq4_xs`: 4 bits a value through the table of `iq4_nl`, super-blocks of 256 in 8 groups of 32.
//! `x = d · (ls - 32) · IQ4_VALUES[q]`.
//!
//! ```text
//! byte  0    2          4             8                        136
//!       | d  | scales_h | scales_l: 4 | qs: 128                |
//!
//! scales_h       u16, bits 2·g + 1 .. 2·g: the high two bits of ls of group g
//! scales_l[i]    bits 7..4         bits 3..0
//!                low of 2·i + 1    low of 2·i
//! qs[16·g + j]   code of 32·g + 16 + j    code of 32·g + j
//! ```

use bytemuck::{Pod, Zeroable};

use super::iq4_nl::decode;
use super::{Block, F16Le};

/// 256 values of `iq4_xs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq4Xs {
    /// Scale of the scales.
    pub d: F16Le,
    /// High bits of the scales, a little-endian u16.
    pub scales_h: [u8; 2],
    /// Low bits of the scales, two a byte.
    pub scales_l: [u8; 4],
    /// Two 4-bit codes a byte.
    pub qs: [u8; 128],
}

assert_layout!(BlockIq4Xs, Iq4Xs, 256);

impl BlockIq4Xs {
    /// The signed scale of group `g` (0 to 7), -32 to 31.
    #[inline]
    pub fn scale(&self, g: usize) -> i8 {
        let low = self.scales_l[g / 2] >> (g % 2 * 4) & 15;
        let high = (u16::from_le_bytes(self.scales_h) >> (2 * g) & 3) as u8;
        (low | high << 4) as i8 - 32
    }
}

impl Block<256> for BlockIq4Xs {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let groups = y.as_chunks_mut::<32>().0.iter_mut().zip(self.qs.as_chunks::<16>().0);
        for (g, (y, qs)) in groups.enumerate() {
            decode(d * f32::from(self.scale(g)), qs, y);
        }
    }
}
