//! What plans of models of real sizes come to: the arena beside its lower bound, steps a layer, the bill. There are no weights.

mod support;

use rocmforge::backends::cpu::CpuTarget;
use rocmforge::graph::passes::{PASSES, PassOptions};
use rocmforge::graph::plan::{Plan, check, plan};
use rocmforge::models::gguf::Header;
use rocmforge::models::{GraphOptions, build};
use rocmforge::tensor::{Bounds, DType};
use support::shapes::{LLAMA_1B, LLAMA_8B, QWEN_05B, Shape};

const MODELS: [(&str, Shape); 3] = [("Llama 1B", LLAMA_1B), ("Qwen2.5 0.5B", QWEN_05B), ("Llama 8B", LLAMA_8B)];
const PREFILL: Bounds = Bounds { t: 512, s: 4096, r: 1 };
const DECODE: Bounds = Bounds { t: 1, s: 4096, r: 1 };

fn planned(shape: &Shape, bounds: Bounds, options: &PassOptions) -> Plan {
    let header = Header::parse(&shape.header("model.gguf")).unwrap();
    let graph = build(&header, &GraphOptions { bounds, kv_type: DType::F16 }).unwrap();
    let plan = plan(&graph, bounds, &CpuTarget::new(4), options).unwrap();
    check(&plan).unwrap();
    plan
}

#[test]
fn arenas_are_near_their_lower_bound() {
    for (name, shape) in MODELS {
        for bounds in [PREFILL, DECODE, Bounds { t: 8, s: 8, r: 8 }, Bounds { t: 64, s: 32768, r: 64 }] {
            let arena = planned(&shape, bounds, &PassOptions::default()).arena;
            let ratio = arena.bytes as f64 / arena.lower_bound as f64;
            eprintln!("{name} at {bounds}: arena {} bytes, {ratio:.3} of its lower bound", arena.bytes);
            assert!(ratio <= 1.05, "{name} at {bounds}: {arena:?}");
        }
    }
}

#[test]
fn a_layer_of_decode_has_at_most_eight_steps_on_the_cpu() {
    let unfused = PassOptions { disabled: PASSES.iter().map(|p| p.name().to_string()).collect(), stop_after: None };
    for (name, shape) in MODELS {
        for (phase, bounds) in [("prefill", PREFILL), ("decode", DECODE)] {
            let a_layer = |options: &PassOptions| {
                let steps = |layers| planned(&Shape { layers, ..shape.clone() }, bounds, options).steps.len();
                (steps(5) - steps(3)) as f64 / 2.0
            };
            let (before, after) = (a_layer(&unfused), a_layer(&PassOptions::default()));
            eprintln!("{name}, {phase}: {before} steps a layer become {after}");
            assert!(phase == "prefill" || after <= 8.0, "{name}: {after} steps a layer of decode");
        }
    }
}

/// Norm and projections with rotation and caches; attention; output projection with residual; norm, gate and up; down with residual.
#[cfg(feature = "hip")]
#[test]
fn a_layer_of_decode_has_five_steps_on_devices() {
    for name in ["sm_90", "gfx1100"] {
        let target = rocmforge::backends::hip::HipTarget::of(name).unwrap();
        for (model, shape) in MODELS {
            let steps = |layers| {
                let header = Header::parse(&Shape { layers, ..shape.clone() }.header("model.gguf")).unwrap();
                let graph = build(&header, &GraphOptions { bounds: DECODE, kv_type: DType::F16 }).unwrap();
                let plan = plan(&graph, DECODE, &target, &PassOptions::default()).unwrap();
                check(&plan).unwrap();
                plan.steps.len()
            };
            assert_eq!(steps(5) - steps(3), 10, "{model} on {name}");
        }
    }
}

/// Caches and packed weights are most of the memory, and what they come to is known without a plan.
#[test]
fn the_bill_is_what_the_shapes_come_to() {
    for (name, shape) in MODELS {
        let bill = planned(&shape, DECODE, &PassOptions::default()).bill;
        let [_, kv_heads, head] = shape.heads;
        assert_eq!(bill.kv, shape.layers * 2 * kv_heads * head * DECODE.s * 2, "{name}: two f16 caches a layer");
        let header = Header::parse(&shape.header("model.gguf")).unwrap();
        // With a head of its own the embedding is read row by row from the file.
        let packed = header.tensors().iter().filter(|t| !shape.head || t.name != "token_embd.weight").map(|t| t.bytes);
        let ratio = bill.weights as f64 / packed.sum::<u64>() as f64;
        eprintln!("{name}: packed weights take {ratio:.3} of those in the file");
        assert!((0.99..1.15).contains(&ratio), "{name}: packed weights take {ratio:.3} of those in the file");
    }
}
