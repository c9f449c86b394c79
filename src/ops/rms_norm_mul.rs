//! `rms_norm_mul`: out = weight · x / √(mean(x²) + eps), the normalisation and its scale in one pass over the row.

use super::attrs::attributes;
use super::elementwise::{expect_f32, reference_broadcast};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, RmsNorm, TensorType, Types};
use crate::tensor::{Bounds, DType, Dim, HostTensor, Shape, Sym};
use smallvec::smallvec;

attributes! {
    /// rms_norm + mul. `x: f32[k, …]`, `weight: f32[k]`.
    pub struct RmsNormMul {
        /// Added to the mean square.
        pub eps: f32,
    }
}

impl OpDef for RmsNormMul {
    const NAME: &'static str = "rms_norm_mul";
    const OPERANDS: &'static [&'static str] = &["x", "weight"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        expect_f32("x", operands[0])?;
        if *operands[1] != TensorType::f32(Shape::new(&[operands[0].shape.row()])) {
            return Err(InferError::operand("weight", operands[1], format!("f32[{}]", operands[0].shape.row())));
        }
        Ok(smallvec![operands[0].clone()])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let normed = RmsNorm { eps: self.eps }.reference(&operands[..1], outs)?;
        reference_broadcast(&[&normed[0], operands[1]], outs, |a, b| a * b)
    }

    fn flops(&self, _: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
        5 * outs[0].shape.elements(bounds).unwrap_or(0) as u64
    }

    fn in_place(&self) -> &'static [usize] {
        &[0]
    }

    fn cases() -> Vec<Case> {
        let x = Operand::f32(&[Dim::from(100), Sym::T.into()]);
        vec![
            Case::new(RmsNormMul { eps: 1e-5 }, vec![x, Operand::f32(&[100])]),
            Case::new(RmsNormMul { eps: 1e-5 }, vec![Operand::f32(&[16, 3, 2]), Operand::f32(&[16])]),
            Case::new(RmsNormMul { eps: 1e-5 }, vec![Operand::f32(&[1000, 2]), Operand::f32(&[1000])]),
            Case::new(RmsNormMul { eps: 1e-5 }, vec![Operand::f32(&[8200, 2]), Operand::weight(DType::F32, &[8200])]),
        ]
    }
}
