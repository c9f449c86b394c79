//! `q6_K`: 6 bits a value, super-blocks of 256 in 16 groups of 16. `x = d · scale · (q - 32)`.
//!
//! ```text
//! byte  0                        128             192          208  210
//!       | ql: 128                | qh: 64        | scales: 16 | d  |
//!
//! values 0..128 are in ql[0..64] and qh[0..32], values 128..256 in the other halves; for l < 32:
//! ql[l]        bits 7..4         bits 3..0
//!              low of l+64       low of l
//! ql[l + 32]   low of l+96       low of l+32
//! qh[l]        bits 7..6     5..4          3..2          1..0
//!              high of l+96  high of l+64  high of l+32  high of l
//! scales[g]    signed, of values 16·g .. 16·g + 16
//! ```

use bytemuck::{Pod, Zeroable};

use super::fit::{GROUP_MAX_EPS, extreme, fit_scale_by_search, nearest};
use super::{Block, F16Le, Quantize};

/// 256 values of `q6_K`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ6K {
    /// The low four bits, two values a byte.
    pub ql: [u8; 128],
    /// The high two bits, four values a byte.
    pub qh: [u8; 64],
    /// Scale of each group.
    pub scales: [i8; 16],
    /// Scale of the scales.
    pub d: F16Le,
}

assert_layout!(BlockQ6K, Q6K, 256);

impl Block<256> for BlockQ6K {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (g, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = d * f32::from(self.scales[g]);
            // The quarter of its half of the block that the group is in, and whether it is the first in that quarter.
            let (half, quarter, first) = (g / 8, g % 8 / 2, g % 2 * 16);
            let low = &self.ql[half * 64 + quarter % 2 * 32 + first..][..16];
            let high = &self.qh[half * 32 + first..][..16];
            for ((y, l), h) in y.iter_mut().zip(low).zip(high) {
                let q = l >> (quarter / 2 * 4) & 15 | (h >> (quarter * 2) & 3) << 4;
                *y = scale * f32::from(q as i8 - 32);
            }
        }
    }
}

impl Quantize<256> for BlockQ6K {
    fn quantize(x: &[f32; 256]) -> Self {
        let (mut q, mut scales) = ([0u8; 256], [0.0; 16]);
        for (g, (x, q)) in x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0).enumerate() {
            scales[g] = fit_scale_by_search(x, 32, q);
        }
        let max = extreme(&scales);
        if max.abs() < GROUP_MAX_EPS {
            return Zeroable::zeroed();
        }
        let inverse = -128.0 / max;
        let d = F16Le::from_f32(1.0 / inverse);
        let scales = scales.map(|s| nearest(inverse * s).min(127) as i8);
        // Once more, with the scales as they are stored.
        for (g, (x, q)) in x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0).enumerate() {
            let scale = d.to_f32() * f32::from(scales[g]);
            if scale != 0.0 {
                *q = x.map(|x| (nearest(x / scale).clamp(-32, 31) + 32) as u8);
            }
        }
        let ql = std::array::from_fn(|i| {
            let first = i / 64 * 128 + i % 64;
            q[first] & 15 | q[first + 64] << 4
        });
        let qh = std::array::from_fn(|i| {
            let first = i / 32 * 128 + i % 32;
            (0..4).fold(0, |byte, j| byte | (q[first + 32 * j] >> 4) << (2 * j))
        });
        BlockQ6K { ql, qh, scales, d }
    }
}
