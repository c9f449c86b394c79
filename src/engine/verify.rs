//! The differential check: does the fused program compute what the model means?
//!
//! Three comparisons on random inputs, each of which names the first node that differs: the graph after all passes against the
//! unfused graph, the graph after each pass alone against the unfused graph (all by the ops' scalar references), and the
//! backend's program, step by step, against the references of the graph that it was lowered from.

use super::placement::open_device;
use super::{DeviceChoice, EngineError};
use crate::backends::{Backend, WeightSource};
use crate::graph::passes::{PASSES, PassOptions, run};
use crate::graph::plan::plan;
use crate::graph::{Graph, InterpretError, Interpreter, NodeId, Value, Values, WeightValues};
use crate::models::gguf::Gguf;
use crate::models::{GraphOptions, build_layers};
use crate::ops::{BoundType, Cont, Dequantize, Op};
use crate::tensor::{Bounds, DType, HostTensor};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What to check.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// Layers of the model; more take longer and add no new kinds of steps.
    pub layers: usize,
    /// Tokens of the step; 1 checks the decode program.
    pub tokens: usize,
    /// Seed of the random tokens.
    pub seed: u64,
    /// What runs the program: with `Auto` the CPU.
    pub device: DeviceChoice,
    /// Whether the CPU reads weights in the file instead of repacking them.
    pub no_repack: bool,
    /// Largest allowed difference between two graphs, relative to the largest absolute value of the node's result.
    pub graph_tolerance: f32,
    /// The same between the program and the references. Integer kernels round activations: a last bit that differs before the
    /// rounding may become a step of 1/127 of a block after it.
    pub program_tolerance: f32,
}

impl Default for VerifyOptions {
    fn default() -> VerifyOptions {
        VerifyOptions {
            layers: 2,
            tokens: 5,
            seed: 1,
            device: DeviceChoice::Cpu,
            no_repack: false,
            graph_tolerance: 2e-4,
            program_tolerance: 2e-2,
        }
    }
}

/// The outcome of one comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What was compared.
    pub what: String,
    /// Sites where the passes applied, or steps that were compared.
    pub sites: usize,
    /// Largest relative difference of all nodes that both sides have.
    pub largest: f32,
    /// The first node beyond the tolerance with its relative difference.
    pub first_difference: Option<(String, f32)>,
}

struct File<'a>(&'a Gguf);

impl WeightValues for File<'_> {
    fn weight(&self, name: &str, ty: &BoundType) -> Option<HostTensor> {
        HostTensor::from_bytes(ty.dtype, ty.ne, self.0.data(self.0.tensor(name)?))
    }
}

struct Owned(Arc<Gguf>);

impl WeightSource for Owned {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.tensor(name).map(|t| self.0.data(t))
    }
}

/// Results by node; what a fusion leaves keeps its id.
type Results = HashMap<Value, HostTensor>;

