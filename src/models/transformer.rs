//! What decoder-only transformers share: inputs, attention over a KV cache, gated feed-forward, output head.

use super::{Config, GraphOptions, ModelError, RESIDUAL, WeightMap};
use crate::graph::{Builder, Graph, Value};
use crate::ops::{KvMask, RopeMode};
use crate::tensor::{DType, Dim, Shape, Sym};
use std::ops::Range;

/// The inputs of every model graph, as `models::build` and `models::build_part` list them.
pub struct Inputs {
    /// In a part of a model that does not begin it, the residual stream.
    pub tokens: Value,
    pub positions: Value,
    pub kv_slot: Value,
    pub kv_start: Value,
    /// In a part of a model that ends it.
    pub rows: Option<Value>,
}

/// A model under construction.
pub struct Transformer<'a> {
    pub b: Builder,
    pub inputs: Inputs,
    pub config: &'a Config,
    pub weights: &'a WeightMap<'a>,
    kv_type: DType,
    rope_mode: RopeMode,
    rope_factors: Option<Value>,
    embedding: Option<Value>,
    layers: Range<usize>,
}

impl<'a> Transformer<'a> {
    /// Declares the inputs of the part that has `layers`, and RoPE's frequency factors, where the file has them.
    pub fn new(
        config: &'a Config,
        weights: &'a WeightMap<'a>,
        options: &GraphOptions,
        layers: Range<usize>,
        rope_mode: RopeMode,
    ) -> Result<Transformer<'a>, ModelError> {
        let whole = layers == (0..config.n_layer);
        let name =
            if whole { config.name.clone() } else { format!("{} {}..{}", config.name, layers.start, layers.end) };
        let mut b = Builder::new(name, options.bounds);
        let mut ids = |name, len: Sym| b.input(name, DType::I32, Shape::new(&[len]));
        let tokens = (layers.start == 0).then(|| ids("tokens", Sym::T));
        let (positions, kv_slot, kv_start) =
            (ids("positions", Sym::T), ids("kv_slot", Sym::T), ids("kv_start", Sym::T));
        let rows = (layers.end == config.n_layer).then(|| ids("rows", Sym::R));
        let residual = || Shape::new(&[Dim::from(config.n_embd), Dim::from(Sym::T)]);
        let tokens = tokens.unwrap_or_else(|| b.input(RESIDUAL, DType::F32, residual()));
        let inputs = Inputs { tokens, positions, kv_slot, kv_start, rows };
        let rope_factors = if weights.has("rope_freqs.weight") {
            Some(weights.take_f32(
                &mut b,
                "rope_freqs.weight",
                config.n_rot / 2,
                "the factors of RoPE's frequencies",
            )?)
        } else {
            None
        };
        Ok(Transformer {
            b,
            inputs,
            config,
            weights,
            kv_type: options.kv_type,
            rope_mode,
            rope_factors,
            embedding: None,
            layers,
        })
    }

    /// What the first layer takes, f32[n_embd, T]: the embeddings of the tokens, or what the part before gives.
    pub fn start(&mut self) -> Result<Value, ModelError> {
        if self.layers.start > 0 {
            return Ok(self.inputs.tokens);
        }
        let table = self.embedding()?;
        let x = self.b.get_rows(table, self.inputs.tokens);
        Ok(self.b.label(x, "embedding"))
    }

    fn embedding(&mut self) -> Result<Value, ModelError> {
        if let Some(table) = self.embedding {
            return Ok(table);
        }
        let shape = [self.config.n_embd, self.config.n_vocab];
        let table = self.weights.take(&mut self.b, "token_embd.weight", &shape, "the token embedding")?;
        self.embedding = Some(table);
        Ok(table)
    }

    /// The graph, with the logits of what the last layer gives, or that itself for the part that follows.
    pub fn finish(mut self, x: Value) -> Result<Graph, ModelError> {
        match self.inputs.rows {
            Some(rows) => {
                let logits = self.head(x, rows)?;
                self.b.output("logits", logits);
            }
            None => self.b.output(RESIDUAL, x),
        }
        Ok(self.b.finish()?)
    }

    /// RMSNorm of `x` with the weight `name`.
    pub fn rms_norm(&mut self, x: Value, name: &str, purpose: &'static str) -> Result<Value, ModelError> {
        let weight = self.weights.take_f32(&mut self.b, &format!("{name}.weight"), self.config.n_embd, purpose)?;
        let normed = self.b.rms_norm(x, self.config.rms_eps);
        let scaled = self.b.mul(normed, weight);
        Ok(self.b.label(scaled, name))
    }

    /// W x, plus a bias if the file has one: `name`.weight `[inputs, outputs]`, `name`.bias `[outputs]`.
    pub fn linear(&mut self, x: Value, name: &str, outputs: usize, purpose: &'static str) -> Result<Value, ModelError> {
        let inputs = self.b.ty(x).shape.row().fixed().unwrap_or(0);
        let weight = self.weights.take(&mut self.b, &format!("{name}.weight"), &[inputs, outputs], purpose)?;
        let mut out = self.b.mul_mat(weight, x);
        let bias = format!("{name}.bias");
        if self.weights.has(&bias) {
            let bias = self.weights.take_f32(&mut self.b, &bias, outputs, "a bias")?;
            out = self.b.add(out, bias);
        }
        Ok(self.b.label(out, name))
    }

    /// Causal grouped-query self-attention of layer `layer` on the normed `x`, with its output projection.
    pub fn attention(&mut self, layer: usize, x: Value) -> Result<Value, ModelError> {
        let Config { n_head, n_head_kv, head_dim, head_dim_v, n_embd, .. } = *self.config;
        let t = Dim::from(Sym::T);
        let blk = format!("blk.{layer}");
        let q = self.linear(x, &format!("{blk}.attn_q"), n_head * head_dim, "the query projection")?;
        let k = self.linear(x, &format!("{blk}.attn_k"), n_head_kv * head_dim, "the key projection")?;
        let v = self.linear(x, &format!("{blk}.attn_v"), n_head_kv * head_dim_v, "the value projection")?;
        let rope = self.config.rope(self.rope_mode);
        let (positions, factors) = (self.inputs.positions, self.rope_factors);
        let (slot, start) = (self.inputs.kv_slot, self.inputs.kv_start);
        let b = &mut self.b;
        let q = b.reshape(q, &[head_dim.into(), n_head.into(), t]);
        let q = b.rope(q, positions, factors, rope.clone());
        let k = b.reshape(k, &[head_dim.into(), n_head_kv.into(), t]);
        let k = b.rope(k, positions, factors, rope);
        let v = b.reshape(v, &[head_dim_v.into(), n_head_kv.into(), t]);
        let cache = |width: usize| Shape::new(&[width.into(), Dim::from(Sym::S), n_head_kv.into()]);
        let k_cache = b.state(&format!("cache_k.{layer}"), self.kv_type, cache(head_dim));
        let k = b.kv_append(k_cache, k, slot);
        let v_cache = b.state(&format!("cache_v.{layer}"), self.kv_type, cache(head_dim_v));
        let v = b.kv_append(v_cache, v, slot);

        let q = b.permute(q, [0, 2, 1, 3]); // [head_dim, T, n_head]
        let scores = b.mul_mat(k, q); // [S, T, n_head]
        let scores = b.scale(scores, self.config.attention_scale);
        let scores = b.kv_mask(scores, start, slot, KvMask { causal: true, window: 0 });
        let p = b.soft_max(scores);
        let v = b.dequantize(v);
        let v = b.permute(v, [1, 0, 2, 3]); // [S, head_dim_v, n_head_kv]
        let out = b.mul_mat(v, p); // [head_dim_v, T, n_head]
        let out = b.permute(out, [0, 2, 1, 3]);
        let out = b.cont(out);
        let out = b.reshape(out, &[(n_head * head_dim_v).into(), t]);
        let out = b.label(out, &format!("{blk}.attention"));
        self.linear(out, &format!("{blk}.attn_output"), n_embd, "the output projection of attention")
    }

    /// SwiGLU feed-forward of layer `layer` on the normed `x`.
    pub fn swiglu(&mut self, layer: usize, x: Value) -> Result<Value, ModelError> {
        let Config { n_ff, n_embd, .. } = *self.config;
        let gate = self.linear(x, &format!("blk.{layer}.ffn_gate"), n_ff, "the gate of the feed-forward layer")?;
        let up =
            self.linear(x, &format!("blk.{layer}.ffn_up"), n_ff, "the upward projection of the feed-forward layer")?;
        let gate = self.b.silu(gate);
        let x = self.b.mul(gate, up);
        self.linear(x, &format!("blk.{layer}.ffn_down"), n_embd, "the downward projection of the feed-forward layer")
    }

    /// x + y.
    pub fn residual(&mut self, x: Value, y: Value, label: &str) -> Value {
        let sum = self.b.add(x, y);
        self.b.label(sum, label)
    }

    /// Selects the wanted rows, applies the output norm and the head (the embedding where the file has no `output.weight`).
    fn head(&mut self, x: Value, rows: Value) -> Result<Value, ModelError> {
        let rows = self.b.get_rows(x, rows);
        let x = self.rms_norm(rows, "output_norm", "the norm before the output head")?;
        if self.weights.has("output.weight") {
            return self.linear(x, "output", self.config.n_vocab, "the output head");
        }
        let embedding = self.embedding()?;
        let logits = self.b.mul_mat(embedding, x);
        Ok(self.b.label(logits, "output"))
    }
}
