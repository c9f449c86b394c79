//! Valid random graphs from a list of numbers: fewer and smaller numbers give smaller graphs, so that a failure shrinks.
//!
//! Values stay small (an estimate of the largest is kept), so that rounding differences do.

use rocmforge::graph::{Graph, Value};
use rocmforge::ops::*;
use rocmforge::tensor::{Bounds, DType, Dim, HostTensor, Shape, Sym};
use std::sync::Arc;

/// The graph that `script` describes.
pub fn random_graph(script: &[u16], bounds: Bounds) -> Graph {
    let mut g = Generator { graph: Graph::new("random", bounds), script, next: 0, pool: Vec::new(), attentions: 0 };
    let x = g.source("x", TensorType::f32(Shape::new(&[Dim::from(64), Sym::T.into()])));
    g.pool.push((x, 1.0));
    while g.next < g.script.len() && g.graph.len() < 80 {
        g.action();
    }
    let last = g.pool.last().expect("there is an input").0;
    g.output(last);
    g.graph
}

/// Whether the op rounds values to another type: a difference in the last bit before it may become a step.
pub fn rounds(op: &Op) -> bool {
    let rounding = |(name, value): &(&str, AttrValue)| *name == "activation" && value.to_string() != "f32";
    matches!(op, Op::Quantize(_)) || op.attrs().iter().any(rounding)
}

/// A user's op: the rows in reverse order.
#[derive(Debug)]
pub struct ReverseRows;

impl CustomOp for ReverseRows {
    fn name(&self) -> &str {
        "reverse_rows"
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        match operands {
            [x] if x.dtype == DType::F32 => Ok(Types::from_elem((*x).clone(), 1)),
            _ => Err(InferError::Arity { expected: "(x), f32".to_string(), found: operands.len() }),
        }
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let x = operands[0].f32s().ok_or(ReferenceError::Operand(0))?;
        let reversed = x.chunks(outs[0].ne[0].max(1)).rev().flatten().copied().collect();
        HostTensor::from_f32(outs[0].ne, reversed).map(|t| vec![t]).ok_or(ReferenceError::Operand(0))
    }
}

struct Generator<'a> {
    graph: Graph,
    script: &'a [u16],
    next: usize,
    /// f32 values with an estimate of their largest element.
    pool: Vec<(Value, f32)>,
    attentions: usize,
}

const LARGEST: f32 = 30.0;

