//! Properties of random graphs: their text goes around, passes keep their meaning, plans hold up to a checker that replays them, and
//! the CPU backend computes what the interpreter does in exactly the memory that the plan predicts.
//!
//! The graphs are the same in every run; `PROPTEST_CASES` asks for more of them.

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rocmforge::backends::cpu::{CpuBackend, CpuTarget};
use rocmforge::backends::null::NullBackend;
use rocmforge::backends::{Backend, Program, States, WeightSource};
use rocmforge::graph::passes::{self, Capabilities, Outcome, PASSES, PassOptions};
use rocmforge::graph::plan::{Place, Plan, check, plan};
use rocmforge::graph::text::{parse_with, print};
use rocmforge::graph::{Graph, Interpreter, Value, Values, verify};
use rocmforge::ops::CustomOps;
use rocmforge::tensor::{Bounds, DType};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use support::eager::Eager;
use support::random_graph::{ReverseRows, random_graph, rounds};
use support::values::{self, Bound, Sequence};

const BOUNDS: Bounds = Bounds { t: 4, s: 9, r: 2 };

/// Tries `property` on `graphs` random graphs with a seed for their values.
fn for_graphs(graphs: u32, property: impl Fn(&Graph, u64) -> Result<(), String>) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(graphs);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let scripts = (prop::collection::vec(any::<u16>(), 1..150), 0..1000u64);
    let outcome = TestRunner::new_with_rng(config, rng).run(&scripts, |(script, seed)| {
        let graph = random_graph(&script, BOUNDS);
        property(&graph, seed).map_err(|e| TestCaseError::fail(format!("{e}\n{}", print(&graph))))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn text<T, E: Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, a: T, b: T) -> Result<(), String> {
    if a == b { Ok(()) } else { Err(format!("{what}: {a:?} and {b:?}")) }
}

fn custom_ops() -> CustomOps {
    let mut ops = CustomOps::default();
    ops.insert(Arc::new(ReverseRows));
    ops
}

fn only_without(disabled: impl Fn(&str) -> bool) -> PassOptions {
    let disabled = PASSES.iter().map(|p| p.name()).filter(|p| disabled(p)).map(str::to_string).collect();
    PassOptions { disabled, stop_after: None }
}

#[test]
fn texts_go_around() {
    let custom = custom_ops();
    for_graphs(4000, |graph, _| {
        text(verify(graph))?;
        let once = print(graph);
        let again = text(parse_with(&once, &custom))?;
        same("text", &print(&again), &once)?;
        // After the passes ids have gaps, which reading closes.
        let mut fused = graph.clone();
        text(passes::run(&mut fused, &CpuTarget::new(1), &PassOptions::default()))?;
        let read = print(&text(parse_with(&print(&fused), &custom))?);
        same("fused text", &print(&text(parse_with(&read, &custom))?), &read)
    });
}

/// How far results may differ, relative to the largest value or 1: rounding only, unless a value is rounded to a cache or a quantized
/// row, where a difference in the last bit may become a step.
fn tolerance(graph: &Graph) -> f32 {
    let rounds = |id: &rocmforge::graph::NodeId| {
        let node = graph.node(*id);
        let caches = |out: usize| node.op.state_operand(out).is_some() && node.types[out].dtype != DType::F32;
        rounds(&node.op) || (0..node.types.len()).any(caches)
    };
    if graph.ids().iter().any(rounds) { 1e-2 } else { 1e-4 }
}

fn interpret(graph: &Graph, bound: &Bound, bounds: &Bounds) -> Result<Values, String> {
    let mut interpreter = Interpreter::new(graph, &bound.weights);
    for (name, value) in &bound.states {
        interpreter.set_state(name, value.clone());
    }
    text(interpreter.run(&bound.inputs, bounds))
}

fn compare(what: &str, found: &Values, truth: &Values, tolerance: f32) -> Result<(), String> {
    for (name, truth) in truth {
        let (found, truth) = (found[name].f32s().unwrap(), truth.f32s().unwrap());
        let difference = values::difference(&found, &truth);
        if difference > tolerance {
            return Err(format!("{what}: output {name} differs by {difference:e}\n{found:?}\n{truth:?}"));
        }
    }
    Ok(())
}

/// Without that, the other properties would say little.
#[test]
fn every_pass_is_applied_to_some_graph() {
    let seen = std::cell::RefCell::new(BTreeMap::new());
    for_graphs(1000, |graph, _| {
        let mut fused = graph.clone();
        let target = Eager(CpuTarget::new(1));
        for decision in text(passes::run(&mut fused, &target, &PassOptions::default()))? {
            let applied = matches!(decision.outcome, Outcome::Applied { .. });
            let mut seen = seen.borrow_mut();
            let counts: &mut [usize; 2] = seen.entry(decision.pass).or_default();
            counts[usize::from(applied)] += 1;
        }
        Ok(())
    });
    let seen = seen.into_inner();
    for pass in PASSES.iter().map(|p| p.name()).filter(|&p| p != "dead_nodes") {
        let [refused, applied] = seen.get(pass).copied().unwrap_or_default();
        eprintln!("{pass}: applied {applied}, refused {refused}");
        assert!(applied > 10, "{pass} is applied {applied} times: the generator makes too few graphs for it");
    }
}

#[test]
fn fused_graphs_mean_what_unfused_graphs_mean() {
    // A target without integer kernels: what quantizing changes is no defect.
    let target = Eager(NullBackend::default());
    for_graphs(600, |graph, seed| {
        let sequence = if seed % 2 == 0 { Sequence::One } else { Sequence::Two };
        let bounds = Bounds { t: 1 + seed as usize % 4, s: 5 + seed as usize % 5, r: 1 + seed as usize % 2 };
        let bound = values::bind(graph, &bounds, seed, sequence);
        let truth = interpret(graph, &bound, &bounds)?;
        let none = PASSES.iter().map(|p| Some(p.name()));
        for without in none.chain([None]) {
            let mut fused = graph.clone();
            text(passes::run(&mut fused, &target, &only_without(|p| Some(p) == without)))?;
            let what = without.map_or("all passes".to_string(), |p| format!("all passes but {p}"));
            compare(&what, &interpret(&fused, &bound, &bounds)?, &truth, tolerance(graph))?;
        }
        Ok(())
    });
}

/// Replays a plan on an arena of tags: each granule knows which value of which buffer was written last, and each step must find the values that the
/// graph says it reads. Proves lifetimes, offsets and in-place reuse at once.
fn replay(graph: &Graph, plan: &Plan) -> Result<(), String> {
    // What a view is a view of.
    let base = |mut value: Value| {
        while graph.node(value.node).op.is_view() {
            value = graph.operands(value.node)[0];
        }
        value
    };
    let granule = plan.arena.alignment;
    let mut tags: Vec<Option<(Value, Place)>> = vec![None; plan.arena.bytes.div_ceil(granule)];
    let range = |place: &Place| match place {
        Place::Arena(b) => {
            let buffer = &plan.buffers[b.index()];
            Some(buffer.offset / granule..(buffer.offset + buffer.bytes).div_ceil(granule))
        }
        _ => None,
    };
    let expect = |tags: &[Option<(Value, Place)>], what: String, place: &Place, value: Value| {
        let Some(range) = range(place) else { return Ok(()) };
        let wrong = tags[range].iter().find(|&&tag| tag != Some((base(value), *place)));
        wrong.map_or(Ok(()), |tag| Err(format!("{what} reads {value} and finds {tag:?}")))
    };
    for port in &plan.inputs {
        let range = range(&port.operand.place).ok_or("an input outside the arena")?;
        if tags[range.clone()].iter().any(Option::is_some) {
            return Err(format!("input {} overlaps another", port.name));
        }
        tags[range].fill(Some((port.operand.value, port.operand.place)));
    }
    for (i, step) in plan.steps.iter().enumerate() {
        for operand in &step.operands {
            expect(&tags, format!("step {i}"), &operand.place, operand.value)?;
        }
        let mut written: Vec<std::ops::Range<usize>> = Vec::new();
        for result in &step.results {
            let Some(range) = range(&result.place) else { continue };
            if written.iter().any(|w| w.start < range.end && range.start < w.end) {
                return Err(format!("step {i} writes two results to one place"));
            }
            // A copy that the planner added has the value that it copies, in another place.
            tags[range.clone()].fill(Some((base(result.value), result.place)));
            written.push(range);
        }
        // What a step reads it may overwrite only where it says so.
        for (slot, operand) in step.operands.iter().enumerate() {
            let Some(range) = range(&operand.place) else { continue };
            let hit = written.iter().any(|w| w.start < range.end && range.start < w.end);
            if hit && step.in_place != Some(slot) {
                return Err(format!("step {i} overwrites operand {slot}"));
            }
        }
    }
    for port in &plan.outputs {
        expect(&tags, format!("output {}", port.name), &port.operand.place, port.operand.value)?;
    }
    Ok(())
}

/// The largest sum of bytes that live at one step, from the plan's lifetimes alone.
fn live_bytes(plan: &Plan) -> usize {
    let aligned = |bytes: usize| bytes.next_multiple_of(plan.arena.alignment);
    let at = |s: usize| plan.buffers.iter().filter(|b| b.first <= s && s <= b.last).map(|b| aligned(b.bytes)).sum();
    (0..=plan.steps.len()).map(at).max().unwrap_or(0)
}

#[test]
fn plans_hold_up_to_the_checkers() {
    for_graphs(6000, |graph, seed| {
        let bounds = Bounds { t: 1 + seed as usize % 40, s: 40 + seed as usize % 300, r: 1 + seed as usize % 3 };
        let target = CpuTarget::new(1 + seed as usize % 4);
        let options = match seed % 3 {
            0 => PassOptions::default(),
            1 => only_without(|_| true),
            _ => only_without(|p| p.len() % 2 == seed as usize / 3 % 2),
        };
        let mut fused = graph.clone();
        fused.bounds = bounds;
        text(passes::run(&mut fused, &target, &options))?;
        let plan = text(plan(graph, bounds, &target, &options))?;
        text(check(&plan))?;
        replay(&fused, &plan)?;
        same("lower bound", plan.arena.lower_bound, live_bytes(&plan))?;
        if plan.arena.bytes < plan.arena.lower_bound {
            return Err("the arena is smaller than its lower bound".to_string());
        }
        same("arena", plan.bill.arena, plan.arena.bytes)
    });
}

/// The checker finds what it is there to find: two buffers that live at once are moved onto each other.
#[test]
fn the_checkers_find_overlaps() {
    let (found, replayed, tried) = (std::cell::Cell::new(0), std::cell::Cell::new(0), std::cell::Cell::new(0));
    for_graphs(300, |graph, _| {
        let target = CpuTarget::new(1);
        let mut fused = graph.clone();
        text(passes::run(&mut fused, &target, &PassOptions::default()))?;
        let mut plan = text(plan(graph, BOUNDS, &target, &PassOptions::default()))?;
        let n = plan.buffers.len();
        let pairs = (0..n).flat_map(|a| (0..n).map(move |b| (a, b)));
        let together = |(a, b): &(usize, usize)| {
            let (a, b) = (&plan.buffers[*a], &plan.buffers[*b]);
            // Read, after the other was written.
            a.first < b.first && b.first < a.last && a.last < plan.steps.len() && b.bytes > 0 && a.bytes > 0
        };
        if let Some((a, b)) = pairs.into_iter().find(together) {
            plan.buffers[b].offset = plan.buffers[a].offset;
            plan.arena.bytes = plan.buffers.iter().map(|b| b.offset + b.bytes).max().unwrap_or(0);
            tried.set(tried.get() + 1);
            found.set(found.get() + usize::from(check(&plan).is_err()));
            replayed.set(replayed.get() + usize::from(replay(&fused, &plan).is_err()));
        }
        Ok(())
    });
    assert!(tried.get() > 50, "only {} plans have two buffers that live at once", tried.get());
    assert_eq!((found.get(), replayed.get()), (tried.get(), tried.get()));
}

struct Weights(Values);

impl WeightSource for Weights {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        match self.0.get(name)?.bytes() {
            std::borrow::Cow::Borrowed(bytes) => Some(bytes),
            std::borrow::Cow::Owned(_) => None,
        }
    }
}

