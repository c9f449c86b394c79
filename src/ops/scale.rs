//! `scale`: out = factor · x.

use super::attrs::attributes;
use super::elementwise::{expect_f32, result, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::HostTensor;
use smallvec::smallvec;

attributes! {
    /// Product of an f32 tensor with a number.
    pub struct Scale {
        /// The number.
        pub factor: f32,
    }
}

impl OpDef for Scale {
    const NAME: &'static str = "scale";
    const OPERANDS: &'static [&'static str] = &["x"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        expect_f32("x", operands[0])?;
        Ok(smallvec![operands[0].clone()])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        result(outs[0], values(operands, 0)?.iter().map(|x| x * self.factor).collect())
    }

    fn in_place(&self) -> &'static [usize] {
        &[0]
    }

    fn cases() -> Vec<Case> {
        vec![Case::new(Scale { factor: 0.125 }, vec![Operand::f32(&[9, 4, 3])])]
    }
}
