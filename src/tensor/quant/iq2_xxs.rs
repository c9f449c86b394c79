//! `iq2_xxs`: 2.06 bits a value, super-blocks of 256 in 8 groups of 32, each four entries of a codebook of 8 values.
//! `x = d · (0.5 + s) / 4 · ± grid`.
//!
//! ```text
//! byte  0    2                                          66
//!       | d  | qs: 8 groups of 8 bytes                  |
//!
//! a group   byte 0     1        2        3        4..8: u32
//!           entry 0    entry 1  entry 2  entry 3  31..28  27..21   20..14   13..7    6..0
//!                                                 s       signs 3  signs 2  signs 1  signs 0
//! ```

use bytemuck::{Pod, Zeroable};

use super::grids::{IQ2_XXS_GRID, SIGNS, write_signed};
use super::{Block, F16Le};

/// 256 values of `iq2_xxs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq2Xxs {
    /// Scale of the scales.
    pub d: F16Le,
    /// Entries, signs and scale of each group of 32.
    pub qs: [[u8; 8]; 8],
}

assert_layout!(BlockIq2Xxs, Iq2Xxs, 256);

impl Block<256> for BlockIq2Xxs {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (y, &[e0, e1, e2, e3, w0, w1, w2, w3]) in y.as_chunks_mut::<32>().0.iter_mut().zip(&self.qs) {
            let word = u32::from_le_bytes([w0, w1, w2, w3]);
            let scale = d * (0.5 + (word >> 28) as f32) * 0.25;
            for (l, (y, entry)) in y.as_chunks_mut::<8>().0.iter_mut().zip([e0, e1, e2, e3]).enumerate() {
                let signs = SIGNS[(word >> (7 * l) & 127) as usize];
                write_signed(y, scale, &IQ2_XXS_GRID[usize::from(entry)], signs);
            }
        }
    }
}
