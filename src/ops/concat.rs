//! `concat`: b after a along one dimension.

use super::attrs::attributes;
use super::elementwise::{expect_f32, result, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{Dim, HostTensor};
use smallvec::smallvec;

attributes! {
    /// Two f32 tensors one after the other along `dim`; the other sizes are equal.
    pub struct Concat {
        /// The dimension along which the tensors are joined.
        pub dim: usize,
    }
}

impl OpDef for Concat {
    const NAME: &'static str = "concat";
    const OPERANDS: &'static [&'static str] = &["a", "b"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let (a, b) = (operands[0], operands[1]);
        expect_f32("a", a)?;
        expect_f32("b", b)?;
        if self.dim > 3 {
            return Err(InferError::attribute("dim", format!("{} is beyond the four dimensions", self.dim)));
        }
        let joined = match (a.shape.dim(self.dim), b.shape.dim(self.dim)) {
            (Dim::Fixed(x), Dim::Fixed(y)) => x.checked_add(y),
            _ => None,
        };
        let Some(joined) = joined else {
            return Err(InferError::attribute("dim", format!("dimension {} of {a} or {b} is not a number", self.dim)));
        };
        if a.shape.with_dim(self.dim, Dim::ONE) != b.shape.with_dim(self.dim, Dim::ONE) {
            return Err(InferError::operand("b", b, format!("{a} but for dimension {}", self.dim)));
        }
        Ok(smallvec![TensorType::f32(a.shape.with_dim(self.dim, Dim::Fixed(joined)))])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let (a, b) = (values(operands, 0)?, values(operands, 1)?);
        let part = |t: &HostTensor| t.ne()[..=self.dim].iter().product::<usize>();
        let (na, nb) = (part(operands[0]), part(operands[1]));
        let outer: usize = outs[0].ne[self.dim + 1..].iter().product();
        let mut out = Vec::with_capacity(a.len() + b.len());
        for o in 0..outer {
            out.extend_from_slice(&a[o * na..][..na]);
            out.extend_from_slice(&b[o * nb..][..nb]);
        }
        result(outs[0], out)
    }

    fn flops(&self, _: &[&TensorType], _: &Types, _: &crate::tensor::Bounds) -> u64 {
        0
    }

    fn cases() -> Vec<Case> {
        vec![
            Case::new(Concat { dim: 0 }, vec![Operand::f32(&[3, 4]), Operand::f32(&[5, 4])]).tolerance(0.0),
            Case::new(Concat { dim: 1 }, vec![Operand::f32(&[3, 4, 2]), Operand::f32(&[3, 1, 2])]).tolerance(0.0),
        ]
    }
}
