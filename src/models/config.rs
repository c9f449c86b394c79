//! [`Config`]: the hyperparameters that GGUF metadata states, checked.

use super::ModelError;
use super::gguf::{Header, Metadata, Value};
use crate::ops::{Rope, RopeMode};

/// How positions beyond the training context are brought into it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All positions divided by a factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// YaRN (Peng et al. 2023).
    Yarn {
        /// The factor.
        factor: f32,
    },
}

/// Hyperparameters of a decoder-only transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, or the architecture.
    pub name: String,
    /// Number of layers.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads.
    pub n_head_kv: usize,
    /// Width of a query or key head.
    pub head_dim: usize,
    /// Width of a value head.
    pub head_dim_v: usize,
    /// Width of the feed-forward layer.
    pub n_ff: usize,
    /// Context the model was trained with.
    pub n_ctx_train: usize,
    /// Size of the vocabulary: from metadata, else the token list, else the embedding's shape.
    pub n_vocab: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_eps: f32,
    /// Elements of a head that RoPE rotates.
    pub n_rot: usize,
    /// Base of RoPE's frequencies.
    pub rope_freq_base: f32,
    /// Scaling of positions.
    pub rope_scaling: RopeScaling,
    /// Context before scaling.
    pub n_ctx_orig: usize,
    /// Factor on RoPE's cos and sin.
    pub rope_attn_factor: f32,
    /// Factor of attention scores; 1 / √head_dim unless the file says otherwise.
    pub attention_scale: f32,
}

impl Config {
    /// Reads and checks the hyperparameters of a file.
    pub fn read(header: &Header) -> Result<Config, ModelError> {
        let meta = header.metadata();
        let architecture = meta.require_str("general.architecture")?.to_string();
        if !super::architectures().any(|a| a == architecture) {
            return Err(ModelError::UnknownArchitecture { name: architecture });
        }
        let keys = Keys { meta, arch: &architecture };
        let n_layer = keys.size("block_count", 1 << 16)?;
        let n_embd = keys.size("embedding_length", 1 << 24)?;
        let n_head = keys.size_per_layer("attention.head_count")?;
        let n_head_kv =
            if keys.has("attention.head_count_kv") { keys.size_per_layer("attention.head_count_kv")? } else { n_head };
        if n_head % n_head_kv != 0 {
            let reason = format!("it does not divide the {n_head} query heads");
            return Err(keys.value("attention.head_count_kv", n_head_kv, reason));
        }
        let head_dim = match keys.optional("attention.key_length", 1 << 16)? {
            Some(d) => d,
            None if n_embd % n_head == 0 => n_embd / n_head,
            None => {
                let reason =
                    format!("it does not divide the embedding length {n_embd}, and attention.key_length is absent");
                return Err(keys.value("attention.head_count", n_head, reason));
            }
        };
        if head_dim == 0 {
            return Err(keys.value("attention.key_length", 0, "a head has at least one element"));
        }
        let head_dim_v = keys.optional("attention.value_length", 1 << 16)?.unwrap_or(head_dim);
        if head_dim_v == 0 {
            return Err(keys.value("attention.value_length", 0, "a head has at least one element"));
        }
        let n_rot = keys.optional("rope.dimension_count", 1 << 16)?.unwrap_or(head_dim);
        if n_rot % 2 != 0 || n_rot > head_dim {
            let reason = format!("it must be even and at most the head's {head_dim}");
            return Err(keys.value("rope.dimension_count", n_rot, reason));
        }
        if keys.optional("expert_count", 1 << 20)?.is_some_and(|n| n > 0) {
            let reason = format!("{architecture} with experts ({architecture}.expert_count) is not supported yet");
            return Err(ModelError::Unsupported(reason));
        }
        let n_ctx_train = keys.size("context_length", 1 << 32)?;
        let rms_eps = keys.number("attention.layer_norm_rms_epsilon", None, 0.0..=1.0)?;
        let attention_scale = 1.0 / (head_dim as f32).sqrt();
        Ok(Config {
            name: meta.str("general.name")?.unwrap_or(&architecture).to_string(),
            n_ff: keys.size_per_layer("feed_forward_length")?,
            n_vocab: vocabulary_size(header, &keys)?,
            rope_freq_base: keys.number("rope.freq_base", Some(10000.0), 1e-3..=1e15)?,
            rope_scaling: rope_scaling(&keys)?,
            n_ctx_orig: keys.optional("rope.scaling.original_context_length", 1 << 32)?.unwrap_or(n_ctx_train),
            rope_attn_factor: keys.number("rope.scaling.attn_factor", Some(1.0), 1e-6..=1e6)?,
            attention_scale: keys.number("attention.scale", Some(attention_scale), 1e-9..=1e9)?,
            architecture: architecture.clone(),
            n_layer,
            n_embd,
            n_head,
            n_head_kv,
            head_dim,
            head_dim_v,
            n_ctx_train,
            rms_eps,
            n_rot,
        })
    }

