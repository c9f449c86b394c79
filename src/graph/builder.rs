//! [`Builder`]: writes a graph in ggml's vocabulary. It keeps the first error, so that a model reads as a list of ops.

use super::{EditError, Graph, Value};
use crate::ops::{
    Activation, Add, Constant, Cont, Dequantize, GetRows, Input, KvAppend, KvMask, LayerNorm, Matmul, Mul, Op, Permute,
    Reshape, RmsNorm, Rope, Scale, Slice, SoftMax, State, TensorType, Unary, Weight,
};
use crate::tensor::{Bounds, DType, Dim, Shape};

/// Why a graph could not be built: the first op that did not accept its operands.
pub type BuildError = EditError;

/// Builds a [`Graph`] op by op. After an error every further call returns the same placeholder; [`Builder::finish`] tells.
#[derive(Debug)]
pub struct Builder {
    graph: Graph,
    error: Option<BuildError>,
    prefix: String,
}

impl Builder {
    /// A builder of an empty graph.
    pub fn new(name: impl Into<String>, bounds: Bounds) -> Builder {
        Builder { graph: Graph::new(name, bounds), error: None, prefix: String::new() }
    }

    /// The graph, or the first error.
    pub fn finish(self) -> Result<Graph, BuildError> {
        match self.error {
            None => Ok(self.graph),
            Some(error) => Err(error),
        }
    }

    /// Labels that follow start with `prefix`, e.g. `blk.3.`.
    pub fn set_prefix(&mut self, prefix: impl Into<String>) {
        self.prefix = prefix.into();
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> TensorType {
        if self.error.is_some() {
            return TensorType::f32(Shape::new(&[1]));
        }
        self.graph.ty(value).clone()
    }

    /// Any op.
    pub fn op(&mut self, op: impl Into<Op>, operands: &[Value]) -> Value {
        self.push(op.into(), operands, None)
    }

    /// Labels the node of `value`.
    pub fn label(&mut self, value: Value, label: &str) -> Value {
        if self.error.is_none() {
            self.graph.set_label(value.node, format!("{}{label}", self.prefix));
        }
        value
    }

    /// A value that each run binds.
    pub fn input(&mut self, name: &str, dtype: DType, shape: Shape) -> Value {
        self.push(Input { ty: TensorType::new(dtype, shape) }.into(), &[], Some(name))
    }

    /// A tensor of the model file, by its full name.
    pub fn weight(&mut self, name: &str, dtype: DType, shape: Shape) -> Value {
        self.push(Weight { ty: TensorType::new(dtype, shape) }.into(), &[], Some(name))
    }

    /// A tensor that outlives a run.
    pub fn state(&mut self, name: &str, dtype: DType, shape: Shape) -> Value {
        self.push(State { ty: TensorType::new(dtype, shape) }.into(), &[], Some(name))
    }

    /// A tensor of one value.
    pub fn constant(&mut self, value: f32, shape: Shape) -> Value {
        self.op(Constant { value, shape }, &[])
    }

    /// Rows of `table` by `ids`.
    pub fn get_rows(&mut self, table: Value, ids: Value) -> Value {
        self.op(GetRows {}, &[table, ids])
    }

    /// `a` as f32; `a` itself if it is.
    pub fn dequantize(&mut self, a: Value) -> Value {
        if self.ty(a).dtype == DType::F32 { a } else { self.op(Dequantize {}, &[a]) }
    }

    /// ggml's `mul_mat`: weights or caches of any type are dequantized first.
    pub fn mul_mat(&mut self, a: Value, b: Value) -> Value {
        let a = self.dequantize(a);
        self.op(Matmul {}, &[a, b])
    }

    /// a + b.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.op(Add {}, &[a, b])
    }

    /// a · b.
    pub fn mul(&mut self, a: Value, b: Value) -> Value {
        self.op(Mul {}, &[a, b])
    }

    /// factor · a.
    pub fn scale(&mut self, a: Value, factor: f32) -> Value {
        self.op(Scale { factor }, &[a])
    }

    /// Root-mean-square normalisation.
    pub fn rms_norm(&mut self, a: Value, eps: f32) -> Value {
        self.op(RmsNorm { eps }, &[a])
    }

    /// Normalisation to mean 0 and variance 1.
    pub fn norm(&mut self, a: Value, eps: f32) -> Value {
        self.op(LayerNorm { eps }, &[a])
    }

    /// x · σ(x).
    pub fn silu(&mut self, a: Value) -> Value {
        self.op(Unary { kind: Activation::Silu }, &[a])
    }

    /// The tanh form of GELU.
    pub fn gelu(&mut self, a: Value) -> Value {
        self.op(Unary { kind: Activation::Gelu }, &[a])
    }

    /// Rotary position embedding.
    pub fn rope(&mut self, a: Value, positions: Value, factors: Option<Value>, rope: Rope) -> Value {
        match factors {
            Some(factors) => self.op(rope, &[a, positions, factors]),
            None => self.op(rope, &[a, positions]),
        }
    }

    /// Appends `x` to a KV cache.
    pub fn kv_append(&mut self, state: Value, x: Value, slots: Value) -> Value {
        self.op(KvAppend {}, &[state, x, slots])
    }

    /// Hides the positions of a KV cache that a token must not see.
    pub fn kv_mask(&mut self, scores: Value, kv_start: Value, kv_slot: Value, mask: KvMask) -> Value {
        self.op(mask, &[scores, kv_start, kv_slot])
    }

    /// Softmax over rows.
    pub fn soft_max(&mut self, a: Value) -> Value {
        self.op(SoftMax {}, &[a])
    }

    /// Another shape.
    pub fn reshape<D: Into<Dim> + Copy>(&mut self, a: Value, dims: &[D]) -> Value {
        self.op(Reshape { shape: Shape::new(dims) }, &[a])
    }

    /// Dimension `i` becomes dimension `axes[i]`.
    pub fn permute(&mut self, a: Value, axes: [usize; 4]) -> Value {
        self.op(Permute { axes }, &[a])
    }

    /// A range of one dimension.
    pub fn slice(&mut self, a: Value, dim: usize, start: usize, len: usize) -> Value {
        self.op(Slice { dim, start, len }, &[a])
    }

    /// A contiguous copy.
    pub fn cont(&mut self, a: Value) -> Value {
        self.op(Cont {}, &[a])
    }

    /// Declares an output.
    pub fn output(&mut self, name: &str, value: Value) {
        if self.error.is_none() {
            self.graph.set_output(name, value);
        }
    }

    fn push(&mut self, op: Op, operands: &[Value], label: Option<&str>) -> Value {
        let placeholder = Value::first(super::NodeId(0));
        if self.error.is_some() {
            return placeholder;
        }
        match self.graph.add(op, operands, label) {
            Ok(id) => Value::first(id),
            Err(error) => {
                self.error = Some(error);
                placeholder
            }
        }
    }
}
