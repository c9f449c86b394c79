//! [`Quantization`]: the types and mixes that a file can be made in, and the rules of the mixes.

use crate::tensor::DType;

/// A type or a mix of types for a whole file, under the name that files carry.
#[derive(Debug, PartialEq)]
pub struct Quantization {
    /// The name, e.g. `Q4_K_M`.
    pub name: &'static str,
    /// The type of most matrices.
    pub base: DType,
    /// The number in `general.file_type`.
    pub file_type: u32,
    /// Mean bits of a weight in Llama 3 8B.
    pub bits: f64,
    /// What is special about it, for help texts.
    pub about: &'static str,
}

/// No type or mix has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is none of the types that can be written ({reason})")]
pub struct QuantizationNameError {
    name: String,
    reason: &'static str,
}

const fn entry(name: &'static str, base: DType, file_type: u32, bits: f64, about: &'static str) -> Quantization {
    Quantization { name, base, file_type, bits, about }
}

impl Quantization {
    /// All of them, the largest first.
    pub const ALL: &'static [Quantization] = &[
        entry("F32", DType::F32, 0, 32.00, "single precision"),
        entry("F16", DType::F16, 1, 16.00, "half precision"),
        entry("BF16", DType::Bf16, 32, 16.00, "the upper half of single precision"),
        entry("Q8_0", DType::Q8_0, 7, 8.50, "nearly as exact as F16"),
        entry("MXFP4_MOE", DType::Mxfp4, 38, 8.50, "OCP FP4 for experts, Q8_0 for everything else"),
        entry("Q6_K", DType::Q6K, 18, 6.56, "very close to F16"),
        entry("Q5_1", DType::Q5_1, 9, 6.04, "older than Q5_K"),
        entry("Q5_K_M", DType::Q5K, 17, 5.70, "half of attn_v and ffn_down in Q6_K"),
        entry("Q5_K_S", DType::Q5K, 16, 5.57, "all in Q5_K"),
        entry("Q5_0", DType::Q5_0, 8, 5.57, "older than Q5_K"),
        entry("Q4_1", DType::Q4_1, 3, 5.10, "older than Q4_K"),
        entry("Q4_K_M", DType::Q4K, 15, 4.89, "the usual choice: half of attn_v and ffn_down in Q6_K"),
        entry("IQ4_NL", DType::Iq4Nl, 25, 4.68, "non-linear steps, blocks of 32"),
        entry("Q4_K_S", DType::Q4K, 14, 4.67, "the first attn_v and ffn_down in Q5_K"),
        entry("NVFP4", DType::Nvfp4, 39, 4.64, "NVIDIA's FP4"),
        entry("Q4_0", DType::Q4_0, 2, 4.64, "the fastest on many machines"),
        entry("MXFP4", DType::Mxfp4, 38, 4.53, "OCP FP4; output in Q8_0"),
        entry("IQ4_XS", DType::Iq4Xs, 30, 4.46, "non-linear steps, blocks of 256"),
        entry("Q3_K_L", DType::Q3K, 13, 4.30, "attn_v, attn_output and ffn_down in Q5_K"),
        entry("Q3_K_M", DType::Q3K, 12, 4.00, "attn_v, attn_output and ffn_down in Q4_K"),
        entry("Q3_K_S", DType::Q3K, 11, 3.64, "all in Q3_K"),
        entry("Q2_K", DType::Q2K, 10, 3.16, "attn_output and ffn_down in Q3_K"),
        entry("Q2_0", DType::Q2_0, 41, 2.68, "for models trained with four values a weight"),
        entry("TQ2_0", DType::Tq2_0, 37, 2.52, "for models trained with three values a weight"),
        entry("TQ1_0", DType::Tq1_0, 36, 2.19, "for models trained with three values a weight"),
        entry("Q1_0", DType::Q1_0, 40, 1.48, "for models trained with two values a weight"),
    ];

    /// The one with this name; case does not matter, and `Q3_K`, `Q4_K` and `Q5_K` are short for their `_M`.
    ///
    /// # Errors
    /// [`QuantizationNameError`], which says why for types that exist but cannot be written.
    pub fn from_name(name: &str) -> Result<&'static Quantization, QuantizationNameError> {
        let upper = name.to_ascii_uppercase();
        let full = match upper.as_str() {
            "Q3_K" | "Q4_K" | "Q5_K" => format!("{upper}_M"),
            _ => upper,
        };
        let found = Quantization::ALL.iter().find(|q| q.name == full);
        found.ok_or_else(|| QuantizationNameError { name: name.chars().take(40).collect(), reason: refusal(&full) })
    }
}

