//! `iq1_m`: 1.75 bits a value, super-blocks of 256 in 16 groups of 16, each two entries of the codebook of `iq1_s`.
//! `x = d · (2·s + 1) · (grid ± 0.125)`.
//!
//! ```text
//! byte  0             32          48                 56
//!       | qs: 32      | qh: 16    | scales: 4 × u16  |
//!
//! qs[i]       low eight bits of entry i = values 8·i .. 8·i + 8
//! qh[i]       bit 7              6..4            bit 3            2..0
//!             minus of 2·i+1     high of 2·i+1   minus of 2·i     high of 2·i
//! scales[j]   bits 15..12        11..9           8..6        5..3        2..0
//!             bits 4·j+3..4·j    s of 4·j+3      s of 4·j+2  s of 4·j+1  s of 4·j    of groups of 16
//!             of d, an f16
//! ```

use bytemuck::{Pod, Zeroable};

use super::iq1_s::write_shifted;
use super::{Block, F16Le};

/// 256 values of `iq1_m`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq1M {
    /// Low bits of the entries.
    pub qs: [u8; 32],
    /// High bits of the entries and the sign of the offset, two entries a byte.
    pub qh: [u8; 16],
    /// Four 3-bit scales and four bits of [`BlockIq1M::d`] each, little-endian u16.
    pub scales: [[u8; 2]; 4],
}

assert_layout!(BlockIq1M, Iq1M, 256);

impl BlockIq1M {
    /// The scale of the scales, put together from its four pieces.
    #[inline]
    pub fn d(&self) -> F16Le {
        let bits = (0..4).fold(0, |bits, j| bits | u16::from_le_bytes(self.scales[j]) >> 12 << (4 * j));
        F16Le(bits.to_le_bytes())
    }

    /// The 3-bit scale of group `g` (0 to 15).
    #[inline]
    pub fn scale(&self, g: usize) -> u8 {
        (u16::from_le_bytes(self.scales[g / 4]) >> (g % 4 * 3) & 7) as u8
    }
}

impl Block<256> for BlockIq1M {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d().to_f32();
        for (i, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let scale = d * f32::from(2 * self.scale(i / 2) + 1);
            let high = self.qh[i / 2] >> (i % 2 * 4) & 15;
            let entry = usize::from(self.qs[i]) | usize::from(high & 7) << 8;
            write_shifted(y, scale, entry, high >> 3 == 1);
        }
    }
}
