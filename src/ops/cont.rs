//! `cont`: a contiguous copy of a view.

use super::attrs::attributes;
use super::elementwise::{expect_f32, result, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::HostTensor;
use smallvec::smallvec;

attributes! {
    /// A contiguous f32 copy. The planner also adds one where an op needs rows that a view does not have.
    pub struct Cont {}
}

impl OpDef for Cont {
    const NAME: &'static str = "cont";
    const OPERANDS: &'static [&'static str] = &["x"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        expect_f32("x", operands[0])?;
        Ok(smallvec![operands[0].clone()])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        result(outs[0], values(operands, 0)?.into_owned())
    }

    fn flops(&self, _: &[&TensorType], _: &Types, _: &crate::tensor::Bounds) -> u64 {
        0
    }

    fn cases() -> Vec<Case> {
        vec![Case::new(Cont {}, vec![Operand::f32(&[9, 4, 3])]).tolerance(0.0)]
    }
}