fn refusal(name: &str) -> &'static str {
    if name == "Q2_K_S" || ["IQ1_", "IQ2_", "IQ3_"].iter().any(|family| name.starts_with(family)) {
        "it needs an importance matrix"
    } else if name.starts_with("MXFP6") {
        "GGUF has no number for it"
    } else {
        "see the list of types"
    }
}

/// What a tensor is for, as far as the mixes treat it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Output,
    TokenEmbedding,
    /// The value projection, alone or fused with others.
    AttnV,
    AttnK,
    AttnOutput,
    FfnDown,
    Other,
}

impl Role {
    pub fn of(name: &str) -> Role {
        const PARTS: &[(&str, Role)] = &[
            ("attn_qkv.weight", Role::AttnV),
            ("attn_kv_b.weight", Role::AttnV),
            ("attn_v.weight", Role::AttnV),
            ("attn_k.weight", Role::AttnK),
            ("attn_output.weight", Role::AttnOutput),
            ("ffn_down", Role::FfnDown),
        ];
        match name {
            "output.weight" => Role::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Role::TokenEmbedding,
            _ => PARTS.iter().find(|(part, _)| name.contains(part)).map_or(Role::Other, |(_, role)| *role),
        }
    }
}

/// What the rules ask about a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub architecture: String,
    pub layers: usize,
    /// Query heads that share a key head.
    pub heads_per_kv_head: usize,
    pub experts: usize,
    /// Whether `token_embd.weight` is the output matrix as well.
    pub tied: bool,
    /// Value projections in the file.
    pub value_tensors: usize,
}

impl Facts {
    fn falcon(&self) -> bool {
        self.architecture == "falcon"
    }

    /// The 70 B models, whose value projections are an eighth of the query's.
    fn shares_values_widely(&self) -> bool {
        self.layers == 80
            && match self.architecture.as_str() {
                "llama" => self.heads_per_kv_head > 1,
                architecture => architecture == "qwen2",
            }
    }
}

/// One tensor among those of its role.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub role: Role,
    pub shape: &'a [u64],
    /// How many of its role come before it; the layer for experts' tensors.
    pub index: usize,
}

/// The first and the last eighth of the layers, and every third between them.
fn more_bits(index: usize, layers: usize) -> bool {
    index < layers / 8 || index >= 7 * layers / 8 || (index - layers / 8) % 3 == 2
}

/// The type that the mix `q` wants for a tensor, whether or not its rows can be cut into that type's blocks.
pub(super) fn wanted(q: &Quantization, facts: &Facts, place: Place<'_>) -> DType {
    if !q.base.is_quantized() {
        return q.base;
    }
    let is_mxfp4 = q.base == DType::Mxfp4;
    let output = place.role == Role::Output || (facts.tied && place.role == Role::TokenEmbedding);
    if output {
        let row = place.shape.first().copied().unwrap_or(1);
        let whole = row.is_multiple_of(q.base.block_len() as u64);
        return if is_mxfp4 || facts.falcon() || !whole || q.base == DType::Q8_0 { DType::Q8_0 } else { DType::Q6K };
    }
    if q.name == "MXFP4_MOE" {
        let experts = place.shape.get(2).is_some_and(|&n| n > 1);
        return if experts { DType::Mxfp4 } else { DType::Q8_0 };
    }
    match place.role {
        Role::TokenEmbedding => match q.base {
            DType::Tq1_0 | DType::Tq2_0 | DType::Q2_0 => DType::Q4K,
            base => base,
        },
        Role::AttnV => attn_v(q, facts, place.index),
        Role::AttnK if facts.experts == 8 => DType::Q8_0,
        Role::FfnDown => ffn_down(q, facts, place.index),
        Role::AttnOutput => attn_output(q, facts),
        _ => q.base,
    }
}

fn attn_v(q: &Quantization, facts: &Facts, index: usize) -> DType {
    let shared = facts.heads_per_kv_head >= 4;
    let more = more_bits(index, facts.value_tensors);
    let dtype = match q.name {
        "Q2_K" => {
            if shared {
                DType::Q4K
            } else {
                DType::Q3K
            }
        }
        "Q3_K_M" => {
            if index < 2 {
                DType::Q5K
            } else {
                DType::Q4K
            }
        }
        "Q3_K_L" => DType::Q5K,
        "IQ4_NL" | "IQ4_XS" if shared => DType::Q5K,
        "Q4_K_M" | "Q5_K_M" if more => DType::Q6K,
        "Q4_K_S" if index < 4 => DType::Q5K,
        _ => q.base,
    };
    match dtype {
        _ if facts.experts == 8 => DType::Q8_0,
        DType::Q3K | DType::Q4K if facts.shares_values_widely() => DType::Q5K,
        dtype => dtype,
    }
}

