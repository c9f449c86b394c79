//! `reshape`: the same elements in the same order under another shape. Costs nothing: an alias.

use super::attrs::attributes;
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{Dim, HostTensor, Shape, Sym};
use smallvec::smallvec;

attributes! {
    /// Another shape with the same number of elements. Quantized rows keep their length.
    pub struct Reshape {
        /// The new shape.
        pub shape: Shape,
    }
}

impl OpDef for Reshape {
    const NAME: &'static str = "reshape";
    const OPERANDS: &'static [&'static str] = &["x"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let x = operands[0];
        if x.shape.monomial().is_none() || x.shape.monomial() != self.shape.monomial() {
            return Err(InferError::attribute("shape", format!("{} has not as many elements as {x}", self.shape)));
        }
        if x.dtype.is_quantized() && x.shape.row() != self.shape.row() {
            return Err(InferError::attribute("shape", format!("rows of {x} are blocks and must keep their length")));
        }
        Ok(smallvec![TensorType::new(x.dtype, self.shape.clone())])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        operands[0].reshaped(outs[0].ne).map(|t| vec![t]).ok_or(ReferenceError::Operand(0))
    }

    fn flops(&self, _: &[&TensorType], _: &Types, _: &crate::tensor::Bounds) -> u64 {
        0
    }

    fn cases() -> Vec<Case> {
        let t = Dim::from(Sym::T);
        vec![Case::new(
            Reshape { shape: Shape::new(&[Dim::from(4), 6.into(), t]) },
            vec![Operand::f32(&[Dim::from(24), t])],
        )]
    }
}
