//! `layer_norm`: out = (x − mean) / √(variance + eps) over each row (Ba et al. 2016), without scale and shift.

use super::attrs::attributes;
use super::elementwise::{expect_f32, result, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{Bounds, Dim, HostTensor, Sym};
use smallvec::smallvec;

attributes! {
    /// Normalisation of each row of an f32 tensor to mean 0 and variance 1.
    pub struct LayerNorm {
        /// Added to the variance.
        pub eps: f32,
    }
}

impl OpDef for LayerNorm {
    const NAME: &'static str = "layer_norm";
    const OPERANDS: &'static [&'static str] = &["x"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        expect_f32("x", operands[0])?;
        Ok(smallvec![operands[0].clone()])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let x = values(operands, 0)?;
        let k = outs[0].ne[0];
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(k.max(1)) {
            let mean = row.iter().map(|&v| v as f64).sum::<f64>() / k as f64;
            let variance = row.iter().map(|&v| (v as f64 - mean).powi(2)).sum::<f64>() / k as f64;
            let factor = 1.0 / (variance + self.eps as f64).sqrt();
            out.extend(row.iter().map(|&v| ((v as f64 - mean) * factor) as f32));
        }
        result(outs[0], out)
    }

    fn flops(&self, _: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
        7 * outs[0].shape.elements(bounds).unwrap_or(0) as u64
    }

    fn in_place(&self) -> &'static [usize] {
        &[0]
    }

    fn cases() -> Vec<Case> {
        let case = |k: usize| Case::new(LayerNorm { eps: 1e-5 }, vec![Operand::f32(&[Dim::from(k), Sym::T.into()])]);
        [100, 101, 768, 4096].map(case).into()
    }
}
