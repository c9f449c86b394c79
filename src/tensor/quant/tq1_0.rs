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

use super::{Block, F16Le};

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

impl Block<256> for BlockTq1_0 {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let bytes = bytemuck::bytes_of(self);
        for (run, first) in RUNS {
            let stride = run.len();
            let digits = y[first..].chunks_exact_mut(stride).take(5);
            for (y, power) in digits.zip([1u8, 3, 9, 27, 81]) {
                for (y, b) in y.iter_mut().zip(&bytes[run.clone()]) {
                    let digit = (u16::from(b.wrapping_mul(power)) * 3) >> 8;
                    *y = f32::from(digit as i8 - 1) * d;
                }
            }
        }
    }
}
