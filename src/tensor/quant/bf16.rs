//! `bf16`: the upper half of an f32.
//!
//! ```text
//! 15   14          7   6         0
//! sign exponent        fraction
//! ```

use half::bf16;

use super::Codec;

pub(super) fn codec() -> Codec {
    Codec { dequantize, quantize: Some(quantize) }
}

/// Shifts the bits up, so that a signalling NaN stays one, as in ggml (`half` would make it quiet).
fn dequantize(src: &[u8], dst: &mut [f32]) {
    for (b, y) in src.as_chunks::<2>().0.iter().zip(dst) {
        *y = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
    }
}

/// Rounds to nearest, ties to even.
fn quantize(src: &[f32], dst: &mut [u8]) {
    for (x, b) in src.iter().zip(dst.as_chunks_mut::<2>().0) {
        *b = bf16::from_f32(*x).to_le_bytes();
    }
}