/// Runs all comparisons on a file; `progress` is told what comes next.
///
/// # Errors
/// If the file holds no model that we can build, or the backend cannot run it.
pub fn verify(
    gguf: Gguf,
    options: &VerifyOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Verdict>, EngineError> {
    let gguf = Arc::new(gguf);
    let n = options.tokens.max(1);
    let bounds = Bounds { t: n, s: n, r: n };
    let build_options = GraphOptions { bounds, kv_type: DType::F32 };
    let unfused = build_layers(gguf.header(), &build_options, options.layers.max(1))?;
    let backend = open_device(options.device, options.no_repack)?;
    let inputs = inputs(&unfused, &bounds, options.seed);
    let failed = |e: InterpretError| EngineError::Option { name: "verify", reason: e.to_string() };
    progress("the unfused graph by the references");
    let truth = interpret(&unfused, &gguf, &inputs, &bounds).map_err(failed)?;

    let mut verdicts = Vec::new();
    let all = PASSES.iter().map(|p| p.name().to_string());
    let mut plans = vec![("all passes".to_string(), PassOptions::default())];
    for pass in PASSES {
        // A pass that works on what another leaves needs that one before it.
        let needs = ["dequantize_matmul", "rms_norm_mul", "glu", "attention", "group_matmuls", "glu_matmul"];
        let disabled =
            all.clone().filter(|name| name != pass.name() && !needs_before(pass.name(), name, &needs)).collect();
        plans.push((format!("pass {} alone", pass.name()), PassOptions { disabled, stop_after: None }));
    }
    for (what, passes) in plans {
        progress(&what);
        let mut graph = unfused.clone();
        let log = run(&mut graph, &Exact, &passes).map_err(crate::graph::plan::PlanError::from)?;
        let sites = log.iter().filter(|d| matches!(d.outcome, crate::graph::passes::Outcome::Applied { .. })).count();
        let found = interpret(&graph, &gguf, &inputs, &bounds).map_err(failed)?;
        verdicts.push(compare(what, sites, &graph, &found, &truth, options.graph_tolerance));
    }
    progress("the program, step by step");
    verdicts.push(check_program(&*backend, &gguf, &unfused, &inputs, &bounds, options)?);
    Ok(verdicts)
}

/// References do not round activations, so that graphs can be compared closely.
struct Exact;

impl crate::graph::passes::Capabilities for Exact {
    fn activation_type(&self, _: DType, _: usize, _: usize) -> DType {
        DType::F32
    }
}

/// Whether `name` must run for `pass` to find something.
fn needs_before(pass: &str, name: &str, known: &[&str]) -> bool {
    let needs: &[&str] = match pass {
        "matmul_bias" | "matmul_residual" | "group_matmuls" | "quantize_activations" => &["dequantize_matmul"],
        "glu_matmul" => &["dequantize_matmul", "glu"],
        "add_rms_norm" => &["rms_norm_mul"],
        "rope_append" | "view_elimination" => &["attention"],
        _ => &[],
    };
    needs.contains(&name) && known.contains(&name)
}

fn interpret(graph: &Graph, gguf: &Gguf, inputs: &Values, bounds: &Bounds) -> Result<Results, InterpretError> {
    let mut results = Results::new();
    let weights = File(gguf);
    Interpreter::new(graph, &weights).run_each(inputs, bounds, &mut |value, tensor| {
        let op = &graph.node(value.node).op;
        if !op.is_source() && !op.appends() && !matches!(op, Op::Dequantize(_)) {
            results.insert(value, tensor.clone());
        }
    })?;
    Ok(results)
}

/// Random tokens at consecutive positions.
fn inputs(graph: &Graph, bounds: &Bounds, seed: u64) -> Values {
    let mut random = Pcg64::seed_from_u64(seed);
    let vocabulary = graph.outputs().first().and_then(|(_, v)| graph.ty(*v).shape.row().fixed()).unwrap_or(1);
    let n = bounds.t;
    let vector = |values: Vec<i32>| HostTensor::from_i32([values.len(), 1, 1, 1], values);
    let counting: Vec<i32> = (0..n as i32).collect();
    let tokens = (0..n).map(|_| random.random_range(0..vocabulary) as i32).collect();
    [
        ("tokens", tokens),
        ("positions", counting.clone()),
        ("kv_slot", counting.clone()),
        ("kv_start", vec![0; n]),
        ("rows", counting),
    ]
    .into_iter()
    .filter_map(|(name, values)| Some((name.to_string(), vector(values)?)))
    .collect()
}

/// Largest difference relative to the largest absolute value; infinite if one side has NaN.
fn difference(a: &HostTensor, b: &HostTensor) -> f32 {
    let (Some(a), Some(b)) = (a.f32s(), b.f32s()) else { return f32::INFINITY };
    let size = b.iter().filter(|x| x.is_finite()).fold(1e-20f32, |m, x| m.max(x.abs()));
    let of = |(x, y): (&f32, &f32)| if x == y || (x.is_nan() && y.is_nan()) { 0.0 } else { (x - y).abs() / size };
    a.iter().zip(b.iter()).map(of).fold(0.0, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) })
}

fn compare(what: String, sites: usize, graph: &Graph, found: &Results, truth: &Results, tolerance: f32) -> Verdict {
    let mut verdict = Verdict { what, sites, largest: 0.0, first_difference: None };
    for id in graph.topological() {
        for out in 0..graph.node(id).types.len() as u8 {
            let value = Value { node: id, out };
            let (Some(a), Some(b)) = (found.get(&value), truth.get(&value)) else { continue };
            if a.ne() == b.ne() {
                verdict.note(difference(a, b), tolerance, || graph.describe(id));
            }
        }
    }
    verdict
}

impl Verdict {
    fn note(&mut self, difference: f32, tolerance: f32, name: impl Fn() -> String) {
        self.largest = self.largest.max(difference);
        if difference > tolerance && self.first_difference.is_none() {
            self.first_difference = Some((name(), difference));
        }
    }
}

