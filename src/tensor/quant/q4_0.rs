//! `q4_0`: 4 bits a value and one scale per 32. `x = d · (q - 8)`.
//!
//! ```text
//! byte  0    2                                         18
//!       | d  | qs: 16 bytes                             |
//!
//! qs[j]   bits 7..4       bits 3..0
//!         q of j + 16     q of j
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, F16Le};

/// 32 values of `q4_0`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ4_0 {
    /// Scale.
    pub d: F16Le,
    /// Two 4-bit values a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockQ4_0, Q4_0, 32);

impl Block<32> for BlockQ4_0 {
    #[inline]
    fn dequantize(&self, y: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (j, q) in self.qs.into_iter().enumerate() {
            y[j] = f32::from((q & 15) as i8 - 8) * d;
            y[j + 16] = f32::from((q >> 4) as i8 - 8) * d;
        }
    }
}
