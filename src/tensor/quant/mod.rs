//! Quantized block formats, one file a format, and [`dequantize_row`] and [`quantize_row`] over all of them.
//!
//! A format's file has the block as it lies in memory (`#[repr(C)]`, bytes only, so its alignment is 1 and any slice of a
//! mapped file can be viewed as blocks), a picture of its bits, and the scalar conversions. Multi-byte fields are
//! little-endian. Dequantizing gives the same bits as ggml's C code. So does quantizing, which is ggml's reference
//! quantizer without an importance matrix.

use bytemuck::Pod;

use super::DType;

/// Checks at compile time that a block is as long as its [`DType`] says and can stand at any address.
macro_rules! assert_layout {
    ($block:ty, $dtype:ident, $len:expr) => {
        const _: () = {
            assert!(size_of::<$block>() == crate::tensor::DType::$dtype.block_bytes());
            assert!(align_of::<$block>() == 1);
            assert!(crate::tensor::DType::$dtype.block_len() == $len);
        };
    };
}

mod bf16;
mod f16;
mod fit;
pub mod grids;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod minifloat;
mod mxfp4;
mod mxfp6_e2m3;
mod mxfp6_e3m2;
mod nvfp4;
mod plain;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod q8_1;
mod q8_a;
mod q8_k;
mod tq1_0;
mod tq2_0;

pub use f16::F16Le;
pub use iq1_m::BlockIq1M;
pub use iq1_s::{BlockIq1S, IQ1_DELTA};
pub use iq2_s::BlockIq2S;
pub use iq2_xs::BlockIq2Xs;
pub use iq2_xxs::BlockIq2Xxs;
pub use iq3_s::BlockIq3S;
pub use iq3_xxs::BlockIq3Xxs;
pub use iq4_nl::{BlockIq4Nl, IQ4_VALUES};
pub use iq4_xs::BlockIq4Xs;
pub use minifloat::{FP4_VALUES, e8m0_half_to_f32, e8m0_to_f32, ue4m3_half_to_f32};
pub use mxfp4::BlockMxfp4;
pub use mxfp6_e2m3::{BlockMxfp6E2m3, E2M3_VALUES};
pub use mxfp6_e3m2::{BlockMxfp6E3m2, E3M2_VALUES};
pub use nvfp4::BlockNvfp4;
pub use q1_0::BlockQ1_0;
pub use q2_0::BlockQ2_0;
pub use q2_k::BlockQ2K;
pub use q3_k::BlockQ3K;
pub use q4_0::BlockQ4_0;
pub use q4_1::BlockQ4_1;
pub use q4_k::{BlockQ4K, scale_min_k4, scales_mins_k4};
pub use q5_0::{BlockQ5_0, fifth_bits_by_four};
pub use q5_1::BlockQ5_1;
pub use q5_k::BlockQ5K;
pub use q6_k::BlockQ6K;
pub use q8_0::BlockQ8_0;
pub use q8_1::BlockQ8_1;
pub use q8_a::BlockQ8A;
pub use q8_k::BlockQ8K;
pub use tq1_0::BlockTq1_0;
pub use tq2_0::BlockTq2_0;

/// Why a row was not converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantError {
    /// The row cannot be cut into blocks.
    #[error("a row of {len} elements is no whole number of {dtype} blocks: make it a multiple of {}", dtype.block_len())]
    PartialBlock {
        /// The quantized type.
        dtype: DType,
        /// Elements in the row.
        len: usize,
    },
    /// The byte slice is not as long as the row is in this type.
    #[error("{len} elements of {dtype} take {expected} bytes, but the slice has {actual}")]
    ByteLength {
        /// The type of the bytes.
        dtype: DType,
        /// Elements in the row.
        len: usize,
        /// Bytes that they take.
        expected: usize,
        /// Bytes that the slice has.
        actual: usize,
    },
    /// This type can be read but not written.
    #[error("there is no quantizer for {0}: choose a type for which `can_quantize` is true")]
    NoQuantizer(DType),
}

