//! GGUF headers of models in real sizes, without their weights: all that graphs, plans and bills are made from.

use rocmforge::models::gguf::{Value, Writer};
use rocmforge::tensor::DType;
use std::path::{Path, PathBuf};

/// The sizes of a decoder-only transformer.
#[derive(Clone, Debug)]
pub struct Shape {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads, key and value heads, width of a head.
    pub heads: [usize; 3],
    /// Width of the feed-forward layer.
    pub ff: usize,
    /// Tokens.
    pub vocabulary: usize,
    /// Training context.
    pub context: u32,
    /// Biases on queries, keys and values.
    pub biases: bool,
    /// A head of its own.
    pub head: bool,
    /// Type of the matrices.
    pub dtype: DType,
    /// Layers whose `ffn_down` is Q6_K.
    pub finer: &'static [usize],
}

/// Llama 3.2 1B.
pub const LLAMA_1B: Shape = Shape {
    architecture: "llama",
    layers: 16,
    width: 2048,
    heads: [32, 8, 64],
    ff: 8192,
    vocabulary: 128_256,
    context: 131_072,
    biases: false,
    head: false,
    dtype: DType::Q4K,
    finer: &[],
};

/// Llama 3.1 8B.
pub const LLAMA_8B: Shape = Shape {
    layers: 32,
    width: 4096,
    heads: [32, 8, 128],
    ff: 14336,
    head: true,
    finer: &[0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31],
    ..LLAMA_1B
};

/// Qwen2.5 0.5B.
pub const QWEN_05B: Shape = Shape {
    architecture: "qwen2",
    layers: 24,
    width: 896,
    heads: [14, 2, 64],
    ff: 4864,
    vocabulary: 151_936,
    context: 32_768,
    biases: true,
    head: false,
    dtype: DType::Q8_0,
    finer: &[],
};

impl Shape {
    /// Writes the header into a folder.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, self.header(name)).unwrap();
        path
    }

    /// The bytes of the header.
    pub fn header(&self, name: &str) -> Vec<u8> {
        let mut w = Writer::new();
        w.set("general.architecture", Value::String(self.architecture.into())).unwrap();
        w.set("general.name", Value::String(name.trim_end_matches(".gguf").into())).unwrap();
        let [heads, kv_heads, head] = self.heads;
        let sizes = [
            ("block_count", self.layers as u32),
            ("embedding_length", self.width as u32),
            ("feed_forward_length", self.ff as u32),
            ("context_length", self.context),
            ("attention.head_count", heads as u32),
            ("attention.head_count_kv", kv_heads as u32),
            ("vocab_size", self.vocabulary as u32),
        ];
        for (key, size) in sizes {
            w.set(&format!("{}.{key}", self.architecture), Value::U32(size)).unwrap();
        }
        let eps = format!("{}.attention.layer_norm_rms_epsilon", self.architecture);
        w.set(&eps, Value::F32(1e-5)).unwrap();
        let mut add = |name: String, shape: &[usize], dtype: DType| {
            w.tensor(&name, dtype, &shape.iter().map(|&n| n as u64).collect::<Vec<_>>()).unwrap();
        };
        let (d, dtype) = (self.width, self.dtype);
        add("token_embd.weight".into(), &[d, self.vocabulary], dtype);
        for i in 0..self.layers {
            let mut add = |name: &str, shape: &[usize], dtype: DType| add(format!("blk.{i}.{name}"), shape, dtype);
            add("attn_norm.weight", &[d], DType::F32);
            for (name, out) in [("attn_q", heads), ("attn_k", kv_heads), ("attn_v", kv_heads)] {
                add(&format!("{name}.weight"), &[d, out * head], dtype);
                if self.biases {
                    add(&format!("{name}.bias"), &[out * head], DType::F32);
                }
            }
            add("attn_output.weight", &[heads * head, d], dtype);
            add("ffn_norm.weight", &[d], DType::F32);
            add("ffn_gate.weight", &[d, self.ff], dtype);
            add("ffn_up.weight", &[d, self.ff], dtype);
            let down = if self.finer.contains(&i) { DType::Q6K } else { dtype };
            add("ffn_down.weight", &[self.ff, d], down);
        }
        add("output_norm.weight".into(), &[d], DType::F32);
        if self.head {
            add("output.weight".into(), &[d, self.vocabulary], DType::Q6K);
        }
        let mut out = Vec::new();
        // The header is complete before the first weight is written; none is.
        drop(w.start(&mut out).unwrap());
        out
    }
}
