//! `qwen2`: Qwen 1.5, 2 and 2.5. Llama's stack with biases on the query, key and value projections and RoPE on pairs
//! (i, i + n/2) (Yang et al. 2024).

use super::{Config, GraphOptions, ModelError, WeightMap, llama};
use crate::graph::Graph;
use crate::ops::RopeMode;
use std::ops::Range;

/// The graph of a qwen2 model.
pub fn build(
    config: &Config,
    weights: &WeightMap<'_>,
    options: &GraphOptions,
    layers: Range<usize>,
) -> Result<Graph, ModelError> {
    for layer in layers.clone() {
        for (part, outputs) in [
            ("attn_q", config.n_head * config.head_dim),
            ("attn_k", config.n_head_kv * config.head_dim),
            ("attn_v", config.n_head_kv * config.head_dim_v),
        ] {
            let name = format!("blk.{layer}.{part}.bias");
            if !weights.has(&name) {
                let purpose = "the bias of a query, key or value projection";
                return Err(ModelError::MissingTensor { name, expected: format!("[{outputs}]"), purpose });
            }
        }
    }
    llama::decoder(config, weights, options, layers, RopeMode::Neox)
}
