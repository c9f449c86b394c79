//! Tokens that a device draws are those that the sampler draws from the same logits with the same random numbers.
#![cfg(feature = "hip")]

mod support;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use rocmforge::backends::hip::HipBackend;
use rocmforge::backends::{Backend, BackendError, DecodeRun, DeviceSampling, Program, States, WeightSource};
use rocmforge::engine::{Sampler, SamplerOptions};
use rocmforge::graph::passes::PassOptions;
use rocmforge::graph::plan::plan;
use rocmforge::graph::{Graph, Value};
use rocmforge::ops::{GetRows, Input, TensorType, Weight};
use rocmforge::tensor::{Bounds, DType, Shape};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use support::hip_devices;

/// How far from the host's a boundary between two tokens may lie, as a share of the sum (`kernels/sample.hip`).
const NEAR: f64 = 1.0 / (1u64 << 27) as f64;

/// Draws from all tokens.
fn off() -> SamplerOptions {
    SamplerOptions { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..SamplerOptions::default() }
}

struct Rows(Vec<u8>);

impl WeightSource for Rows {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        (name == "w").then_some(&self.0)
    }
}

/// A model whose logits after token `t` are row `t` of a table.
struct Table {
    rows: Vec<Vec<f32>>,
    program: Box<dyn Program>,
    states: Box<dyn States>,
}

impl Table {
    fn new(device: &HipBackend, rows: &[Vec<f32>]) -> Table {
        let bounds = Bounds { t: 1, s: 64, r: 1 };
        let mut graph = Graph::new("table", bounds);
        let n = rows[0].len();
        let weight = Weight { ty: TensorType::new(DType::F32, Shape::new(&[n, rows.len()])) };
        let weight = Value::first(graph.add(weight, &[], Some("w")).unwrap());
        let tokens = Input { ty: TensorType::i32(Shape::new(&[1])) };
        let tokens = Value::first(graph.add(tokens, &[], Some("tokens")).unwrap());
        let logits = graph.add(GetRows {}, &[weight, tokens], None).unwrap();
        graph.set_output("logits", Value::first(logits));
        let plan = plan(&graph, bounds, device.target(), &PassOptions::default()).unwrap();
        let bytes = rows.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
        let weights = device.load(&plan.weights, Arc::new(Rows(bytes)), &mut |_| true).unwrap();
        let program = device.lower(&plan, &weights).unwrap();
        let states = device.states(&plan).unwrap();
        let allocated = program.allocated();
        assert_eq!((allocated.arena, allocated.scratch), (plan.bill.arena, plan.bill.scratch));
        Table { rows: rows.to_vec(), program, states }
    }

    /// As many tokens as there are draws, the first one from row `token`; `None` if the device does not do this.
    fn run(&mut self, token: usize, options: &SamplerOptions, draws: &[f64]) -> Option<Result<Vec<u32>, BackendError>> {
        let sampling = DeviceSampling {
            bias: &options.logit_bias,
            temperature: options.temperature,
            top_k: options.top_k,
            top_p: options.top_p,
            min_p: options.min_p,
            draws,
        };
        let (cancel, mut found) = (AtomicBool::new(false), Vec::new());
        let run = DecodeRun { token: token as u32, position: 0, count: draws.len(), sampling, cancel: &cancel };
        let outcome = self.program.decode_many(&mut *self.states, &run, &mut |id| {
            found.push(id);
            true
        })?;
        Some(outcome.map(|_| found))
    }

    /// A draw from a row, compared with the host's; whether it is the same, and not just near.
    fn compare(&mut self, row: usize, options: &SamplerOptions, draw: f64) -> bool {
        let found = self.run(row, options, &[draw]).expect("the device samples").unwrap()[0];
        let logits = &self.rows[row];
        let mut sampler = Sampler::new(options.clone()).unwrap();
        let expected = sampler.sample_at(logits, draw).unwrap();
        if found == expected {
            return true;
        }
        let mut logits = logits.clone();
        for &(id, bias) in &options.logit_bias {
            logits[id as usize] += bias;
        }
        let place = |id: u32| (-order(logits[id as usize]), id);
        let mut at = |draw: f64| place(sampler.sample_at(&self.rows[row], draw.max(0.0)).unwrap());
        // Behind its last token the host's sum may leave a rest, which it gives to the first.
        let last = if draw + NEAR < 1.0 { at(draw + NEAR) } else { (i64::MAX, 0) };
        let near = (at(draw - NEAR)..=last).contains(&place(found));
        let kept = weights(&logits, options).iter().any(|w| w.0 == found);
        assert!(near && kept, "{found} instead of {expected}, draw {draw} of {} logits with {options:?}", logits.len());
        false
    }
}

