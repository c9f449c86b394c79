//! `get_rows`: out[:, i] = table[:, ids[i]], as f32.

use super::attrs::attributes;
use super::elementwise::{ints, result, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{DType, HostTensor, Sym};
use smallvec::smallvec;

attributes! {
    /// Rows of a table of any element type `[k, n]` by `ids: i32[m]`; the result is f32 `[k, m]`.
    pub struct GetRows {}
}

impl OpDef for GetRows {
    const NAME: &'static str = "get_rows";
    const OPERANDS: &'static [&'static str] = &["table", "ids"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let (table, ids) = (operands[0], operands[1]);
        if table.shape.rank() > 2 {
            return Err(InferError::operand("table", table, "a matrix [k, n]"));
        }
        if ids.dtype != DType::I32 || ids.shape.rank() != 1 {
            return Err(InferError::operand("ids", ids, "a vector of i32"));
        }
        Ok(smallvec![TensorType::f32(table.shape.with_dim(1, ids.shape.dim(0)))])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let (table, ids) = (values(operands, 0)?, ints(operands, 1)?);
        let [k, n, ..] = operands[0].ne();
        let mut out = Vec::with_capacity(k * ids.len());
        for &id in ids {
            let row = usize::try_from(id).ok().filter(|&r| r < n);
            let row = row.ok_or_else(|| ReferenceError::Value(format!("row {id} of a table of {n} rows")))?;
            out.extend_from_slice(&table[row * k..][..k]);
        }
        result(outs[0], out)
    }

    fn flops(&self, _: &[&TensorType], _: &Types, _: &crate::tensor::Bounds) -> u64 {
        0
    }

    fn cases() -> Vec<Case> {
        let table =
            |t, k| Case::new(GetRows {}, vec![Operand::weight(t, &[k, 9]), Operand::i32(&[Sym::T], &[8, 0, 3])]);
        vec![table(DType::F32, 33), table(DType::F16, 32), table(DType::Q8_0, 64), table(DType::Q4K, 256)]
    }
}
