//! `tq2_0`: ternary values, four a byte, one scale per 256. `x = d · (t - 1)`.
//!
//! ```text
//! byte  0                        64   66
//!       | qs: 64                 | d  |
//!
//! qs[l]   bits 7..6   5..4      3..2      1..0          l < 32: values 0..128, l ≥ 32: the same + 128 - 32
//!         t of l+96   t of l+64 t of l+32 t of l
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, F16Le};

/// 256 values of `tq2_0`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockTq2_0 {
    /// Four 2-bit values a byte.
    pub qs: [u8; 64],
    /// Scale.
    pub d: F16Le,
}

assert_layout!(BlockTq2_0, Tq2_0, 256);

impl Block<256> for BlockTq2_0 {
    fn dequantize(&self, y: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (i, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (y, q) in y.iter_mut().zip(&self.qs[i / 4 * 32..]) {
                *y = f32::from((q >> (i % 4 * 2) & 3) as i8 - 1) * d;
            }
        }
    }
}