fn ffn_down(q: &Quantization, facts: &Facts, index: usize) -> DType {
    let (layers, falcon) = (facts.layers, facts.falcon());
    let more = more_bits(index, layers);
    match q.name {
        "Q2_K" => DType::Q3K,
        "Q3_K_M" if index < layers / 16 => DType::Q5K,
        "Q3_K_M" if !falcon || more => DType::Q4K,
        "Q3_K_L" => {
            if falcon {
                DType::Q4K
            } else {
                DType::Q5K
            }
        }
        "Q4_K_M" if falcon && index >= layers / 16 => {
            if more {
                DType::Q5K
            } else {
                DType::Q4K
            }
        }
        "Q4_K_M" if falcon || more => DType::Q6K,
        "Q5_K_M" if more => DType::Q6K,
        "Q4_K_S" if !falcon && index < layers / 8 => DType::Q5K,
        "IQ4_NL" | "IQ4_XS" if index < layers / 8 => DType::Q5K,
        _ => q.base,
    }
}

fn attn_output(q: &Quantization, facts: &Facts) -> DType {
    let falcon = facts.falcon();
    match q.name {
        "Q2_K" | "Q3_K_S" | "Q3_K_M" | "Q4_K_S" | "Q4_K_M" | "IQ4_NL" | "IQ4_XS" if facts.experts == 8 && !falcon => {
            DType::Q5K
        }
        "Q3_K_L" if falcon => DType::Q4K,
        "Q3_K_L" if facts.experts != 8 => DType::Q5K,
        "Q2_K" if !falcon => DType::Q3K,
        "Q3_K_M" if !falcon => DType::Q4K,
        _ => q.base,
    }
}

/// What a tensor gets whose rows cannot be cut into blocks of `dtype`.
pub(super) fn fallback(dtype: DType, row: u64) -> DType {
    let fits = |dtype: DType| row.is_multiple_of(dtype.block_len() as u64);
    if fits(dtype) {
        return dtype;
    }
    let next = match dtype {
        DType::Iq4Xs => DType::Iq4Nl,
        DType::Q2K | DType::Q3K | DType::Tq1_0 | DType::Tq2_0 | DType::Q1_0 | DType::Q2_0 | DType::Nvfp4 => DType::Q4_0,
        DType::Q4K => DType::Q5_0,
        DType::Q5K => DType::Q5_1,
        DType::Q6K => DType::Q8_0,
        _ => DType::F16,
    };
    if fits(next) { next } else { DType::F16 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::quant::can_quantize;

    #[test]
    fn names_lead_to_types_that_have_a_quantizer() {
        for q in Quantization::ALL {
            assert_eq!(Quantization::from_name(&q.name.to_lowercase()), Ok(q));
            assert!(can_quantize(q.base) && q.base.ggml_id().is_some(), "{}", q.name);
        }
        assert_eq!(Quantization::from_name("q4_k").unwrap().name, "Q4_K_M");
        for (name, why) in [("IQ2_XS", "importance matrix"), ("MXFP6_E2M3", "no number"), ("Q9", "see the list")] {
            let error = Quantization::from_name(name).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(why), "{error}");
        }
    }

    #[test]
    fn rows_that_do_not_fit_get_a_type_that_does() {
        assert_eq!(fallback(DType::Q4K, 512), DType::Q4K);
        assert_eq!(fallback(DType::Q4K, 96), DType::Q5_0);
        assert_eq!(fallback(DType::Q5K, 96), DType::Q5_1);
        assert_eq!(fallback(DType::Q6K, 96), DType::Q8_0);
        assert_eq!(fallback(DType::Q6K, 172), DType::F16);
        assert_eq!(fallback(DType::Q8_0, 172), DType::F16);
    }

    #[test]
    fn more_bits_go_to_both_ends_and_every_third() {
        let chosen: Vec<usize> = (0..32).filter(|&i| more_bits(i, 32)).collect();
        assert_eq!(chosen, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        assert_eq!((0..5).filter(|&i| more_bits(i, 5)).collect::<Vec<_>>(), [2, 4]);
    }
}
