//! `iq4_nl`: 4 bits a value through a non-linear table, one scale per 32. `x = d · IQ4_VALUES[q]`.
//!
//! ```text
//! byte  0    2                                         18
//!       | d  | qs: 16 bytes                             |
//!
//! qs[j]   bits 7..4       bits 3..0
//!         q of j + 16     q of j
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, F16Le};

/// What the sixteen codes of `iq4_nl` and `iq4_xs` stand for.
pub static IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 32 values of `iq4_nl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq4Nl {
    /// Scale.
    pub d: F16Le,
    /// Two 4-bit codes a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockIq4Nl, Iq4Nl, 32);

/// 32 values from 16 bytes of codes (`iq4_nl` and a group of `iq4_xs`).
#[inline]
pub(super) fn decode(d: f32, qs: &[u8; 16], y: &mut [f32; 32]) {
    for (j, q) in qs.iter().enumerate() {
        y[j] = d * f32::from(IQ4_VALUES[usize::from(q & 15)]);
        y[j + 16] = d * f32::from(IQ4_VALUES[usize::from(q >> 4)]);
    }
}

impl Block<32> for BlockIq4Nl {
    #[inline]
    fn dequantize(&self, y: &mut [f32; 32]) {
        decode(self.d.to_f32(), &self.qs, y);
    }
}
