//! Every op's cases on every backend against the op's scalar reference: one table of backends, one of cases.

mod support;

use rocmforge::backends::cpu::{CpuBackend, Level};
#[cfg(feature = "hip")]
use rocmforge::backends::hip::HipBackend;
use rocmforge::backends::{Backend, BackendError, WeightSource};
use rocmforge::graph::passes::{PASSES, PassOptions};
use rocmforge::graph::plan::{check, plan};
use rocmforge::graph::{Graph, Interpreter, Value, Values};
use rocmforge::ops::{Case, Fill, Input, Op, State, TensorType, Weight};
use rocmforge::tensor::{Bounds, DType, HostTensor};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

struct Weights(Values);

impl WeightSource for Weights {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        // The values are kept as bytes, so this borrows.
        match self.0.get(name)?.bytes() {
            std::borrow::Cow::Borrowed(bytes) => Some(bytes),
            std::borrow::Cow::Owned(_) => None,
        }
    }
}

/// The case as a graph with its values.
struct Built {
    graph: Graph,
    weights: Values,
    inputs: Values,
    states: Values,
    bounds: Bounds,
}

fn value(ty: &TensorType, fill: &Fill, bounds: &Bounds, seed: u64) -> HostTensor {
    let ne = ty.shape.eval(bounds);
    let n = ne.iter().product();
    match fill {
        Fill::Ints(values) => HostTensor::from_i32(ne, values.iter().copied().cycle().take(n).collect()).unwrap(),
        Fill::Uniform => HostTensor::quantized(ty.dtype, ne, &support::uniform(seed, n)).unwrap(),
    }
}

fn build(case: &Case) -> Built {
    let mut graph = Graph::new("case", case.bounds);
    let (mut weights, mut inputs, mut states) = (Values::new(), Values::new(), Values::new());
    let mut operands = Vec::new();
    for (i, operand) in case.operands.iter().enumerate() {
        let name = format!("x{i}");
        let ty = operand.ty.clone();
        let value = value(&ty, &operand.fill, &case.bounds, 7 + i as u64);
        let appended = (0..3).any(|out| case.op.state_operand(out) == Some(i));
        let cache = appended || matches!((&case.op, i), (Op::Attention(_), 1 | 2));
        let op: Op = if operand.weight {
            weights.insert(name.clone(), value);
            Weight { ty }.into()
        } else if cache {
            states.insert(name.clone(), value);
            State { ty }.into()
        } else {
            inputs.insert(name.clone(), value);
            Input { ty }.into()
        };
        operands.push(Value::first(graph.add(op, &[], Some(&name)).unwrap()));
    }
    let node = graph.add(case.op.clone(), &operands, Some("op")).unwrap();
    for out in 0..graph.node(node).types.len() as u8 {
        let mut value = Value { node, out };
        if graph.ty(value).dtype != DType::F32 {
            value = Value::first(graph.add(rocmforge::ops::Dequantize {}, &[value], None).unwrap());
        }
        if graph.node(value.node).op.is_view() || graph.node(value.node).op.state_operand(value.out.into()).is_some() {
            value = Value::first(graph.add(rocmforge::ops::Cont {}, &[value], None).unwrap());
        }
        graph.set_output(format!("y{out}"), value);
    }
    Built { graph, weights, inputs, states, bounds: case.bounds }
}

/// Runs a graph on a backend with the passes switched off or on.
fn run(backend: &dyn Backend, built: &Built, fuse: bool) -> Option<Vec<Vec<f32>>> {
    let disabled = if fuse { Vec::new() } else { PASSES.iter().map(|p| p.name().to_string()).collect() };
    let options = PassOptions { disabled, stop_after: None };
    let plan = plan(&built.graph, built.bounds, backend.target(), &options).unwrap();
    check(&plan).unwrap();
    let source = Arc::new(Weights(built.weights.clone()));
    let weights = backend.load(&plan.weights, source, &mut |_| true).unwrap();
    assert_eq!(weights.allocated(), plan.bill.weights, "predicted and allocated weights differ");
    let mut states = backend.states(&plan).unwrap();
    assert_eq!(states.bytes(), plan.bill.kv, "predicted and allocated caches differ");
    let mut program = match backend.lower(&plan, &weights) {
        Ok(program) => program,
        Err(error) if on_purpose(&error) => return None,
        Err(error) => panic!("{error}"),
    };
    let allocated = program.allocated();
    assert_eq!((allocated.arena, allocated.scratch), (plan.bill.arena, plan.bill.scratch));
    for (name, value) in &built.states {
        let index = plan.states.iter().position(|s| s.name == *name).unwrap();
        states.write(index, &value.bytes()).unwrap();
    }
    for (i, port) in plan.inputs.iter().enumerate() {
        program.set_input(i, &built.inputs[&port.name].bytes()).unwrap();
    }
    program.run(&mut *states, &built.bounds, &AtomicBool::new(false)).unwrap();
    Some((0..plan.outputs.len()).map(|i| program.output(i).to_vec()).collect())
}