/// Converts whole blocks to f32. The lengths must match; of slices that do not, only the blocks that both have are converted.
pub type DequantFn = fn(&[u8], &mut [f32]);

/// Converts f32 to whole blocks, with the same rule for lengths as [`DequantFn`].
pub type QuantFn = fn(&[f32], &mut [u8]);

/// `N` consecutive elements of a row as they are stored.
pub trait Block<const N: usize>: Pod {
    /// Writes the values of the block.
    fn dequantize(&self, y: &mut [f32; N]);
}

/// A block that can be made from f32 values.
pub trait Quantize<const N: usize>: Block<N> {
    /// The block nearest to `x` by the rule of the format's reference quantizer.
    fn quantize(x: &[f32; N]) -> Self;
}

/// How rows of a type are converted.
struct Codec {
    dequantize: DequantFn,
    quantize: Option<QuantFn>,
}

/// The table of formats, one line a type. `read` types can be dequantized only.
fn codec(dtype: DType) -> Codec {
    match dtype {
        DType::F32 => plain::f32(),
        DType::F16 => f16::codec(),
        DType::Bf16 => bf16::codec(),
        DType::F64 => plain::f64(),
        DType::I8 => plain::i8(),
        DType::I16 => plain::i16(),
        DType::I32 => plain::i32(),
        DType::I64 => plain::i64(),
        DType::Q4_0 => both::<BlockQ4_0, _>(),
        DType::Q4_1 => both::<BlockQ4_1, _>(),
        DType::Q5_0 => both::<BlockQ5_0, _>(),
        DType::Q5_1 => both::<BlockQ5_1, _>(),
        DType::Q8_0 => both::<BlockQ8_0, _>(),
        DType::Q8_1 => both::<BlockQ8_1, _>(),
        DType::Q2K => both::<BlockQ2K, _>(),
        DType::Q3K => both::<BlockQ3K, _>(),
        DType::Q4K => both::<BlockQ4K, _>(),
        DType::Q5K => both::<BlockQ5K, _>(),
        DType::Q6K => both::<BlockQ6K, _>(),
        DType::Q8K => both::<BlockQ8K, _>(),
        DType::Iq2Xxs => read::<BlockIq2Xxs, _>(),
        DType::Iq2Xs => read::<BlockIq2Xs, _>(),
        DType::Iq3Xxs => read::<BlockIq3Xxs, _>(),
        DType::Iq1S => read::<BlockIq1S, _>(),
        DType::Iq4Nl => both::<BlockIq4Nl, _>(),
        DType::Iq3S => read::<BlockIq3S, _>(),
        DType::Iq2S => read::<BlockIq2S, _>(),
        DType::Iq4Xs => both::<BlockIq4Xs, _>(),
        DType::Iq1M => read::<BlockIq1M, _>(),
        DType::Tq1_0 => both::<BlockTq1_0, _>(),
        DType::Tq2_0 => both::<BlockTq2_0, _>(),
        DType::Mxfp4 => both::<BlockMxfp4, _>(),
        DType::Nvfp4 => both::<BlockNvfp4, _>(),
        DType::Q1_0 => both::<BlockQ1_0, _>(),
        DType::Q2_0 => both::<BlockQ2_0, _>(),
        DType::Q8A => both::<BlockQ8A, _>(),
        DType::Mxfp6E2m3 => both::<BlockMxfp6E2m3, _>(),
        DType::Mxfp6E3m2 => both::<BlockMxfp6E3m2, _>(),
    }
}

fn read<B: Block<N>, const N: usize>() -> Codec {
    Codec { dequantize: dequantize_blocks::<B, N>, quantize: None }
}

fn both<B: Quantize<N>, const N: usize>() -> Codec {
    Codec { dequantize: dequantize_blocks::<B, N>, quantize: Some(quantize_blocks::<B, N>) }
}

fn dequantize_blocks<B: Block<N>, const N: usize>(src: &[u8], dst: &mut [f32]) {
    for (block, y) in as_blocks::<B>(src).iter().zip(dst.as_chunks_mut::<N>().0) {
        block.dequantize(y);
    }
}

