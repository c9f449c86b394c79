//! A model on several backends: the same numbers as on one, the memory that was predicted, and errors that leave the process alive.

mod support;

use rocmforge::backends::Backend;
use rocmforge::backends::cpu::CpuBackend;
use rocmforge::engine::{
    DeviceChoice, EngineError, LoadOptions, Model, ModelData, Session, SessionOptions, Stage, layers_bill,
    layers_that_fit,
};
use rocmforge::graph::passes::PassOptions;
use rocmforge::models::synthetic::Synthetic;
use std::sync::Arc;
use support::device::Device;

const LAYERS: usize = 4;

fn data(mix: &str) -> Arc<dyn ModelData> {
    Arc::new(Synthetic::new(&format!("tiny:{mix}")).unwrap())
}

fn on(data: &Arc<dyn ModelData>, stages: Vec<(Arc<dyn Backend>, usize)>) -> Result<Model, EngineError> {
    let mut first = 0;
    let stage = |(backend, n): (Arc<dyn Backend>, usize)| {
        first += n;
        Stage { backend, layers: first - n..first }
    };
    let stages = stages.into_iter().map(stage).collect();
    Model::on_stages(Arc::clone(data), stages, None, &PassOptions::default(), &mut |_| true)
}

fn cpu() -> Arc<dyn Backend> {
    Arc::new(CpuBackend::new(1).unwrap())
}

fn options() -> SessionOptions {
    SessionOptions { context: 48, chunk: 8, ..SessionOptions::default() }
}

/// Logits of every token, of a prompt in chunks, and of some decoded tokens.
fn numbers(model: &Model) -> Vec<Vec<f32>> {
    let ids: Vec<u32> = (0..21).map(|i| (i * 37) % 1000).collect();
    let mut session = Session::new(model, &options()).unwrap();
    let mut found = Vec::new();
    session.prefill_all(&ids, &mut |_, logits| found.push(logits.to_vec())).unwrap();
    session.truncate(0);
    session.prefill(&ids, &mut |_, _| ()).unwrap();
    found.push(session.logits().to_vec());
    for id in [5, 6, 7] {
        found.push(session.decode(id).unwrap().to_vec());
    }
    assert_eq!(session.memory(), session.allocated());
    assert_eq!(session.memory_of_stages(), session.allocated_of_stages());
    found
}

#[test]
fn split_over_stages_is_the_same_bit_for_bit() {
    for mix in ["F16", "Q4_K_M", "Q8_0"] {
        let data = data(mix);
        let whole = numbers(&on(&data, vec![(cpu(), LAYERS)]).unwrap());
        assert!(whole.iter().flatten().all(|x| x.is_finite()));
        for split in [&[1, 3][..], &[3, 1], &[2, 1, 1]] {
            let model = on(&data, split.iter().map(|&n| (cpu(), n)).collect()).unwrap();
            assert_eq!(numbers(&model), whole, "{mix} {split:?}");
        }
    }
}

#[test]
fn stages_must_be_all_layers() {
    let data = data("Q8_0");
    for wrong in [&[][..], &[3], &[4, 1], &[0, 4], &[4, 0]] {
        let outcome = on(&data, wrong.iter().map(|&n| (cpu(), n)).collect());
        assert!(matches!(outcome, Err(EngineError::Option { name: "stages", .. })), "{wrong:?}");
    }
}

#[test]
fn placement_is_told() {
    let data = data("Q8_0");
    let model = on(&data, vec![(cpu(), 1), (Arc::new(Device::new(1 << 30)), 3)]).unwrap();
    assert_eq!((model.device().as_str(), model.threads()), ("cpu+gpu:0", 1));
    let told = model.placement().to_string();
    assert_eq!(told, "layers 0..1 run on cpu (1 thread), layers 1..4 and the output on gpu:0 (a device)");
    let model = on(&data, vec![(Arc::new(Device::new(1 << 30)), 4)]).unwrap();
    assert_eq!((model.device().as_str(), model.threads()), ("gpu:0", 0));
    assert_eq!(model.placement().to_string(), "all layers run on gpu:0 (a device)");
}

#[test]
fn too_little_memory_is_an_error_and_less_can_be_tried() {
    let data = data("Q8_0");
    let passes = PassOptions::default();
    let large = SessionOptions { context: 8192, ..options() };
    let needed = |options: &SessionOptions| {
        layers_bill(data.header(), &(0..LAYERS), options, cpu().target(), &passes).unwrap().allocated()
    };
    // Half of what the large context takes more than the small one.
    let device = Arc::new(Device::new((needed(&options()) + needed(&large)) / 2));
    let model = on(&data, vec![(Arc::clone(&device) as _, LAYERS)]).unwrap();
    let error = Session::new(&model, &large).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("KV cache: could not allocate"), "{error}");
    // The same model with a smaller context.
    assert_eq!(numbers(&model).len(), 25);
    drop(model);
    // The large context with fewer layers on the device.
    let bill = |layers| layers_bill(data.header(), &layers, &large, device.target(), &passes);
    let n = layers_that_fit(LAYERS, device.memory as u64, bill).unwrap();
    assert!((1..LAYERS).contains(&n), "{n}");
    let model = on(&data, vec![(cpu(), LAYERS - n), (Arc::clone(&device) as _, n)]).unwrap();
    let mut session = Session::new(&model, &large).unwrap();
    session.prefill(&[1, 2, 3], &mut |_, _| ()).unwrap();
    let on_device = session.allocated_of_stages()[1];
    assert!(on_device.allocated() <= device.memory, "{on_device:?}");
}

#[test]
fn a_choice_that_cannot_be_is_an_error() {
    let open = |device, gpu_layers| {
        let options = LoadOptions { device, gpu_layers, session: options(), ..LoadOptions::default() };
        Model::from_data(data("Q8_0"), &options, &mut |_| true)
    };
    let error = open(DeviceChoice::Cpu, Some(2)).unwrap_err();
    assert!(matches!(error, EngineError::Option { name: "gpu_layers", .. }), "{error}");
    let model = open(DeviceChoice::Auto, Some(0)).unwrap();
    assert_eq!(model.device(), "cpu");
    let error = open(DeviceChoice::Gpu(Some(99)), None).unwrap_err();
    assert!(matches!(error, EngineError::Backend(_)), "{error}");
}
