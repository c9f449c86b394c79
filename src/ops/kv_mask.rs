//! `kv_mask`: out[j, t, h] = scores[j, t, h] where token t may see cache position j, −∞ elsewhere.
//!
//! Token t sees positions kv_start[t] ≤ j ≤ kv_slot[t]: from the first position of its sequence up to itself, so that one
//! step may carry tokens of several sequences. Without `causal` it sees the whole cache from kv_start[t] on. A `window` w > 0
//! hides positions j ≤ kv_slot[t] − w as well.

use super::attrs::attributes;
use super::elementwise::{expect_f32, expect_ids, ints, result, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{Dim, HostTensor, Sym};
use smallvec::smallvec;

attributes! {
    /// Hides cache positions from `scores: f32[S, T, heads]`; `kv_start`, `kv_slot`: `i32[T]`.
    pub struct KvMask {
        /// Whether a token sees only itself and what precedes it.
        pub causal: bool = true,
        /// Positions that a token sees at most, itself included; 0 is no limit.
        pub window: usize = 0,
    }
}

impl KvMask {
    /// The range of positions that a token at `slot` of a sequence from `start` on sees in a cache of `len` positions.
    pub fn visible(&self, start: i32, slot: i32, len: usize) -> std::ops::Range<usize> {
        let mut first = start.max(0) as usize;
        if self.window > 0 {
            first = first.max((slot.max(0) as usize + 1).saturating_sub(self.window));
        }
        let end = if self.causal { (slot.max(-1) + 1) as usize } else { len };
        first..end.min(len).max(first)
    }
}

impl OpDef for KvMask {
    const NAME: &'static str = "kv_mask";
    const OPERANDS: &'static [&'static str] = &["scores", "kv_start", "kv_slot"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        expect_f32("scores", operands[0])?;
        expect_ids("kv_start", operands[1], operands[0].shape.dim(1))?;
        expect_ids("kv_slot", operands[2], operands[0].shape.dim(1))?;
        Ok(smallvec![operands[0].clone()])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let mut scores = values(operands, 0)?.into_owned();
        let (start, slot) = (ints(operands, 1)?, ints(operands, 2)?);
        let [s, t, ..] = operands[0].ne();
        for (row, values) in scores.chunks_exact_mut(s.max(1)).enumerate() {
            let visible = self.visible(start[row % t], slot[row % t], s);
            for (j, value) in values.iter_mut().enumerate() {
                if !visible.contains(&j) {
                    *value = f32::NEG_INFINITY;
                }
            }
        }
        result(outs[0], scores)
    }

    fn flops(&self, _: &[&TensorType], _: &Types, _: &crate::tensor::Bounds) -> u64 {
        0
    }

    fn in_place(&self) -> &'static [usize] {
        &[0]
    }

    fn cases() -> Vec<Case> {
        let operands = || {
            vec![
                Operand::f32(&[Dim::from(Sym::S), Sym::T.into(), 2.into()]),
                Operand::i32(&[Sym::T], &[0, 0, 3]),
                Operand::i32(&[Sym::T], &[1, 2, 4]),
            ]
        };
        vec![
            Case::new(KvMask { causal: true, window: 0 }, operands()),
            Case::new(KvMask { causal: true, window: 2 }, operands()),
            Case::new(KvMask { causal: false, window: 0 }, operands()),
        ]
    }
}
