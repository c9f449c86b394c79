//! `rope_kv_append`: q' = rope(q); the caches with rope(k) and v appended: what lies between the projections and attention.

use crate::ops::{
    AttrError, AttrReader, Attrs, BoundType, Case, InferError, KvAppend, OpDef, Operand, ReferenceError, Rope,
    RopeMode, TensorType, Types,
};
use crate::tensor::{Bounds, DType, Dim, HostTensor, Sym};

/// Two `rope`s and two `kv_append`s in one step. Results: the rotated `q`, the K cache, the V cache.
///
/// `q: f32[d, heads, T]`, `k: f32[d, kv_heads, T]`, `v: f32[d_v, kv_heads, T]`, the caches as in `kv_append`, `positions` and `slots`:
/// `i32[T]`, optional `factors` as in `rope`.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeKvAppend {
    /// The rotation of Q and K. Its attributes are the op's.
    pub rope: Rope,
}

impl From<Rope> for RopeKvAppend {
    fn from(rope: Rope) -> RopeKvAppend {
        RopeKvAppend { rope }
    }
}

impl RopeKvAppend {
    pub(crate) fn write_attrs(&self) -> Attrs {
        self.rope.write_attrs()
    }

    pub(crate) fn read_attrs(reader: &mut AttrReader) -> Result<RopeKvAppend, AttrError> {
        Rope::read_attrs(reader).map(RopeKvAppend::from)
    }
}

impl OpDef for RopeKvAppend {
    const NAME: &'static str = "rope_kv_append";
    const OPERANDS: &'static [&'static str] = &["q", "k", "v", "k_state", "v_state", "positions", "slots", "factors?"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let rope = |x| {
            let mut list = vec![x, operands[5]];
            list.extend(operands.get(7));
            self.rope.infer(&list)
        };
        let q = rope(operands[0])?;
        let k = rope(operands[1])?;
        let k_state = KvAppend {}.infer(&[operands[3], &k[0], operands[6]])?;
        let v_state = KvAppend {}.infer(&[operands[4], operands[2], operands[6]])?;
        Ok(q.into_iter().chain(k_state).chain(v_state).collect())
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let rope = |x: &HostTensor| {
            let mut list = vec![x, operands[5]];
            list.extend(operands.get(7));
            self.rope.reference(&list, &[BoundType { dtype: DType::F32, ne: x.ne() }])
        };
        let mut results = rope(operands[0])?;
        let k = rope(operands[1])?;
        results.extend(KvAppend {}.reference(&[operands[3], &k[0], operands[6]], &outs[1..2])?);
        results.extend(KvAppend {}.reference(&[operands[4], operands[2], operands[6]], &outs[2..])?);
        Ok(results)
    }

    fn flops(&self, operands: &[&TensorType], _: &Types, bounds: &Bounds) -> u64 {
        3 * operands[..2].iter().map(|x| x.shape.elements(bounds).unwrap_or(0) as u64).sum::<u64>()
    }

    fn in_place(&self) -> &'static [usize] {
        &[0]
    }

    fn cases() -> Vec<Case> {
        let (t, s) = (Dim::from(Sym::T), Dim::from(Sym::S));
        let case = |rope: Rope, kv: DType, d: usize| {
            Case::new(
                RopeKvAppend::from(rope),
                vec![
                    Operand::f32(&[d.into(), 4.into(), t]),
                    Operand::f32(&[d.into(), 2.into(), t]),
                    Operand::f32(&[d.into(), 2.into(), t]),
                    Operand::typed(kv, &[d.into(), s, 2.into()]),
                    Operand::typed(kv, &[d.into(), s, 2.into()]),
                    Operand::i32(&[t], &[7, 8, 9]),
                    Operand::i32(&[t], &[1, 4, 0]),
                ],
            )
            .tolerance(1e-3) // a cache of f16 may round a last bit the other way
        };
        let (norm, neox) = (Rope::new(RopeMode::Norm, 16), |n_dims| Rope::new(RopeMode::Neox, n_dims));
        // An element at the middle between two bytes may go to either.
        let q8_0 = case(neox(32), DType::Q8_0, 32).tolerance(1.0 / 127.0);
        // Heads that rotate in part, in neighbouring pairs and in pairs that lie in two blocks.
        let near = case(norm.clone(), DType::Q8_0, 64).tolerance(1.0 / 127.0);
        let apart = case(neox(80), DType::Q8_0, 96).tolerance(1.0 / 127.0);
        vec![case(norm, DType::F32, 16), case(neox(8), DType::F16, 16), q8_0, near, apart]
    }
}
