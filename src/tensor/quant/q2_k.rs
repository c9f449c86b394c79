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

use super::fit::{AffineSearch, fit_scale_and_min, nearest};
use super::{Block, F16Le, Quantize};

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

const SEARCH: AffineSearch = AffineSearch { max: 3, first: -0.5, steps: 15, absolute: true };

/// 256 two-bit values, four a byte, as `q2_K` and `q3_K` place them.
pub(super) fn pack2(q: &[u8; 256]) -> [u8; 64] {
    std::array::from_fn(|l| {
        let first = l / 32 * 128 + l % 32;
        (0..4).fold(0, |byte, i| byte | (q[first + 32 * i] & 3) << (2 * i))
    })
}

/// `v` as sixteen 4-bit numbers and the f16 scale they share.
fn encode4(v: &[f32; 16]) -> (F16Le, [u8; 16]) {
    let max = v.iter().fold(0.0, |m: f32, &v| m.max(v));
    let scale = if max > 0.0 { 15.0 / max } else { 0.0 };
    (F16Le::from_f32(max / 15.0), v.map(|v| nearest(scale * v) as u8))
}

impl Quantize<256> for BlockQ2K {
    fn quantize(x: &[f32; 256]) -> Self {
        let (mut q, mut scales, mut mins) = ([0; 256], [0.0; 16], [0.0; 16]);
        for (g, (x, q)) in x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0).enumerate() {
            (scales[g], mins[g]) = fit_scale_and_min(x, &x.map(f32::abs), &SEARCH, q);
        }
        let (d, sc) = encode4(&scales);
        let (dmin, m) = encode4(&mins);
        let scales: [u8; 16] = std::array::from_fn(|g| sc[g] | m[g] << 4);
        // Once more, with the scales as they are stored.
        for (g, (x, q)) in x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0).enumerate() {
            let scale = d.to_f32() * f32::from(scales[g] & 15);
            if scale != 0.0 {
                let min = dmin.to_f32() * f32::from(scales[g] >> 4);
                *q = x.map(|x| nearest((x + min) / scale).clamp(0, 3) as u8);
            }
        }
        BlockQ2K { scales, qs: pack2(&q), d, dmin }
    }
}
