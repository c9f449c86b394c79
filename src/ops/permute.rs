//! `permute`: dimension i of the operand becomes dimension axes[i] of the result (ggml's convention). An alias.

use super::attrs::attributes;
use super::elementwise::{result, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{Dim, HostTensor, Shape};
use smallvec::smallvec;

attributes! {
    /// Another order of the four dimensions of a tensor of plain elements.
    pub struct Permute {
        /// Where each dimension goes: a permutation of 0, 1, 2, 3.
        pub axes: [usize; 4],
    }
}

impl OpDef for Permute {
    const NAME: &'static str = "permute";
    const OPERANDS: &'static [&'static str] = &["x"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let x = operands[0];
        let mut sorted = self.axes;
        sorted.sort_unstable();
        if sorted != [0, 1, 2, 3] {
            return Err(InferError::attribute("axes", format!("{:?} is no permutation of 0, 1, 2, 3", self.axes)));
        }
        if x.dtype.is_quantized() && self.axes[0] != 0 {
            return Err(InferError::operand("x", x, "plain elements where dimension 0 moves"));
        }
        let mut dims = [Dim::ONE; 4];
        for (i, &axis) in self.axes.iter().enumerate() {
            dims[axis] = x.shape.dim(i);
        }
        Ok(smallvec![TensorType::new(x.dtype, Shape::new(&dims))])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let x = values(operands, 0)?;
        let from = operands[0].ne();
        let to = outs[0].ne;
        let mut out = vec![0.0; x.len()];
        for (i, &value) in x.iter().enumerate() {
            let at = [
                i % from[0],
                i / from[0] % from[1],
                i / (from[0] * from[1]) % from[2],
                i / (from[0] * from[1] * from[2]),
            ];
            let mut place = [0; 4];
            for d in 0..4 {
                place[self.axes[d]] = at[d];
            }
            out[((place[3] * to[2] + place[2]) * to[1] + place[1]) * to[0] + place[0]] = value;
        }
        result(outs[0], out)
    }

    fn flops(&self, _: &[&TensorType], _: &Types, _: &crate::tensor::Bounds) -> u64 {
        0
    }

    fn cases() -> Vec<Case> {
        [[0, 2, 1, 3], [1, 0, 2, 3], [2, 0, 1, 3]]
            .map(|axes| Case::new(Permute { axes }, vec![Operand::f32(&[5, 4, 3])]).tolerance(0.0))
            .into()
    }
}
