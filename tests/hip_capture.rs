//! A decode step that is captured once and replayed computes the bits of the same step submitted kernel by kernel, and tokens that the
//! device chooses are those of its own logits.
#![cfg(feature = "hip")]

mod support;

use rocmforge::backends::hip::HipBackend;
use rocmforge::backends::{Backend, DecodeRun, DeviceSampling, Program, States, WeightSource};
use rocmforge::graph::passes::PassOptions;
use rocmforge::graph::plan::{Plan, plan};
use rocmforge::models::gguf::Gguf;
use rocmforge::models::{GraphOptions, build};
use rocmforge::tensor::{Bounds, DType};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

struct File(Gguf);

impl WeightSource for File {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.tensor(name).map(|t| self.0.data(t))
    }
}

/// The logits after `token` at `position`.
fn step(program: &mut dyn Program, states: &mut dyn States, plan: &Plan, token: u32, position: usize) -> Vec<f32> {
    for (i, port) in plan.inputs.iter().enumerate() {
        let value = match port.name.as_str() {
            "tokens" => token as i32,
            "positions" | "kv_slot" => position as i32,
            _ => 0,
        };
        program.set_input(i, &value.to_ne_bytes()).unwrap();
    }
    let bounds = Bounds { t: 1, s: position + 1, r: 1 };
    program.run(states, &bounds, &AtomicBool::new(false)).unwrap();
    program.output(0).to_vec()
}

fn largest(logits: &[f32]) -> u32 {
    (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

fn compare(backend: &HipBackend, kv_type: DType, steps: usize) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/rocmforge-demo-q8_0.gguf");
    let source = Arc::new(File(Gguf::open(file).unwrap()));
    let bounds = Bounds { t: 1, s: 256, r: 1 };
    let graph = build(source.0.header(), &GraphOptions { bounds, kv_type }).unwrap();
    let plan = plan(&graph, bounds, backend.target(), &PassOptions::default()).unwrap();
    let weights = backend.load(&plan.weights, source, &mut |_| true).unwrap();
    let make = || (backend.lower(&plan, &weights).unwrap(), backend.states(&plan).unwrap());
    let ((mut captured, mut states), (mut single, mut other)) = (make(), make());
    // Steps that are timed are submitted one by one.
    single.set_profiling(true);
    let (mut token, mut chosen) = (1, Vec::new());
    for position in 0..steps {
        let logits = step(&mut *captured, &mut *states, &plan, token, position);
        assert_eq!(logits, step(&mut *single, &mut *other, &plan, token, position), "position {position}");
        assert!(single.step_times().len() == plan.steps.len());
        token = largest(&logits);
        chosen.push(token);
    }
    // The same tokens without the host in between, over a fresh cache.
    let (mut program, mut states) = make();
    let (cancel, mut found) = (AtomicBool::new(false), Vec::new());
    let run = DecodeRun { token: 1, position: 0, count: steps, sampling: DeviceSampling::GREEDY, cancel: &cancel };
    let given = program.decode_many(&mut *states, &run, &mut |id| {
        found.push(id);
        true
    });
    assert_eq!(given.expect("greedy decoding is the device's").unwrap(), steps);
    assert_eq!(found, chosen);
}

/// Sessions of several threads on one device take turns, also while one of them captures.
#[test]
fn programs_of_two_threads_do_not_meet() {
    for library in support::emulator::libraries().into_iter().flatten() {
        let backend = HipBackend::open_library(library).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| compare(&backend, DType::F16, 4));
            }
        });
    }
}

#[test]
fn captured_steps_are_the_steps() {
    for library in support::emulator::libraries().into_iter().flatten() {
        for kv_type in [DType::F16, DType::Q8_0] {
            compare(&HipBackend::open_library(library).unwrap(), kv_type, 12);
        }
    }
    if let Ok(backend) = HipBackend::open(None) {
        for kv_type in [DType::F16, DType::Q8_0] {
            compare(&backend, kv_type, 200);
        }
    }
}
