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

use super::fit::{GROUP_MAX_EPS, extreme, inverse};
use super::q4_0::pack4;
use super::{Block, F16Le, Quantize};

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

/// The code whose table value is nearest to `x`, of two equally near the greater.
pub(super) fn nearest_code(x: f32) -> u8 {
    let above = 15 - IQ4_VALUES[1..15].iter().filter(|&&v| x < f32::from(v)).count();
    let (low, high) = (f32::from(IQ4_VALUES[above - 1]), f32::from(IQ4_VALUES[above]));
    (if x - low < high - x { above - 1 } else { above }) as u8
}

/// The scale of 32 values, weighted by x²: the best of `2 · steps + 1` starting scales around the one that takes the extreme
/// value to the end of the table (`iq4_nl` and groups of `iq4_xs`).
pub(super) fn fit_table_scale(x: &[f32; 32], steps: i16) -> f32 {
    let max = extreme(x);
    if max.abs() < GROUP_MAX_EPS {
        return 0.0;
    }
    let sums = |inverse: f32| {
        let (mut xq, mut qq) = (0.0, 0.0);
        for &x in x {
            let (w, q) = (x * x, f32::from(IQ4_VALUES[usize::from(nearest_code(inverse * x))]));
            xq += w * q * x;
            qq += w * q * q;
        }
        (xq, qq)
    };
    let end = f32::from(IQ4_VALUES[0]);
    let (xq, qq) = sums(1.0 / (-max / end));
    let mut d = if qq > 0.0 { xq / qq } else { 0.0 };
    let mut best = d * xq;
    for step in -steps..=steps {
        let (xq, qq) = sums((f32::from(step) + end) / max);
        if qq > 0.0 && xq * xq > best * qq {
            d = xq / qq;
            best = d * xq;
        }
    }
    d
}

/// Starting scales on each side.
pub(super) const STEPS: i16 = 7;

impl Quantize<32> for BlockIq4Nl {
    fn quantize(x: &[f32; 32]) -> Self {
        let d = fit_table_scale(x, STEPS);
        let id = inverse(d);
        BlockIq4Nl { d: F16Le::from_f32(d), qs: pack4(&x.map(|x| nearest_code(id * x))) }
    }
}
