//! Models on an emulated GPU and on the CPU with it: the CPU's numbers, the predicted memory, and life after too little of it.
#![cfg(feature = "hip")]

mod support;

use rocmforge::backends::Backend;
use rocmforge::backends::cpu::CpuBackend;
use rocmforge::backends::hip::HipBackend;
use rocmforge::engine::{KvType, Model, ModelData, Session, SessionOptions, Stage, layers_bill, layers_that_fit};
use rocmforge::graph::passes::PassOptions;
use rocmforge::models::synthetic::Synthetic;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use support::emulator;

const LAYERS: usize = 4;

fn data(name: &str) -> Arc<dyn ModelData> {
    Arc::new(Synthetic::new(name).unwrap())
}

fn cpu() -> Arc<dyn Backend> {
    Arc::new(CpuBackend::new(1).unwrap())
}

fn gpu(library: &Path) -> Arc<dyn Backend> {
    Arc::new(HipBackend::open_library(library).unwrap())
}

/// The last `n` layers on the device.
fn model(data: &Arc<dyn ModelData>, device: &Arc<dyn Backend>, n: usize) -> Model {
    let mut stages = vec![
        Stage { backend: cpu(), layers: 0..LAYERS - n },
        Stage { backend: Arc::clone(device), layers: LAYERS - n..LAYERS },
    ];
    stages.retain(|stage| !stage.layers.is_empty());
    Model::on_stages(Arc::clone(data), stages, None, &PassOptions::default(), &mut |_| true).unwrap()
}

fn options() -> SessionOptions {
    SessionOptions { context: 64, chunk: 8, kv_type: KvType::F32, ..SessionOptions::default() }
}

/// Logits after a prompt in chunks and after each of some decoded tokens.
fn numbers(session: &mut Session) -> Vec<Vec<f32>> {
    let ids: Vec<u32> = (0..19).map(|i| (i * 37) % 1000).collect();
    session.truncate(0);
    session.prefill(&ids, &mut |_, _| ()).unwrap();
    let mut found = vec![session.logits().to_vec()];
    for id in [5, 6, 7] {
        found.push(session.decode(id).unwrap().to_vec());
    }
    assert_eq!(session.memory_of_stages(), session.allocated_of_stages());
    found
}

/// The largest difference relative to the largest logit.
fn difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    let most = a.iter().flatten().fold(0.0f32, |m, x| m.max(x.abs()));
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.fold(0.0f32, |m, (a, b)| if a.is_finite() && b.is_finite() { m.max((a - b).abs()) } else { f32::INFINITY })
        / most
}

#[test]
fn layers_on_a_device_give_the_numbers_of_the_cpu() {
    let Some(libraries) = emulator::libraries() else { return };
    for library in libraries {
        let device = gpu(library);
        // F16 weights leave f32 activations as they are; Q8_0 rounds them to 8 bits on both sides.
        for (mix, allowed) in [("F16", 2e-3), ("Q8_0", 3e-2)] {
            let data = data(&format!("tiny:{mix}"));
            let whole = numbers(&mut Session::new(&model(&data, &cpu(), LAYERS), &options()).unwrap());
            for n in [1, 3, LAYERS] {
                let found = numbers(&mut Session::new(&model(&data, &device, n), &options()).unwrap());
                let difference = difference(&whole, &found);
                assert!(difference <= allowed, "{mix}, {n} layers, {}: {difference}", library.display());
            }
        }
    }
}

/// Runs one test of this program with variables of its own.
fn in_a_process(test: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads", "1"]);
    command.envs(variables.iter().copied()).env("HIP_PLACEMENT_CHILD", "1").output().unwrap()
}

