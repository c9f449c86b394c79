//! Against attention in f64, and bit for bit across token counts, units and partitions.

use super::super::memory::AlignedBuf;
use super::*;
use crate::tensor::HostTensor;
use half::f16;

#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    d: usize,
    d_v: usize,
    kv_type: DType,
    window: usize,
    softcap: f32,
    see_until: Option<usize>,
    sinks: bool,
}

const PLAIN: Shape = Shape {
    heads: 14,
    kv_heads: 2,
    d: 64,
    d_v: 64,
    kv_type: DType::F16,
    window: 0,
    softcap: 0.0,
    see_until: None,
    sinks: false,
};

/// A cache and the queries of tokens that sit in it at `slots`, their sequence beginning at `starts`.
struct Case {
    shape: Shape,
    capacity: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    k_bytes: Vec<u8>,
    v_bytes: Vec<u8>,
    starts: Vec<i32>,
    slots: Vec<i32>,
    sinks: Vec<f32>,
}

fn wave(n: usize, seed: u32) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2654435761) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as f32 / u32::MAX as f32 * 4.0 - 2.0
    };
    (0..n).map(|_| f16::from_f32(next()).to_f32()).collect()
}

impl Case {
    fn new(shape: Shape, capacity: usize, seen: &[(i32, i32)]) -> Case {
        let rounded = |n: usize, seed: u32| {
            let tensor = HostTensor::quantized(shape.kv_type, [n, 1, 1, 1], &wave(n, seed)).unwrap();
            (tensor.f32s().unwrap().into_owned(), tensor.bytes().into_owned())
        };
        let (k, k_bytes) = rounded(shape.kv_heads * capacity * shape.d, 1);
        let (v, v_bytes) = rounded(shape.kv_heads * capacity * shape.d_v, 2);
        Case {
            shape,
            capacity,
            q: wave(seen.len() * shape.heads * shape.d, 3),
            k_bytes,
            v_bytes,
            k,
            v,
            starts: seen.iter().map(|s| s.0).collect(),
            slots: seen.iter().map(|s| s.1).collect(),
            sinks: wave(shape.heads, 4),
        }
    }

    fn args(&self, t: usize, n: usize, out: &mut [f32]) -> AttentionArgs {
        let s = self.shape;
        AttentionArgs {
            q: self.q[t * s.heads * s.d..].as_ptr(),
            q_stride: s.heads * s.d,
            k: self.k_bytes.as_ptr(),
            k_strides: [1, self.capacity].map(|n| n * s.kv_type.row_bytes(s.d).unwrap()),
            v: self.v_bytes.as_ptr(),
            v_strides: [1, self.capacity].map(|n| n * s.kv_type.row_bytes(s.d_v).unwrap()),
            kv_type: s.kv_type,
            capacity: self.capacity,
            out: out.as_mut_ptr(),
            out_stride: s.heads * s.d_v,
            tokens: n,
            heads: s.heads,
            kv_heads: s.kv_heads,
            d: s.d,
            d_v: s.d_v,
            kv_start: self.starts[t..].as_ptr(),
            kv_slot: self.slots[t..].as_ptr(),
            see_until: s.see_until,
            window: s.window,
            scale: 0.3,
            softcap: s.softcap,
            sinks: if s.sinks { self.sinks.as_ptr() } else { std::ptr::null() },
        }
    }

    fn scratch(&self) -> AlignedBuf {
        let s = self.shape;
        let mut scratch = AlignedBuf::zeroed(scratch_bytes(s.kv_type, s.heads, s.kv_heads, s.d, s.d_v)).unwrap();
        // What is left there from before must not matter.
        bytemuck::cast_slice_mut::<u8, f32>(scratch.as_mut_slice()).fill(f32::NAN);
        scratch
    }

