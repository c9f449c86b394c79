//! `glu`: out = f(gate) · up, the gated linear unit (SwiGLU with silu, GeGLU with gelu; Shazeer 2020).

use super::attrs::attributes;
use super::elementwise::{expect_f32, result, values};
use crate::ops::{Activation, BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{Dim, HostTensor, Sym};
use smallvec::smallvec;

attributes! {
    /// unary + mul in one step; both operands and the result are f32 of one shape.
    pub struct Glu {
        /// The function on the gate.
        pub act: Activation,
    }
}

impl OpDef for Glu {
    const NAME: &'static str = "glu";
    const OPERANDS: &'static [&'static str] = &["gate", "up"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        expect_f32("gate", operands[0])?;
        if operands[0] != operands[1] {
            return Err(InferError::operand("up", operands[1], operands[0].to_string()));
        }
        Ok(smallvec![operands[0].clone()])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let (gate, up) = (values(operands, 0)?, values(operands, 1)?);
        result(outs[0], gate.iter().zip(up.iter()).map(|(&g, &u)| self.act.apply(g) * u).collect())
    }

    fn in_place(&self) -> &'static [usize] {
        &[0, 1]
    }

    fn cases() -> Vec<Case> {
        let x = || Operand::f32(&[Dim::from(70), Sym::T.into()]);
        [Activation::Silu, Activation::Gelu].map(|act| Case::new(Glu { act }, vec![x(), x()])).into()
    }
}
