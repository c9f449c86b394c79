//! `iq1_s`: 1.56 bits a value, super-blocks of 256 in 8 groups of 32, each four entries of a ternary codebook of 8 values.
//! `x = d · (2·s + 1) · (grid ± 0.125)`.
//!
//! ```text
//! byte  0    2             34              50
//!       | d  | qs: 32      | qh: 8 × u16   |
//!
//! qs[i]   low eight bits of entry i = values 8·i .. 8·i + 8
//! qh[g]   bit 15          14..12   11..9          8..6           5..3           2..0
//!         minus 0.125     s        high of 4·g+3  high of 4·g+2  high of 4·g+1  high of 4·g
//! ```

use bytemuck::{Pod, Zeroable};

use super::grids::IQ1_S_GRID;
use super::{Block, F16Le};

/// What is added to, or taken from, the ternary values of `iq1_s` and `iq1_m`.
pub const IQ1_DELTA: f32 = 0.125;

/// 256 values of `iq1_s`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq1S {
    /// Scale of the scales.
    pub d: F16Le,
    /// Low bits of the entries.
    pub qs: [u8; 32],
    /// High bits, scale and sign of the offset of each group of 32, little-endian u16.
    pub qh: [[u8; 2]; 8],
}

assert_layout!(BlockIq1S, Iq1S, 256);

/// Eight values from one codebook entry (`iq1_s` and `iq1_m`).
#[inline]
pub(super) fn write_shifted(y: &mut [f32; 8], scale: f32, entry: usize, minus: bool) {
    let delta = if minus { -IQ1_DELTA } else { IQ1_DELTA };
    for (y, g) in y.iter_mut().zip(IQ1_S_GRID[entry]) {
        *y = scale * (f32::from(g) + delta);
    }
}

impl Block<256> for BlockIq1S {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (i, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let qh = u16::from_le_bytes(self.qh[i / 4]);
            let scale = d * f32::from(2 * (qh >> 12 & 7) + 1);
            let high = usize::from(qh >> (3 * (i % 4)) & 7);
            write_shifted(y, scale, usize::from(self.qs[i]) | high << 8, qh >> 15 == 1);
        }
    }
}
