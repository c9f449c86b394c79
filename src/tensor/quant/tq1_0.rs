//! `tq1_0`: ternary values, five a byte, one scale per 256. `x = d · (t - 1)`, `t` in 0, 1, 2.
//!
//! ```text
//! byte  0                        48      52   54
//!       | qs: 48                 | qh: 4 | d  |
//!
//! qs[m]        m < 32: digits of values m, m+32, m+64, m+96, m+128, the most significant first
//! qs[32 + m]   m < 16: digits of values 160 + m, + 16, + 32, + 48, + 64
//! qh[m]        m < 4:  digits of values 240 + m, + 4, + 8, + 12, and a 0
//!
//! A byte is ⌈n · 256 / 243⌉ of the number n with those five base-3 digits: a fraction, whose digits come out at the top,
//! one by one, as it is multiplied by 3.
//! ```

use bytemuck::{Pod, Zeroable};

use super::fit::{inverse, max_abs};
use super::{Block, F16Le, Quantize};

/// 256 values of `tq1_0`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockTq1_0 {
    /// Five digits a byte: the first 240 values.
    pub qs: [u8; 48],
    /// Four digits a byte: the last 16 values.
    pub qh: [u8; 4],
    /// Scale.
    pub d: F16Le,
}

assert_layout!(BlockTq1_0, Tq1_0, 256);

/// Runs of bytes and the values they hold: digit `n` of byte `m` is value `first + n · bytes.len() + m`.
const RUNS: [(std::ops::Range<usize>, usize); 3] = [(0..32, 0), (32..48, 160), (48..52, 240)];

impl BlockTq1_0 {
    /// The digits of all values, 0 to 2.
    pub fn digits(&self) -> [u8; 256] {
        let mut all = [0; 256];
        let bytes = bytemuck::bytes_of(self);
        for (run, first) in RUNS {
            let digits = all[first..].chunks_exact_mut(run.len()).take(5);
            for (digits, power) in digits.zip([1u8, 3, 9, 27, 81]) {
                for (digit, b) in digits.iter_mut().zip(&bytes[run.clone()]) {
                    *digit = ((u16::from(b.wrapping_mul(power)) * 3) >> 8) as u8;
                }
            }
        }
        all
    }
}

impl Block<256> for BlockTq1_0 {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (y, digit) in y.iter_mut().zip(self.digits()) {
            *y = f32::from(digit as i8 - 1) * d;
        }
    }
}

/// Ternary digits of a block, 0 to 2, and the scale: the largest magnitude (`tq1_0` and `tq2_0`).
pub(super) fn encode_ternary(x: &[f32; 256]) -> (f32, [u8; 256]) {
    let d = max_abs(x);
    let id = inverse(d);
    let digit = |x: f32| match (x * id).round() {
        1.0 => 2,
        -1.0 => 0,
        _ => 1, // NaN and infinity too, where `d` is infinite or so small that `id` is
    };
    (d, x.map(digit))
}

impl Quantize<256> for BlockTq1_0 {
    fn quantize(x: &[f32; 256]) -> Self {
        let (d, t) = encode_ternary(x);
        let mut block = BlockTq1_0 { d: F16Le::from_f32(d), ..Zeroable::zeroed() };
        for (run, first) in RUNS {
            let stride = run.len();
            for (m, byte) in run.enumerate() {
                let digit = |n: usize| t.get(first + n * stride + m).map_or(0, |&t| u16::from(t));
                let number = (0..5).fold(0, |number, n| 3 * number + digit(n));
                bytemuck::bytes_of_mut(&mut block)[byte] = (number * 256).div_ceil(243) as u8;
            }
        }
        block
    }
}
