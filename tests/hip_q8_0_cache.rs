//! KV caches of q8_0 on emulated devices: the bytes of the scalar quantizer, the CPU's text, the predicted memory.
#![cfg(feature = "hip")]

mod support;

use rocmforge::backends::cpu::CpuBackend;
use rocmforge::backends::hip::{HipBackend, HipTarget};
use rocmforge::backends::{Backend, BackendError, LoadedWeights, WeightSource};
use rocmforge::engine::{
    GenerateOptions, Generator, KvType, Model, ModelData, Sampler, SamplerOptions, Session, SessionOptions, Stage,
};
use rocmforge::graph::passes::PassOptions;
use rocmforge::graph::plan::{Plan, plan};
use rocmforge::graph::{Graph, Value};
use rocmforge::models::gguf::{Gguf, Header};
use rocmforge::models::{Config, GraphOptions, build};
use rocmforge::ops::{Cont, Dequantize, Input, KvAppend, State, TensorType};
use rocmforge::tensor::{Bounds, DType, HostTensor, Shape};
use rocmforge::text::EncodeOptions;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use support::shapes::LLAMA_1B;

fn devices() -> Vec<HipBackend> {
    let emulated = support::emulator::libraries().into_iter().flatten().map(|l| HipBackend::open_library(l).unwrap());
    emulated.chain(HipBackend::open(None).ok()).collect()
}

/// No weights.
struct Nothing;

impl WeightSource for Nothing {
    fn bytes(&self, _: &str) -> Option<&[u8]> {
        None
    }
}

/// The values of a cache of one head and one position after `x` was appended.
fn appended(device: &HipBackend, x: &[f32]) -> Result<Vec<f32>, BackendError> {
    let bounds = Bounds { t: 1, s: 1, r: 1 };
    let mut graph = Graph::new("append", bounds);
    let state = State { ty: TensorType::new(DType::Q8_0, Shape::new(&[x.len(), 1, 1])) };
    let input = Input { ty: TensorType::f32(Shape::new(&[x.len(), 1, 1])) };
    let slots = Input { ty: TensorType::i32(Shape::new(&[1])) };
    let state = Value::first(graph.add(state, &[], Some("state")).unwrap());
    let input = Value::first(graph.add(input, &[], Some("x")).unwrap());
    let slots = Value::first(graph.add(slots, &[], Some("slots")).unwrap());
    let cache = Value::first(graph.add(KvAppend {}, &[state, input, slots], None).unwrap());
    let values = Value::first(graph.add(Dequantize {}, &[cache], None).unwrap());
    let values = Value::first(graph.add(Cont {}, &[values], None).unwrap());
    graph.set_output("values", values);

    let plan = plan(&graph, bounds, device.target(), &PassOptions::default()).unwrap();
    let weights: LoadedWeights = device.load(&plan.weights, Arc::new(Nothing), &mut |_| true)?;
    let mut states = device.states(&plan)?;
    let mut program = device.lower(&plan, &weights)?;
    for (i, port) in plan.inputs.iter().enumerate() {
        let zero = 0i32.to_ne_bytes();
        program.set_input(i, if port.name == "x" { bytemuck::cast_slice(x) } else { &zero })?;
    }
    program.run(&mut *states, &bounds, &AtomicBool::new(false))?;
    Ok(program.output(0).to_vec())
}

/// Blocks that tell ways of rounding apart: ties, a scale that f16 rounds, that f16 cannot hold, that is subnormal in f32, zeros of either
/// sign, one large element, random ones.
fn blocks() -> Vec<f32> {
    let of = |f: &dyn Fn(usize) -> f32| (0..32).map(f).collect::<Vec<f32>>();
    let mut all = vec![
        of(&|i| if i == 0 { 127.0 } else { i as f32 - 15.5 }),
        of(&|i| if i == 31 { -254.0 } else { i as f32 * 3.0 - 46.0 }),
        of(&|i| if i % 2 == 0 { 0.0 } else { -0.0 }),
        of(&|i| (i as f32 - 7.0) * 1e-9),
        of(&|i| (i as f32 - 7.0) * 1e-40),
        of(&|i| (i as f32 - 7.0) * 1e5),
        of(&|i| if i == 13 { 1e4 } else { 1e-3 * i as f32 }),
    ];
    all.extend((0..57).map(|seed| support::uniform(seed, 32)));
    all.concat()
}

