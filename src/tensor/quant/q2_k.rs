//! `q2_K`: 2 bits a value, super-blocks of 256 in 16 groups of 16. `x = d · sc · q - dmin · m`.
//!
//! ```text
//! byte  0             16                           80    82     84
//!       | scales: 16  | qs: 64                     | d   | dmin |
//!
//! scales[g]   bits 7..4   bits 3..0     of group g = values 16·g .. 16·g + 16
//!             m           sc
//! qs[l]       bits 7..6   5..4      3..2      1..0          l < 32: values 0..128, l ≥ 32: the same + 128 - 32
//!             q of l+96   q of l+64 q of l+32 q of l
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, F16Le};

/// 256 values of `q2_K`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ2K {
    /// Minimum (high) and scale (low) of each group, four bits each.
    pub scales: [u8; 16],
    /// Four 2-bit values a byte.
    pub qs: [u8; 64],
    /// Scale of the scales.
    pub d: F16Le,
    /// Scale of the minimums.
    pub dmin: F16Le,
}

assert_layout!(BlockQ2K, Q2K, 256);

/// Group `g` of the 2-bit values that `q2_K` and `q3_K` store alike.
#[inline]
pub(super) fn group2(qs: &[u8; 64], g: usize) -> impl Iterator<Item = u8> {
    let (half, shift, first) = (g / 8, g % 8 / 2 * 2, g % 2 * 16);
    qs[half * 32 + first..][..16].iter().map(move |q| q >> shift & 3)
}

impl Block<256> for BlockQ2K {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        for (g, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = d * f32::from(self.scales[g] & 15);
            let min = dmin * f32::from(self.scales[g] >> 4);
            for (y, q) in y.iter_mut().zip(group2(&self.qs, g)) {
                *y = scale * f32::from(q) - min;
            }
        }
    }
}
