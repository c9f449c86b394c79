//! `q8_a`: activations for integer kernels, made at run time. `x = d · q`. Not a ggml format.
//!
//! The scale is an f32, so nothing is lost to an f16. The sums are there so that weight formats with a minimum or an offset need
//! no second pass over the activations, in the form in which a kernel takes them as an operand: −128 times the sum is where
//! a dot product with unsigned weights around 128 starts (narrower weights are shifted up to eight bits).
//!
//! ```text
//! byte  0        4         8         12             20                             52
//!       | d: f32 | ds: f32 | off: i32 | off16[2]: i32 | qs: 32 signed bytes         |
//!
//! ds = d · Σ qs    off = −128 · Σ qs    off16 = −128 · (Σ qs[0..16], Σ qs[16..32])
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, Quantize};

/// 32 values of `q8_a`. All numbers are little-endian.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockQ8A {
    /// Scale, an f32: [`BlockQ8A::d`].
    pub d: [u8; 4],
    /// The scale times the sum of `qs`, an f32.
    pub ds: [u8; 4],
    /// −128 times the sum of `qs`, an i32.
    pub off: [u8; 4],
    /// −128 times the sums of the first and the last 16 of `qs`, i32.
    pub off16: [[u8; 4]; 2],
    /// One value a byte, from -127 to 127.
    pub qs: [i8; 32],
}

assert_layout!(BlockQ8A, Q8A, 32);

impl BlockQ8A {
    /// The scale.
    #[inline]
    pub fn d(&self) -> f32 {
        f32::from_le_bytes(self.d)
    }

    /// The sums of the first and the last 16 values.
    #[inline]
    pub fn sums(&self) -> [i32; 2] {
        self.off16.map(|s| i32::from_le_bytes(s) / -128)
    }
}

impl Block<32> for BlockQ8A {
    #[inline]
    fn dequantize(&self, y: &mut [f32; 32]) {
        let d = self.d();
        for (y, q) in y.iter_mut().zip(self.qs) {
            *y = f32::from(q) * d;
        }
    }
}

/// `d = max|x| / 127`, `q = x · (127 / max|x|)` rounded to nearest, ties to even.
///
/// A block whose maximum is 0, or too small for `127 / max|x|` to be finite, is all zero. A block with an infinity or a NaN
/// has NaN for `d` and `ds` and zeros elsewhere: every value it dequantizes to, and every product with it, is NaN and so is seen.
impl Quantize<32> for BlockQ8A {
    fn quantize(x: &[f32; 32]) -> Self {
        if !x.iter().all(|v| v.is_finite()) {
            let nan = f32::NAN.to_le_bytes();
            return BlockQ8A { d: nan, ds: nan, ..Zeroable::zeroed() };
        }
        let max = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let scale = 127.0 / max;
        if !scale.is_finite() {
            return Zeroable::zeroed();
        }
        let qs = x.map(|v| (v * scale).round_ties_even() as i8);
        let sum = |half: &[i8]| half.iter().map(|&q| i32::from(q)).sum::<i32>();
        let (s0, s1, d) = (sum(&qs[..16]), sum(&qs[16..]), max / 127.0);
        BlockQ8A {
            d: d.to_le_bytes(),
            ds: (d * (s0 + s1) as f32).to_le_bytes(),
            off: (-128 * (s0 + s1)).to_le_bytes(),
            off16: [(-128 * s0).to_le_bytes(), (-128 * s1).to_le_bytes()],
            qs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave() -> [f32; 32] {
        std::array::from_fn(|i| (i as f32 * 0.7).sin() * 3.0)
    }

    #[test]
    fn values_come_back_within_half_a_step_and_sums_are_exact() {
        let x = wave();
        let b = BlockQ8A::quantize(&x);
        let mut y = [0.0; 32];
        b.dequantize(&mut y);
        for (x, y) in x.iter().zip(y) {
            assert!((x - y).abs() <= b.d() * 0.5001, "{x} {y}");
        }
        let sum = |q: &[i8]| q.iter().map(|&q| i32::from(q)).sum::<i32>();
        assert_eq!(b.sums(), [sum(&b.qs[..16]), sum(&b.qs[16..])]);
        assert_eq!(i32::from_le_bytes(b.off), -128 * sum(&b.qs));
        assert_eq!(f32::from_le_bytes(b.ds), b.d() * sum(&b.qs) as f32);
        assert!(b.qs.iter().any(|q| q.abs() == 127));
    }

    #[test]
    fn ties_go_to_even() {
        let mut x = [0.0; 32];
        (x[0], x[1], x[2], x[3]) = (127.0, 0.5, 1.5, -2.5);
        assert_eq!(BlockQ8A::quantize(&x).qs[..4], [127, 0, 2, -2]);
    }

    #[test]
    fn zeros_and_the_tiniest_values_are_a_zero_block() {
        for tiny in [0.0, -0.0, f32::from_bits(1)] {
            let b = BlockQ8A::quantize(&[tiny; 32]);
            assert_eq!(bytemuck::bytes_of(&b), [0; 52]);
        }
    }

    #[test]
    fn what_is_not_finite_stays_visible() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = wave();
            x[17] = bad;
            let b = BlockQ8A::quantize(&x);
            let mut y = [0.0; 32];
            b.dequantize(&mut y);
            assert!(y.iter().all(|v| v.is_nan()));
            assert_eq!(b.sums(), [0, 0]);
        }
    }
}
