//! `qkv_rope_append`: `rope_kv_append` of the heads of wq · x, wk · x and wv · x (+ biases): what lies before attention, in one step.

use super::elementwise::values;
use crate::ops::{
    AttrError, AttrReader, Attrs, BoundType, Case, InferError, OpDef, Operand, QMatmulGroup, ReferenceError, Rope,
    RopeKvAppend, RopeMode, TensorType, Types,
};
use crate::tensor::{Bounds, DType, Dim, HostTensor, Shape, Sym};

/// A `qmatmul_group` of three weights and a `rope_kv_append` of its results. Results: the rotated Q, the K cache, the V cache.
///
/// Operands: `x: f32[k, T]`, `wq`, `wk`, `wv`, then `bq`, `bk`, `bv` where the group has biases, then `norm` where it normalises, then
/// `k_state`, `v_state`, `positions`, `slots`, optional `factors` as in `rope_kv_append`. Heads have as many elements as those of the caches.
#[derive(Clone, Debug, PartialEq)]
pub struct QkvRopeAppend {
    /// The products; of three weights.
    pub group: QMatmulGroup,
    /// The rotation of Q and K.
    pub rope: Rope,
}

const WEIGHTS: usize = 3;

impl QkvRopeAppend {
    /// Where the K cache stands among the operands; before it are those of the group, after it the V cache, positions, slots, factors.
    pub fn k_state(&self) -> usize {
        self.group.norm_slot() + usize::from(self.group.norm_eps > 0.0)
    }

    /// The attributes of the group but the number of its weights, and those of the rotation.
    pub(crate) fn write_attrs(&self) -> Attrs {
        let group = self.group.write_attrs().into_iter().filter(|(name, _)| *name != "weights");
        group.chain(self.rope.write_attrs()).collect()
    }

    pub(crate) fn read_attrs(reader: &mut AttrReader) -> Result<QkvRopeAppend, AttrError> {
        let group = QMatmulGroup {
            weights: WEIGHTS,
            bias: reader.take("bias", Some(false))?,
            activation: reader.take("activation", Some(DType::F32))?,
            norm_eps: reader.take("norm_eps", Some(0.0))?,
        };
        Ok(QkvRopeAppend { group, rope: Rope::read_attrs(reader)? })
    }

    /// Elements of a head of Q, K and V.
    pub fn heads<T>(&self, operands: &[T], row: impl Fn(&T) -> Option<usize>) -> Option<[usize; WEIGHTS]> {
        let [k, v] = [0, 1].map(|i| operands.get(self.k_state() + i).and_then(&row));
        Some([k?, k?, v?])
    }
}

