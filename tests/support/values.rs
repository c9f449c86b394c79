//! Random values for every input, weight and state of a graph.

use rocmforge::graph::{Graph, Values};
use rocmforge::ops::{Op, TensorType};
use rocmforge::tensor::{Bounds, DType, HostTensor};

/// What a run of a graph needs.
pub struct Bound {
    pub inputs: Values,
    pub weights: Values,
    /// With the capacity of the graph's bounds.
    pub states: Values,
}

/// Whose tokens a step carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sequence {
    /// One sequence: the last tokens of the cache.
    One,
    /// The second half of the tokens belongs to a sequence that begins in the middle of the cache.
    Two,
}

/// Values in [-1, 1) (weights: divided by the root of their rows' length). Inputs of i32 are bound by name: `kv_slot` and `positions`
/// count to the end of the cache, `kv_start` is where the sequence begins,
/// `rows` are tokens of the step, others are 0 or 1.
pub fn bind(graph: &Graph, bounds: &Bounds, seed: u64, sequence: Sequence) -> Bound {
    let mut bound = Bound { inputs: Values::new(), weights: Values::new(), states: Values::new() };
    for id in graph.ids() {
        let node = graph.node(id);
        let label = node.label.clone().unwrap_or_default();
        let seed = seed * 1000 + id.index() as u64;
        let (values, ty) = (&mut bound, &node.types[0]);
        match node.op {
            Op::Input(_) if ty.dtype == DType::I32 => {
                let n = ty.shape.eval(bounds)[0];
                values.inputs.insert(label.clone(), integers(&label, n, bounds, seed, sequence));
            }
            Op::Input(_) => {
                values.inputs.insert(label, random(ty, bounds, seed, 1.0));
            }
            Op::Weight(_) => {
                let scale = 1.0 / (ty.shape.eval(bounds)[0] as f32).sqrt();
                let scale = if ty.shape.rank() > 1 { scale } else { 1.0 };
                values.weights.insert(label, random(ty, bounds, seed, scale));
            }
            Op::State(_) => {
                values.states.insert(label, random(ty, &graph.bounds, seed, 1.0));
            }
            _ => {}
        }
    }
    bound
}

fn integers(label: &str, n: usize, bounds: &Bounds, seed: u64, sequence: Sequence) -> HostTensor {
    let (s, half) = (bounds.s as i32, n.div_ceil(2) as i32);
    let middle = s / 2;
    // With two sequences the first ends before the middle of the cache, the second at its end.
    let two = sequence == Sequence::Two && half <= middle;
    let value = |i: i32| match label {
        "kv_slot" | "positions" if two && i < half => middle - half + i,
        "kv_slot" | "positions" => (s - n as i32 + i).max(0),
        "kv_start" if two && i >= half => middle,
        "kv_start" => 0,
        "rows" => i % bounds.t.max(1) as i32,
        _ => (seed as i32 + 7 * i).rem_euclid(2),
    };
    HostTensor::from_i32([n, 1, 1, 1], (0..n as i32).map(value).collect()).unwrap()
}

fn random(ty: &TensorType, bounds: &Bounds, seed: u64, scale: f32) -> HostTensor {
    let ne = ty.shape.eval(bounds);
    let values: Vec<f32> = super::uniform(seed, ne.iter().product()).iter().map(|x| x * scale).collect();
    HostTensor::quantized(ty.dtype, ne, &values).unwrap()
}

/// The largest difference, relative to the largest value or 1. Infinities and NaN are equal to their like only.
pub fn difference(found: &[f32], truth: &[f32]) -> f32 {
    if found.len() != truth.len() {
        return f32::INFINITY;
    }
    let largest = truth.iter().filter(|x| x.is_finite()).fold(1f32, |m, x| m.max(x.abs()));
    let one = |(a, b): (&f32, &f32)| {
        let same = a == b || (a.is_nan() && b.is_nan());
        if same {
            0.0
        } else if (a - b).is_finite() {
            (a - b).abs() / largest
        } else {
            f32::INFINITY
        }
    };
    found.iter().zip(truth).map(one).fold(0.0, f32::max)
}
