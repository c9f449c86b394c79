//! Blocks of every type of weights on emulated devices: `dequantize` and `get_rows` give the bits of the scalar functions.
#![cfg(feature = "hip")]

mod support;

use rocmforge::backends::hip::HipBackend;
use rocmforge::backends::{Backend, BackendError, WeightSource};
use rocmforge::graph::passes::PassOptions;
use rocmforge::graph::plan::plan;
use rocmforge::graph::{Graph, Value};
use rocmforge::ops::{Dequantize, GetRows, Input, TensorType, Weight};
use rocmforge::tensor::quant::dequantize_row;
use rocmforge::tensor::{Bounds, DType, Shape};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use support::hip_devices;

/// The bytes of the weight `w`.
struct Bytes(Vec<u8>);

impl WeightSource for Bytes {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        (name == "w").then_some(&self.0)
    }
}

/// A weight's values, and its rows by number.
fn values_and_rows(
    device: &HipBackend,
    dtype: DType,
    [k, rows]: [usize; 2],
    bytes: &[u8],
    ids: &[i32],
) -> Result<[Vec<f32>; 2], BackendError> {
    let bounds = Bounds { t: 1, s: 1, r: 1 };
    let mut graph = Graph::new("blocks", bounds);
    let weight = Weight { ty: TensorType::new(dtype, Shape::new(&[k, rows])) };
    let weight = Value::first(graph.add(weight, &[], Some("w")).unwrap());
    let numbers = Input { ty: TensorType::i32(Shape::new(&[ids.len()])) };
    let numbers = Value::first(graph.add(numbers, &[], Some("ids")).unwrap());
    let values = graph.add(Dequantize {}, &[weight], None).unwrap();
    let picked = graph.add(GetRows {}, &[weight, numbers], None).unwrap();
    graph.set_output("values", Value::first(values));
    graph.set_output("rows", Value::first(picked));

    let plan = plan(&graph, bounds, device.target(), &PassOptions::default()).unwrap();
    let weights = device.load(&plan.weights, Arc::new(Bytes(bytes.to_vec())), &mut |_| true)?;
    let mut states = device.states(&plan)?;
    let mut program = device.lower(&plan, &weights)?;
    program.set_input(0, bytemuck::cast_slice(ids))?;
    program.run(&mut *states, &bounds, &AtomicBool::new(false))?;
    let output = |name: &str| program.output(plan.outputs.iter().position(|p| p.name == name).unwrap()).to_vec();
    Ok([output("values"), output("rows")])
}

/// Equal bits, or both NaN: a device may make NaN of a kind of its own.
fn compare(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let same = f.to_bits() == e.to_bits() || (f.is_nan() && e.is_nan());
        assert!(same, "{what}, element {i}: {f:e} ({:08x}), expected {e:e} ({:08x})", f.to_bits(), e.to_bits());
    }
}

fn check(device: &HipBackend, what: &str, dtype: DType, [k, rows]: [usize; 2], bytes: &[u8], expected: &[f32]) {
    let ids = [rows as i32 - 1, 0, rows as i32 / 2];
    let [values, picked] = values_and_rows(device, dtype, [k, rows], bytes, &ids).unwrap();
    let what = format!("{what} on {}", device.device().name);
    compare(&what, &values, expected);
    let rows: Vec<f32> = ids.iter().flat_map(|&id| expected[id as usize * k..][..k].to_vec()).collect();
    compare(&format!("rows of {what}"), &picked, &rows);
}

fn random_bytes(n: usize, seed: u64) -> Vec<u8> {
    support::uniform(seed, n).iter().map(|x| (x.to_bits() >> 7) as u8).collect()
}

#[test]
fn any_bytes_are_read_as_the_scalar_functions_read_them() {
    for device in hip_devices() {
        for (seed, dtype) in DType::ALL.iter().copied().filter(|t| t.is_weight()).enumerate() {
            // Floats have rows of any length.
            let k = if dtype.is_quantized() { 512 } else { 45 };
            let bytes = random_bytes(dtype.row_bytes(k).unwrap() * 7, seed as u64);
            let mut expected = vec![0.0; k * 7];
            dequantize_row(dtype, &bytes, &mut expected).unwrap();
            check(&device, &format!("random {dtype}"), dtype, [k, 7], &bytes, &expected);
        }
    }
}

#[test]
fn vectors_of_ggml_are_read_as_ggml_reads_them() {
    let Some(folder) = support::conformance() else { return };
    let devices = hip_devices();
    for dtype in DType::ALL.iter().copied().filter(|t| t.is_weight()) {
        for kind in ["cos", "normal", "odd", "real", "bits"] {
            let file = |end| std::fs::read(folder.join(format!("quant/{dtype}.{kind}.{end}")));
            let (Ok(bytes), Ok(answer)) = (file("q"), file("f32")) else { continue };
            let answer: Vec<f32> = answer.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            for device in &devices {
                let shape = [answer.len() / 4, 4];
                check(device, &format!("{dtype}.{kind}"), dtype, shape, &bytes, &answer);
            }
        }
    }
}

#[test]
fn a_row_that_the_table_does_not_have_is_an_error_that_names_it() {
    for device in hip_devices() {
        for id in [7, -3] {
            let bytes = random_bytes(34 * 7, 1);
            let error = values_and_rows(&device, DType::Q8_0, [32, 7], &bytes, &[0, id]).unwrap_err();
            assert!(error.to_string().contains(&id.to_string()), "{error}");
        }
    }
}
