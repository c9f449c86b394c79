//! `q1_0`: 1 bit a value and one scale per 128. `x = d` where the bit is set, else `-d`.
//!
//! ```text
//! byte  0    2                        18
//!       | d  | qs: 16                 |
//!
//! qs[j]   bit i: value 8·j + i
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, F16Le};

/// 128 values of `q1_0`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ1_0 {
    /// Scale.
    pub d: F16Le,
    /// Eight values a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockQ1_0, Q1_0, 128);

impl Block<128> for BlockQ1_0 {
    fn dequantize(&self, y: &mut [f32; 128]) {
        let d = self.d.to_f32();
        for (y, q) in y.as_chunks_mut::<8>().0.iter_mut().zip(self.qs) {
            *y = std::array::from_fn(|i| if q >> i & 1 == 1 { d } else { -d });
        }
    }
}
