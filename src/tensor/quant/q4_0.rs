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

use super::fit::{extreme, inverse, truncate};
use super::{Block, F16Le, Quantize};

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

impl Quantize<32> for BlockQ4_0 {
    fn quantize(x: &[f32; 32]) -> Self {
        // The value of the largest magnitude becomes -8, the end of the range that has one more.
        let d = extreme(x) / -8.0;
        let id = inverse(d);
        let q = x.map(|x| (truncate(x * id + 8.5) as i8).min(15) as u8);
        BlockQ4_0 { d: F16Le::from_f32(d), qs: pack4(&q) }
    }
}

/// 32 four-bit values, two a byte, as `q4_0` and its kin place them.
pub(super) fn pack4(q: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| q[j] & 15 | q[j + 16] << 4)
}