/// A graph lowered for a backend, in the memory that its plan predicts.
struct Lowered {
    plan: Plan,
    program: Box<dyn Program>,
    states: Box<dyn States>,
}

impl Lowered {
    fn new(backend: &dyn Backend, graph: &Graph, options: &PassOptions, bound: &Bound) -> Result<Lowered, String> {
        let plan = text(plan(graph, graph.bounds, backend.target(), options))?;
        let source = Arc::new(Weights(bound.weights.clone()));
        let weights = text(backend.load(&plan.weights, source, &mut |_| true))?;
        let states = text(backend.states(&plan))?;
        let program = text(backend.lower(&plan, &weights))?;
        let allocated = program.allocated();
        same("weights", weights.allocated(), plan.bill.weights)?;
        same("caches", states.bytes(), plan.bill.kv)?;
        same("arena and scratch", (allocated.arena, allocated.scratch), (plan.bill.arena, plan.bill.scratch))?;
        Ok(Lowered { plan, program, states })
    }

    fn run(&mut self, inputs: &Values, bounds: &Bounds) -> Result<BTreeMap<String, Vec<f32>>, String> {
        for (i, port) in self.plan.inputs.iter().enumerate() {
            text(self.program.set_input(i, &inputs[&port.name].bytes()))?;
        }
        text(self.program.run(&mut *self.states, bounds, &AtomicBool::new(false)))?;
        let outputs = self.plan.outputs.iter().enumerate();
        Ok(outputs.map(|(i, port)| (port.name.clone(), self.program.output(i).to_vec())).collect())
    }
}

