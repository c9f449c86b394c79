//! `kv_append`: writes the rows of this step's tokens into a KV cache and returns the cache.

use super::attrs::attributes;
use super::elementwise::{expect_f32, expect_ids, ints, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{DType, Dim, HostTensor, Sym};
use smallvec::smallvec;

attributes! {
    /// `state: [head_dim, S, kv_heads]` (f32, f16 or bf16), `x: f32[head_dim, kv_heads, T]`, `slots: i32[T]` → the state with row
    /// `slots[t]` of every head replaced by `x[:, head, t]`, rounded to the state's type. In place by construction.
    pub struct KvAppend {}
}

impl OpDef for KvAppend {
    const NAME: &'static str = "kv_append";
    const OPERANDS: &'static [&'static str] = &["state", "x", "slots"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let (state, x) = (operands[0], operands[1]);
        if !matches!(state.dtype, DType::F32 | DType::F16 | DType::Bf16) || state.shape.rank() > 3 {
            return Err(InferError::operand("state", state, "f32, f16 or bf16 of shape [head_dim, S, kv_heads]"));
        }
        expect_f32("x", x)?;
        if x.shape.dim(0) != state.shape.dim(0) || x.shape.dim(1) != state.shape.dim(2) || x.shape.rank() > 3 {
            let expected = format!("f32[{}, {}, T]", state.shape.dim(0), state.shape.dim(2));
            return Err(InferError::operand("x", x, expected));
        }
        expect_ids("slots", operands[2], x.shape.dim(2))?;
        Ok(smallvec![state.clone()])
    }

    fn reference(&self, operands: &[&HostTensor], _: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let state = operands[0];
        let [d, capacity, heads, _] = state.ne();
        let (x, slots) = (values(operands, 1)?, ints(operands, 2)?);
        let row = state.dtype().row_bytes(d).ok_or(ReferenceError::Operand(0))?;
        let mut bytes = state.bytes().into_owned();
        for (t, &slot) in slots.iter().enumerate() {
            let slot = usize::try_from(slot)
                .ok()
                .filter(|&s| s < capacity)
                .ok_or_else(|| ReferenceError::Value(format!("slot {slot} of a KV cache of {capacity} positions")))?;
            for head in 0..heads {
                let values = &x[(t * heads + head) * d..][..d];
                let rounded = HostTensor::quantized(state.dtype(), [d, 1, 1, 1], values)
                    .map_err(|e| ReferenceError::Value(e.to_string()))?;
                bytes[(head * capacity + slot) * row..][..row].copy_from_slice(&rounded.bytes());
            }
        }
        HostTensor::from_bytes(state.dtype(), state.ne(), &bytes).map(|t| vec![t]).ok_or(ReferenceError::Operand(0))
    }

    fn flops(&self, _: &[&TensorType], _: &Types, _: &crate::tensor::Bounds) -> u64 {
        0
    }

    fn cases() -> Vec<Case> {
        [DType::F32, DType::F16, DType::Bf16]
            .map(|dtype| {
                Case::new(
                    KvAppend {},
                    vec![
                        Operand::typed(dtype, &[Dim::from(8), Sym::S.into(), 2.into()]),
                        Operand::f32(&[Dim::from(8), 2.into(), Sym::T.into()]),
                        Operand::i32(&[Sym::T], &[4, 1, 2]),
                    ],
                )
                .tolerance(0.0)
            })
            .into()
    }
}