    /// Tokens t .. t + n in one call.
    fn run(&self, level: Level, t: usize, n: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; n * self.shape.heads * self.shape.d_v];
        let args = self.args(t, n, &mut out);
        // SAFETY: the buffers are those of the case.
        unsafe { attention(level, &args, 0..args.units(), self.scratch().as_mut_slice()) };
        out
    }

    /// The same by partitions, last unit first.
    fn run_split(&self, level: Level, t: usize, n: usize) -> Vec<f32> {
        let s = self.shape;
        let mut out = vec![f32::NAN; n * s.heads * s.d_v];
        let args = self.args(t, n, &mut out);
        let filled = self.capacity;
        let mut partials = AlignedBuf::zeroed(partials_bytes(n, s.heads, s.d_v, filled)).unwrap();
        let partials = partials.view().cast::<f32>().as_mut_ptr();
        for u in (0..args.partial_units(filled)).rev() {
            // SAFETY: the buffers are those of the case.
            unsafe { attention_partials(level, &args, filled, u..u + 1, partials, self.scratch().as_mut_slice()) };
        }
        for u in 0..args.units() {
            // SAFETY: as above, and all partial units are complete.
            unsafe { attention_merge(level, &args, filled, u..u + 1, partials, self.scratch().as_mut_slice()) };
        }
        out
    }

    /// A row's results in f64.
    fn expected(&self, t: usize, head: usize) -> Vec<f64> {
        let s = self.shape;
        let kv = head / (s.heads / s.kv_heads);
        let end = s.see_until.unwrap_or((self.slots[t] + 1) as usize).min(self.capacity);
        let mut start = self.starts[t] as usize;
        if s.window > 0 {
            start = start.max((self.slots[t] as usize + 1).saturating_sub(s.window));
        }
        let q = &self.q[(t * s.heads + head) * s.d..][..s.d];
        let mut weights = Vec::new();
        for j in start..end {
            let k = &self.k[(kv * self.capacity + j) * s.d..][..s.d];
            let mut x: f64 = 0.3 * q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            if s.softcap != 0.0 {
                x = f64::from(s.softcap) * (x / f64::from(s.softcap)).tanh();
            }
            weights.push((j, x));
        }
        let sink = if s.sinks { f64::from(self.sinks[head]) } else { f64::NEG_INFINITY };
        let max = weights.iter().fold(sink, |m, w| m.max(w.1));
        let sum: f64 = weights.iter().map(|w| (w.1 - max).exp()).sum::<f64>() + (sink - max).exp();
        let mut out = vec![0.0; s.d_v];
        for (j, x) in weights {
            let v = &self.v[(kv * self.capacity + j) * s.d_v..][..s.d_v];
            for (o, v) in out.iter_mut().zip(v) {
                *o += (x - max).exp() / sum * f64::from(*v);
            }
        }
        out
    }

    fn check(&self, name: &str) {
        for level in Level::available() {
            let (n, s) = (self.slots.len(), self.shape);
            let got = self.run(level, 0, n);
            let split = self.run_split(level, 0, n);
            assert!(same(&got, &split), "{name} {level}: partitions change results");
            for t in 0..n {
                for head in 0..s.heads {
                    let got = &got[(t * s.heads + head) * s.d_v..][..s.d_v];
                    for (got, want) in got.iter().zip(self.expected(t, head)) {
                        // Values are at most 2; scores carry d roundings of terms up to 0.3·4, and over q8_0 those of queries.
                        let bound = if s.kv_type == DType::Q8_0 { 2e-4 } else { 2e-5 };
                        assert!(
                            (f64::from(*got) - want).abs() < bound,
                            "{name} {level} token {t} head {head}: {got} {want}"
                        );
                    }
                }
            }
        }
    }
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn plain_shapes() {
    let prompt: Vec<(i32, i32)> = (0..9).map(|t| (0, t)).collect();
    Case::new(PLAIN, 16, &prompt).check("a short prompt");
    Case::new(PLAIN, 700, &[(0, 699)]).check("one token, two partitions");
    Case::new(PLAIN, 1300, &[(0, 1290), (0, 1291), (0, 1292)]).check("three tokens, three partitions");
    Case::new(PLAIN, 300, &[(0, 63), (0, 64), (100, 100), (70, 262), (250, 260)]).check("tokens of several sequences");
}

#[test]
fn head_sizes() {
    let seen: Vec<(i32, i32)> = (60..70).map(|t| (0, t)).collect();
    for (d, d_v) in [(8, 8), (20, 20), (80, 80), (128, 128), (256, 256), (192, 128), (96, 96), (1, 3)] {
        for kv_type in [DType::F16, DType::F32, DType::Bf16, DType::Q8_0] {
            if !is_supported(kv_type, d, d_v) {
                assert!(kv_type == DType::Q8_0 && !(d.is_multiple_of(32) && d_v.is_multiple_of(32)));
                continue;
            }
            let shape = Shape { d, d_v, kv_type, heads: 4, ..PLAIN };
            Case::new(shape, 80, &seen).check(&format!("d {d} d_v {d_v} {kv_type}"));
        }
    }
    for (heads, kv_heads) in [(1, 1), (3, 3), (5, 1), (6, 2), (40, 1)] {
        for kv_type in [DType::F16, DType::Q8_0] {
            let shape = Shape { heads, kv_heads, kv_type, ..PLAIN };
            Case::new(shape, 80, &seen).check(&format!("{heads} heads on {kv_heads}, {kv_type}"));
        }
    }
}

