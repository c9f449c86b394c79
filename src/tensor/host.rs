//! [`HostTensor`]: a contiguous tensor with its values in ordinary memory. References, the interpreter and tests use it.

use super::{DType, quant};
use half::{bf16, f16};
use std::borrow::Cow;

/// A contiguous tensor; `ne[0]` varies fastest. Quantized values are kept as the bytes of their blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    dtype: DType,
    ne: [usize; 4],
    data: Data,
}

#[derive(Clone, Debug, PartialEq)]
enum Data {
    F32(Vec<f32>),
    I32(Vec<i32>),
    Bytes(Vec<u8>),
}

impl HostTensor {
    /// A tensor of f32 values. `None` unless the number of values is the product of `ne`.
    pub fn from_f32(ne: [usize; 4], values: Vec<f32>) -> Option<HostTensor> {
        (elements(ne)? == values.len()).then_some(HostTensor { dtype: DType::F32, ne, data: Data::F32(values) })
    }

    /// A tensor of i32 values. `None` unless the number of values is the product of `ne`.
    pub fn from_i32(ne: [usize; 4], values: Vec<i32>) -> Option<HostTensor> {
        (elements(ne)? == values.len()).then_some(HostTensor { dtype: DType::I32, ne, data: Data::I32(values) })
    }

    /// A tensor of any type from its little-endian bytes. `None` unless the size fits the shape.
    pub fn from_bytes(dtype: DType, ne: [usize; 4], bytes: &[u8]) -> Option<HostTensor> {
        let rows = elements([1, ne[1], ne[2], ne[3]])?;
        if dtype.row_bytes(ne[0])?.checked_mul(rows)? != bytes.len() {
            return None;
        }
        let data = match dtype {
            DType::F32 => {
                Data::F32(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
            }
            DType::I32 => {
                Data::I32(bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
            }
            _ => Data::Bytes(bytes.to_vec()),
        };
        Some(HostTensor { dtype, ne, data })
    }

    /// A tensor of zeros. `None` if the size overflows or a row is no whole number of blocks.
    pub fn zeros(dtype: DType, ne: [usize; 4]) -> Option<HostTensor> {
        let n = elements(ne)?;
        let data = match dtype {
            DType::F32 => Data::F32(vec![0.0; n]),
            DType::I32 => Data::I32(vec![0; n]),
            _ => Data::Bytes(vec![0; dtype.row_bytes(ne[0])?.checked_mul(elements([1, ne[1], ne[2], ne[3]])?)?]),
        };
        Some(HostTensor { dtype, ne, data })
    }

    /// Values rounded to `dtype` (F32, F16, BF16 or a type with a quantizer).
    pub fn quantized(dtype: DType, ne: [usize; 4], values: &[f32]) -> Result<HostTensor, quant::QuantError> {
        if dtype == DType::F32 {
            return Ok(HostTensor { dtype, ne, data: Data::F32(values.to_vec()) });
        }
        let row = dtype.row_bytes(ne[0]).unwrap_or(0);
        let mut bytes = vec![0; row * values.len().checked_div(ne[0]).unwrap_or(0)];
        if row > 0 {
            for (src, dst) in values.chunks_exact(ne[0]).zip(bytes.chunks_exact_mut(row)) {
                quant::quantize_row(dtype, src, dst)?;
            }
        }
        Ok(HostTensor { dtype, ne, data: Data::Bytes(bytes) })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The four sizes, `ne[0]` first.
    pub fn ne(&self) -> [usize; 4] {
        self.ne
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.ne.iter().product()
    }

    /// Number of rows (the product of all sizes but the first).
    pub fn rows(&self) -> usize {
        self.ne[1] * self.ne[2] * self.ne[3]
    }

    /// The same values under another shape. `None` unless the number of elements is the same.
    pub fn reshaped(&self, ne: [usize; 4]) -> Option<HostTensor> {
        (elements(ne)? == self.elements()).then(|| HostTensor { ne, ..self.clone() })
    }

    /// The i32 values; `None` for other types.
    pub fn i32s(&self) -> Option<&[i32]> {
        match &self.data {
            Data::I32(v) => Some(v),
            _ => None,
        }
    }

    /// The values as f32, dequantized where they are not: `None` for types that have no f32 meaning.
    pub fn f32s(&self) -> Option<Cow<'_, [f32]>> {
        match &self.data {
            Data::F32(v) => Some(Cow::Borrowed(v)),
            Data::I32(v) => Some(v.iter().map(|&x| x as f32).collect()),
            Data::Bytes(b) => {
                let mut out = vec![0.0; self.elements()];
                match self.dtype {
                    DType::F16 => {
                        for (x, b) in out.iter_mut().zip(b.chunks_exact(2)) {
                            *x = f16::from_le_bytes([b[0], b[1]]).to_f32();
                        }
                    }
                    DType::Bf16 => {
                        for (x, b) in out.iter_mut().zip(b.chunks_exact(2)) {
                            *x = bf16::from_le_bytes([b[0], b[1]]).to_f32();
                        }
                    }
                    _ => {
                        let row = self.dtype.row_bytes(self.ne[0])?;
                        if row > 0 {
                            for (src, dst) in b.chunks_exact(row).zip(out.chunks_exact_mut(self.ne[0])) {
                                quant::dequantize_row(self.dtype, src, dst).ok()?;
                            }
                        }
                    }
                }
                Some(Cow::Owned(out))
            }
        }
    }

    /// The values as little-endian bytes.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.data {
            Data::F32(v) => Cow::Borrowed(bytemuck::cast_slice(v)),
            Data::I32(v) => Cow::Borrowed(bytemuck::cast_slice(v)),
            Data::Bytes(b) => Cow::Borrowed(b),
        }
    }
}

fn elements(ne: [usize; 4]) -> Option<usize> {
    ne.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}
