//! From a file to a graph: GGUF, hyperparameters, the weight map, and one file an architecture.
//!
//! [`build`] makes the graph of a GGUF file from its header alone; no weight is read.

#[cfg(feature = "bundled-model")]
pub mod bundled;
mod config;
mod error;
pub mod gguf;
mod llama;
pub mod quantize;
mod qwen2;
pub mod synthetic;
mod transformer;
mod weights;

pub use config::{Config, RopeScaling};
pub use error::ModelError;
pub use weights::WeightMap;

use crate::graph::Graph;
use crate::tensor::{Bounds, DType};
use gguf::Header;
use std::ops::Range;

/// What a graph is built for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphOptions {
    /// The largest number of tokens, KV positions and output rows.
    pub bounds: Bounds,
    /// Element type of the KV cache: f32, f16, bf16, or q8_0 where 32 divides the sizes of heads.
    pub kv_type: DType,
}

/// Builds an architecture's graph, or that of some of its layers.
type BuildFn = fn(&Config, &WeightMap<'_>, &GraphOptions, Range<usize>) -> Result<Graph, ModelError>;

/// Architectures by the name in `general.architecture`.
const ARCHITECTURES: &[(&str, BuildFn)] = &[("llama", llama::build), ("qwen2", qwen2::build)];

/// Names of the architectures there are.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    ARCHITECTURES.iter().map(|a| a.0)
}

/// The graph of a model, written in the plainest ops.
///
/// Inputs, all i32: `tokens[T]`, `positions[T]` (for RoPE), `kv_slot[T]` (the cache row that a token fills), `kv_start[T]` (the first
/// cache row of the token's sequence), `rows[R]` (tokens whose logits are wanted). Output: `logits: f32[vocabulary, R]`.
///
/// # Errors
/// If the architecture is unknown, a key or tensor is missing or of the wrong type or shape, or heads are no whole blocks of the
/// cache's type.
pub fn build(header: &Header, options: &GraphOptions) -> Result<Graph, ModelError> {
    build_layers(header, options, usize::MAX)
}

/// The name of what a stage that does not end the model hands to the next one: f32\[n_embd, T\], the residual stream.
pub const RESIDUAL: &str = "residual";

/// The part of a model's graph that has the layers in `layers`, for a model that runs on several devices.
///
/// A part that begins with layer 0 takes `tokens`, others the input [`RESIDUAL`]; a part that ends with the last layer takes `rows`
/// and gives `logits`, others give the output [`RESIDUAL`]. The caches are those of its layers.
///
/// # Errors
/// As [`build`], and if there are no such layers.
pub fn build_part(header: &Header, options: &GraphOptions, layers: Range<usize>) -> Result<Graph, ModelError> {
    let config = Config::read(header)?;
    if layers.start > layers.end || layers.end > config.n_layer {
        let reason = format!("the model has {} layers, not {}..{}", config.n_layer, layers.start, layers.end);
        return Err(ModelError::Unsupported(reason));
    }
    build_range(&config, header, options, layers)
}

fn build_range(
    config: &Config,
    header: &Header,
    options: &GraphOptions,
    layers: Range<usize>,
) -> Result<Graph, ModelError> {
    let entry = ARCHITECTURES.iter().find(|a| a.0 == config.architecture);
    let (_, build) = entry.ok_or_else(|| ModelError::UnknownArchitecture { name: config.architecture.clone() })?;
    let block = options.kv_type.block_len();
    if let Some(d) = [config.head_dim, config.head_dim_v].into_iter().find(|d| !d.is_multiple_of(block)) {
        let kv = options.kv_type;
        let reason = format!(
            "a KV cache of {kv} needs heads of a multiple of {block} elements, this model's have {d}: take f16"
        );
        return Err(ModelError::Unsupported(reason));
    }
    build(config, &WeightMap::new(header), options, layers)
}

/// As [`build`], with at most `layers` layers: the head then follows the last of them. Such a graph says nothing sensible, but
/// has all kinds of steps of the whole one.
///
/// # Errors
/// As [`build`].
pub fn build_layers(header: &Header, options: &GraphOptions, layers: usize) -> Result<Graph, ModelError> {
    let mut config = Config::read(header)?;
    config.n_layer = config.n_layer.min(layers);
    build_range(&config, header, options, 0..config.n_layer)
}