fn quantize_blocks<B: Quantize<N>, const N: usize>(src: &[f32], dst: &mut [u8]) {
    for (block, x) in as_blocks_mut::<B>(dst).iter_mut().zip(src.as_chunks::<N>().0) {
        *block = B::quantize(x);
    }
}

/// The whole blocks at the start of `bytes`.
pub(crate) fn as_blocks<B: Pod>(bytes: &[u8]) -> &[B] {
    const { assert!(align_of::<B>() == 1) };
    let whole = bytes.len() - bytes.len() % size_of::<B>();
    bytemuck::cast_slice(&bytes[..whole])
}

/// The whole blocks at the start of `bytes`, to be written.
pub(crate) fn as_blocks_mut<B: Pod>(bytes: &mut [u8]) -> &mut [B] {
    const { assert!(align_of::<B>() == 1) };
    let whole = bytes.len() - bytes.len() % size_of::<B>();
    bytemuck::cast_slice_mut(&mut bytes[..whole])
}

/// Converts `src`, elements of type `dtype`, to f32. `dst.len()` says how many elements there are.
///
/// Integers beyond 2²⁴ and f64 are rounded to the nearest f32.
pub fn dequantize_row(dtype: DType, src: &[u8], dst: &mut [f32]) -> Result<(), QuantError> {
    check_lengths(dtype, dst.len(), src.len())?;
    (codec(dtype).dequantize)(src, dst);
    Ok(())
}

/// Converts `src` to elements of type `dtype`.
///
/// # Errors
/// Lengths that do not match, and types without a quantizer: integers, and codebook formats that need an importance matrix.
pub fn quantize_row(dtype: DType, src: &[f32], dst: &mut [u8]) -> Result<(), QuantError> {
    let quantize = codec(dtype).quantize.ok_or(QuantError::NoQuantizer(dtype))?;
    check_lengths(dtype, src.len(), dst.len())?;
    quantize(src, dst);
    Ok(())
}

/// Whether [`quantize_row`] can write this type.
pub fn can_quantize(dtype: DType) -> bool {
    codec(dtype).quantize.is_some()
}

/// The function behind [`dequantize_row`], to look up once for many rows; `None` for a type that cannot be converted to f32
/// (there is none at present).
pub fn dequantizer(dtype: DType) -> Option<DequantFn> {
    Some(codec(dtype).dequantize)
}

/// The function behind [`quantize_row`], to look up once for many rows.
pub fn quantizer(dtype: DType) -> Option<QuantFn> {
    codec(dtype).quantize
}