/// Three steps over one cache, as prefill and decode would.
#[test]
fn the_cpu_computes_what_the_interpreter_does() {
    let backend = CpuBackend::new(2).unwrap();
    for_graphs(1500, |graph, seed| {
        // Steps of many and of few tokens are planned differently.
        let mut graph = graph.clone();
        graph.bounds = if seed % 3 == 0 { Bounds { t: 12, s: 16, r: 2 } } else { BOUNDS };
        let graph = &graph;
        let options = if seed % 4 == 0 { only_without(|_| true) } else { PassOptions::default() };
        let weights = values::bind(graph, &graph.bounds, seed, Sequence::One);
        let weights = Bound { states: Values::new(), ..weights }; // caches begin empty
        let mut lowered = Lowered::new(&backend, graph, &options, &weights)?;
        let mut fused = graph.clone();
        // Integer kernels read quantized activations: so does the truth.
        let needed = ["dequantize_matmul", "quantize_activations"];
        let without = |p: &str| !needed.contains(&p) || options.disabled.iter().any(|d| d == p);
        text(passes::run(&mut fused, backend.target(), &only_without(without)))?;
        let mut interpreter = Interpreter::new(&fused, &weights.weights);
        let steps = [(1 + seed as usize % 4, 6), (1, 7), (2, BOUNDS.s)];
        for (i, (t, s)) in steps.into_iter().enumerate() {
            let bounds = Bounds { t, s, r: 1 + i % 2 };
            let sequence = if seed % 2 == 0 { Sequence::One } else { Sequence::Two };
            let inputs = values::bind(graph, &bounds, seed + 1 + i as u64, sequence).inputs;
            let truth = text(interpreter.run(&inputs, &bounds))?;
            for (name, found) in lowered.run(&inputs, &bounds)? {
                let truth = truth[&name].f32s().unwrap();
                let difference = values::difference(&found, &truth);
                if difference > tolerance(&fused) {
                    return Err(format!(
                        "step {i} at {bounds}: {name} differs by {difference:e}\n{found:?}\n{truth:?}"
                    ));
                }
            }
        }
        Ok(())
    });
}

#[test]
fn the_target_without_integer_kernels_has_none() {
    assert_eq!(NullBackend::default().activation_type(DType::Q8_0, 1024, 1), DType::F32);
}
