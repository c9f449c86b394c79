//! `f16`: IEEE half precision.
//!
//! ```text
//! 15   14      10   9              0
//! sign exponent     fraction
//! ```

use bytemuck::{Pod, Zeroable};
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::Codec;

/// An f16 as two little-endian bytes: the scale of most formats, at any address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct F16Le(pub [u8; 2]);

impl F16Le {
    /// The value, exactly.
    #[inline]
    pub fn to_f32(self) -> f32 {
        f16::from_le_bytes(self.0).to_f32()
    }

    /// The nearest f16, ties to even; beyond the range, infinity.
    #[inline]
    pub fn from_f32(x: f32) -> Self {
        F16Le(f16::from_f32(x).to_le_bytes())
    }
}

/// Elements converted at a time: `half` converts an aligned slice with the vector instructions that the CPU has.
const CHUNK: usize = 64;

pub(super) fn codec() -> Codec {
    Codec { dequantize, quantize: Some(quantize) }
}

fn dequantize(src: &[u8], dst: &mut [f32]) {
    let mut halves = [f16::ZERO; CHUNK];
    for (bytes, y) in src.chunks(2 * CHUNK).zip(dst.chunks_mut(CHUNK)) {
        let n = y.len().min(bytes.len() / 2);
        for (h, b) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *h = f16::from_le_bytes(*b);
        }
        halves[..n].convert_to_f32_slice(&mut y[..n]);
    }
}

fn quantize(src: &[f32], dst: &mut [u8]) {
    let mut halves = [f16::ZERO; CHUNK];
    for (x, bytes) in src.chunks(CHUNK).zip(dst.chunks_mut(2 * CHUNK)) {
        let n = x.len().min(bytes.len() / 2);
        halves[..n].convert_from_f32_slice(&x[..n]);
        for (h, b) in halves[..n].iter().zip(bytes.as_chunks_mut::<2>().0) {
            *b = h.to_le_bytes();
        }
    }
}