/// The largest number below 1.
const LAST: f64 = 1.0 - f64::EPSILON / 2.0;

/// An integer in the order of floats, with which -0 is below +0.
fn order(x: f32) -> i64 {
    let bits = i64::from(x.to_bits() & 0x7fff_ffff);
    if x.is_sign_negative() { -bits - 1 } else { bits }
}

/// Numbers with the normal distribution.
fn normal(rng: &mut Pcg64, deviation: f32) -> f32 {
    let (a, b): (f64, f64) = (rng.random(), rng.random());
    ((-2.0 * (1.0 - a).ln()).sqrt() * (b * std::f64::consts::TAU).cos()) as f32 * deviation
}

/// Logits of every kind that a model can have, and of some that none has.
fn distributions(n: usize) -> Vec<Vec<f32>> {
    let mut rng = Pcg64::seed_from_u64(n as u64);
    let mut row = |f: &mut dyn FnMut(&mut Pcg64, usize) -> f32| (0..n).map(|i| f(&mut rng, i)).collect::<Vec<f32>>();
    let mut all = vec![
        row(&mut |rng, _| normal(rng, 3.0)),
        row(&mut |rng, _| normal(rng, 0.05)),
        row(&mut |_, _| -2.5),
        row(&mut |rng, i| if i == n / 2 { 30.0 } else { normal(rng, 1.0) }),
        row(&mut |rng, _| (normal(rng, 3.0) * 2.0).round() / 2.0),
        row(&mut |rng, _| if rng.random() { f32::NEG_INFINITY } else { normal(rng, 2.0) }),
        row(&mut |_, i| 12.0 - i as f32 * 24.0 / n as f32),
        row(&mut |_, i| i as f32 * 1e-7 - 1.0),
        row(&mut |rng, _| [-0.0, 0.0, -1.0][rng.random_range(0..3)]),
        row(&mut |rng, _| [-3e38, 3e38, 1e-40, -1e30, 2.9e38][rng.random_range(0..5)]),
        row(&mut |rng, i| if i % 5 == 0 { 200.0 } else { normal(rng, 40.0) }),
    ];
    // At least one token can be chosen.
    all[5][n / 3] = 1.0;
    all
}

fn options(rng: &mut Pcg64, n: usize) -> SamplerOptions {
    let mut of = |list: &[f32]| list[rng.random_range(0..list.len())];
    let (temperature, top_p) = (of(&[1e-3, 0.5, 0.8, 1.0, 100.0]), of(&[0.0, 1e-6, 0.3, 0.95, 0.999_999, 1.0, 1.0]));
    let min_p = of(&[0.0, 0.0, 0.05, 1.0]);
    let top_k = [0, 0, 1, 2, 40, 1000, 1024, 1025, n - 1, n, n + 1][rng.random_range(0..11)];
    let mut logit_bias = Vec::new();
    if rng.random_range(0..3) == 0 {
        let mut id = rng.random_range(0..n as u32);
        logit_bias.push((id, [2.0, -100.0, f32::NEG_INFINITY][rng.random_range(0..3)]));
        id = (id + 1) % n as u32;
        if n > 1 {
            logit_bias.push((id, 1.5));
        }
    }
    SamplerOptions { temperature, top_k, top_p, min_p, logit_bias, ..off() }
}