    /// The RoPE of this model.
    pub fn rope(&self, mode: RopeMode) -> Rope {
        let (freq_scale, ext_factor) = match self.rope_scaling {
            RopeScaling::None => (1.0, 0.0),
            RopeScaling::Linear { factor } => (1.0 / factor, 0.0),
            RopeScaling::Yarn { factor } => (1.0 / factor, 1.0),
        };
        Rope {
            freq_base: self.rope_freq_base,
            freq_scale,
            ext_factor,
            attn_factor: self.rope_attn_factor,
            n_ctx_orig: if ext_factor == 0.0 { 0 } else { self.n_ctx_orig },
            ..Rope::new(mode, self.n_rot)
        }
    }
}

fn vocabulary_size(header: &Header, keys: &Keys<'_>) -> Result<usize, ModelError> {
    if let Some(n) = keys.optional("vocab_size", 1 << 31)? {
        return if n > 0 { Ok(n) } else { Err(keys.value("vocab_size", n, "a vocabulary has at least one token")) };
    }
    if let Some(tokens) = keys.meta.strings("tokenizer.ggml.tokens")?
        && !tokens.is_empty()
    {
        return Ok(tokens.len());
    }
    let embedding = header.tensor("token_embd.weight").and_then(|t| t.shape.get(1).copied());
    embedding.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0).ok_or_else(|| ModelError::MissingTensor {
        name: "token_embd.weight".to_string(),
        expected: "[embedding, vocabulary]".to_string(),
        purpose: "the token embedding, which states the size of the vocabulary",
    })
}

fn rope_scaling(keys: &Keys<'_>) -> Result<RopeScaling, ModelError> {
    let factor = match keys.meta.f32(&keys.key("rope.scaling.factor"))? {
        Some(factor) => Some(("rope.scaling.factor", factor)),
        None => keys.meta.f32(&keys.key("rope.scale_linear"))?.map(|f| ("rope.scale_linear", f)),
    };
    let kind = keys.meta.str(&keys.key("rope.scaling.type"))?;
    // llama.cpp: a factor of 0 means that there is none; without a type the scaling is linear.
    let factor = match factor {
        Some((key, f)) if !f.is_finite() || f < 0.0 => return Err(keys.value(key, f, "a factor is positive")),
        Some((_, f)) if f > 0.0 => f,
        _ => 1.0,
    };
    match kind {
        Some("none") => Ok(RopeScaling::None),
        None | Some("linear") if factor == 1.0 => Ok(RopeScaling::None),
        None | Some("linear") => Ok(RopeScaling::Linear { factor }),
        Some("yarn") => Ok(RopeScaling::Yarn { factor }),
        Some(other) => Err(keys.value("rope.scaling.type", other, "known are none, linear and yarn")),
    }
}

/// Keys of one architecture.
struct Keys<'a> {
    meta: &'a Metadata,
    arch: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    fn has(&self, name: &str) -> bool {
        self.meta.get(&self.key(name)).is_some()
    }

    fn value(&self, name: &str, value: impl ToString, reason: impl Into<String>) -> ModelError {
        ModelError::Value { key: self.key(name), value: value.to_string(), reason: reason.into() }
    }

    /// A size from 1 to `max`.
    fn size(&self, name: &str, max: usize) -> Result<usize, ModelError> {
        let n = self.meta.require_usize(&self.key(name))?;
        if (1..=max).contains(&n) { Ok(n) } else { Err(self.value(name, n, format!("it must be from 1 to {max}"))) }
    }

    /// A size up to `max`, if there is one.
    fn optional(&self, name: &str, max: usize) -> Result<Option<usize>, ModelError> {
        match self.meta.usize(&self.key(name))? {
            Some(n) if n > max => Err(self.value(name, n, format!("it must be at most {max}"))),
            n => Ok(n),
        }
    }

    /// A size that some files state for each layer; all layers must agree.
    fn size_per_layer(&self, name: &str) -> Result<usize, ModelError> {
        let max = 1 << 24;
        if let Some(Value::Array(_)) = self.meta.get(&self.key(name)) {
            let sizes = self.meta.u32s(&self.key(name))?.unwrap_or_default();
            let first = sizes.first().copied().unwrap_or(0) as usize;
            if sizes.iter().any(|&n| n as usize != first) || first == 0 || first > max {
                return Err(self.value(name, format!("{sizes:?}"), "layers of different sizes are not supported yet"));
            }
            return Ok(first);
        }
        self.size(name, max)
    }

    fn number(
        &self,
        name: &str,
        default: Option<f32>,
        range: std::ops::RangeInclusive<f32>,
    ) -> Result<f32, ModelError> {
        let key = self.key(name);
        let x = match default {
            Some(default) => self.meta.f32(&key)?.unwrap_or(default),
            None => self.meta.require_f32(&key)?,
        };
        if range.contains(&x) {
            return Ok(x);
        }
        Err(self.value(name, x, format!("it must be from {} to {}", range.start(), range.end())))
    }
}