#[test]
fn what_tokens_see() {
    let seen: Vec<(i32, i32)> = (560..580).map(|t| (3, t)).collect();
    Case::new(Shape { window: 100, ..PLAIN }, 600, &seen).check("window");
    Case::new(Shape { window: 1, ..PLAIN }, 600, &seen).check("window of one");
    Case::new(Shape { softcap: 5.0, ..PLAIN }, 600, &seen).check("softcap");
    Case::new(Shape { see_until: Some(590), ..PLAIN }, 600, &seen).check("not causal");
    Case::new(Shape { kv_type: DType::Bf16, d: 80, d_v: 72, ..PLAIN }, 600, &seen).check("bf16");
    Case::new(Shape { sinks: true, window: 128, ..PLAIN }, 600, &seen).check("sinks");
    Case::new(Shape { kv_type: DType::Q8_0, window: 100, d_v: 96, ..PLAIN }, 600, &seen).check("q8_0");
    Case::new(Shape { kv_type: DType::Q8_0, softcap: 5.0, ..PLAIN }, 600, &seen).check("q8_0, softcap");
}

#[test]
fn a_token_gets_the_same_bits_alone_and_among_others() {
    let q8_0 = Shape { kv_type: DType::Q8_0, ..PLAIN };
    for shape in [PLAIN, Shape { d: 80, d_v: 80, heads: 6, kv_heads: 6, ..PLAIN }, Shape { window: 70, ..PLAIN }, q8_0]
    {
        let seen: Vec<(i32, i32)> = (490..540).map(|t| (0, t)).collect();
        let case = Case::new(shape, 600, &seen);
        for level in Level::available() {
            let all = case.run(level, 0, seen.len());
            let row = shape.heads * shape.d_v;
            for t in 0..seen.len() {
                assert!(same(&case.run(level, t, 1), &all[t * row..][..row]), "{level} token {t}");
            }
            assert!(same(&case.run(level, 5, 7), &all[5 * row..][..7 * row]));
        }
    }
}

#[test]
fn unseen_positions_do_not_matter() {
    let seen = [(10, 100), (20, 90)];
    for kv_type in [DType::F16, DType::F32, DType::Bf16, DType::Q8_0] {
        let mut case = Case::new(Shape { kv_type, ..PLAIN }, 200, &seen);
        for level in Level::available() {
            let clean = case.run(level, 0, 2);
            let row = kv_type.row_bytes(PLAIN.d).unwrap();
            for bytes in [&mut case.k_bytes, &mut case.v_bytes] {
                for (i, row) in bytes.chunks_mut(row).enumerate() {
                    if !(10..=100).contains(&(i % 200)) {
                        row.fill(0xff); // NaN in all types: in q8_0 it is the scale
                    }
                }
            }
            assert!(same(&clean, &case.run(level, 0, 2)), "{level}");
            // Not even what only the other token sees.
            let t1 = case.run(level, 1, 1);
            case.v_bytes[95 * row..96 * row].fill(0xff);
            case.k_bytes[95 * row..96 * row].fill(0xff);
            let both = case.run(level, 0, 2);
            assert!(same(&t1, &both[both.len() / 2..]), "{level}");
            assert!(both[0].is_nan());
            let fresh = Case::new(Shape { kv_type, ..PLAIN }, 200, &seen);
            (case.k_bytes, case.v_bytes) = (fresh.k_bytes, fresh.v_bytes);
        }
    }
}

#[test]
fn a_token_that_sees_nothing_gets_zeros() {
    let case = Case::new(PLAIN, 64, &[(5, 3), (0, 3)]);
    for level in Level::available() {
        let out = case.run(level, 0, 2);
        assert!(out[..PLAIN.heads * PLAIN.d_v].iter().all(|&x| x == 0.0));
        assert!(out[PLAIN.heads * PLAIN.d_v..].iter().any(|&x| x != 0.0));
        assert!(same(&out, &case.run_split(level, 0, 2)));
    }
}

#[test]
fn a_number_that_is_none_stays_visible() {
    // NaNs whose low bits are set reach the exponential as they are.
    for kv_type in [DType::F16, DType::F32, DType::Bf16] {
        let mut case = Case::new(Shape { kv_type, ..PLAIN }, 100, &[(0, 90)]);
        let row = kv_type.row_bytes(PLAIN.d).unwrap();
        case.k_bytes[7 * row..8 * row].fill(0xff);
        for level in Level::available() {
            assert!(case.run(level, 0, 1)[..PLAIN.d_v].iter().all(|x| x.is_nan()), "{kv_type} {level}");
        }
    }
}
