//! `dequantize`: out = the f32 values of a tensor stored in another type.

use super::attrs::attributes;
use super::elementwise::{result, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{DType, HostTensor};
use smallvec::smallvec;

attributes! {
    /// The f32 values of a weight or KV cache of any shape; exact for every type.
    pub struct Dequantize {}
}

impl OpDef for Dequantize {
    const NAME: &'static str = "dequantize";
    const OPERANDS: &'static [&'static str] = &["x"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        if matches!(operands[0].dtype, DType::I32 | DType::I64 | DType::I8 | DType::I16) {
            return Err(InferError::operand("x", operands[0], "a floating-point or quantized type"));
        }
        Ok(smallvec![TensorType::f32(operands[0].shape.clone())])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        result(outs[0], values(operands, 0)?.into_owned())
    }

    fn cases() -> Vec<Case> {
        [(DType::F16, 40), (DType::Q8_0, 64), (DType::Q4_0, 64), (DType::Q6K, 256)]
            .map(|(t, k)| Case::new(Dequantize {}, vec![Operand::weight(t, &[k, 5])]).tolerance(0.0))
            .into()
    }
}
