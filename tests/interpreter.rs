//! The interpreter on real models against float64 logits: the graph of a model means what the model means.

mod support;

use rocmforge::graph::{Interpreter, Values};
use rocmforge::models::gguf::Gguf;
use rocmforge::models::{GraphOptions, build};
use rocmforge::tensor::{Bounds, DType, HostTensor};

fn weights(gguf: &Gguf) -> Values {
    let value = |t: &rocmforge::models::gguf::TensorInfo| {
        let mut ne = [1; 4];
        for (d, &n) in ne.iter_mut().zip(&t.shape) {
            *d = n as usize;
        }
        HostTensor::from_bytes(t.dtype, ne, gguf.data(t)).unwrap()
    };
    gguf.tensors().iter().map(|t| (t.name.clone(), value(t))).collect()
}

fn logits(path: &std::path::Path, ids: &[u32]) -> Vec<f32> {
    let gguf = Gguf::open(path).unwrap();
    let n = ids.len();
    let bounds = Bounds { t: n, s: n, r: n };
    let graph = build(gguf.header(), &GraphOptions { bounds, kv_type: DType::F32 }).unwrap();
    rocmforge::graph::verify(&graph).unwrap();
    let weights = weights(&gguf);
    let vector = |values: Vec<i32>| HostTensor::from_i32([values.len(), 1, 1, 1], values).unwrap();
    let counting: Vec<i32> = (0..n as i32).collect();
    let inputs: Values = [
        ("tokens".to_string(), vector(ids.iter().map(|&i| i as i32).collect())),
        ("positions".to_string(), vector(counting.clone())),
        ("kv_slot".to_string(), vector(counting.clone())),
        ("kv_start".to_string(), vector(vec![0; n])),
        ("rows".to_string(), vector(counting)),
    ]
    .into();
    let outputs = Interpreter::new(&graph, &weights).run(&inputs, &bounds).unwrap();
    outputs["logits"].f32s().unwrap().into_owned()
}

#[test]
fn logits_agree_with_float64() {
    let Some(folder) = support::conformance() else { return };
    let ids = support::prompt_ids(&folder);
    for (file, truth, bound) in [
        ("stories260K.gguf", "stories260K", 1e-5),
        ("stories260K-Q4_0.gguf", "stories260K-Q4_0", 1e-5),
        ("wide-Q4_K_M.gguf", "wide-Q4_K_M", 2e-5),
        ("wide-BF16.gguf", "wide-BF16", 1e-5),
    ] {
        let found = logits(&folder.join("models").join(file), &ids);
        let (_, _, truth) = support::read_npy(&folder.join(format!("reference/logits.{truth}.npy")));
        let (max, rms) = support::difference(&found, &truth);
        eprintln!("{file}: max {max:.2e} rms {rms:.2e}");
        assert!(max < bound, "{file}: largest difference {max}");
    }
}
