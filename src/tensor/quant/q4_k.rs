//! `q4_K`: 4 bits a value, super-blocks of 256 in 8 groups of 32. `x = d · sc · q - dmin · m`.
//!
//! ```text
//! byte  0    2      4            16                        144
//!       | d  | dmin | scales: 12 | qs: 128                 |
//!
//! qs[32·i + l]   bits 7..4            bits 3..0            i < 4, l < 32
//!                q of 64·i + 32 + l   q of 64·i + l
//! scales         six bits sc and m for each of 8 groups:
//!   scales[j]      j < 4:  bits 7..6        bits 5..0
//!                          sc of j+4, high  sc of j
//!   scales[4 + j]  j < 4:  m of j+4, high   m of j
//!   scales[8 + j]  j < 4:  bits 7..4        bits 3..0
//!                          m of j+4, low    sc of j+4, low
//! ```

use bytemuck::{Pod, Zeroable};

use super::fit::{AffineSearch, fit_scale_and_min, nearest};
use super::{Block, F16Le, Quantize};

/// 256 values of `q4_K`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ4K {
    /// Scale of the scales.
    pub d: F16Le,
    /// Scale of the minimums.
    pub dmin: F16Le,
    /// Scales and minimums of six bits: [`scale_min_k4`].
    pub scales: [u8; 12],
    /// Two 4-bit values a byte.
    pub qs: [u8; 128],
}

assert_layout!(BlockQ4K, Q4K, 256);

/// Scale and minimum of group `g` (0 to 7), six bits each, of `q4_K` and `q5_K`.
#[inline]
pub fn scale_min_k4(scales: &[u8; 12], g: usize) -> (u8, u8) {
    if g < 4 {
        (scales[g] & 63, scales[g + 4] & 63)
    } else {
        (scales[g + 4] & 15 | scales[g - 4] >> 6 << 4, scales[g + 4] >> 4 | scales[g] >> 6 << 4)
    }
}

/// [`scale_min_k4`] of all groups at once: the scales, then the minimums.
#[inline]
pub fn scales_mins_k4(scales: &[u8; 12]) -> [[u8; 8]; 2] {
    let word = |i: usize| u32::from_le_bytes([scales[i], scales[i + 1], scales[i + 2], scales[i + 3]]);
    let (first, second, third) = (word(0), word(4), word(8));
    let join = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)).to_le_bytes();
    [
        join(first & 0x3f3f_3f3f, (third & 0x0f0f_0f0f) | (first >> 2 & 0x3030_3030)),
        join(second & 0x3f3f_3f3f, (third >> 4 & 0x0f0f_0f0f) | (second >> 2 & 0x3030_3030)),
    ]
}

impl Block<256> for BlockQ4K {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        for (g, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (sc, m) = scale_min_k4(&self.scales, g);
            let (scale, min) = (d * f32::from(sc), dmin * f32::from(m));
            let shift = g % 2 * 4;
            for (y, q) in y.iter_mut().zip(&self.qs[g / 2 * 32..]) {
                *y = scale * f32::from(q >> shift & 15) - min;
            }
        }
    }
}

/// What `q4_K` and `q5_K` have in common before the values are packed.
pub(super) struct EncodedK {
    pub d: F16Le,
    pub dmin: F16Le,
    pub scales: [u8; 12],
    pub q: [u8; 256],
}

fn pack_scales_k4(sc: &[u8; 8], m: &[u8; 8]) -> [u8; 12] {
    std::array::from_fn(|i| match i {
        0..4 => sc[i] | sc[i + 4] >> 4 << 6,
        4..8 => m[i - 4] | m[i] >> 4 << 6,
        _ => sc[i - 4] & 15 | (m[i - 4] & 15) << 4,
    })
}

/// `v` as eight 6-bit numbers and the f16 scale they share.
fn encode6(v: &[f32; 8]) -> (F16Le, [u8; 8]) {
    let max = v.iter().fold(0.0, |m: f32, &v| m.max(v));
    let scale = if max > 0.0 { 63.0 / max } else { 0.0 };
    (F16Le::from_f32(max / 63.0), v.map(|v| (nearest(scale * v) as u8).min(63)))
}

/// Scales, minimums and values of a super-block of 8 groups of 32.
pub(super) fn encode_k(x: &[f32; 256], search: &AffineSearch) -> EncodedK {
    let (mut q, mut scales, mut mins) = ([0; 256], [0.0; 8], [0.0; 8]);
    for (g, (x, q)) in x.as_chunks::<32>().0.iter().zip(q.as_chunks_mut::<32>().0).enumerate() {
        let rms = (x.iter().fold(0.0, |sum: f32, x| sum + x * x) / 32.0).sqrt();
        (scales[g], mins[g]) = fit_scale_and_min(x, &x.map(|x| rms + x.abs()), search, q);
    }
    let (d, sc) = encode6(&scales);
    let (dmin, m) = encode6(&mins);
    // Once more, with the scales as they are stored.
    for (g, (x, q)) in x.as_chunks::<32>().0.iter().zip(q.as_chunks_mut::<32>().0).enumerate() {
        let scale = d.to_f32() * f32::from(sc[g]);
        if scale != 0.0 {
            let min = dmin.to_f32() * f32::from(m[g]);
            *q = x.map(|x| nearest((x + min) / scale).clamp(0, i32::from(search.max)) as u8);
        }
    }
    EncodedK { d, dmin, scales: pack_scales_k4(&sc, &m), q }
}

/// The low four bits of 256 values, two a byte, as `q4_K` and `q5_K` place them.
pub(super) fn pack4_k(q: &[u8; 256]) -> [u8; 128] {
    std::array::from_fn(|i| {
        let first = i / 32 * 64 + i % 32;
        q[first] & 15 | q[first + 32] << 4
    })
}

impl Quantize<256> for BlockQ4K {
    fn quantize(x: &[f32; 256]) -> Self {
        const SEARCH: AffineSearch = AffineSearch { max: 15, first: -1.0, steps: 20, absolute: false };
        let EncodedK { d, dmin, scales, q } = encode_k(x, &SEARCH);
        BlockQ4K { d, dmin, scales, qs: pack4_k(&q) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_scales_at_once_are_those_of_each_group() {
        let mut state = 1u32;
        for _ in 0..200 {
            let scales: [u8; 12] = std::array::from_fn(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            });
            let [sc, m] = scales_mins_k4(&scales);
            for g in 0..8 {
                assert_eq!((sc[g], m[g]), scale_min_k4(&scales, g), "group {g} of {scales:?}");
            }
        }
    }
}
