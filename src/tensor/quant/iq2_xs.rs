//! `iq2_xs`: 2.31 bits a value, super-blocks of 256 in 16 groups of 16, each two entries of a codebook of 8 values.
//! `x = d · (0.5 + s) / 4 · ± grid`.
//!
//! ```text
//! byte  0    2                               66           74
//!       | d  | qs: 32 × u16                  | scales: 8  |
//!
//! qs[i]       bits 15..9   bits 8..0      values 8·i .. 8·i + 8
//!             signs        entry
//! scales[j]   bits 7..4    bits 3..0
//!             s of 2·j+1   s of 2·j       of groups of 16
//! ```

use bytemuck::{Pod, Zeroable};

use super::grids::{IQ2_XS_GRID, SIGNS, write_signed};
use super::{Block, F16Le};

/// 256 values of `iq2_xs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq2Xs {
    /// Scale of the scales.
    pub d: F16Le,
    /// Entry and signs of each 8 values, little-endian u16.
    pub qs: [[u8; 2]; 32],
    /// Two 4-bit scales a byte.
    pub scales: [u8; 8],
}

assert_layout!(BlockIq2Xs, Iq2Xs, 256);

impl Block<256> for BlockIq2Xs {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (i, (y, qs)) in y.as_chunks_mut::<8>().0.iter_mut().zip(self.qs).enumerate() {
            let s = self.scales[i / 4] >> (i / 2 % 2 * 4) & 15;
            let scale = d * (0.5 + f32::from(s)) * 0.25;
            let q = usize::from(u16::from_le_bytes(qs));
            write_signed(y, scale, &IQ2_XS_GRID[q & 511], SIGNS[q >> 9]);
        }
    }
}
