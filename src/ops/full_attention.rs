//! `full_attention`: `attention` in which every token sees every position: out[:, h, t] = Σ_j softmax_j(cap(scale · q[:, h, t] · k[:, j, g])
//! + mask[j, t]) v[:, j, g], g = h / (heads / kv_heads); cap(x) = softcap · tanh(x / softcap) where softcap > 0.

use super::attention::Q8_0_TOLERANCE;
use super::attrs::attributes;
use crate::ops::{Attention, BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{Bounds, DType, Dim, HostTensor, Shape, Sym};

attributes! {
    /// matmul + scale + soft_max + matmul in one step that never stores the scores, as encoders and cross attention have it.
    ///
    /// `q: f32[d, heads, tokens]`, `k: [d, n, kv_heads]` and `v: [d_v, n, kv_heads]` f32, f16, bf16 or q8_0, an optional additive
    /// `mask: f32[n, tokens]` → f32 `[d_v, heads, tokens]`.
    pub struct FullAttention {
        /// Factor of the scores.
        pub scale: f32,
        /// Soft cap of the scores; 0 is none.
        pub softcap: f32 = 0.0,
    }
}

impl FullAttention {
    /// The attention that it is when the tables let every token see all.
    pub fn attention(&self) -> Attention {
        Attention { scale: self.scale, causal: false, window: 0, softcap: self.softcap }
    }
}

/// `q`, `k`, `v`, the two tables, then the mask.
fn with_tables<'a, T>(operands: &[&'a T], table: &'a T) -> Vec<&'a T> {
    let mut all = operands[..3].to_vec();
    all.extend([table, table]);
    all.extend(operands.get(3));
    all
}

impl OpDef for FullAttention {
    const NAME: &'static str = "full_attention";
    const OPERANDS: &'static [&'static str] = &["q", "k", "v", "mask?"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let table = TensorType::i32(Shape::new(&[operands[0].shape.dim(2)]));
        self.attention().infer(&with_tables(operands, &table))
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let tokens = operands[0].ne()[2];
        let table = HostTensor::from_i32([tokens, 1, 1, 1], vec![0; tokens]).ok_or(ReferenceError::Operand(0))?;
        self.attention().reference(&with_tables(operands, &table), outs)
    }

    fn flops(&self, operands: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
        self.attention().flops(operands, outs, bounds)
    }

    fn cases() -> Vec<Case> {
        let (t, s) = (Dim::from(Sym::T), Dim::from(Sym::S));
        let case = |op: FullAttention, kv: DType, [d, d_v, heads, groups]: [usize; 4], tokens: usize, len: usize| {
            Case::new(
                op,
                vec![
                    Operand::f32(&[d.into(), heads.into(), t]),
                    Operand::typed(kv, &[d.into(), s, groups.into()]),
                    Operand::typed(kv, &[d_v.into(), s, groups.into()]),
                ],
            )
            .bounds(tokens, len, 1)
            .tolerance(1e-5)
        };
        let plain = FullAttention { scale: 0.25, softcap: 0.0 };
        let mut masked = case(plain.clone(), DType::F16, [16, 16, 4, 2], 5, 70);
        masked.operands.push(Operand::f32(&[s, t]));
        vec![
            case(plain.clone(), DType::F32, [8, 8, 8, 4], 5, 5),
            case(plain.clone(), DType::F16, [64, 64, 14, 2], 3, 130),
            case(plain.clone(), DType::F32, [64, 32, 4, 4], 1, 700),
            case(plain.clone(), DType::Bf16, [32, 32, 2, 1], 2, 9),
            case(plain, DType::Q8_0, [64, 32, 4, 2], 2, 90).tolerance(Q8_0_TOLERANCE),
            case(FullAttention { softcap: 3.0, scale: 2.0 }, DType::F32, [32, 32, 4, 2], 7, 64),
            masked,
        ]
    }
}
