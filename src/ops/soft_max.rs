//! `soft_max`: out = e^(x − max) / Σ e^(x − max) over each row. A row of −∞ gives zeros.

use super::attrs::attributes;
use super::elementwise::{expect_f32, result, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{Bounds, Dim, HostTensor, Sym};
use smallvec::smallvec;

attributes! {
    /// Softmax over the rows of an f32 tensor.
    pub struct SoftMax {}
}

impl OpDef for SoftMax {
    const NAME: &'static str = "soft_max";
    const OPERANDS: &'static [&'static str] = &["x"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        expect_f32("x", operands[0])?;
        Ok(smallvec![operands[0].clone()])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let x = values(operands, 0)?;
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(outs[0].ne[0].max(1)) {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if max == f32::NEG_INFINITY {
                out.extend(row.iter().map(|_| 0.0));
                continue;
            }
            let powers: Vec<f64> = row.iter().map(|&v| (v as f64 - max as f64).exp()).collect();
            let sum: f64 = powers.iter().sum();
            out.extend(powers.iter().map(|p| (p / sum) as f32));
        }
        result(outs[0], out)
    }

    fn flops(&self, _: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
        5 * outs[0].shape.elements(bounds).unwrap_or(0) as u64
    }

    fn in_place(&self) -> &'static [usize] {
        &[0]
    }

    fn cases() -> Vec<Case> {
        vec![
            Case::new(SoftMax {}, vec![Operand::f32(&[Dim::from(Sym::S), Sym::T.into(), 3.into()])]).bounds(3, 77, 1),
            Case::new(SoftMax {}, vec![Operand::f32(&[1, 4])]),
        ]
    }
}
