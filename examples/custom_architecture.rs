//! An architecture that the crate does not have, with an op that it does not have, on weights that come from no file: a graph is
//! built, planned, printed and run on the CPU. `cargo run --release --example custom_architecture`

use rocmforge::backends::cpu::CpuBackend;
use rocmforge::backends::{Backend, WeightSource};
use rocmforge::graph::passes::PassOptions;
use rocmforge::graph::plan::{plan, print};
use rocmforge::graph::{BuildError, Builder, Graph};
use rocmforge::ops::{BoundType, CustomOp, InferError, Op, ReferenceError, TensorType, Types};
use rocmforge::tensor::{Bounds, DType, Dim, HostTensor, Shape, Sym};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// out[:, t] = the mean of x[:, 0 … t]: each token sees itself and what precedes it.
#[derive(Debug)]
struct RunningMean;

impl CustomOp for RunningMean {
    fn name(&self) -> &str {
        "running_mean"
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        match operands {
            [x] if x.dtype == DType::F32 && x.shape.rank() <= 2 => Ok(Types::from_iter([(*x).clone()])),
            [x] => Err(InferError::operand("x", x, "an f32 matrix")),
            _ => Err(InferError::Arity { expected: "(x)".to_string(), found: operands.len() }),
        }
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let x = operands[0].f32s().ok_or(ReferenceError::Operand(0))?;
        let mut sum = vec![0.0; outs[0].ne[0]];
        let mut out = Vec::with_capacity(x.len());
        for (t, row) in x.chunks_exact(sum.len()).enumerate() {
            sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
            out.extend(sum.iter().map(|s| s / (t + 1) as f32));
        }
        Ok(vec![HostTensor::from_f32(outs[0].ne, out).ok_or(ReferenceError::Operand(0))?])
    }
}

const WIDTH: usize = 64;
const VOCABULARY: usize = 100;

fn build(bounds: Bounds) -> Result<Graph, BuildError> {
    let mut b = Builder::new("mean-pooling", bounds);
    let tokens = b.input("tokens", DType::I32, Shape::new(&[Sym::T]));
    let table = b.weight("embedding", DType::F16, Shape::new(&[WIDTH, VOCABULARY]));
    let x = b.get_rows(table, tokens);
    let mean = b.op(Op::Custom(Arc::new(RunningMean)), &[x]);
    let x = b.add(x, mean);
    let norm = b.weight("norm", DType::F32, Shape::new(&[Dim::from(WIDTH)]));
    let x = b.rms_norm(x, 1e-5);
    let x = b.mul(x, norm);
    let head = b.weight("head", DType::Q8_0, Shape::new(&[WIDTH, VOCABULARY]));
    let logits = b.mul_mat(head, x); // dequantize and matmul; a pass makes one step of them
    b.output("logits", logits);
    b.finish()
}

/// Weights by name, in the bytes of the types that the graph states.
struct OwnWeights(BTreeMap<&'static str, Vec<u8>>);

impl WeightSource for OwnWeights {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bounds = Bounds { t: 16, s: 1, r: 1 };
    let backend = CpuBackend::new(0)?;
    let plan = plan(&build(bounds)?, bounds, backend.target(), &PassOptions::default())?;
    print!("{}", print(&plan));

    let wave = |n: usize, f: f32| (0..n).map(|i| (i as f32 * f).sin()).collect::<Vec<_>>();
    let tensor = |dtype, ne: [usize; 4], f| HostTensor::quantized(dtype, ne, &wave(ne[0] * ne[1], f));
    let weights = OwnWeights(BTreeMap::from([
        ("embedding", tensor(DType::F16, [WIDTH, VOCABULARY, 1, 1], 0.7)?.bytes().into_owned()),
        ("norm", tensor(DType::F32, [WIDTH, 1, 1, 1], 0.1)?.bytes().into_owned()),
        ("head", tensor(DType::Q8_0, [WIDTH, VOCABULARY, 1, 1], 0.3)?.bytes().into_owned()),
    ]));
    let weights = backend.load(&plan.weights, Arc::new(weights), &mut |_| true)?;
    let mut states = backend.states(&plan)?; // none here
    let mut program = backend.lower(&plan, &weights)?;

    let tokens = [3i32, 14, 15, 92];
    program.set_input(0, &tokens.map(i32::to_le_bytes).concat())?;
    program.run(&mut *states, &Bounds { t: tokens.len(), ..bounds }, &AtomicBool::new(false))?;
    for (token, logits) in tokens.iter().zip(program.output(0).chunks_exact(VOCABULARY)) {
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
        println!("after token {token}: {best} ({:.3})", logits[best]);
    }
    Ok(())
}