impl OpDef for QkvRopeAppend {
    const NAME: &'static str = "qkv_rope_append";
    const OPERANDS: &'static [&'static str] = &["x", "wq", "wk", "wv", "…?"];

    fn check_arity(&self, found: usize) -> Result<(), InferError> {
        let least = self.k_state() + 4;
        if self.group.weights == WEIGHTS && (found == least || found == least + 1) {
            return Ok(());
        }
        let biases = if self.group.bias { ", bq, bk, bv" } else { "" };
        let norm = if self.group.norm_eps > 0.0 { ", norm" } else { "" };
        let expected = format!("(x, wq, wk, wv{biases}{norm}, k_state, v_state, positions, slots, factors?)");
        Err(InferError::Arity { expected, found })
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let x = operands[0];
        if x.dtype != DType::F32 || x.shape.rank() > 2 {
            return Err(InferError::operand("x", x, "f32[k, T]"));
        }
        let (products, rest) = operands.split_at(self.k_state());
        let rows = self.group.infer(products)?;
        let heads = self.heads(operands, |ty| ty.shape.row().fixed());
        let mut types = Types::new();
        for (i, name) in ["wq", "wk", "wv"].into_iter().enumerate() {
            let (n, d) = (rows[i].shape.row().fixed(), heads.map(|h| h[i]));
            let (Some(n), Some(d)) = (n, d.filter(|&d| d > 0 && n.is_some_and(|n| n % d == 0))) else {
                return Err(InferError::operand(name, operands[1 + i], "rows for whole heads of the caches' size"));
            };
            types.push(TensorType::f32(Shape::new(&[d.into(), (n / d).into(), x.shape.dim(1)])));
        }
        let list: Vec<&TensorType> = types.iter().chain(rest.iter().copied()).collect();
        RopeKvAppend::from(self.rope.clone()).infer(&list)
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let (products, rest) = operands.split_at(self.k_state());
        let tokens = operands[0].ne()[1];
        let rows = [1, 2, 3].map(|w| BoundType { dtype: DType::F32, ne: [operands[w].ne()[1], tokens, 1, 1] });
        let products = self.group.reference(products, &rows)?;
        let heads = self.heads(operands, |x| Some(HostTensor::ne(x)[0])).ok_or(ReferenceError::Operand(0))?;
        let mut list = Vec::new();
        for (i, d) in heads.into_iter().enumerate() {
            let ne = [d, rows[i].ne[0] / d.max(1), tokens, 1];
            let product = values(&[&products[i]], 0)?.into_owned();
            list.push(HostTensor::from_f32(ne, product).ok_or(ReferenceError::Operand(1 + i))?);
        }
        let list: Vec<&HostTensor> = list.iter().chain(rest.iter().copied()).collect();
        RopeKvAppend::from(self.rope.clone()).reference(&list, outs)
    }

    fn flops(&self, operands: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
        let count = |ty: &TensorType| ty.shape.elements(bounds).unwrap_or(0) as u64;
        let tokens = operands[0].shape.dim(1).eval(bounds) as u64;
        let weights = operands[1..=WEIGHTS].iter().map(|w| count(w)).fold(0, u64::saturating_add);
        weights.saturating_mul(2).saturating_mul(tokens).saturating_add(count(&outs[0]).saturating_mul(3))
    }

    fn cases() -> Vec<Case> {
        let t = Dim::from(Sym::T);
        // x of `k`, weights of these types, heads of Q and of K and V, their elements in Q and K and in V, caches of `kv`.
        let case = |group: QMatmulGroup, rope: Rope, k: usize, w: [DType; 3], heads: [usize; 2], d: [usize; 2], kv| {
            let rows = [heads[0] * d[0], heads[1] * d[0], heads[1] * d[1]];
            let mut operands = vec![Operand::f32(&[k.into(), t])];
            operands.extend((0..3).map(|i| Operand::weight(w[i], &[k, rows[i]])));
            if group.bias {
                operands.extend(rows.map(|n| Operand::f32(&[n])));
            }
            if group.norm_eps > 0.0 {
                operands.push(Operand::f32(&[k]));
            }
            operands.extend(d.map(|d| Operand::typed(kv, &[d.into(), Dim::from(Sym::S), heads[1].into()])));
            operands.extend([Operand::i32(&[t], &[900, 7, 100_001]), Operand::i32(&[t], &[3, 4, 0])]);
            // Caches of 16 bits, and elements that round to the next integer.
            Case::new(QkvRopeAppend { group, rope }, operands).tolerance(4e-3)
        };
        let group = |bias, activation, norm_eps| QMatmulGroup { weights: WEIGHTS, bias, activation, norm_eps };
        let neox = |n_dims| Rope::new(RopeMode::Neox, n_dims);
        let norm = |n_dims| Rope::new(RopeMode::Norm, n_dims);
        let (q4, q6, q8, f16) = (DType::Q4K, DType::Q6K, DType::Q8_0, DType::F16);
        vec![
            case(group(false, DType::Q8A, 1e-5), norm(64), 1024, [q4, q4, q6], [6, 2], [64, 64], f16).bounds(1, 5, 1),
            case(group(true, DType::Q8A, 1e-6), neox(32), 1024, [q8, q8, q8], [3, 1], [64, 48], DType::Bf16),
            case(group(true, DType::F32, 0.0), neox(4), 64, [f16, f16, f16], [4, 2], [7, 5], DType::F32),
            // An element at the middle between two bytes may go to either.
            case(group(true, DType::Q8A, 0.0), neox(64), 1024, [q8, q8, q8], [4, 2], [64, 32], q8)
                .tolerance(1.0 / 127.0),
        ]
    }
}
