//! `glu_qmatmul`: out = f(w_gate · x) · (w_up · x): the gated half of a feed-forward layer in one step.

use super::attrs::attributes;
use crate::ops::{
    Activation, BoundType, Case, Glu, InferError, OpDef, Operand, QMatmul, ReferenceError, TensorType, Types,
};
use crate::tensor::{Bounds, DType, Dim, HostTensor, Sym};

attributes! {
    /// Two `qmatmul`s of one input and their `glu`. `x`, `gate`, `up` and `norm` as in `qmatmul`; both weights have one shape.
    pub struct GluQMatmul {
        /// The function on the gate.
        pub act: Activation,
        /// The type to which f32 activations are rounded on the way in; f32 leaves them as they are.
        pub activation: DType = DType::F32,
        /// Where positive, `x` is normalised first, as in `qmatmul`.
        pub norm_eps: f32 = 0.0,
    }
}

impl GluQMatmul {
    fn single(&self) -> QMatmul {
        QMatmul { bias: false, act: None, residual: false, activation: self.activation, norm_eps: self.norm_eps }
    }
}

impl OpDef for GluQMatmul {
    const NAME: &'static str = "glu_qmatmul";
    const OPERANDS: &'static [&'static str] = &["x", "gate", "up", "norm?"];

    fn check_arity(&self, found: usize) -> Result<(), InferError> {
        let (expected, names) = if self.norm_eps > 0.0 { (4, "(x, gate, up, norm)") } else { (3, "(x, gate, up)") };
        if found == expected { Ok(()) } else { Err(InferError::Arity { expected: names.to_string(), found }) }
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        if operands[1].shape != operands[2].shape {
            return Err(InferError::operand("up", operands[2], format!("the shape of `gate`, {}", operands[1].shape)));
        }
        let mut list = vec![operands[2], operands[0]];
        list.extend(operands.get(3));
        self.single().infer(&list)?;
        list[0] = operands[1];
        self.single().infer(&list)
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let product = |w: &HostTensor| {
            let mut list = vec![w, operands[0]];
            list.extend(operands.get(3));
            self.single().reference(&list, outs)
        };
        let (gate, up) = (product(operands[1])?, product(operands[2])?);
        Glu { act: self.act }.reference(&[&gate[0], &up[0]], outs)
    }

    fn flops(&self, operands: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
        let k = operands[0].shape.row().eval(bounds) as u64;
        k.saturating_mul(4).saturating_add(5).saturating_mul(outs[0].shape.elements(bounds).unwrap_or(0) as u64)
    }

    fn cases() -> Vec<Case> {
        let case = |act, gate: DType, up: DType, activation: DType, k: usize, n: usize, tokens: usize| {
            Case::new(
                GluQMatmul { act, activation, norm_eps: 0.0 },
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
            case(Activation::Silu, DType::Bf16, DType::Bf16, DType::Bf16, 896, 90, 7),
            case(Activation::Silu, DType::Q4K, DType::Q4K, DType::F32, 1024, 70, 19),
            Case::new(
                GluQMatmul { act: Activation::Silu, activation: DType::Q8A, norm_eps: 1e-5 },
                vec![
                    Operand::f32(&[Dim::from(1024), Sym::T.into()]),
                    Operand::weight(DType::Q4_0, &[1024, 96]),
                    Operand::weight(DType::Q4_0, &[1024, 96]),
                    Operand::f32(&[1024]),
                ],
            )
            .bounds(1, 1, 1)
            // An element may round to the next integer.
            .tolerance(2e-3),
        ]
    }
}
