//! What plans of models of known shapes come to: steps a layer, arena beside its lower bound. The headers are made in memory; there are
//! no weights.

use rocmforge::backends::cpu::CpuTarget;
use rocmforge::graph::passes::{PASSES, PassOptions};
use rocmforge::graph::plan::{Plan, check, plan};
use rocmforge::models::gguf::{Header, Writer};
use rocmforge::models::{GraphOptions, build};
use rocmforge::tensor::{Bounds, DType};

struct Model {
    name: &'static str,
    arch: &'static str,
    layers: u64,
    width: u64,
    heads: u64,
    kv_heads: u64,
    head: u64,
    ff: u64,
    vocabulary: u64,
    dtype: DType,
    /// Whether it has an output matrix of its own.
    output: bool,
    /// Whether the projections to queries, keys and values have biases.
    bias: bool,
}

const LLAMA_1B: Model = Model {
    name: "Llama 3.2 1B",
    arch: "llama",
    layers: 16,
    width: 2048,
    heads: 32,
    kv_heads: 8,
    head: 64,
    ff: 8192,
    vocabulary: 128_256,
    dtype: DType::Q8_0,
    output: false,
    bias: false,
};

const QWEN_05B: Model = Model {
    name: "Qwen 2.5 0.5B",
    arch: "qwen2",
    layers: 24,
    width: 896,
    heads: 14,
    kv_heads: 2,
    head: 64,
    ff: 4864,
    vocabulary: 151_936,
    dtype: DType::Q8_0,
    output: false,
    bias: true,
};

const LLAMA_8B: Model = Model {
    name: "Llama 3.1 8B",
    arch: "llama",
    layers: 32,
    width: 4096,
    heads: 32,
    kv_heads: 8,
    head: 128,
    ff: 14336,
    vocabulary: 128_256,
    dtype: DType::Q4K,
    output: true,
    bias: false,
};

/// The header of a file of this shape with `layers` layers.
fn header(m: &Model, layers: u64) -> Header {
    let mut w = Writer::new();
    let key = |name: &str| format!("{}.{name}", m.arch);
    w.set("general.architecture", m.arch).unwrap();
    for (name, value) in [
        ("block_count", layers),
        ("embedding_length", m.width),
        ("feed_forward_length", m.ff),
        ("context_length", 131_072),
        ("attention.head_count", m.heads),
        ("attention.head_count_kv", m.kv_heads),
        ("rope.dimension_count", m.head),
        ("vocab_size", m.vocabulary),
    ] {
        w.set(&key(name), value as u32).unwrap();
    }
    w.set(&key("attention.layer_norm_rms_epsilon"), 1e-5f32).unwrap();
    let mut tensor = |name: &str, dtype, shape: &[u64]| {
        w.tensor(name, dtype, shape).unwrap();
    };
    tensor("token_embd.weight", m.dtype, &[m.width, m.vocabulary]);
    tensor("output_norm.weight", DType::F32, &[m.width]);
    if m.output {
        tensor("output.weight", DType::Q6K, &[m.width, m.vocabulary]);
    }
    let (q, kv) = (m.heads * m.head, m.kv_heads * m.head);
    for layer in 0..layers {
        for (name, inputs, outputs) in [
            ("attn_q", m.width, q),
            ("attn_k", m.width, kv),
            ("attn_v", m.width, kv),
            ("attn_output", q, m.width),
            ("ffn_gate", m.width, m.ff),
            ("ffn_up", m.width, m.ff),
            ("ffn_down", m.ff, m.width),
        ] {
            tensor(&format!("blk.{layer}.{name}.weight"), m.dtype, &[inputs, outputs]);
            if m.bias && inputs == m.width && outputs <= q && name != "attn_output" {
                tensor(&format!("blk.{layer}.{name}.bias"), DType::F32, &[outputs]);
            }
        }
        for name in ["attn_norm", "ffn_norm"] {
            tensor(&format!("blk.{layer}.{name}.weight"), DType::F32, &[m.width]);
        }
    }
    // The data that would follow are not asked for.
    let mut bytes = Vec::new();
    w.start(&mut bytes).unwrap();
    Header::parse(&bytes).unwrap()
}

const PREFILL: Bounds = Bounds { t: 512, s: 4096, r: 1 };
const DECODE: Bounds = Bounds { t: 1, s: 4096, r: 1 };

fn planned(m: &Model, layers: u64, bounds: Bounds, options: &PassOptions) -> Plan {
    let graph = build(&header(m, layers), &GraphOptions { bounds, kv_type: DType::F16 }).unwrap();
    let plan = plan(&graph, bounds, &CpuTarget { threads: 4 }, options).unwrap();
    check(&plan).unwrap();
    plan
}

#[test]
fn arenas_are_near_their_lower_bound() {
    for model in [&LLAMA_1B, &QWEN_05B, &LLAMA_8B] {
        for bounds in [PREFILL, DECODE, Bounds { t: 1, s: 1, r: 1 }, Bounds { t: 64, s: 32768, r: 64 }] {
            let arena = planned(model, model.layers, bounds, &PassOptions::default()).arena;
            let ratio = arena.bytes as f64 / arena.lower_bound as f64;
            eprintln!("{} at {bounds}: arena {} bytes, {ratio:.3} of its lower bound", model.name, arena.bytes);
            assert!(ratio <= 1.05, "{} at {bounds}: {arena:?}", model.name);
        }
    }
}

#[test]
fn a_layer_of_decode_has_at_most_eight_steps_on_the_cpu() {
    let unfused = PassOptions { disabled: PASSES.iter().map(|p| p.name().to_string()).collect(), stop_after: None };
    for model in [&LLAMA_1B, &QWEN_05B, &LLAMA_8B] {
        for (phase, bounds) in [("prefill", PREFILL), ("decode", DECODE)] {
            let a_layer = |options: &PassOptions| {
                let steps = |layers| planned(model, layers, bounds, options).steps.len();
                (steps(5) - steps(3)) as f64 / 2.0
            };
            let (before, after) = (a_layer(&unfused), a_layer(&PassOptions::default()));
            eprintln!("{}, {phase}: {before} steps a layer become {after}", model.name);
            assert!(phase == "prefill" || after <= 8.0, "{}: {after} steps a layer of decode", model.name);
        }
    }
}

/// The cache and the packed weights are most of the memory, and their sizes are known without a plan.
#[test]
fn the_bill_is_what_the_shapes_come_to() {
    let m = &LLAMA_8B;
    let bill = planned(m, m.layers, DECODE, &PassOptions::default()).bill;
    let cache = m.layers * 2 * m.kv_heads * m.head * DECODE.s as u64 * 2;
    assert_eq!(bill.kv as u64, cache);
    let matrices: u64 =
        header(m, m.layers).tensors().iter().filter(|t| t.name != "token_embd.weight").map(|t| t.bytes).sum();
    let ratio = bill.weights as f64 / matrices as f64;
    assert!((1.0..1.1).contains(&ratio), "packed weights take {ratio:.3} of those in the file");
}
