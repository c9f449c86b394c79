//! `iq3_s`: 3.44 bits a value, super-blocks of 256 in 8 groups of 32, each eight entries of a codebook of 4 values.
//! `x = d · (1 + 2·s) · ± grid`.
//!
//! ```text
//! byte  0    2                 66       74           106         110
//!       | d  | qs: 64          | qh: 8  | signs: 32  | scales: 4 |
//!
//! qs[i]       low eight bits of entry i = values 4·i .. 4·i + 4
//! qh[g]       bit j: bit 8 of entry 8·g + j
//! signs[i]    bit j: value 8·i + j is negative
//! scales[j]   bits 7..4     bits 3..0
//!             s of 2·j+1    s of 2·j      of groups of 32
//! ```

use bytemuck::{Pod, Zeroable};

use super::grids::{IQ3_S_GRID, write_signed};
use super::{Block, F16Le};

/// 256 values of `iq3_s`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq3S {
    /// Scale of the scales.
    pub d: F16Le,
    /// Low bits of the entries.
    pub qs: [u8; 64],
    /// High bits of the entries.
    pub qh: [u8; 8],
    /// One sign a bit.
    pub signs: [u8; 32],
    /// Two 4-bit scales a byte.
    pub scales: [u8; 4],
}

assert_layout!(BlockIq3S, Iq3S, 256);

impl Block<256> for BlockIq3S {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (i, y) in y.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let g = i / 8;
            let s = self.scales[g / 2] >> (g % 2 * 4) & 15;
            let scale = d * f32::from(1 + 2 * s);
            let entry = usize::from(self.qs[i]) | usize::from(self.qh[g] >> (i % 8) & 1) << 8;
            write_signed(y, scale, &IQ3_S_GRID[entry], self.signs[i / 2] >> (i % 2 * 4));
        }
    }
}