/// What backends refuse on purpose, and say so. Devices: int8 blocks in memory, which their kernels make on the way in, activations of bf16,
/// and caches of blocks in the kernel of Q, K and V, where plans for them have a step of its own for that. The CPU: the fusion that only devices make.
fn on_purpose(error: &BackendError) -> bool {
    let BackendError::Unsupported { backend, reason, .. } = error else { return false };
    if backend == "cpu" {
        reason.contains("only devices")
    } else {
        reason.contains("q8_a")
            || reason.contains("rounded to bf16")
            || reason.contains("activations, not bf16")
            || reason.contains("which rope_kv_append stores")
    }
}

fn backends() -> Vec<(String, Box<dyn Backend>)> {
    let mut all: Vec<(String, Box<dyn Backend>)> = Vec::new();
    for level in Level::available() {
        for threads in [1, 3] {
            let backend = CpuBackend::with_level(threads, level).unwrap();
            all.push((format!("cpu {level} {threads} threads"), Box::new(backend)));
        }
    }
    #[cfg(feature = "hip")]
    all.extend(devices());
    all
}

/// The device backend on emulated devices, with waves of 32 and of 64 lanes, and on a GPU where there is one.
#[cfg(feature = "hip")]
fn devices() -> Vec<(String, Box<dyn Backend>)> {
    let mut all: Vec<(String, Box<dyn Backend>)> = Vec::new();
    for library in support::emulator::libraries().into_iter().flatten() {
        let backend = HipBackend::open_library(library).unwrap();
        all.push((library.file_stem().unwrap().to_str().unwrap().to_string(), Box::new(backend)));
    }
    if let Ok(backend) = HipBackend::open(None) {
        all.push((backend.device().name, Box::new(backend)));
    }
    all
}

#[test]
fn every_op_agrees_with_its_reference() {
    let cases = Op::all_cases();
    for (name, backend) in backends() {
        for case in &cases {
            let mut built = build(case);
            // An integer kernel reads quantized activations: the graph says so, and the reference does the same.
            let mut disabled: Vec<String> = PASSES.iter().map(|p| p.name().to_string()).collect();
            disabled.retain(|p| p != "quantize_activations");
            let options = PassOptions { disabled, stop_after: None };
            rocmforge::graph::passes::run(&mut built.graph, backend.target(), &options).unwrap();
            let mut interpreter = Interpreter::new(&built.graph, &built.weights);
            for (state, value) in &built.states {
                interpreter.set_state(state, value.clone());
            }
            let truth = interpreter.run(&built.inputs, &built.bounds).unwrap();
            let halves = multiplies_halves(&built.graph) || (!name.starts_with("cpu") && attends_in_tiles(&name, case));
            let tolerance = case.tolerance.max(if halves { HALVES } else { 0.0 });
            let case = &case.clone().tolerance(tolerance);
            for (i, found) in run(&*backend, &built, false).iter().flatten().enumerate() {
                let truth = truth[&format!("y{i}")].f32s().unwrap();
                compare(&name, case, found, &truth);
            }
        }
    }
}

/// Matrix units multiply halves: where a backend wants f16 activations, the weights become f16 too, each to within 2⁻¹¹ (its block's scale
/// and the product each to within 2⁻¹¹ where a type has scales).
const HALVES: f32 = 1.0 / 1024.0;

/// Whether a weight is multiplied with f16 activations.
fn multiplies_halves(graph: &Graph) -> bool {
    let halves = |id, slot: usize| graph.ty(graph.operands(id)[slot]).dtype == DType::F16;
    graph.topological().into_iter().any(|id| match &graph.node(id).op {
        Op::QMatmul(_) => halves(id, 1),
        Op::QMatmulGroup(_) | Op::GluQMatmul(_) => halves(id, 0),
        _ => false,
    })
}

/// Whether it is attention of many tokens whose queries, probabilities and (of q8_0) values matrix units take as halves: AMD's
/// and the emulator's for a cache of f16 and the head sizes that there are tiles for.
fn attends_in_tiles(backend: &str, case: &Case) -> bool {
    if !matches!(case.op, Op::Attention(_) | Op::FullAttention(_)) || case.bounds.t <= 8 {
        return false;
    }
    let [d, d_v] = [1, 2].map(|i| case.operands[i].ty.shape.dim(0).fixed());
    let sizes = d == d_v && [64, 80, 96, 128, 256].map(Some).contains(&d);
    match case.operands[1].ty.dtype {
        DType::F16 => sizes,
        DType::Bf16 | DType::Q8_0 => sizes && backend.contains("NVIDIA"),
        _ => false,
    }
}