/// Compares many draws; few may be decided by rounding.
fn compare_some(n: usize, times: usize) {
    let rows = distributions(n);
    for device in hip_devices() {
        let mut table = Table::new(&device, &rows);
        let mut rng = Pcg64::seed_from_u64(7);
        let (mut same, mut all) = (0, 0);
        for time in 0..times {
            let row = time % rows.len();
            let options = options(&mut rng, n);
            let mut sampler = Sampler::new(options.clone()).unwrap();
            if sampler.sample_at(&rows[row], 0.0).is_err() {
                assert!(table.run(row, &options, &[0.0]).unwrap().is_err());
                continue;
            }
            table.compare(row, &options, [0.0, LAST][time % 2]);
            for draw in [rng.random(), rng.random()] {
                same += usize::from(table.compare(row, &options, draw));
                all += 1;
            }
        }
        assert!(same + all / 100 + 1 >= all, "{same} of {all} draws are the host's");
    }
}

#[test]
fn small_vocabularies() {
    for (n, times) in [(1, 22), (2, 44), (3, 44), (31, 110), (257, 110), (1000, 110)] {
        compare_some(n, times);
    }
}

#[test]
fn vocabularies_around_the_number_of_peaks() {
    for n in [4096, 4097, 5003] {
        compare_some(n, 22);
    }
}

#[test]
fn a_large_vocabulary() {
    compare_some(152_064, 11);
}

/// The id as a function of the draw: it changes where the host's does.
#[test]
fn boundaries_between_tokens_are_the_hosts() {
    let sets = [
        SamplerOptions { ..off() },
        SamplerOptions { temperature: 0.7, top_k: 40, top_p: 0.95, min_p: 0.02, ..off() },
        SamplerOptions { temperature: 1.3, top_p: 0.9, ..off() },
        SamplerOptions { temperature: 2.0, min_p: 0.01, ..off() },
        SamplerOptions { temperature: 100.0, top_k: 1500, top_p: 0.999_999, ..off() },
        SamplerOptions { temperature: 1e-3, top_p: 0.9, ..off() },
    ];
    for n in [61, 3001] {
        let rows = distributions(n);
        for device in hip_devices() {
            let mut table = Table::new(&device, &rows);
            for (row, options) in [0, 1, 4, 6].iter().flat_map(|row| sets.iter().map(move |set| (*row, set))) {
                let weights = weights(&rows[row], options);
                let total: f64 = weights.iter().map(|w| w.1).sum();
                let (mut sum, mut checked) = (0.0, 0);
                for (index, &(id, weight)) in weights.iter().enumerate() {
                    let (before, after) = (sum / total, (sum + weight) / total);
                    sum += weight;
                    // Of many boundaries some; none so near to the next that both are within rounding.
                    if after - before < 3.0 * NEAR || index % (weights.len() / 8 + 1) != 0 {
                        continue;
                    }
                    for draw in [before + NEAR, after - NEAR] {
                        let found = table.run(row, options, &[draw]).unwrap().unwrap();
                        assert_eq!(found, [id], "row {row} of {n}, draw {draw}, {options:?}");
                        checked += 2;
                    }
                }
                assert!(checked > 0, "row {row} of {n}, {options:?}");
            }
        }
    }
}

/// The tokens that are left, in their order, with e^((logit - largest) / temperature): the chain as it is defined.
fn weights(logits: &[f32], options: &SamplerOptions) -> Vec<(u32, f64)> {
    let mut left: Vec<(f32, u32)> = logits.iter().zip(0..).map(|(&l, id)| (l, id)).collect();
    left.retain(|c| c.0 > f32::NEG_INFINITY);
    left.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    if options.top_k > 0 {
        left.truncate(options.top_k);
    }
    let top = left[0].0;
    let weight = |l: f32, temperature: f32| ((f64::from(l) - f64::from(top)) / f64::from(temperature)).exp();
    let total: f64 = left.iter().map(|c| weight(c.0, 1.0)).sum();
    let mut sum = 0.0;
    let mut done = false;
    left.retain(|c| {
        let keep = !done;
        sum += weight(c.0, 1.0);
        done |= sum >= f64::from(options.top_p) * total;
        keep || options.top_p >= 1.0
    });
    left.retain(|c| options.min_p == 0.0 || c.0 >= top + options.min_p.ln());
    left.into_iter().map(|(l, id)| (id, weight(l, options.temperature))).collect()
}

