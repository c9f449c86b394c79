//! `slice`: elements start … start + len of one dimension (ggml's `view`). An alias.

use super::attrs::attributes;
use super::elementwise::{result, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{Dim, HostTensor};
use smallvec::smallvec;

attributes! {
    /// A range of one dimension of a fixed size.
    pub struct Slice {
        /// The dimension.
        pub dim: usize,
        /// Its first element.
        pub start: usize,
        /// How many.
        pub len: usize,
    }
}

impl OpDef for Slice {
    const NAME: &'static str = "slice";
    const OPERANDS: &'static [&'static str] = &["x"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let x = operands[0];
        if self.dim > 3 {
            return Err(InferError::attribute("dim", format!("{} is beyond the four dimensions", self.dim)));
        }
        let fits = |n: usize| self.start.checked_add(self.len).is_some_and(|end| end <= n);
        if !x.shape.dim(self.dim).fixed().is_some_and(fits) {
            let range = format!("{}..{}+{}", self.start, self.start, self.len);
            return Err(InferError::attribute("len", format!("{range} is not within dimension {} of {x}", self.dim)));
        }
        if self.dim == 0 && x.dtype.is_quantized() {
            return Err(InferError::operand("x", x, "plain elements where rows are cut"));
        }
        Ok(smallvec![TensorType::new(x.dtype, x.shape.with_dim(self.dim, Dim::Fixed(self.len)))])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let x = values(operands, 0)?;
        let ne = operands[0].ne();
        let inner: usize = ne[..self.dim].iter().product();
        let outer: usize = ne[self.dim + 1..].iter().product();
        let mut out = Vec::with_capacity(inner * self.len * outer);
        for o in 0..outer {
            out.extend_from_slice(&x[(o * ne[self.dim] + self.start) * inner..][..self.len * inner]);
        }
        result(outs[0], out)
    }

    fn flops(&self, _: &[&TensorType], _: &Types, _: &crate::tensor::Bounds) -> u64 {
        0
    }

    fn cases() -> Vec<Case> {
        [(0, 3, 4), (1, 1, 2), (2, 0, 1)]
            .map(|(dim, start, len)| {
                Case::new(Slice { dim, start, len }, vec![Operand::f32(&[9, 4, 3])]).tolerance(0.0)
            })
            .into()
    }
}
