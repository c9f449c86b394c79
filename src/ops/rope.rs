//! `rope`: rotates pairs of elements of each head by an angle proportional to the token's position (Su et al. 2021), with linear
//! scaling, YaRN (Peng et al. 2023) and per-frequency factors (Llama 3.1).
//!
//! For pair i of n_dims / 2: θ_i = position · freq_base^(−2i / n_dims) / factor_i, interpolated: φ_i = freq_scale · θ_i. With YaRN,
//! the angle is φ_i (1 − m_i) + θ_i m_i, m_i = ext_factor · ramp_i, where ramp falls from 1 to 0 between the pairs that turn
//! `beta_fast` and `beta_slow` times within `n_ctx_orig` tokens; cos and sin are scaled by
//! attn_factor (1 + 0.1 ln(1 / freq_scale)) then, and by attn_factor otherwise. Elements beyond n_dims are copied.

use super::attrs::{attributes, word_enum};
use super::elementwise::{expect_f32, expect_ids, ints, result, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{Bounds, DType, Dim, HostTensor, Sym};
use smallvec::smallvec;

word_enum! {
    /// Which elements make a pair.
    pub enum RopeMode {
        /// 2i and 2i + 1: llama.
        Norm = "norm",
        /// i and i + n_dims / 2: GPT-NeoX, qwen2.
        Neox = "neox",
    }
    expected "norm or neox"
}

attributes! {
    /// Rotary position embedding of `x: f32[head_dim, heads, T]` at `positions: i32[T]`, with optional `factors: f32[n_dims / 2]`.
    pub struct Rope {
        /// Elements of a head that are rotated.
        pub n_dims: usize,
        /// Which elements make a pair.
        pub mode: RopeMode = RopeMode::Norm,
        /// Base of the geometric row of frequencies.
        pub freq_base: f32 = 10000.0,
        /// Linear scaling of positions: 1 / factor.
        pub freq_scale: f32 = 1.0,
        /// YaRN's mix of extrapolation; 0 turns YaRN off.
        pub ext_factor: f32 = 0.0,
        /// Scale of cos and sin.
        pub attn_factor: f32 = 1.0,
        /// Turns from which a frequency is extrapolated.
        pub beta_fast: f32 = 32.0,
        /// Turns up to which a frequency is interpolated.
        pub beta_slow: f32 = 1.0,
        /// Context that the model was trained with, for YaRN.
        pub n_ctx_orig: usize = 0,
    }
}

impl Rope {
    /// Rotation of `n_dims` elements with what a text's attributes have by default: base 10000, positions as they are, no YaRN.
    pub fn new(mode: RopeMode, n_dims: usize) -> Rope {
        Rope {
            n_dims,
            mode,
            freq_base: 10000.0,
            freq_scale: 1.0,
            ext_factor: 0.0,
            attn_factor: 1.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            n_ctx_orig: 0,
        }
    }
}

/// For each pair: its angle per position, and the scale of cos and sin. `factors` has n_dims / 2 elements or none.
pub fn rope_angles(rope: &Rope, factors: &[f32]) -> (Vec<f64>, f32) {
    let n = rope.n_dims as f64;
    // The (fractional) pair that turns `turns` times within the original context.
    let pair_of = |turns: f32| {
        let wave = rope.n_ctx_orig as f64 / (turns as f64 * 2.0 * std::f64::consts::PI);
        n * wave.ln() / (2.0 * (rope.freq_base as f64).ln())
    };
    let low = pair_of(rope.beta_fast).floor().max(0.0);
    let high = pair_of(rope.beta_slow).ceil().min(n - 1.0);
    let angles = (0..rope.n_dims / 2)
        .map(|i| {
            let extrapolated =
                (rope.freq_base as f64).powf(-2.0 * i as f64 / n) / factors.get(i).copied().unwrap_or(1.0) as f64;
            let interpolated = extrapolated * rope.freq_scale as f64;
            if rope.ext_factor == 0.0 {
                return interpolated;
            }
            let ramp = 1.0 - ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
            let mix = ramp * rope.ext_factor as f64;
            interpolated * (1.0 - mix) + extrapolated * mix
        })
        .collect();
    let scale = if rope.ext_factor == 0.0 {
        rope.attn_factor
    } else {
        rope.attn_factor * (1.0 + 0.1 * (1.0 / rope.freq_scale).ln())
    };
    (angles, scale)
}

impl OpDef for Rope {
    const NAME: &'static str = "rope";
    const OPERANDS: &'static [&'static str] = &["x", "positions", "factors?"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let x = operands[0];
        expect_f32("x", x)?;
        if x.shape.rank() > 3 {
            return Err(InferError::operand("x", x, "[head_dim, heads, tokens]"));
        }
        expect_ids("positions", operands[1], x.shape.dim(2))?;
        if !self.n_dims.is_multiple_of(2) || x.shape.row().fixed().is_none_or(|d| self.n_dims > d) {
            return Err(InferError::attribute("n_dims", format!("{} is odd or exceeds the head of {x}", self.n_dims)));
        }
        if let Some(factors) = operands.get(2)
            && (factors.dtype != DType::F32 || factors.shape.fixed_elements() != Some(self.n_dims / 2))
        {
            return Err(InferError::operand("factors", factors, format!("f32[{}]", self.n_dims / 2)));
        }
        Ok(smallvec![x.clone()])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let mut x = values(operands, 0)?.into_owned();
        let positions = ints(operands, 1)?;
        let factors = if operands.len() > 2 { values(operands, 2)?.into_owned() } else { Vec::new() };
        let (angles, scale) = rope_angles(self, &factors);
        let [d, heads, ..] = operands[0].ne();
        for (token, &position) in x.chunks_exact_mut((d * heads).max(1)).zip(positions) {
            for head in token.chunks_exact_mut(d) {
                for (i, &angle) in angles.iter().enumerate() {
                    let (sin, cos) = (position as f64 * angle).sin_cos();
                    let (sin, cos) = (sin * scale as f64, cos * scale as f64);
                    let (a, b) = match self.mode {
                        RopeMode::Norm => (2 * i, 2 * i + 1),
                        RopeMode::Neox => (i, i + self.n_dims / 2),
                    };
                    let (x0, x1) = (head[a] as f64, head[b] as f64);
                    head[a] = (x0 * cos - x1 * sin) as f32;
                    head[b] = (x0 * sin + x1 * cos) as f32;
                }
            }
        }
        result(outs[0], x)
    }

    fn flops(&self, _: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
        3 * outs[0].shape.elements(bounds).unwrap_or(0) as u64
    }

    fn in_place(&self) -> &'static [usize] {
        &[0]
    }

    fn cases() -> Vec<Case> {
        let x = || Operand::f32(&[Dim::from(16), 3.into(), Sym::T.into()]);
        let positions = || Operand::i32(&[Sym::T], &[0, 5, 1000]);
        let rope = Rope::new(RopeMode::Norm, 16);
        vec![
            Case::new(rope.clone(), vec![x(), positions()]),
            Case::new(Rope { n_dims: 8, ..rope.clone() }, vec![x(), positions()]),
            Case::new(Rope { mode: RopeMode::Neox, freq_base: 1e6, ..rope.clone() }, vec![x(), positions()]),
            Case::new(Rope { mode: RopeMode::Neox, n_dims: 10, ..rope.clone() }, vec![x(), positions()]),
            Case::new(Rope { freq_scale: 0.25, ..rope.clone() }, vec![x(), positions(), Operand::f32(&[8])]),
            Case::new(
                Rope { freq_scale: 0.25, ext_factor: 1.0, n_ctx_orig: 512, ..rope.clone() },
                vec![x(), positions()],
            ),
            Case::new(
                Rope { freq_base: 5e5, ..rope.clone() },
                vec![x(), Operand::i32(&[Sym::T], &[131071, 1000000, 77])],
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{AttrReader, AttrValue};

    #[test]
    fn new_has_the_defaults_of_a_text() {
        let n_dims = ("n_dims".to_string(), AttrValue::Int(64));
        let read = Rope::read_attrs(&mut AttrReader::new(vec![n_dims])).unwrap();
        assert_eq!(read, Rope::new(RopeMode::Norm, 64));
    }

    #[test]
    fn yarn_extrapolates_fast_pairs_and_interpolates_slow_ones() {
        let Case { op: crate::ops::Op::Rope(yarn), .. } = Rope::cases().remove(5) else { unreachable!() };
        let (angles, scale) = rope_angles(&Rope { n_dims: 64, ..yarn.clone() }, &[]);
        assert_eq!(angles[0], 1.0, "the fastest pair turns more than beta_fast times");
        let slowest = 10000f64.powf(-62.0 / 64.0);
        assert!((angles[31] / slowest - 0.25).abs() < 1e-12, "the slowest pair is scaled by freq_scale");
        assert!((scale - (1.0 + 0.1 * 4f32.ln())).abs() < 1e-6);
    }
}
