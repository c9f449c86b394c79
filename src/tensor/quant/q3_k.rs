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

use super::fit::{extreme, fit_scale_by_descent, nearest};
use super::q2_k::{group2, pack2};
use super::{Block, F16Le, Quantize};

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

impl BlockQ3K {
    /// Six-bit scales (signed, offset 32) packed into twelve bytes.
    fn pack_scales(scales: &[u8; 16]) -> [u8; 12] {
        let mut packed = [0; 12];
        for (g, scale) in scales.iter().enumerate() {
            packed[g % 8] |= (scale & 15) << (g / 8 * 4);
            packed[8 + g % 4] |= (scale >> 4) << (g / 4 * 2);
        }
        packed
    }
}

impl Quantize<256> for BlockQ3K {
    fn quantize(x: &[f32; 256]) -> Self {
        let (mut q, mut scales) = ([0; 256], [0.0; 16]);
        for (g, (x, q)) in x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0).enumerate() {
            scales[g] = fit_scale_by_descent(x, 4, q);
        }
        let mut block = BlockQ3K::zeroed();
        let max = extreme(&scales);
        if max != 0.0 {
            let inverse = -32.0 / max;
            block.d = F16Le::from_f32(1.0 / inverse);
            block.scales = Self::pack_scales(&scales.map(|s| ((nearest(inverse * s) as i8).clamp(-32, 31) + 32) as u8));
        }
        // Once more, with the scales as they are stored.
        for (g, (x, q)) in x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0).enumerate() {
            let scale = block.d.to_f32() * f32::from(block.scale(g));
            if scale != 0.0 {
                *q = x.map(|x| (nearest(x / scale).clamp(-4, 3) + 4) as u8);
            }
        }
        block.qs = pack2(&q);
        for (i, q) in q.iter().enumerate() {
            block.hmask[i % 32] |= (q >> 2) << (i / 32);
        }
        block
    }
}
