//! `glu_qmatmul`: out = f(w_gate · x) · (w_up · x): the gated half of a feed-forward layer in one step.

use super::attrs::attributes;
use crate::ops::{
    Activation, BoundType, Case, Glu, InferError, OpDef, Operand, QMatmul, ReferenceError, TensorType, Types,
};
use crate::tensor::{Bounds, DType, Dim, HostTensor, Sym};

attributes! {
    /// Two `qmatmul`s of one input and their `glu`. `x`, `gate` and `up` as in `qmatmul`; both weights have one shape.
    pub struct GluQMatmul {
        /// The function on the gate.
        pub act: Activation,
        /// The type to which f32 activations are rounded on the way in; f32 leaves them as they are.
        pub activation: DType = DType::F32,
    }
}

impl GluQMatmul {
    fn single(&self) -> QMatmul {
        QMatmul { bias: false, act: None, residual: false, activation: self.activation }
    }
}

impl OpDef for GluQMatmul {
    const NAME: &'static str = "glu_qmatmul";
    const OPERANDS: &'static [&'static str] = &["x", "gate", "up"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        if operands[1].shape != operands[2].shape {
            return Err(InferError::operand("up", operands[2], format!("the shape of `gate`, {}", operands[1].shape)));
        }
        self.single().infer(&[operands[2], operands[0]])?;
        self.single().infer(&[operands[1], operands[0]])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let gate = self.single().reference(&[operands[1], operands[0]], outs)?;
        let up = self.single().reference(&[operands[2], operands[0]], outs)?;
        Glu { act: self.act }.reference(&[&gate[0], &up[0]], outs)
    }

    fn flops(&self, operands: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
        let k = operands[0].shape.row().eval(bounds) as u64;
        k.saturating_mul(4).saturating_add(5).saturating_mul(outs[0].shape.elements(bounds).unwrap_or(0) as u64)
    }

    fn cases() -> Vec<Case> {
        let case = |act, gate: DType, up: DType, activation: DType, k: usize, n: usize, tokens: usize| {
            Case::new(
                GluQMatmul { act, activation },
                vec![
                    Operand::f32(&[Dim::from(k), Sym::T.into()]),
                    Operand::weight(gate, &[k, n]),
                    Operand::weight(up, &[k, n]),
                ],
            )
            .bounds(tokens, 1, 1)
            .tolerance(1e-5)
        };
        vec![
            case(Activation::Silu, DType::F32, DType::F32, DType::F32, 40, 33, 3),
            case(Activation::Silu, DType::Q8_0, DType::Q8_0, DType::Q8A, 1024, 700, 1),
            case(Activation::Gelu, DType::F16, DType::F16, DType::F32, 64, 300, 70),
        ]
    }
}
