//! `qmatmul_group`: several `qmatmul`s of one input in one step: out_i = w_i · x (+ bias_i).

use super::attrs::attributes;
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, QMatmul, ReferenceError, TensorType, Types};
use crate::tensor::{Bounds, DType, Dim, HostTensor, Sym};

attributes! {
    /// The projections of one input, e.g. Q, K and V: one result a weight.
    ///
    /// Operands: `x`, then the weights, then the biases where `bias` is set, then `norm`; each as in `qmatmul`.
    pub struct QMatmulGroup {
        /// Number of weights.
        pub weights: usize,
        /// Whether each weight has a bias.
        pub bias: bool = false,
        /// The type to which f32 activations are rounded on the way in; f32 leaves them as they are.
        pub activation: DType = DType::F32,
        /// Where positive, `x` is normalised first, as in `qmatmul`.
        pub norm_eps: f32 = 0.0,
    }
}

impl QMatmulGroup {
    /// The operands of weight `i` in `qmatmul`'s order, as indices into this op's operands.
    pub fn member(&self, i: usize) -> Vec<usize> {
        let mut member = vec![1 + i, 0];
        if self.bias {
            member.push(1 + self.weights + i);
        }
        if self.norm_eps > 0.0 {
            member.push(self.norm_slot());
        }
        member
    }

    /// Where the factor of a normalisation stands among the operands, if there is one.
    pub fn norm_slot(&self) -> usize {
        1 + self.weights * (1 + usize::from(self.bias))
    }

    fn single(&self) -> QMatmul {
        QMatmul { bias: self.bias, act: None, residual: false, activation: self.activation, norm_eps: self.norm_eps }
    }
}

impl OpDef for QMatmulGroup {
    const NAME: &'static str = "qmatmul_group";
    const OPERANDS: &'static [&'static str] = &["x", "w0", "…?"];

    fn check_arity(&self, found: usize) -> Result<(), InferError> {
        let expected = self.weights.checked_mul(1 + usize::from(self.bias));
        let norm = usize::from(self.norm_eps > 0.0);
        if (1..=16).contains(&self.weights) && expected.is_some_and(|n| found == n + 1 + norm) {
            return Ok(());
        }
        let biases = if self.bias { " and as many biases" } else { "" };
        let norm = if norm == 1 { ", norm" } else { "" };
        Err(InferError::Arity {
            expected: format!("(x, {} weights{biases}{norm}), 1 to 16 weights", self.weights),
            found,
        })
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let mut types = Types::new();
        for i in 0..self.weights {
            let member: Vec<&TensorType> = self.member(i).into_iter().map(|slot| operands[slot]).collect();
            types.extend(self.single().infer(&member)?);
        }
        Ok(types)
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let mut results = Vec::new();
        for (i, out) in outs.iter().enumerate() {
            let member: Vec<&HostTensor> = self.member(i).into_iter().map(|slot| operands[slot]).collect();
            results.extend(self.single().reference(&member, std::slice::from_ref(out))?);
        }
        Ok(results)
    }

    fn flops(&self, operands: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
        let k = operands[0].shape.row().eval(bounds) as u64;
        let elements =
            outs.iter().map(|out| out.shape.elements(bounds).unwrap_or(0) as u64).fold(0, u64::saturating_add);
        k.saturating_mul(2).saturating_mul(elements)
    }

    fn cases() -> Vec<Case> {
        let x = |k: usize| Operand::f32(&[Dim::from(k), Sym::T.into()]);
        vec![
            Case::new(
                QMatmulGroup { weights: 3, bias: false, activation: DType::F32, norm_eps: 0.0 },
                vec![
                    x(64),
                    Operand::weight(DType::Q8_0, &[64, 40]),
                    Operand::weight(DType::F32, &[64, 16]),
                    Operand::weight(DType::Q4_0, &[64, 7]),
                ],
            )
            .tolerance(1e-5),
            Case::new(
                QMatmulGroup { weights: 2, bias: true, activation: DType::Q8A, norm_eps: 0.0 },
                vec![
                    x(1024),
                    Operand::weight(DType::Q8_0, &[1024, 33]),
                    Operand::weight(DType::Q4_0, &[1024, 16]),
                    Operand::f32(&[33]),
                    Operand::f32(&[16]),
                ],
            )
            .bounds(1, 1, 1)
            .tolerance(1e-5),
            Case::new(
                QMatmulGroup { weights: 2, bias: false, activation: DType::Bf16, norm_eps: 0.0 },
                vec![x(800), Operand::weight(DType::Bf16, &[800, 50]), Operand::weight(DType::Bf16, &[800, 16])],
            )
            .bounds(4, 1, 1)
            .tolerance(1e-5),
            Case::new(
                QMatmulGroup { weights: 3, bias: true, activation: DType::F32, norm_eps: 0.0 },
                vec![
                    x(1024),
                    Operand::weight(DType::Q4_0, &[1024, 70]),
                    Operand::weight(DType::Q4_0, &[1024, 16]),
                    Operand::weight(DType::Q8_0, &[1024, 16]),
                    Operand::f32(&[70]),
                    Operand::f32(&[16]),
                    Operand::f32(&[16]),
                ],
            )
            .bounds(20, 1, 1)
            .tolerance(1e-5),
            Case::new(
                QMatmulGroup { weights: 3, bias: false, activation: DType::Q8A, norm_eps: 1e-5 },
                vec![
                    x(1024),
                    Operand::weight(DType::Q4K, &[1024, 64]),
                    Operand::weight(DType::Q4K, &[1024, 16]),
                    Operand::weight(DType::Q6K, &[1024, 16]),
                    Operand::f32(&[1024]),
                ],
            )
            .bounds(1, 1, 1)
            // An element may round to the next integer.
            .tolerance(2e-3),
        ]
    }
}