#[test]
fn too_little_device_memory_is_an_error_and_less_can_be_tried() {
    let Some(libraries) = emulator::libraries() else { return };
    const MEMORY: usize = 8 << 20;
    if std::env::var_os("HIP_PLACEMENT_CHILD").is_none() {
        // The emulator reads the size of its memory from the environment.
        let name = "too_little_device_memory_is_an_error_and_less_can_be_tried";
        let output = in_a_process(name, &[("HIPHOST_MEMORY", &MEMORY.to_string())]);
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let (device, data) = (gpu(&libraries[0]), data("tiny:Q8_0"));
    let free = || device.memory().unwrap().free;
    let before = free();
    assert!(before <= MEMORY as u64);
    let large = SessionOptions { context: 8192, kv_type: KvType::F16, ..options() };
    let whole = model(&data, &device, LAYERS);
    for _ in 0..3 {
        let error = Session::new(&whole, &large).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("could not allocate") && error.contains("device memory"), "{error}");
    }
    // A smaller session of the same model.
    let found = numbers(&mut Session::new(&whole, &options()).unwrap());
    assert!(found.iter().flatten().all(|x| x.is_finite()));
    drop(whole);
    assert_eq!(free(), before, "all of it was given back");
    // The large context with fewer layers on the device.
    let passes = PassOptions::default();
    let bill = |layers| layers_bill(data.header(), &layers, &large, device.target(), &passes);
    let n = layers_that_fit(LAYERS, before, bill).unwrap();
    assert!((1..LAYERS).contains(&n), "{n}");
    let split = model(&data, &device, n);
    let mut session = Session::new(&split, &large).unwrap();
    session.prefill(&[1, 2, 3], &mut |_, _| ()).unwrap();
    assert!(session.allocated_of_stages()[1].allocated() as u64 <= before);
}

#[cfg(feature = "cli")]
#[test]
fn the_program_says_what_runs_where() {
    let Some(libraries) = emulator::libraries() else { return };
    let bench = |args: &[&str], memory: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rocmforge"));
        command.args(["bench", "--synthetic", "tiny:Q8_0", "-p", "4", "-n", "2", "-r", "1", "-t", "1", "--json"]);
        command.args(args).env("ROCMFORGE_HIP_LIBRARY", &libraries[0]).env("HIPHOST_MEMORY", memory);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), told, String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let large = (1u64 << 30).to_string();
    let (status, told, report) = bench(&["--device", "gpu"], &large);
    assert_eq!(status, Some(0), "{told}");
    assert!(told.contains("note: all layers run on "), "{told}");
    let rows: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(rows[0]["threads"], 0);
    assert!(told.contains("loaded 0.00 GB in ") && told.contains("waiting for copies "), "{told}");
    let seconds = |key: &str| rows[0][key].as_f64().unwrap();
    assert!(seconds("load_pack_seconds") > 0.0 && seconds("load_copy_seconds") >= 0.0, "{rows}");
    let parts = seconds("load_open_seconds") + seconds("load_allocate_seconds") + seconds("load_pack_seconds");
    assert!(parts <= seconds("load_seconds"), "{rows}");
    assert!(rows[0]["memory_bandwidth"].is_null() && rows[1]["tokens_per_second"].as_f64().unwrap() > 0.0, "{rows}");
    let (status, told, _) = bench(&["--gpu-layers", "3"], &large);
    assert_eq!(status, Some(0), "{told}");
    assert!(told.contains("note: layers 0..1 run on cpu (1 thread), layers 1..4 and the output on "), "{told}");
    // Two megabytes hold some of the layers.
    let (status, told, _) = bench(&[], &(2u64 << 20).to_string());
    assert_eq!(status, Some(0), "{told}");
    assert!(told.contains("note: layers 0..") && told.contains("; the whole model needs"), "{told}");
    // Ten kilobytes hold nothing: the CPU, and why; an error for who insists.
    let (status, told, _) = bench(&[], "10000");
    assert_eq!(status, Some(0), "{told}");
    assert!(told.contains("note: all layers run on cpu (1 thread); "), "{told}");
    let (status, told, _) = bench(&["--device", "gpu"], "10000");
    assert_eq!(status, Some(1), "{told}");
    assert!(told.contains("error: ") && told.contains("hint: "), "{told}");
}
