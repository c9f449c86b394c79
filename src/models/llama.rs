//! `llama`: Llama 1–3, Mistral, Yi and what else uses their tensors. Pre-norm, RoPE on pairs (2i, 2i + 1), grouped-query
//! attention, SwiGLU (Touvron et al. 2023).

use super::transformer::Transformer;
use super::{Config, GraphOptions, ModelError, WeightMap};
use crate::graph::Graph;
use crate::ops::RopeMode;
use std::ops::Range;

/// The graph of a llama model.
pub fn build(
    config: &Config,
    weights: &WeightMap<'_>,
    options: &GraphOptions,
    layers: Range<usize>,
) -> Result<Graph, ModelError> {
    decoder(config, weights, options, layers, RopeMode::Norm)
}

/// The stack of layers; `qwen2` is the same but for RoPE's pairs and its biases.
pub fn decoder(
    config: &Config,
    weights: &WeightMap<'_>,
    options: &GraphOptions,
    layers: Range<usize>,
    rope_mode: RopeMode,
) -> Result<Graph, ModelError> {
    let mut m = Transformer::new(config, weights, options, layers.clone(), rope_mode)?;
    let mut x = m.start()?;
    for layer in layers {
        let normed = m.rms_norm(x, &format!("blk.{layer}.attn_norm"), "the norm before attention")?;
        let attention = m.attention(layer, normed)?;
        x = m.residual(x, attention, &format!("blk.{layer}.attn_residual"));
        let normed = m.rms_norm(x, &format!("blk.{layer}.ffn_norm"), "the norm before the feed-forward layer")?;
        let ffn = m.swiglu(layer, normed)?;
        x = m.residual(x, ffn, &format!("blk.{layer}.ffn_residual"));
    }
    m.finish(x)
}
