//! `iq3_xxs`: 3.06 bits a value, super-blocks of 256 in 8 groups of 32, each eight entries of a codebook of 4 values.
//! `x = d · (0.5 + s) / 2 · ± grid`.
//!
//! ```text
//! byte  0    2                      66                 98
//!       | d  | qs: 64               | words: 8 × u32   |
//!
//! qs[i]      entry of values 4·i .. 4·i + 4
//! words[g]   bits 31..28  27..21   20..14   13..7    6..0
//!            s            signs 3  signs 2  signs 1  signs 0     of values 32·g .. 32·g + 32, eight a sign field
//! ```

use bytemuck::{Pod, Zeroable};

use super::grids::{IQ3_XXS_GRID, SIGNS, write_signed};
use super::{Block, F16Le};

/// 256 values of `iq3_xxs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq3Xxs {
    /// Scale of the scales.
    pub d: F16Le,
    /// One entry a byte.
    pub qs: [u8; 64],
    /// Signs and scale of each group of 32, little-endian u32.
    pub words: [[u8; 4]; 8],
}

assert_layout!(BlockIq3Xxs, Iq3Xxs, 256);

impl Block<256> for BlockIq3Xxs {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (i, (y, qs)) in y.as_chunks_mut::<8>().0.iter_mut().zip(self.qs.as_chunks::<2>().0).enumerate() {
            let word = u32::from_le_bytes(self.words[i / 4]);
            let scale = d * (0.5 + (word >> 28) as f32) * 0.5;
            let signs = SIGNS[(word >> (7 * (i % 4)) & 127) as usize];
            let (first, last) = y.split_at_mut(4);
            write_signed(first, scale, &IQ3_XXS_GRID[usize::from(qs[0])], signs);
            write_signed(last, scale, &IQ3_XXS_GRID[usize::from(qs[1])], signs >> 4);
        }
    }
}