/// Every f32 result of the fused graph as an output of the program, against the references of the same graph.
fn check_program(
    backend: &dyn Backend,
    gguf: &Arc<Gguf>,
    unfused: &Graph,
    inputs: &Values,
    bounds: &Bounds,
    options: &VerifyOptions,
) -> Result<Verdict, EngineError> {
    let mut graph = unfused.clone();
    run(&mut graph, backend.target(), &PassOptions::default()).map_err(crate::graph::plan::PlanError::from)?;
    let failed = |reason: String| EngineError::Option { name: "verify", reason };
    let truth = interpret(&graph, gguf, inputs, bounds).map_err(|e| failed(e.to_string()))?;
    let mut watched: Vec<(NodeId, Value)> = Vec::new();
    for id in graph.topological() {
        let node = graph.node(id);
        let skip =
            node.op.is_source() || node.op.is_view() || node.op.appends() || matches!(node.op, Op::Dequantize(_));
        for out in 0..node.types.len() as u8 {
            let value = Value { node: id, out };
            if skip || !truth.contains_key(&value) {
                continue;
            }
            let shown = match graph.ty(value).dtype {
                DType::F32 => value,
                _ => Value::first(graph.add(Dequantize {}, &[value], None).map_err(|e| failed(e.to_string()))?),
            };
            let copy = graph.add(Cont {}, &[shown], None).map_err(|e| failed(e.to_string()))?;
            graph.set_output(format!("watch {value}"), Value::first(copy));
            watched.push((id, value));
        }
    }
    let disabled = PASSES.iter().map(|p| p.name().to_string()).collect();
    let plan = plan(&graph, *bounds, backend.target(), &PassOptions { disabled, stop_after: None })?;
    let source: Arc<dyn WeightSource> = Arc::new(Owned(Arc::clone(gguf)));
    let weights = backend.load(&plan.weights, source, &mut |_| true)?;
    let mut states = backend.states(&plan)?;
    let mut program = backend.lower(&plan, &weights)?;
    for (i, port) in plan.inputs.iter().enumerate() {
        if let Some(value) = inputs.get(&port.name) {
            program.set_input(i, &value.bytes())?;
        }
    }
    program.run(&mut *states, bounds, &AtomicBool::new(false))?;
    let what = format!("the {} program against the references", backend.device().id);
    let mut verdict = Verdict { what, sites: watched.len(), largest: 0.0, first_difference: None };
    for (id, value) in watched {
        let name = format!("watch {value}");
        let Some(index) = plan.outputs.iter().position(|p| p.name == name) else { continue };
        let (found, truth) = (program.output(index), &truth[&value]);
        let found =
            HostTensor::from_f32(truth.ne(), found.to_vec()).ok_or_else(|| failed(format!("{name}: no result")))?;
        verdict.note(difference(&found, truth), options.program_tolerance, || graph.describe(id));
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::text::parse;

    #[test]
    fn the_first_node_that_differs_is_named() {
        let text = r#"graph "g" (T <= 2) {
            n0 "x" = input : f32[4, T]
            n1 "double" = scale(n0) {factor=2}
            n2 "squares" = unary(n1) {kind=sqr}
            output "y" = n2
        }"#;
        let graph = parse(text).unwrap();
        let inputs = Values::from([("x".to_string(), HostTensor::from_f32([4, 2, 1, 1], vec![1.0; 8]).unwrap())]);
        let weights = Values::new();
        let mut truth = Results::new();
        let bounds = Bounds { t: 2, s: 1, r: 1 };
        let mut keep = |value, tensor: &HostTensor| drop(truth.insert(value, tensor.clone()));
        Interpreter::new(&graph, &weights).run_each(&inputs, &bounds, &mut keep).unwrap();
        let same = compare("same".into(), 0, &graph, &truth, &truth, 1e-6);
        assert_eq!((same.largest, same.first_difference), (0.0, None));

        let mut broken = truth.clone();
        for label in ["double", "squares"] {
            let value = Value::first(graph.by_label(label).unwrap());
            broken.insert(value, HostTensor::from_f32([4, 2, 1, 1], vec![f32::NAN; 8]).unwrap());
        }
        let verdict = compare("broken".into(), 0, &graph, &broken, &truth, 1e-6);
        let (node, difference) = verdict.first_difference.unwrap();
        assert!(node.contains("double") && difference.is_infinite(), "{node} {difference}");
    }
}
