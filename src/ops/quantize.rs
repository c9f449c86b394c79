//! `quantize`: out = the values rounded to another type, block by block.

use super::attrs::attributes;
use super::elementwise::{expect_f32, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{DType, Dim, HostTensor, Sym};
use smallvec::smallvec;

attributes! {
    /// Rounds f32 rows to blocks of `to`, or to halves. Passes use it to quantize an activation once for all matmuls that read it.
    pub struct Quantize {
        /// The type of the result.
        pub to: DType = DType::Q8A,
    }
}

impl OpDef for Quantize {
    const NAME: &'static str = "quantize";
    const OPERANDS: &'static [&'static str] = &["x"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        expect_f32("x", operands[0])?;
        match operands[0].shape.row() {
            Dim::Fixed(k) if k % self.to.block_len() == 0 => {
                Ok(smallvec![TensorType::new(self.to, operands[0].shape.clone())])
            }
            _ => Err(InferError::operand(
                "x",
                operands[0],
                format!("rows of a multiple of {} elements, the block of {}", self.to.block_len(), self.to),
            )),
        }
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        HostTensor::quantized(self.to, outs[0].ne, &values(operands, 0)?)
            .map(|t| vec![t])
            .map_err(|e| ReferenceError::Value(e.to_string()))
    }

    fn cases() -> Vec<Case> {
        let case = |to| Case::new(Quantize { to }, vec![Operand::f32(&[Dim::from(96), Sym::T.into()])]).tolerance(0.0);
        [DType::Q8A, DType::F16, DType::Bf16].map(case).into()
    }
}
