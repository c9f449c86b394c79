//! `kv_append`: writes the rows of this step's tokens into a KV cache and returns the cache.

use super::attrs::attributes;
use super::elementwise::{expect_f32, expect_ids, ints, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{DType, Dim, HostTensor, Sym};
use smallvec::smallvec;

attributes! {
    /// `state: [head_dim, S, kv_heads]` (f32, f16, bf16 or q8_0), `x: f32[head_dim, kv_heads, T]`, `slots: i32[T]` → the state with
    /// row `slots[t]` of every head replaced by `x[:, head, t]`, rounded to the state's type. In place by construction.
    ///
    /// In q8_0 an element is within (1/254 + 2⁻¹¹) of the largest magnitude of its 32.
    pub struct KvAppend {}
}

/// Checks that an operand is a KV cache, or what reads like one: `[head_dim, S, kv_heads]` of a type that caches have.
pub(super) fn expect_cache(name: &'static str, cache: &TensorType) -> Result<(), InferError> {
    if !matches!(cache.dtype, DType::F32 | DType::F16 | DType::Bf16 | DType::Q8_0) || cache.shape.rank() > 3 {
        return Err(InferError::operand(name, cache, "f32, f16, bf16 or q8_0 of shape [head_dim, S, kv_heads]"));
    }
    let block = cache.dtype.block_len();
    if block > 1 && !cache.shape.row().fixed().is_some_and(|d| d.is_multiple_of(block)) {
        let expected =
            format!("a head size that is a multiple of {block}: {} stores {block} elements together", cache.dtype);
        return Err(InferError::operand(name, cache, expected));
    }
    Ok(())
}

impl OpDef for KvAppend {
    const NAME: &'static str = "kv_append";
    const OPERANDS: &'static [&'static str] = &["state", "x", "slots"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let (state, x) = (operands[0], operands[1]);
        expect_cache("state", state)?;
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
        [(DType::F32, 8), (DType::F16, 8), (DType::Bf16, 8), (DType::Q8_0, 64)]
            .map(|(dtype, d)| {
                Case::new(
                    KvAppend {},
                    vec![
                        Operand::typed(dtype, &[Dim::from(d), Sym::S.into(), 2.into()]),
                        Operand::f32(&[Dim::from(d), 2.into(), Sym::T.into()]),
                        Operand::i32(&[Sym::T], &[4, 1, 2]),
                    ],
                )
                .tolerance(0.0)
            })
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    fn infer(dtype: DType, d: usize) -> Result<Types, InferError> {
        let state = TensorType::new(dtype, Shape::new(&[Dim::from(d), Sym::S.into(), 2.into()]));
        let x = TensorType::f32(Shape::new(&[Dim::from(d), 2.into(), Sym::T.into()]));
        KvAppend {}.infer(&[&state, &x, &TensorType::i32(Shape::new(&[Sym::T]))])
    }

    #[test]
    fn caches_of_blocks_have_heads_of_whole_blocks() {
        assert!(infer(DType::Q8_0, 96).is_ok());
        let refused = infer(DType::Q8_0, 80).unwrap_err().to_string();
        assert!(refused.contains("q8_0[80") && refused.contains("a multiple of 32"), "{refused}");
        assert!(infer(DType::F16, 80).is_ok());
        let refused = infer(DType::Q4_0, 64).unwrap_err().to_string();
        assert!(refused.contains("f32, f16, bf16 or q8_0"), "{refused}");
    }

    #[test]
    fn elements_come_back_from_q8_0_within_the_stated_bound() {
        let x: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 - 31.0) * if i < 32 { 0.01 } else { 3.0 }).collect();
        let state = HostTensor::zeros(DType::Q8_0, [64, 2, 1, 1]).unwrap();
        let new = HostTensor::from_f32([64, 1, 1, 1], x.clone()).unwrap();
        let slots = HostTensor::from_i32([1, 1, 1, 1], vec![1]).unwrap();
        let outs = [BoundType { dtype: DType::Q8_0, ne: [64, 2, 1, 1] }];
        let cache = KvAppend {}.reference(&[&state, &new, &slots], &outs).unwrap().remove(0);
        let cache = cache.f32s().unwrap().into_owned();
        assert!(cache[..64].iter().all(|&x| x == 0.0), "another slot was written");
        for (x, y) in x.chunks(32).zip(cache[64..].chunks(32)) {
            let largest = x.iter().fold(0f32, |m, x| m.max(x.abs()));
            for (x, y) in x.iter().zip(y) {
                assert!((x - y).abs() <= largest * (1.0 / 254.0 + 1.0 / 2048.0), "{x} became {y}");
            }
        }
    }
}
