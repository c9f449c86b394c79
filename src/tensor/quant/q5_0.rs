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

use super::fit::{extreme, inverse, truncate};
use super::q4_0::pack4;
use super::{Block, F16Le, Quantize};

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

/// Bit `4·i + c` of `qh` as bit `i` of byte `c`: the order of kernels that take four values at a time.
#[inline]
pub fn fifth_bits_by_four(qh: u32) -> [u8; 4] {
    std::array::from_fn(|c| {
        let x = qh >> c & 0x1111_1111;
        let x = (x | x >> 3) & 0x0303_0303;
        let x = (x | x >> 6) & 0x000f_000f;
        (x | x >> 12) as u8
    })
}

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

/// The fifth bits of 32 values.
pub(super) fn pack_fifth(q: &[u8; 32]) -> [u8; 4] {
    let bits = q.iter().enumerate().fold(0, |bits, (j, q)| bits | u32::from(q >> 4 & 1) << j);
    bits.to_le_bytes()
}

impl Quantize<32> for BlockQ5_0 {
    fn quantize(x: &[f32; 32]) -> Self {
        let d = extreme(x) / -16.0;
        let id = inverse(d);
        let q = x.map(|x| (truncate(x * id + 16.5) as i8).min(31) as u8);
        BlockQ5_0 { d: F16Le::from_f32(d), qh: pack_fifth(&q), qs: pack4(&q) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fifth_bit_goes_to_its_place() {
        for bit in 0..32 {
            let expected = std::array::from_fn(|c| if c == bit % 4 { 1 << (bit / 4) } else { 0 });
            assert_eq!(fifth_bits_by_four(1 << bit), expected, "bit {bit}");
        }
        assert_eq!(fifth_bits_by_four(u32::MAX), [0xff; 4]);
    }
}
