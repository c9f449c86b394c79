//! `q5_0`: 5 bits a value and one scale per 32. `x = d · (q - 16)`.
//!
//! ```text
//! byte  0    2         6                               22
//!       | d  | qh      | qs: 16 bytes                   |
//!
//! qs[j]   bits 7..4                 bits 3..0
//!         low bits of q of j + 16   low bits of q of j
//! qh      u32, bit j: bit 4 of q of j
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, F16Le};

/// 32 values of `q5_0`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ5_0 {
    /// Scale.
    pub d: F16Le,
    /// The fifth bits, a little-endian u32.
    pub qh: [u8; 4],
    /// The low four bits, two values a byte.
    pub qs: [u8; 16],
}

assert_layout!(BlockQ5_0, Q5_0, 32);

/// The 32 five-bit values that `qs` and `qh` hold together (`q5_0` and `q5_1`).
#[inline]
pub(super) fn unpack5(qs: &[u8; 16], qh: [u8; 4]) -> [u8; 32] {
    let qh = u32::from_le_bytes(qh);
    let mut q = [0; 32];
    for (j, low) in qs.iter().enumerate() {
        q[j] = low & 15 | ((qh >> j << 4) & 16) as u8;
        q[j + 16] = low >> 4 | (qh >> (j + 12) & 16) as u8;
    }
    q
}

impl Block<32> for BlockQ5_0 {
    #[inline]
    fn dequantize(&self, y: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (y, q) in y.iter_mut().zip(unpack5(&self.qs, self.qh)) {
            *y = f32::from(q as i8 - 16) * d;
        }
    }
}
