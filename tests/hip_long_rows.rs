//! Products of long rows on devices, which have a kernel of their own there: with activations that rounding to bytes keeps as they are, they
//! are the products in f64.
#![cfg(feature = "hip")]

mod support;

use rocmforge::backends::hip::HipBackend;
use rocmforge::backends::{Backend, WeightSource};
use rocmforge::graph::passes::PassOptions;
use rocmforge::graph::plan::plan;
use rocmforge::graph::{Graph, Value};
use rocmforge::ops::{Input, QMatmul, TensorType, Weight};
use rocmforge::tensor::quant::{can_quantize, dequantize_row, quantize_row};
use rocmforge::tensor::{Bounds, DType, Shape};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// More than 1024 chunks of eight, so that threads have work twice.
const K: usize = 8448;
const ROWS: usize = 70;

/// The bytes of the weight `w`.
struct Bytes(Vec<u8>);

impl WeightSource for Bytes {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        (name == "w").then_some(&self.0)
    }
}

fn product(device: &HipBackend, dtype: DType, bytes: &[u8], x: &[f32]) -> Vec<f32> {
    let bounds = Bounds { t: 1, s: 1, r: 1 };
    let mut graph = Graph::new("long_rows", bounds);
    let weight = Weight { ty: TensorType::new(dtype, Shape::new(&[K, ROWS])) };
    let weight = Value::first(graph.add(weight, &[], Some("w")).unwrap());
    let vector = Input { ty: TensorType::new(DType::F32, Shape::new(&[K, 1])) };
    let vector = Value::first(graph.add(vector, &[], Some("x")).unwrap());
    let op = QMatmul { bias: false, act: None, residual: false, activation: DType::Q8A, norm_eps: 0.0 };
    let product = graph.add(op, &[weight, vector], None).unwrap();
    graph.set_output("y", Value::first(product));

    let plan = plan(&graph, bounds, device.target(), &PassOptions::default()).unwrap();
    let weights = device.load(&plan.weights, Arc::new(Bytes(bytes.to_vec())), &mut |_| true).unwrap();
    let mut states = device.states(&plan).unwrap();
    let mut program = device.lower(&plan, &weights).unwrap();
    program.set_input(0, bytemuck::cast_slice(x)).unwrap();
    program.run(&mut *states, &bounds, &AtomicBool::new(false)).unwrap();
    program.output(0).to_vec()
}

/// A weight's bytes, and their values.
fn weight(dtype: DType, seed: u64) -> (Vec<u8>, Vec<f32>) {
    let values = support::uniform(seed, K * ROWS);
    let mut bytes = vec![0; dtype.row_bytes(K).unwrap() * ROWS];
    quantize_row(dtype, &values, &mut bytes).unwrap();
    let mut rounded = vec![0.0; values.len()];
    dequantize_row(dtype, &bytes, &mut rounded).unwrap();
    (bytes, rounded)
}

/// Whole numbers with a 127 in each block of 32: rounded to bytes with a scale of 1.
fn activations() -> Vec<f32> {
    let mut x: Vec<f32> = support::uniform(3, K).iter().map(|v| (v * 127.0).round()).collect();
    x.iter_mut().step_by(32).for_each(|v| *v = 127.0);
    x
}

#[test]
fn products_of_long_rows_are_those_in_f64() {
    let x = activations();
    for device in support::hip_devices() {
        let types = DType::ALL.iter().copied().filter(|t| t.is_weight() && t.is_quantized() && can_quantize(*t));
        for (seed, dtype) in types.enumerate() {
            let (bytes, values) = weight(dtype, seed as u64);
            let found = product(&device, dtype, &bytes, &x);
            for (row, (found, w)) in found.iter().zip(values.chunks_exact(K)).enumerate() {
                let terms = || w.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                let (expected, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                let off = (f64::from(*found) - expected).abs() / size;
                assert!(off < 2e-6, "{dtype}, row {row} on {}: {found}, expected {expected}", device.device().name);
            }
        }
    }
}
