//! `iq2_s`: 2.56 bits a value, super-blocks of 256 in 16 groups of 16, each two entries of a codebook of 8 values.
//! `x = d · (0.5 + s) / 4 · ± grid`.
//!
//! ```text
//! byte  0    2          34           66       74           82
//!       | d  | qs: 32   | signs: 32  | qh: 8  | scales: 8  |
//!
//! qs[i]       low eight bits of entry i = values 8·i .. 8·i + 8
//! signs[i]    bit j: value 8·i + j is negative
//! qh[i]       bits 7..6     5..4          3..2          1..0
//!             high of 4·i+3 high of 4·i+2 high of 4·i+1 high of 4·i
//! scales[j]   bits 7..4     bits 3..0
//!             s of 2·j+1    s of 2·j      of groups of 16
//! ```

use bytemuck::{Pod, Zeroable};

use super::grids::{IQ2_S_GRID, write_signed};
use super::{Block, F16Le};

/// 256 values of `iq2_s`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq2S {
    /// Scale of the scales.
    pub d: F16Le,
    /// Low bits of the entries.
    pub qs: [u8; 32],
    /// One sign a bit.
    pub signs: [u8; 32],
    /// High bits of the entries, four a byte.
    pub qh: [u8; 8],
    /// Two 4-bit scales a byte.
    pub scales: [u8; 8],
}

assert_layout!(BlockIq2S, Iq2S, 256);

impl Block<256> for BlockIq2S {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (i, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let s = self.scales[i / 4] >> (i / 2 % 2 * 4) & 15;
            let scale = d * (0.5 + f32::from(s)) * 0.25;
            let high = self.qh[i / 4] >> (i % 4 * 2) & 3;
            let entry = usize::from(self.qs[i]) | usize::from(high) << 8;
            write_signed(y, scale, &IQ2_S_GRID[entry], self.signs[i]);
        }
    }
}
