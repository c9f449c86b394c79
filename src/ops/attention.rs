//! `attention`: out[:, h, t] = Σ_j softmax_j(cap(scale · q[:, h, t] · k[:, j, g]) + mask[j, t]) v[:, j, g], g = h / (heads / kv_heads),
//! over the cache positions j that token t may see (see `kv_mask`); cap(x) = softcap · tanh(x / softcap) where softcap > 0.

use super::attrs::attributes;
use super::elementwise::{expect_f32, expect_ids, ints, result, values};
use super::kv_append::expect_cache;
use crate::ops::{BoundType, Case, InferError, KvMask, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{Bounds, DType, Dim, HostTensor, Shape, Sym};
use smallvec::smallvec;

attributes! {
    /// matmul + scale + mask + soft_max + matmul in one step that never stores the scores.
    ///
    /// `q: f32[d, heads, T]`, `k: [d, S, kv_heads]` and `v: [d_v, S, kv_heads]` f32, f16, bf16 or q8_0, `kv_start`, `kv_slot`: `i32[T]`,
    /// an optional additive `mask: f32[S, T]` → f32 `[d_v, heads, T]`.
    pub struct Attention {
        /// Factor of the scores.
        pub scale: f32,
        /// Whether a token sees only itself and what precedes it.
        pub causal: bool = true,
        /// Positions that a token sees at most, itself included; 0 is no limit.
        pub window: usize = 0,
        /// Soft cap of the scores (Gemma 2); 0 is none.
        pub softcap: f32 = 0.0,
    }
}

/// Kernels may round queries to 16 bits where they multiply the bytes of a cache of q8_0 (the values that a cache holds are the
/// reference's, too: what is lost in storing them is no part of this).
pub(super) const Q8_0_TOLERANCE: f32 = 5e-5;

impl Attention {
    /// The mask this attention applies.
    pub fn mask(&self) -> KvMask {
        KvMask { causal: self.causal, window: self.window }
    }
}

impl OpDef for Attention {
    const NAME: &'static str = "attention";
    const OPERANDS: &'static [&'static str] = &["q", "k", "v", "kv_start", "kv_slot", "mask?"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let (q, k, v) = (operands[0], operands[1], operands[2]);
        expect_f32("q", q)?;
        if q.shape.rank() > 3 {
            return Err(InferError::operand("q", q, "f32[head_dim, heads, tokens]"));
        }
        let [d, heads, tokens, _] = q.shape.dims4();
        for (name, x) in [("k", k), ("v", v)] {
            expect_cache(name, x)?;
        }
        let grouped = match (heads, k.shape.dim(2)) {
            (Dim::Fixed(h), Dim::Fixed(g)) => g > 0 && h % g == 0,
            _ => false,
        };
        if k.shape.dim(0) != d || !grouped || k.shape.rank() > 3 {
            return Err(InferError::operand("k", k, format!("[{d}, S, kv_heads], kv_heads a divisor of {heads}")));
        }
        if v.shape.dim(1) != k.shape.dim(1) || v.shape.dim(2) != k.shape.dim(2) || v.shape.rank() > 3 {
            return Err(InferError::operand("v", v, format!("[d_v, {}, {}]", k.shape.dim(1), k.shape.dim(2))));
        }
        expect_ids("kv_start", operands[3], tokens)?;
        expect_ids("kv_slot", operands[4], tokens)?;
        if let Some(mask) = operands.get(5)
            && **mask != TensorType::f32(Shape::new(&[k.shape.dim(1), tokens]))
        {
            return Err(InferError::operand("mask", mask, format!("f32[{}, {tokens}]", k.shape.dim(1))));
        }
        Ok(smallvec![TensorType::f32(q.shape.with_dim(0, v.shape.dim(0)))])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let (q, k, v) = (values(operands, 0)?, values(operands, 1)?, values(operands, 2)?);
        let (start, slot) = (ints(operands, 3)?, ints(operands, 4)?);
        let mask = if operands.len() > 5 { Some(values(operands, 5)?) } else { None };
        let ([d, heads, tokens, _], [_, s, groups, _]) = (operands[0].ne(), operands[1].ne());
        let dv = operands[2].ne()[0];
        let mut out = vec![0.0; dv * heads * tokens];
        for t in 0..tokens {
            let visible = self.mask().visible(start[t], slot[t], s);
            for h in 0..heads {
                let g = h * groups / heads;
                let query = &q[(t * heads + h) * d..][..d];
                let scores: Vec<f64> = visible
                    .clone()
                    .map(|j| {
                        let key = &k[(g * s + j) * d..][..d];
                        let mut x = query.iter().zip(key).map(|(&a, &b)| a as f64 * b as f64).sum::<f64>();
                        x *= self.scale as f64;
                        if self.softcap > 0.0 {
                            x = self.softcap as f64 * (x / self.softcap as f64).tanh();
                        }
                        x + mask.as_ref().map_or(0.0, |m| m[t * s + j] as f64)
                    })
                    .collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                if max == f64::NEG_INFINITY {
                    continue;
                }
                let powers: Vec<f64> = scores.iter().map(|x| (x - max).exp()).collect();
                let sum: f64 = powers.iter().sum();
                for (i, o) in out[(t * heads + h) * dv..][..dv].iter_mut().enumerate() {
                    let weighted = visible.clone().zip(&powers).map(|(j, p)| p * v[(g * s + j) * dv + i] as f64);
                    *o = (weighted.sum::<f64>() / sum) as f32;
                }
            }
        }
        result(outs[0], out)
    }

    fn flops(&self, operands: &[&TensorType], _: &Types, bounds: &Bounds) -> u64 {
        let [d, heads, tokens, _] = operands[0].shape.eval(bounds);
        let s = operands[1].shape.dim(1).eval(bounds);
        let dv = operands[2].shape.dim(0).eval(bounds);
        let factors = [d.saturating_add(dv).saturating_mul(2).saturating_add(5), heads, tokens, s];
        factors.iter().fold(1u64, |n, &f| n.saturating_mul(f as u64))
    }

    fn cases() -> Vec<Case> {
        let t = Dim::from(Sym::T);
        let s = Dim::from(Sym::S);
        let case =
            |attention: Attention, kv: DType, d: usize, heads: usize, groups: usize, tokens: usize, len: usize| {
                let slots: Vec<i32> = (0..tokens).map(|i| (len - tokens + i) as i32).collect();
                Case::new(
                    attention,
                    vec![
                        Operand::f32(&[d.into(), heads.into(), t]),
                        Operand::typed(kv, &[d.into(), s, groups.into()]),
                        Operand::typed(kv, &[d.into(), s, groups.into()]),
                        Operand::i32(&[t], &[0]),
                        Operand::i32(&[t], &slots),
                    ],
                )
                .bounds(tokens, len, 1)
                .tolerance(1e-5)
            };
        let plain = Attention { scale: 0.25, causal: true, window: 0, softcap: 0.0 };
        let mut cases = vec![
            case(plain.clone(), DType::F32, 8, 8, 4, 5, 5),
            case(plain.clone(), DType::F16, 64, 14, 2, 3, 130),
            case(plain.clone(), DType::F32, 64, 4, 4, 1, 700),
            case(plain.clone(), DType::F16, 128, 8, 1, 70, 200),
            case(plain.clone(), DType::F16, 80, 4, 2, 9, 65),
            case(plain.clone(), DType::Bf16, 64, 4, 1, 2, 140),
            case(plain.clone(), DType::Q8_0, 64, 14, 2, 1, 700).tolerance(Q8_0_TOLERANCE),
            case(plain.clone(), DType::Q8_0, 96, 4, 2, 20, 150).tolerance(Q8_0_TOLERANCE),
            // Odd capacities: heads of the cache then begin at multiples of 4 and of 8 bytes.
            case(plain.clone(), DType::Q8_0, 128, 8, 2, 1, 701).tolerance(Q8_0_TOLERANCE),
            case(plain.clone(), DType::Q8_0, 64, 4, 4, 2, 333).tolerance(Q8_0_TOLERANCE),
            case(plain.clone(), DType::Q8_0, 128, 8, 1, 20, 200).tolerance(Q8_0_TOLERANCE),
            case(plain.clone(), DType::Q8_0, 256, 4, 2, 3, 140).tolerance(Q8_0_TOLERANCE),
            case(Attention { window: 100, softcap: 3.0, ..plain.clone() }, DType::Q8_0, 128, 32, 2, 3, 450)
                .tolerance(Q8_0_TOLERANCE),
            case(Attention { window: 37, ..plain.clone() }, DType::Q8_0, 64, 14, 2, 9, 90).tolerance(Q8_0_TOLERANCE),
            case(Attention { causal: false, ..plain.clone() }, DType::Q8_0, 128, 4, 2, 2, 75).tolerance(Q8_0_TOLERANCE),
            case(Attention { window: 16, ..plain.clone() }, DType::F32, 64, 4, 2, 40, 90),
            case(Attention { softcap: 3.0, scale: 2.0, ..plain.clone() }, DType::F32, 32, 4, 2, 7, 64),
            case(Attention { causal: false, ..plain.clone() }, DType::F32, 32, 4, 2, 7, 64),
        ];
        // Many tokens over f16, which devices with matrix units attend to in tiles of 64 rows and 16 or 32 positions.
        cases.extend([
            case(plain.clone(), DType::F16, 64, 4, 2, 9, 9),
            case(plain.clone(), DType::F16, 64, 14, 2, 19, 141),
            case(plain.clone(), DType::F16, 96, 3, 3, 33, 33),
            case(plain.clone(), DType::F16, 256, 4, 2, 21, 85),
            case(Attention { window: 16, ..plain.clone() }, DType::F16, 128, 4, 2, 40, 90),
            case(Attention { window: 7, ..plain.clone() }, DType::F16, 256, 2, 1, 45, 45),
            case(Attention { softcap: 3.0, scale: 2.0, ..plain.clone() }, DType::F16, 80, 4, 1, 17, 64),
            case(Attention { softcap: 3.0, window: 40, ..plain.clone() }, DType::F16, 64, 2, 2, 70, 130),
            case(Attention { causal: false, ..plain.clone() }, DType::F16, 64, 4, 2, 11, 47),
        ]);
        // A sequence that starts amid the cache; two that do not meet in one tile; and a token that sees nothing.
        let slots = |from: i32, n: i32| (from..from + n).collect::<Vec<i32>>();
        let sequences = |start: Vec<i32>, slot: Vec<i32>, d: usize, len: usize| {
            let mut case = case(plain.clone(), DType::F16, d, 4, 2, slot.len(), len);
            case.operands[3] = Operand::i32(&[t], &start);
            case.operands[4] = Operand::i32(&[t], &slot);
            case
        };
        cases.push(sequences(vec![37; 13], slots(41, 13), 128, 100));
        cases.push(sequences([[0; 9], [83; 9]].concat(), [slots(20, 9), slots(90, 9)].concat(), 64, 99));
        cases.push(sequences([vec![0; 4], vec![60], vec![0; 5]].concat(), slots(50, 10), 96, 64));
        // Two sequences in one step.
        let mut two = case(plain, DType::F16, 16, 2, 1, 4, 96);
        two.operands[3] = Operand::i32(&[t], &[0, 0, 70, 70]);
        two.operands[4] = Operand::i32(&[t], &[10, 11, 70, 71]);
        cases.push(two);
        cases
    }
}