#[test]
fn appended_elements_have_the_bits_of_the_scalar_quantizer() {
    let x = blocks();
    for device in devices() {
        for row in x.chunks(256) {
            let expected = HostTensor::quantized(DType::Q8_0, [row.len(), 1, 1, 1], row).unwrap();
            let expected = expected.f32s().unwrap();
            let found = appended(&device, row).unwrap();
            for (i, (f, e)) in found.iter().zip(expected.iter()).enumerate() {
                assert_eq!(f.to_bits(), e.to_bits(), "{}: {} became {f}, not {e}", device.device().name, row[i]);
            }
        }
    }
}

/// The bundled model's file.
struct File(Gguf);

impl File {
    fn open() -> File {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/rocmforge-demo-q8_0.gguf");
        File(Gguf::open(file).unwrap())
    }
}

impl WeightSource for File {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.tensor(name).map(|t| self.0.data(t))
    }
}

impl ModelData for File {
    fn header(&self) -> &Header {
        self.0.header()
    }
}

/// The greedy continuations of prompts over a cache of q8_0, whose heads have an odd number of positions.
fn texts(backend: Arc<dyn Backend>, prompts: &[&str]) -> Vec<String> {
    let data = File::open();
    let layers = Config::read(data.header()).unwrap().n_layer;
    let stages = vec![Stage { backend, layers: 0..layers }];
    let model = Model::on_stages(Arc::new(data), stages, None, &PassOptions::default(), &mut |_| true).unwrap();
    let options = SessionOptions { context: 99, chunk: 16, kv_type: KvType::Q8_0, ..SessionOptions::default() };
    let mut session = Session::new(&model, &options).unwrap();
    assert_eq!(session.memory_of_stages(), session.allocated_of_stages());
    let text = |prompt: &&str| {
        session.truncate(0);
        let ids = model.tokenizer().unwrap().encode(prompt, EncodeOptions::default()).unwrap();
        let greedy = Sampler::new(SamplerOptions::greedy()).unwrap();
        let generate = GenerateOptions { max_tokens: Some(24), ..GenerateOptions::default() };
        let mut generator = Generator::start(&mut session, &ids, greedy, generate, &mut |_, _| ()).unwrap();
        let mut text = String::new();
        let done = generator.run(&mut |piece| {
            text.push_str(&piece.text);
            ControlFlow::Continue(())
        });
        done.unwrap();
        text
    };
    prompts.iter().map(text).collect()
}

#[test]
fn a_device_continues_as_the_cpu_does() {
    let prompts = ["Count from 3 to 9:", "The colours of the rainbow are", "Sort these words: pear apple fig"];
    let expected = texts(Arc::new(CpuBackend::new(1).unwrap()), &prompts);
    assert!(expected.iter().all(|text| text.len() > 5), "{expected:?}");
    for device in devices() {
        let name = device.device().name;
        assert_eq!(texts(Arc::new(device), &prompts), expected, "{name}");
    }
}

/// The fused kernel of Q, K and V is for caches of plain elements; plans over blocks append in a step of its own.
#[test]
fn plans_over_blocks_append_in_a_step_of_its_own_and_take_17_bytes_where_f16_takes_32() {
    let header = Header::parse(&LLAMA_1B.header("model.gguf")).unwrap();
    let layers = Config::read(&header).unwrap().n_layer;
    let bounds = Bounds { t: 1, s: 4096, r: 1 };
    for target in ["gfx1100", "gfx942", "sm_90"] {
        let plan = |kv_type| {
            let graph = build(&header, &GraphOptions { bounds, kv_type }).unwrap();
            plan(&graph, bounds, &HipTarget::of(target).unwrap(), &PassOptions::default()).unwrap()
        };
        let (halves, blocks) = (plan(DType::F16), plan(DType::Q8_0));
        assert_eq!(blocks.bill.kv * 32, halves.bill.kv * 17, "{target}");
        let steps = |plan: &Plan, name: &str| plan.steps.iter().filter(|step| step.op.name() == name).count();
        let appends = ["qkv_rope_append", "rope_kv_append"];
        assert_eq!(appends.map(|name| steps(&halves, name)), [layers, 0], "{target}");
        assert_eq!(appends.map(|name| steps(&blocks, name)), [0, layers], "{target}");
    }
}