fn compare(backend: &str, case: &Case, found: &[f32], truth: &[f32]) {
    assert_eq!(found.len(), truth.len(), "{backend}: {:?}", case.op);
    let largest = truth.iter().filter(|x| x.is_finite()).fold(1e-30f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(truth).enumerate() {
        let same = a == b || (a - b).abs() <= case.tolerance * largest;
        assert!(same, "{backend}: {:?}\n  element {i} is {a}, the reference gives {b}\n  {:?}", case.op, case.operands);
    }
}

/// A result must not depend on how many tokens stand beside its token, nor on the number of threads.
#[test]
fn qmatmul_is_bit_identical_for_any_number_of_tokens_and_threads() {
    let cases = Op::all_cases().into_iter().filter(|c| matches!(c.op, Op::QMatmul(_)) && c.bounds.t == 19);
    for case in cases {
        for level in Level::available() {
            let whole = run(&CpuBackend::with_level(1, level).unwrap(), &build(&case), true).unwrap().remove(0);
            assert_eq!(
                whole,
                run(&CpuBackend::with_level(3, level).unwrap(), &build(&case), true).unwrap()[0],
                "{:?}",
                case.operands
            );
            let mut one = build(&case);
            one.bounds.t = 1;
            let [k, n] = [0, 1].map(|i| case.operands[0].ty.shape.dim(i).fixed().unwrap());
            let all = one.inputs["x1"].f32s().unwrap().into_owned();
            for t in [0, 7, 18] {
                let dtype = case.operands[1].ty.dtype;
                let token = HostTensor::quantized(dtype, [k, 1, 1, 1], &all[t * k..][..k]).unwrap();
                one.inputs.insert("x1".to_string(), token);
                let alone = run(&CpuBackend::with_level(1, level).unwrap(), &one, true).unwrap().remove(0);
                assert_eq!(alone, whole[t * n..][..n], "token {t} at {level}: {:?}", case.operands[0].ty);
            }
        }
    }
}

/// Many threads also divide the tokens.
#[test]
fn products_of_many_tokens_are_bit_identical_for_any_number_of_threads() {
    let product = |c: &Case| matches!(c.op, Op::QMatmul(_) | Op::QMatmulGroup(_) | Op::GluQMatmul(_));
    for mut case in Op::all_cases().into_iter().filter(product) {
        case.bounds.t = 200;
        let built = build(&case);
        let alone = run(&CpuBackend::new(1).unwrap(), &built, true).unwrap();
        for threads in [2, 3, 6] {
            let found = run(&CpuBackend::new(threads).unwrap(), &built, true).unwrap();
            let same = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(alone.iter().zip(&found).all(same), "{threads} threads: {:?}, {:?}", case.op, case.operands);
        }
    }
}

/// Threads take tokens where each has a slot of its own, in order, and heads elsewhere: of two tokens for one slot the last one stays.
#[test]
fn appends_are_bit_identical_for_any_number_of_threads() {
    const TOKENS: usize = 24;
    let appends = |c: &Case| matches!(c.op, Op::KvAppend(_) | Op::RopeKvAppend(_));
    let orders: [fn(i32) -> i32; 3] = [|t| t + 3, |t| TOKENS as i32 - t, |t| t / 2];
    for mut case in Op::all_cases().into_iter().filter(appends) {
        case.bounds = Bounds { t: TOKENS, s: 40, r: 1 };
        let mut built = build(&case);
        let slots = if matches!(case.op, Op::KvAppend(_)) { "x2" } else { "x6" };
        for order in orders {
            let values = (0..TOKENS as i32).map(order).collect();
            built.inputs.insert(slots.to_string(), HostTensor::from_i32([TOKENS, 1, 1, 1], values).unwrap());
            let alone = run(&CpuBackend::new(1).unwrap(), &built, true).unwrap();
            let mut interpreter = Interpreter::new(&built.graph, &built.weights);
            for (state, value) in &built.states {
                interpreter.set_state(state, value.clone());
            }
            let truth = interpreter.run(&built.inputs, &built.bounds).unwrap();
            for (i, found) in alone.iter().enumerate() {
                compare("cpu", &case, found, &truth[&format!("y{i}")].f32s().unwrap());
            }
            for threads in [2, 3, 5] {
                let found = run(&CpuBackend::new(threads).unwrap(), &built, true).unwrap();
                assert!(alone == found, "{threads} threads: {:?}, {:?}", case.op, case.operands);
            }
        }
    }
}

/// Nor may attention's, whether threads take heads or share the cache of one.
#[test]
fn attention_is_bit_identical_for_any_number_of_threads() {
    let attends = |c: &Case| matches!(c.op, Op::Attention(_) | Op::FullAttention(_));
    let mut shared = 0;
    for case in Op::all_cases().into_iter().filter(attends) {
        let built = build(&case);
        // Positions enough for several partitions.
        shared += usize::from(case.bounds.s >= 700);
        for level in Level::available() {
            let alone = run(&CpuBackend::with_level(1, level).unwrap(), &built, true).unwrap();
            for threads in [2, 3, 7] {
                let found = run(&CpuBackend::with_level(threads, level).unwrap(), &built, true).unwrap();
                let same = alone[0].iter().zip(&found[0]).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{threads} threads at {level}: {:?}", case.operands);
            }
        }
    }
    assert!(shared >= 3, "no case is long enough for a cache to be shared");
}