impl Generator<'_> {
    /// The next number of the script, below `n`.
    fn pick(&mut self, n: usize) -> usize {
        let number = self.script.get(self.next).copied().unwrap_or(0) as usize;
        self.next += 1;
        number % n.max(1)
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.pick(one_in) == 1
    }

    /// A value of the pool, later ones more often.
    fn value(&mut self) -> (Value, f32) {
        let n = self.pool.len();
        let back = if self.chance(3) { self.pick(n) } else { self.pick(n.min(3)) };
        self.pool[n - 1 - back]
    }

    fn shape(&self, value: Value) -> Shape {
        self.graph.ty(value).shape.clone()
    }

    /// The value with the name, made where it is not there.
    fn source(&mut self, name: &str, ty: TensorType) -> Value {
        match self.graph.by_label(name) {
            Some(id) => Value::first(id),
            None => Value::first(self.graph.add(Input { ty }, &[], Some(name)).unwrap()),
        }
    }

    fn ids(&mut self, name: &str, len: Sym) -> Value {
        self.source(name, TensorType::i32(Shape::new(&[len])))
    }

    fn weight(&mut self, dtype: DType, dims: &[usize]) -> Value {
        let name = format!("w{}", self.graph.len());
        let ty = TensorType::new(dtype, Shape::new(dims));
        let weight = Value::first(self.graph.add(Weight { ty }, &[], Some(&name)).unwrap());
        if dtype == DType::F32 { weight } else { self.op(Dequantize {}, &[weight]) }
    }

    /// An op that is known to accept its operands.
    fn op(&mut self, op: impl Into<Op>, operands: &[Value]) -> Value {
        let label = self.chance(6).then(|| format!("l{}", self.graph.len()));
        Value::first(self.graph.add(op, operands, label.as_deref()).unwrap())
    }

    /// An op that may refuse its operands; then nothing happens.
    fn attempt(&mut self, op: impl Into<Op>, operands: &[Value], largest: f32) {
        if largest > LARGEST {
            return;
        }
        if let Ok(id) = self.graph.add(op, operands, None) {
            self.pool.push((Value::first(id), largest));
        }
    }

    fn action(&mut self) {
        match self.pick(23) {
            0 | 1 => self.linear(),
            2 => self.norm(),
            3 | 4 => self.sum(),
            5 => self.gated(),
            6 | 7 => self.attention(),
            8 => self.unary(),
            9 => {
                let (x, m) = self.value();
                let factor = [0.5, -1.0, 2.0, 1.0, -0.25][self.pick(5)];
                self.attempt(Scale { factor }, &[x], m * f32::abs(factor));
            }
            10 => self.binary(),
            11 => {
                let (x, m) = self.value();
                let axes = [[0, 2, 1, 3], [1, 0, 2, 3], [2, 0, 1, 3], [1, 2, 0, 3], [0, 1, 2, 3]][self.pick(5)];
                self.attempt(Permute { axes }, &[x], m);
            }
            12 => self.reshape(),
            13 => {
                let (x, m) = self.value();
                let dim = self.pick(3);
                let n = self.shape(x).dim(dim).fixed().unwrap_or(1);
                let len = 1 + self.pick(n);
                let start = self.pick(n - len + 1);
                self.attempt(Slice { dim, start, len }, &[x], m);
            }
            14 => {
                let (x, m) = self.value();
                self.attempt(Cont {}, &[x], m);
            }
            15 => {
                let ((a, m), (b, n)) = (self.value(), self.value());
                let dim = self.pick(3);
                self.attempt(Concat { dim }, &[a, b], m.max(n));
            }
            16 => {
                let (x, m) = self.value();
                let rows = self.ids("rows", Sym::R);
                self.attempt(GetRows {}, &[x, rows], m);
            }
            17 => {
                let (x, _) = self.value();
                match self.pick(3) {
                    0 => self.attempt(SoftMax {}, &[x], 1.0),
                    1 => self.attempt(LayerNorm { eps: 1e-2 }, &[x], 4.0),
                    _ => self.attempt(Op::Custom(Arc::new(ReverseRows)), &[x], 4.0),
                }
            }
            18 => {
                let ((a, m), (b, n)) = (self.value(), self.value());
                let k = self.shape(a).row().eval(&self.graph.bounds) as f32;
                self.attempt(Matmul {}, &[a, b], m * n * k.sqrt());
            }
            19 => {
                let (x, _) = self.value();
                let shape = self.shape(x);
                self.attempt(Constant { value: 0.75, shape }, &[], 0.75);
            }
            20 => self.repeat(),
            21 => self.full_attention(),
            _ => {
                let (x, _) = self.value();
                self.output(x);
            }
        }
    }

    fn linear(&mut self) {
        let (x, m) = self.value();
        let n = if self.chance(8) { 1024 } else { [16, 32, 64, 1, 24, 256][self.pick(6)] };
        let Some((mut y, m)) = self.product(x, m, n) else { return };
        if self.chance(4) {
            let kinds = [Activation::Gelu, Activation::Silu, Activation::Relu, Activation::Tanh, Activation::Neg];
            let kind = kinds[self.pick(kinds.len())];
            if self.chance(6) {
                self.pool.push((y, m));
            }
            y = self.op(Unary { kind }, &[y]);
        }
        self.pool.push((y, m));
        let (residual, r) = self.alike(y);
        if residual != y && self.chance(2) {
            let operands = if self.chance(2) { [y, residual] } else { [residual, y] };
            self.attempt(Add {}, &operands, m + r);
        }
    }

    /// The product with a new weight of `n` rows, perhaps with a bias.
    fn product(&mut self, x: Value, m: f32, n: usize) -> Option<(Value, f32)> {
        let style = self.style();
        self.product_in(style, x, m, n)
    }

    /// The type of a weight, and whether it has a bias, in f16 or not.
    fn style(&mut self) -> (DType, Option<DType>) {
        let types = [DType::F32, DType::F16, DType::Q8_0, DType::Bf16, DType::Q4_0, DType::Q6K];
        let dtype = types[self.pick(types.len())];
        let bias = self.chance(3).then(|| if self.chance(3) { DType::F16 } else { DType::F32 });
        (dtype, bias)
    }

    /// The product with a new weight of `n` rows of this type, perhaps with a bias.
    fn product_in(&mut self, style: (DType, Option<DType>), x: Value, m: f32, n: usize) -> Option<(Value, f32)> {
        let k = self.shape(x).row().fixed()?;
        let (dtype, bias) = style;
        let dtype = if k % dtype.block_len() == 0 { dtype } else { DType::F32 };
        let w = self.weight(dtype, &[k, n]);
        let mut y = self.op(Matmul {}, &[w, x]);
        if let Some(dtype) = bias {
            let bias = self.weight(dtype, &[n]);
            y = self.op(Add {}, &[y, bias]);
        }
        Some((y, m + 1.0))
    }

    fn norm(&mut self) {
        let (x, _) = self.value();
        let Some(k) = self.shape(x).row().fixed() else { return };
        let normed = self.op(RmsNorm { eps: 1e-2 }, &[x]);
        let dtype = if self.chance(3) { DType::F16 } else { DType::F32 };
        let w = self.weight(dtype, &[k]);
        let y = self.op(Mul {}, &[normed, w]);
        if self.chance(5) {
            self.pool.push((normed, 4.0));
        }
        self.pool.push((y, 4.0));
    }

    /// A value of the same type as `x`.
    fn alike(&mut self, x: Value) -> (Value, f32) {
        let ty = self.graph.ty(x);
        let same: Vec<_> = self.pool.iter().copied().filter(|(v, _)| self.graph.ty(*v) == ty).collect();
        same[self.pick(same.len())]
    }

    fn sum(&mut self) {
        let (a, m) = self.value();
        let (b, n) = self.alike(a);
        let operands = if self.chance(2) { [a, b] } else { [b, a] };
        self.attempt(Add {}, &operands, m + n);
    }

    fn gated(&mut self) {
        let ((gate, m), (up, n)) = if self.chance(2) {
            let (gate, m) = self.value();
            ((gate, m), self.alike(gate))
        } else {
            let ((x, m), n) = (self.value(), [32, 16, 48][self.pick(3)]);
            match (self.product(x, m, n), self.product(x, m, n)) {
                (Some(gate), Some(up)) => (gate, up),
                _ => return,
            }
        };
        if m * n > LARGEST {
            return;
        }
        let kind = [Activation::Silu, Activation::Gelu, Activation::Relu][self.pick(3)];
        let activated = self.op(Unary { kind }, &[gate]);
        let operands = if self.chance(2) { [activated, up] } else { [up, activated] };
        let y = self.op(Mul {}, &operands);
        if self.chance(6) {
            self.pool.push((activated, m));
        }
        self.pool.push((y, m * n));
    }

    fn unary(&mut self) {
        let (x, m) = self.value();
        let kind = Activation::ALL[self.pick(Activation::ALL.len())];
        let largest = match kind {
            Activation::Exp => m.exp(),
            Activation::Sqr => m * m,
            Activation::Sqrt => return, // the values are negative too
            _ => m,
        };
        self.attempt(Unary { kind }, &[x], largest);
    }

    fn binary(&mut self) {
        let (a, m) = self.value();
        let shape = self.shape(a);
        let fits = |v: Value| {
            let b = self.graph.ty(v).shape.dims4();
            shape.dims4().iter().zip(b).all(|(&x, y)| x == y || y == Dim::ONE)
        };
        let fitting: Vec<_> = self.pool.iter().copied().filter(|(v, _)| fits(*v)).collect();
        let (b, n) = fitting[self.pick(fitting.len())];
        match self.pick(5) {
            4 => {
                let b = self.op(Constant { value: -0.5, shape: Shape::new(&[1]) }, &[]);
                self.attempt(Mul {}, &[a, b], m);
            }
            0 => self.attempt(Mul {}, &[a, b], m * n),
            1 => self.attempt(Sub {}, &[a, b], m + n),
            2 => self.attempt(Add {}, &[a, b], m + n),
            _ => {
                let b = self.op(Constant { value: -1.5, shape: Shape::new(&[1]) }, &[]);
                self.attempt(Div {}, &[a, b], m);
            }
        }
    }

    /// Splits the rows, or joins the first two dimensions.
    fn reshape(&mut self) {
        let (x, m) = self.value();
        let [a, b, c, d] = self.shape(x).dims4();
        let shape = match (a, b, self.pick(3)) {
            (Dim::Fixed(a), Dim::Fixed(b), 0) => Some([Dim::Fixed(a * b), c, d, Dim::ONE]),
            (Dim::Fixed(a), _, n) if a % (2 << n) == 0 && d == Dim::ONE => {
                Some([Dim::Fixed(a / (2 << n)), Dim::Fixed(2 << n), b, c])
            }
            _ => None,
        };
        if let Some(shape) = shape {
            self.attempt(Reshape { shape: Shape::new(&shape) }, &[x], m);
        }
    }

    /// An op that is there already, once more.
    fn repeat(&mut self) {
        let ids = self.graph.ids();
        let id = ids[self.pick(ids.len())];
        let op = self.graph.node(id).op.clone();
        let m = self.pool.iter().find(|(v, _)| v.node == id).map(|p| p.1);
        if let (Some(m), false) = (m, op.is_source()) {
            let operands = self.graph.operands(id);
            self.attempt(op, &operands, m);
        }
    }

    /// Self-attention over a cache in one of many spellings.
    fn attention(&mut self) {
        let (x, m) = self.value();
        let shape = self.shape(x);
        if shape.rank() != 2 || shape.dim(1) != Dim::Sym(Sym::T) || shape.row().fixed().is_none() || self.attentions > 2
        {
            return;
        }
        let (d, dv, groups) = ([8, 16, 4][self.pick(3)], [8, 12][self.pick(2)], 1 + self.pick(2));
        let heads = groups * (1 + self.pick(2));
        let kv = [DType::F32, DType::F16, DType::Bf16][self.pick(3)];
        let layer = self.attentions;
        self.attentions += 1;
        let (slot, start) = (self.ids("kv_slot", Sym::T), self.ids("kv_start", Sym::T));
        let t = Dim::from(Sym::T);

        // Projections that become a group, or each in its own way.
        let alike = if self.chance(2) { Some(self.style()) } else { None };
        let style = alike.unwrap_or_else(|| self.style());
        let mut q = self.product_in(style, x, m, heads * d).expect("rows are fixed").0;
        q = self.op(Reshape { shape: Shape::new(&[d.into(), heads.into(), t]) }, &[q]);
        let mut cached = Vec::new();
        for (name, width) in [("k", d), ("v", dv)] {
            let style = alike.unwrap_or_else(|| self.style());
            let y = self.product_in(style, x, m, groups * width).expect("rows are fixed").0;
            let mut y = self.op(Reshape { shape: Shape::new(&[width.into(), groups.into(), t]) }, &[y]);
            if name == "k" && self.chance(2) {
                (q, y) = (self.rope(q, d), self.rope(y, d));
            }
            let shape = Shape::new(&[width.into(), Dim::from(Sym::S), groups.into()]);
            let state = State { ty: TensorType::new(kv, shape) };
            let label = format!("cache_{name}.{layer}");
            let state = Value::first(self.graph.add(state, &[], Some(&label)).unwrap());
            let appended = self.op(KvAppend {}, &[state, y, slot]);
            cached.push(if kv == DType::F32 { appended } else { self.op(Dequantize {}, &[appended]) });
        }
        let q = self.op(Permute { axes: [0, 2, 1, 3] }, &[q]);
        let scale = 1.0 / (d as f32).sqrt();
        let on_q = self.chance(3);
        let q = if on_q { self.op(Scale { factor: scale }, &[q]) } else { q };
        let mut scores = self.op(Matmul {}, &[cached[0], q]);
        if self.chance(3) {
            scores = self.op(Scale { factor: 0.5 }, &[scores]);
            scores = self.op(Unary { kind: Activation::Tanh }, &[scores]);
            scores = self.op(Scale { factor: 2.0 }, &[scores]);
        }
        let mask = KvMask { causal: !self.chance(4), window: [0, 0, 3][self.pick(3)] };
        let mut stages = [0, 1, 2];
        stages.rotate_left(self.pick(3));
        for stage in stages {
            scores = match stage {
                0 if !on_q => self.op(Scale { factor: scale }, &[scores]),
                1 => self.op(mask.clone(), &[scores, start, slot]),
                2 if self.chance(4) => {
                    let shape = Shape::new(&[Dim::from(Sym::S), t]);
                    let additive = self.source("mask", TensorType::f32(shape));
                    self.op(Add {}, &[scores, additive])
                }
                _ => scores,
            };
        }
        if self.chance(6) {
            self.graph.set_output(format!("scores{layer}"), scores);
        }
        let p = self.op(SoftMax {}, &[scores]);
        let v = self.op(Permute { axes: [1, 0, 2, 3] }, &[cached[1]]);
        let out = self.op(Matmul {}, &[v, p]);
        let out = self.op(Permute { axes: [0, 2, 1, 3] }, &[out]);
        let out = self.op(Cont {}, &[out]);
        let out = self.op(Reshape { shape: Shape::new(&[(heads * dv).into(), t]) }, &[out]);
        self.pool.push((out, m + 1.0));
    }

    /// Attention of all tokens to all tokens, without a cache.
    fn full_attention(&mut self) {
        let (x, m) = self.value();
        let shape = self.shape(x);
        if shape.rank() != 2 || shape.dim(1) != Dim::Sym(Sym::T) || shape.row().fixed().is_none() || self.attentions > 2
        {
            return;
        }
        self.attentions += 1;
        let (d, dv, groups) = ([8, 16, 4][self.pick(3)], [8, 12][self.pick(2)], 1 + self.pick(2));
        let heads = groups * (1 + self.pick(2));
        let t = Dim::from(Sym::T);
        let mut project = |width: usize, heads: usize| {
            let y = self.product(x, m, heads * width).expect("rows are fixed").0;
            self.op(Reshape { shape: Shape::new(&[width.into(), heads.into(), t]) }, &[y])
        };
        let (q, k, v) = (project(d, heads), project(d, groups), project(dv, groups));
        let scale = 1.0 / (d as f32).sqrt();
        let (on_q, on_k, divided) = (self.chance(3), self.chance(4), self.chance(3));
        let q = if on_q { self.op(Scale { factor: scale }, &[q]) } else { q };
        let q = self.op(Permute { axes: [0, 2, 1, 3] }, &[q]);
        let k = self.op(Permute { axes: [0, 2, 1, 3] }, &[k]);
        let k = if on_k { self.op(Scale { factor: 0.5 }, &[k]) } else { k };
        let mut scores = self.op(Matmul {}, &[k, q]);
        if divided {
            let root = self.op(Constant { value: 1.5, shape: Shape::new(&[1]) }, &[]);
            let product = self.chance(2);
            let op: Op = if product { Mul {}.into() } else { Div {}.into() };
            scores = self.op(op, &[scores, root]);
        }
        if self.chance(3) {
            let mask = self.source("full_mask", TensorType::f32(Shape::new(&[t, t])));
            scores = self.op(Add {}, &[scores, mask]);
        }
        if self.chance(6) {
            self.graph.set_output(format!("scores{}", self.attentions - 1), scores);
        }
        let p = self.op(SoftMax {}, &[scores]);
        let v = self.op(Permute { axes: [1, 2, 0, 3] }, &[v]);
        let v = if self.chance(4) { self.op(Cont {}, &[v]) } else { v };
        let out = self.op(Matmul {}, &[v, p]);
        let out = self.op(Permute { axes: [0, 2, 1, 3] }, &[out]);
        let out = self.op(Cont {}, &[out]);
        let out = self.op(Reshape { shape: Shape::new(&[(heads * dv).into(), t]) }, &[out]);
        self.pool.push((out, m + 1.0));
    }

    fn rope(&mut self, x: Value, d: usize) -> Value {
        let positions = self.ids("positions", Sym::T);
        let mode = [RopeMode::Norm, RopeMode::Neox][d / 8 % 2];
        self.op(Rope::new(mode, d), &[x, positions])
    }

    /// Declares an output; what is no result of its own is copied.
    fn output(&mut self, x: Value) {
        let op = &self.graph.node(x.node).op;
        let x = if op.is_view() || op.is_source() { self.op(Cont {}, &[x]) } else { x };
        self.graph.set_output(format!("y{}", self.graph.outputs().len()), x);
    }
}
