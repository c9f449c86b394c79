//! `add_rms_norm_mul`: sum = x + residual; out = weight · sum / √(mean(sum²) + eps).

use super::attrs::attributes;
use super::elementwise::reference_broadcast;
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, RmsNormMul, TensorType, Types};
use crate::tensor::{Bounds, Dim, HostTensor, Sym};
use smallvec::smallvec;

attributes! {
    /// add + rms_norm + mul with two results: the sum, which the next residual needs, and its scaled normalisation.
    pub struct AddRmsNormMul {
        /// Added to the mean square.
        pub eps: f32,
    }
}

impl OpDef for AddRmsNormMul {
    const NAME: &'static str = "add_rms_norm_mul";
    const OPERANDS: &'static [&'static str] = &["x", "residual", "weight"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        if operands[0] != operands[1] {
            return Err(InferError::operand("residual", operands[1], operands[0].to_string()));
        }
        let normed = RmsNormMul { eps: self.eps }.infer(&[operands[0], operands[2]])?;
        Ok(smallvec![operands[0].clone(), normed[0].clone()])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let mut sum = reference_broadcast(&operands[..2], &outs[..1], |a, b| a + b)?;
        let normed = RmsNormMul { eps: self.eps }.reference(&[&sum[0], operands[2]], &outs[1..])?;
        sum.extend(normed);
        Ok(sum)
    }

    fn flops(&self, _: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
        6 * outs[0].shape.elements(bounds).unwrap_or(0) as u64
    }

    fn in_place(&self) -> &'static [usize] {
        &[0, 1]
    }

    fn cases() -> Vec<Case> {
        let case = |k: usize| {
            let x = || Operand::f32(&[Dim::from(k), Sym::T.into()]);
            Case::new(AddRmsNormMul { eps: 1e-5 }, vec![x(), x(), Operand::f32(&[k])])
        };
        [100, 130, 1100, 5000].map(case).into()
    }
}
