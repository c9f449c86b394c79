//! `unary`: out = f(x) for an activation function f.

use super::attrs::{attributes, word_enum};
use super::elementwise::{expect_f32, result, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::HostTensor;
use smallvec::smallvec;

word_enum! {
    /// An activation function of one variable.
    pub enum Activation {
        /// x · σ(x).
        Silu = "silu",
        /// 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))): the approximation that ggml and GPT-2 use.
        Gelu = "gelu",
        /// max(x, 0).
        Relu = "relu",
        /// tanh(x).
        Tanh = "tanh",
        /// 1 / (1 + e⁻ˣ).
        Sigmoid = "sigmoid",
        /// eˣ.
        Exp = "exp",
        /// −x.
        Neg = "neg",
        /// x².
        Sqr = "sqr",
        /// √x.
        Sqrt = "sqrt",
    }
    expected "an activation: silu, gelu, relu, tanh, sigmoid, exp, neg, sqr or sqrt"
}

impl Activation {
    /// f(x).
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Gelu => {
                let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
            Activation::Relu => x.max(0.0),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Exp => x.exp(),
            Activation::Neg => -x,
            Activation::Sqr => x * x,
            Activation::Sqrt => x.sqrt(),
        }
    }
}

attributes! {
    /// An activation function on every element of an f32 tensor.
    pub struct Unary {
        /// The function.
        pub kind: Activation,
    }
}

impl OpDef for Unary {
    const NAME: &'static str = "unary";
    const OPERANDS: &'static [&'static str] = &["x"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        expect_f32("x", operands[0])?;
        Ok(smallvec![operands[0].clone()])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        result(outs[0], values(operands, 0)?.iter().map(|&x| self.kind.apply(x)).collect())
    }

    fn in_place(&self) -> &'static [usize] {
        &[0]
    }

    fn cases() -> Vec<Case> {
        let kinds = Activation::ALL.iter().filter(|&&k| k != Activation::Sqrt); // random inputs are negative too
        kinds.map(|&kind| Case::new(Unary { kind }, vec![Operand::f32(&[37, 4])])).collect()
    }
}