fn check_lengths(dtype: DType, len: usize, bytes: usize) -> Result<(), QuantError> {
    let expected = dtype.row_bytes(len).ok_or(QuantError::PartialBlock { dtype, len })?;
    if bytes != expected {
        return Err(QuantError::ByteLength { dtype, len, expected, actual: bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        let mut y = [0.0; 33];
        assert_eq!(
            dequantize_row(DType::Q4_0, &[0; 18], &mut y),
            Err(QuantError::PartialBlock { dtype: DType::Q4_0, len: 33 })
        );
        assert_eq!(
            dequantize_row(DType::Q4_0, &[0; 17], &mut y[..32]),
            Err(QuantError::ByteLength { dtype: DType::Q4_0, len: 32, expected: 18, actual: 17 })
        );
        assert_eq!(
            quantize_row(DType::F32, &y, &mut [0; 4]),
            Err(QuantError::ByteLength { dtype: DType::F32, len: 33, expected: 132, actual: 4 })
        );
    }

    #[test]
    fn a_type_without_quantizer_is_named() {
        let error = quantize_row(DType::Iq2Xxs, &[0.0; 256], &mut [0; 66]).unwrap_err();
        assert!(error.to_string().contains("iq2_xxs"), "{error}");
    }

    /// Zero bytes are a zero value everywhere, up to the sign of zero, except where a format has no zero.
    #[test]
    fn blocks_of_any_address_are_read() {
        for &dtype in DType::ALL {
            let bytes = vec![0u8; 2 * dtype.block_bytes() + 1];
            let mut y = vec![1.0; 2 * dtype.block_len()];
            dequantize_row(dtype, &bytes[1..], &mut y).unwrap();
            assert!(y.iter().all(|v| v.abs() < 1e-30), "{dtype}: {y:?}");
        }
    }

    /// Values that a weight file should not have, and may have.
    fn extremes() -> Vec<[f32; 256]> {
        let tiny = f32::from_bits(1);
        let mut rows = vec![];
        for v in [0.0, -0.0, tiny, -1e-40, 1e-38, 1e-20, 1.0, -3e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            rows.push([v; 256]);
            rows.push(std::array::from_fn(|i| if i % 19 == 0 { v } else { (i as f32).sin() }));
            rows.push(std::array::from_fn(|i| if i % 19 == 0 { v } else { 0.0 }));
            rows.push(std::array::from_fn(|i| if i % 2 == 0 { v } else { -v }));
        }
        rows
    }

    #[test]
    fn quantizers_take_any_value() {
        for &dtype in DType::ALL.iter().filter(|&&t| can_quantize(t)) {
            let mut bytes = vec![0; dtype.row_bytes(256).unwrap()];
            for row in extremes() {
                quantize_row(dtype, &row, &mut bytes).unwrap();
                dequantize_row(dtype, &bytes, &mut [0.0; 256]).unwrap();
            }
        }
    }

    #[test]
    fn zeros_come_back_as_zeros() {
        for &dtype in DType::ALL.iter().filter(|&&t| can_quantize(t)) {
            let mut bytes = vec![0xff; dtype.row_bytes(256).unwrap()];
            let mut y = [1.0; 256];
            quantize_row(dtype, &[0.0; 256], &mut bytes).unwrap();
            dequantize_row(dtype, &bytes, &mut y).unwrap();
            assert_eq!(y, [0.0; 256], "{dtype}");
        }
    }

    /// How many equal steps the range -1 to 1 has at its coarsest.
    fn steps(dtype: DType) -> f32 {
        match dtype {
            DType::Q1_0 => 1.0,
            DType::Q2_0 | DType::Tq1_0 | DType::Tq2_0 => 2.0,
            DType::Q2K => 3.0,
            DType::Mxfp4 => 4.0, // 0.5 to 0.75 and, clipped to the same, 0.75 to 1
            DType::Nvfp4 => 6.0, // 4 to 6 of 6
            DType::Q3K => 7.0,
            DType::Iq4Nl | DType::Iq4Xs => 10.0, // 23 of 240 at the negative end
            DType::Q4_0 | DType::Q4_1 | DType::Q4K => 15.0,
            DType::Q5_0 | DType::Q5_1 | DType::Q5K => 31.0,
            DType::Mxfp6E3m2 => 8.0,  // at worst 4 of 16
            DType::Mxfp6E2m3 => 16.0, // at worst 0.5 of 4
            DType::Q6K => 63.0,
            DType::Q8_0 | DType::Q8_1 | DType::Q8K | DType::Q8A => 254.0,
            other => panic!("{other}: give its steps"),
        }
    }

    #[test]
    fn values_come_back_about_as_exact_as_the_steps_allow() {
        let x: [f32; 256] = std::array::from_fn(|i| (i as f32 * 1.37 + 0.1).sin());
        for &dtype in DType::ALL.iter().filter(|&&t| t.is_quantized() && can_quantize(t)) {
            let mut bytes = vec![0; dtype.row_bytes(256).unwrap()];
            let mut y = [0.0; 256];
            quantize_row(dtype, &x, &mut bytes).unwrap();
            dequantize_row(dtype, &bytes, &mut y).unwrap();
            let rms = (x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f32>() / 256.0).sqrt();
            // Errors spread evenly over a step have its length / √12. Half more for ranges such as -8 to 7, which clip.
            let allowed = 1.5 * 2.0 / steps(dtype) / 12.0f32.sqrt();
            assert!(rms <= allowed, "{dtype}: {rms}, allowed {allowed}");
        }
    }
}