#[test]
fn how_often_tokens_come() {
    let rows = [[0.15f32, 0.5, 0.05, 0.3].iter().map(|p| p.ln()).collect::<Vec<_>>()];
    let options = SamplerOptions { top_p: 0.9, ..off() };
    for device in hip_devices() {
        let mut table = Table::new(&device, &rows);
        let mut counts = [0; 4];
        for i in 0..380 {
            let draw = (f64::from(i) + 0.5) / 380.0;
            counts[table.run(0, &options, &[draw]).unwrap().unwrap()[0] as usize] += 1;
        }
        // 0.5, 0.3 and 0.15 of 0.95.
        assert_eq!(counts, [60, 200, 0, 120]);
    }
}

/// Each token of a run has its own draw, and nothing of a token is left for the next.
#[test]
fn a_run_of_tokens() {
    let n = 512;
    let mut rng = Pcg64::seed_from_u64(5);
    let rows: Vec<Vec<f32>> = (0..n).map(|_| (0..n).map(|_| normal(&mut rng, 1.5)).collect()).collect();
    let draws: Vec<f64> = (0..40).map(|_| rng.random()).collect();
    for device in hip_devices() {
        let mut table = Table::new(&device, &rows);
        for (temperature, top_k, top_p) in
            [(0.8, 40, 0.95), (1.0, 0, 0.95), (1.2, 0, 1.0), (0.0, 40, 0.5), (1.0, 300, 1.0)]
        {
            let bias = vec![(3, 1.0), (9, f32::NEG_INFINITY)];
            for logit_bias in [Vec::new(), bias] {
                let options = SamplerOptions { temperature, top_k, top_p, logit_bias, ..off() };
                let mut sampler = Sampler::new(options.clone()).unwrap();
                let mut token = 1;
                let expected: Vec<u32> = draws
                    .iter()
                    .map(|&draw| {
                        token = sampler.sample_at(&rows[token as usize], draw).unwrap();
                        token
                    })
                    .collect();
                assert_eq!(table.run(1, &options, &draws).unwrap().unwrap(), expected, "{options:?}");
            }
        }
    }
}

#[test]
fn logits_that_are_not_numbers_are_errors() {
    let n = 5000;
    let bad = [f32::NAN, f32::INFINITY, -f32::NAN];
    let mut rows: Vec<Vec<f32>> =
        bad.iter().map(|&x| (0..n).map(|i| if i == 4321 { x } else { 1.0 }).collect()).collect();
    rows.push(vec![f32::NEG_INFINITY; n]);
    rows.push((0..n).map(|i| if i == 77 { -1e30 } else { f32::NEG_INFINITY }).collect());
    for device in hip_devices() {
        let mut table = Table::new(&device, &rows);
        for top_k in [0, 40, 2000] {
            let options = SamplerOptions { top_k, top_p: 0.9, ..off() };
            for row in 0..4 {
                let error = table.run(row, &options, &[0.5]).unwrap().unwrap_err();
                assert!(error.to_string().contains("NaN or infinite"), "{error}");
            }
            assert_eq!(table.run(4, &options, &[0.5]).unwrap().unwrap(), [77]);
        }
    }
}

#[test]
fn what_the_sampler_refuses_no_device_does() {
    for device in hip_devices() {
        let mut table = Table::new(&device, &[vec![0.0; 8]]);
        for (temperature, top_p, min_p) in
            [(f32::NAN, 1.0, 0.0), (f32::INFINITY, 1.0, 0.0), (1.0, 1.5, 0.0), (1.0, f32::NAN, 0.0), (1.0, 1.0, -0.5)]
        {
            assert!(table.run(0, &SamplerOptions { temperature, top_p, min_p, ..off() }, &[0.5]).is_none());
        }
        let sampling = DeviceSampling { temperature: 1.0, draws: &[0.5], ..DeviceSampling::GREEDY };
        let cancel = AtomicBool::new(false);
        let run = DecodeRun { token: 0, position: 0, count: 2, sampling, cancel: &cancel };
        assert!(table.program.decode_many(&mut *table.states, &run, &mut |_| true).is_none(), "draws are missing");
    }
}
