//! Numbers that are stored one by one: f32, f64 and integers.

use super::Codec;

macro_rules! read_numbers {
    ($($t:ident)*) => { $(
        pub(super) fn $t() -> Codec {
            fn dequantize(src: &[u8], dst: &mut [f32]) {
                for (b, y) in src.as_chunks::<{ size_of::<$t>() }>().0.iter().zip(dst) {
                    *y = $t::from_le_bytes(*b) as f32;
                }
            }
            Codec { dequantize, quantize: None }
        }
    )* };
}

read_numbers! { i8 i16 i32 i64 }

pub(super) fn f32() -> Codec {
    fn dequantize(src: &[u8], dst: &mut [f32]) {
        for (b, y) in src.as_chunks::<4>().0.iter().zip(dst) {
            *y = f32::from_le_bytes(*b);
        }
    }
    fn quantize(src: &[f32], dst: &mut [u8]) {
        for (x, b) in src.iter().zip(dst.as_chunks_mut::<4>().0) {
            *b = x.to_le_bytes();
        }
    }
    Codec { dequantize, quantize: Some(quantize) }
}

pub(super) fn f64() -> Codec {
    fn dequantize(src: &[u8], dst: &mut [f32]) {
        for (b, y) in src.as_chunks::<8>().0.iter().zip(dst) {
            *y = f64::from_le_bytes(*b) as f32;
        }
    }
    fn quantize(src: &[f32], dst: &mut [u8]) {
        for (x, b) in src.iter().zip(dst.as_chunks_mut::<8>().0) {
            *b = f64::from(*x).to_le_bytes();
        }
    }
    Codec { dequantize, quantize: Some(quantize) }
}

#[cfg(test)]
mod tests {
    use crate::tensor::DType;
    use crate::tensor::quant::{dequantize_row, quantize_row};

    #[test]
    fn integers_and_doubles_become_floats() {
        let mut y = [0.0; 2];
        dequantize_row(DType::I8, &[0xff, 5], &mut y).unwrap();
        assert_eq!(y, [-1.0, 5.0]);
        dequantize_row(DType::I64, bytemuck::bytes_of(&[(1i64 << 40).to_le(), (-3i64).to_le()]), &mut y).unwrap();
        assert_eq!(y, [1_099_511_627_776.0, -3.0]);
        let mut bytes = [0; 16];
        quantize_row(DType::F64, &[0.1, -2.5], &mut bytes).unwrap();
        dequantize_row(DType::F64, &bytes, &mut y).unwrap();
        assert_eq!(y, [0.1, -2.5]);
    }
}
