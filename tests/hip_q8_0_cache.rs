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
use rocmforge::ops::{Cont, Dequantize, Input, KvAppend, Op, Rope, RopeKvAppend, RopeMode, State, TensorType};
use rocmforge::tensor::{Bounds, DType, HostTensor, Shape};
use rocmforge::text::EncodeOptions;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use support::hip_devices;
use support::shapes::LLAMA_1B;

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
    for device in hip_devices() {
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

/// What caches of `[d, 3, 2]` and `[d_v, 3, 2]` of this type hold after two runs of the step that rotates and appends, of two tokens each.
fn rotated(device: &HipBackend, rope: &Rope, [d, d_v]: [usize; 2], dtype: DType) -> [Vec<f32>; 2] {
    let tokens = 2;
    let bounds = Bounds { t: tokens, s: 3, r: 1 };
    let mut graph = Graph::new("rotate", bounds);
    let mut add = |op: Op, operands: &[Value], name: &str| graph.add(op, operands, Some(name)).unwrap();
    let mut operands = Vec::new();
    for (name, shape) in [("q", [d, 4, tokens]), ("k", [d, 2, tokens]), ("v", [d_v, 2, tokens])] {
        operands.push(Value::first(add(Input { ty: TensorType::f32(Shape::new(&shape)) }.into(), &[], name)));
    }
    for (name, d) in [("keys", d), ("values", d_v)] {
        let ty = TensorType::new(dtype, Shape::new(&[d, 3, 2]));
        operands.push(Value::first(add(State { ty }.into(), &[], name)));
    }
    for name in ["positions", "slots"] {
        operands.push(Value::first(add(Input { ty: TensorType::i32(Shape::new(&[tokens])) }.into(), &[], name)));
    }
    let node = add(RopeKvAppend::from(rope.clone()).into(), &operands, "step");
    for out in [1, 2] {
        let mut cache = Value { node, out };
        if dtype != DType::F32 {
            cache = Value::first(graph.add(Dequantize {}, &[cache], None).unwrap());
        }
        let cache = Value::first(graph.add(Cont {}, &[cache], None).unwrap());
        graph.set_output(format!("y{out}"), cache);
    }
    let plan = plan(&graph, bounds, device.target(), &PassOptions::default()).unwrap();
    assert!(plan.steps.iter().any(|step| step.op.name() == "rope_kv_append"));
    let weights: LoadedWeights = device.load(&plan.weights, Arc::new(Nothing), &mut |_| true).unwrap();
    let mut states = device.states(&plan).unwrap();
    let mut program = device.lower(&plan, &weights).unwrap();
    for (seed, slots) in [(30, [2i32, 0]), (31, [1, 2])] {
        for (i, port) in plan.inputs.iter().enumerate() {
            let of = |n: usize| support::uniform(seed + i as u64, n);
            let x = match port.name.as_str() {
                "q" => of(d * 4 * tokens),
                "k" => of(d * 2 * tokens),
                _ => of(d_v * 2 * tokens),
            };
            let bytes: &[u8] = match port.name.as_str() {
                "positions" => bytemuck::cast_slice(&[900, 7]),
                "slots" => bytemuck::cast_slice(&slots),
                _ => bytemuck::cast_slice(&x),
            };
            program.set_input(i, bytes).unwrap();
        }
        program.run(&mut *states, &bounds, &AtomicBool::new(false)).unwrap();
    }
    [0, 1].map(|i| program.output(i).to_vec())
}

/// Pairs that are neighbours, that lie in two blocks, in part of a head of three blocks.
#[test]
fn the_step_that_rotates_rounds_as_the_scalar_quantizer() {
    let cases = [
        (Rope::new(RopeMode::Norm, 64), [64, 64]),
        (Rope::new(RopeMode::Neox, 128), [128, 32]),
        (Rope::new(RopeMode::Neox, 80), [96, 96]),
    ];
    for device in hip_devices() {
        for (rope, d) in &cases {
            let (exact, found) = (rotated(&device, rope, *d, DType::F32), rotated(&device, rope, *d, DType::Q8_0));
            for (i, d) in d.iter().enumerate() {
                let expected = HostTensor::quantized(DType::Q8_0, [*d, 6, 1, 1], &exact[i]).unwrap();
                let expected = expected.f32s().unwrap();
                assert!(expected.iter().filter(|x| **x != 0.0).count() > 5 * d, "{rope:?}: cache {i} is empty");
                let same = expected.iter().zip(&found[i]).all(|(e, f)| e.to_bits() == f.to_bits());
                assert!(same, "{}: {rope:?}, cache {i}: {:?}, not {expected:?}", device.device().name, found[i]);
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
    for device in hip_devices() {
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
