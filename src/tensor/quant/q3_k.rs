//! `q3_K`: 3 bits a value, super-blocks of 256 in 16 groups of 16. `x = d · (sc - 32) · (q - 4)`.
//!
//! ```text
//! byte  0           32                          96           108   110
//!       | hmask: 32 | qs: 64                    | scales: 12 | d   |
//!
//! hmask[l]    bit i: bit 2 of q of value 32·i + l
//! qs[l]       the low two bits, placed as in q2_K
//! scales      six bits for each of 16 groups:
//!   scales[j]      j < 8:  bits 7..4   bits 3..0
//!                          low of j+8  low of j
//!   scales[8 + j]  j < 4:  bits 7..6    5..4       3..2      1..0
//!                          high of j+12 high of j+8 high of j+4 high of j
//! ```

use bytemuck::{Pod, Zeroable};

use super::q2_k::group2;
use super::{Block, F16Le};

/// 256 values of `q3_K`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ3K {
    /// The third bits.
    pub hmask: [u8; 32],
    /// The low two bits, four values a byte.
    pub qs: [u8; 64],
    /// Scales of six bits: [`BlockQ3K::scale`].
    pub scales: [u8; 12],
    /// Scale of the scales.
    pub d: F16Le,
}

assert_layout!(BlockQ3K, Q3K, 256);

impl BlockQ3K {
    /// The signed scale of group `g`, -32 to 31.
    #[inline]
    pub fn scale(&self, g: usize) -> i8 {
        let low = self.scales[g % 8] >> (g / 8 * 4) & 15;
        let high = self.scales[8 + g % 4] >> (g / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    }
}

impl Block<256> for BlockQ3K {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (g, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = d * f32::from(self.scale(g));
            let high = self.hmask[g % 2 * 16..][..16].iter().map(|h| h >> (g / 2) & 1);
            for ((y, q), high) in y.iter_mut().zip(group2(&self.qs, g)).zip(high) {
                *y = scale * f32::from((q | high << 2) as i8 - 4);
            }
        }
    }
}
