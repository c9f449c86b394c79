//! Every supported type on every level: against f64 products of what the kernels are given, and bit for bit across token counts.

use super::super::activations::quantize_q8a;
use super::super::memory::AlignedBuf;
use super::super::packed::{activation_type, is_supported};
use super::*;
use crate::backends::WeightSource;
use crate::tensor::quant::{dequantize_row, quantize_row};
use std::sync::Arc;

/// A reproducible generator of test numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }

    /// −1 .. 1.
    fn float(&mut self) -> f32 {
        self.next() as f32 / (1u32 << 30) as f32 - 1.0
    }
}

/// Rows of random quants whose scales are sensible numbers.
fn weights(dtype: DType, rows: usize, k: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0u8; dtype.row_bytes(k).unwrap() * rows];
    let mut row = vec![0f32; k];
    if crate::tensor::quant::can_quantize(dtype) {
        for dst in bytes.chunks_exact_mut(dtype.row_bytes(k).unwrap()) {
            let size = 0.3 + random.float().abs() * 3.0;
            row.iter_mut().for_each(|x| *x = random.float() * size);
            crate::tensor::quant::quantize_row(dtype, &row, dst).unwrap();
        }
        return bytes;
    }
    // Random bytes; rows that do not come out as tame numbers are drawn again.
    for dst in bytes.chunks_exact_mut(dtype.block_bytes()) {
        loop {
            dst.iter_mut().for_each(|b| *b = random.next() as u8);
            let mut values = vec![0f32; dtype.block_len()];
            dequantize_row(dtype, dst, &mut values).unwrap();
            if values.iter().all(|v| v.abs() < 1e3) && values.iter().any(|v| v.abs() > 1e-3) {
                break;
            }
        }
    }
    bytes
}

/// A file with one weight.
struct File(Vec<u8>);

impl WeightSource for File {
    fn bytes(&self, _: &str) -> Option<&[u8]> {
        Some(&self.0)
    }
}

struct Case {
    matrix: PackedMatrix,
    /// The same rows where a file has them.
    rows: PackedMatrix,
    /// Dequantized weights, row-major.
    w: Vec<f32>,
    /// Activation rows as the kernels take them, and what they stand for.
    x: Vec<u8>,
    activation: DType,
    x_values: Vec<f32>,
    x_row_bytes: usize,
    tokens: usize,
}

impl Case {
    /// With the activations that every level takes.
    fn new(dtype: DType, rows: usize, k: usize, tokens: usize) -> Case {
        Case::of((dtype, activation_type(dtype, k)), rows, k, tokens)
    }

    /// Weights and activations of these types.
    fn of((dtype, activation): (DType, DType), rows: usize, k: usize, tokens: usize) -> Case {
        let mut random = Random(rows as u64 * 7919 + k as u64);
        let bytes = weights(dtype, rows, k, &mut random);
        let mut w = vec![0f32; rows * k];
        for (src, dst) in bytes.chunks_exact(dtype.row_bytes(k).unwrap()).zip(w.chunks_exact_mut(k)) {
            dequantize_row(dtype, src, dst).unwrap();
        }
        let floats: Vec<f32> = (0..tokens * k).map(|_| random.float() * 2.0).collect();
        let (mut x, mut x_values) = (bytemuck::cast_slice(&floats).to_vec(), floats.clone());
        let x_row_bytes = activation.row_bytes(k).unwrap();
        if activation != DType::F32 {
            x = vec![0; tokens * x_row_bytes];
            quantize_row(activation, &floats, &mut x).unwrap();
            dequantize_row(activation, &x, &mut x_values).unwrap();
        }
        let matrix = PackedMatrix::pack(dtype, rows, k, &bytes).unwrap();
        let rows = PackedMatrix::in_place(dtype, rows, k, Arc::new(File(bytes)), "w").unwrap();
        Case { matrix, rows, w, x, activation, x_values, x_row_bytes, tokens }
    }

    /// Tokens `t .. t + n` on a level; outputs of a token are `rows + 3` apart and what is between is checked to stay as it is.
    fn run(&self, level: Level, t: usize, n: usize, panels: Range<usize>) -> Vec<f32> {
        let scratch = scratch_bytes(self.matrix.dtype(), self.matrix.k());
        self.multiply(&self.matrix, scratch, level, t, n, panels)
    }

    /// [`Case::run`] with the rows in the file.
    fn run_in_place(&self, level: Level, t: usize, n: usize, panels: Range<usize>) -> Vec<f32> {
        let scratch = rows_scratch_bytes(self.rows.dtype(), self.rows.k());
        self.multiply(&self.rows, scratch, level, t, n, panels)
    }

    fn multiply(
        &self,
        matrix: &PackedMatrix,
        scratch: usize,
        level: Level,
        t: usize,
        n: usize,
        panels: Range<usize>,
    ) -> Vec<f32> {
        let stride = self.matrix.rows() + 3;
        let mut out = vec![f32::NEG_INFINITY; n * stride];
        let mut scratch = AlignedBuf::zeroed(scratch).unwrap();
        // What an earlier product left there must not matter.
        scratch.as_mut_slice().fill(0xa5);
        let x = &self.x[t * self.x_row_bytes..];
        // SAFETY: n tokens follow at x; `out` has a row of `stride` for each.
        unsafe {
            let (x, out, scratch) = (x.as_ptr(), out.as_mut_ptr(), scratch.as_mut_slice());
            matmul(level, matrix, x, self.activation, self.x_row_bytes, n, panels.clone(), out, stride, scratch);
        }
        let rows = self.matrix.rows_of(panels);
        for row in out.chunks(stride) {
            assert!(row.iter().enumerate().all(|(i, v)| rows.contains(&i) || *v == f32::NEG_INFINITY));
        }
        out.chunks(stride).flat_map(|row| row[rows.clone()].to_vec()).collect()
    }

    fn all(&self, level: Level, t: usize, n: usize) -> Vec<f32> {
        self.run(level, t, n, 0..self.matrix.panels())
    }

    /// The product in f64 and the error bound of the module's documentation.
    fn expected(&self, t: usize, row: usize) -> (f64, f64) {
        let k = self.matrix.k();
        let (w, x) = (&self.w[row * k..][..k], &self.x_values[t * k..][..k]);
        let product = |(w, x): (&f32, &f32)| f64::from(*w) * f64::from(*x);
        let sum: f64 = w.iter().zip(x).map(product).sum();
        let size: f64 = w.iter().zip(x).map(|p| product(p).abs()).sum();
        let roundings = (k / 32) as f64 + if self.activation == DType::Q8A { 6.0 } else { 33.0 };
        // A block's dot product and its minimum may cancel: their sizes are bounded by those of weights without it.
        let cancel = if matches!(self.matrix.dtype(), DType::Q2K | DType::Q4K | DType::Q5K | DType::Q4_1 | DType::Q5_1)
        {
            4.0
        } else {
            1.0
        };
        (sum, size * cancel * roundings * 2f64.powi(-24))
    }
}

/// Weights and activations in rows of `k`: what every level takes, and bf16 times bf16.
fn kinds(k: usize) -> impl Iterator<Item = (DType, DType)> {
    types().map(move |t| (t, activation_type(t, k))).chain([(DType::Bf16, DType::Bf16)])
}

/// The same of floats.
const FLOATS: [(DType, DType); 4] =
    [(DType::F32, DType::F32), (DType::F16, DType::F32), (DType::Bf16, DType::F32), (DType::Bf16, DType::Bf16)];

fn types() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|&t| is_supported(t))
}

#[test]
fn products_are_within_the_stated_bound_on_every_level() {
    for (dtype, at_1024) in kinds(1024) {
        for (rows, k) in [(16, dtype.block_len().max(32)), (37, 768), (3, 1280)] {
            let activation = if at_1024 == DType::Q8A { activation_type(dtype, k) } else { at_1024 };
            let case = Case::of((dtype, activation), rows, k, 11);
            for level in Level::available() {
                let got = case.all(level, 0, case.tokens);
                for (i, &got) in got.iter().enumerate() {
                    let (want, bound) = case.expected(i / rows, i % rows);
                    assert!(
                        (f64::from(got) - want).abs() <= bound,
                        "{dtype} {rows}x{k} {level} token {} row {}: {got} instead of {want} ± {bound}",
                        i / rows,
                        i % rows,
                    );
                }
            }
        }
    }
}

#[test]
fn odd_lengths_of_float_rows() {
    for kind @ (dtype, activation) in FLOATS {
        for k in [1, 2, 7, 31, 33, 63, 129, 161] {
            let case = Case::of(kind, 17, k, 9);
            for level in Level::available() {
                for (i, &got) in case.all(level, 0, 9).iter().enumerate() {
                    let (want, bound) = case.expected(i / 17, i % 17);
                    assert!(
                        (f64::from(got) - want).abs() <= bound,
                        "{dtype} × {activation} k {k} {level}: {got} {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn products_of_rows_without_columns_are_zero() {
    for (dtype, activation) in FLOATS {
        let matrix = PackedMatrix::pack(dtype, 17, 0, &[]).unwrap();
        let mut scratch = AlignedBuf::zeroed(scratch_bytes(dtype, 0)).unwrap();
        for level in Level::available() {
            for tokens in [1, 5, 9, 300] {
                let mut out = vec![f32::NAN; tokens * 17];
                let (x, out_ptr, panels) = (std::ptr::dangling(), out.as_mut_ptr(), 0..matrix.panels());
                // SAFETY: rows of x have no bytes; `out` has 17 floats for each token.
                unsafe {
                    matmul(level, &matrix, x, activation, 0, tokens, panels, out_ptr, 17, scratch.as_mut_slice())
                };
                assert!(out.iter().all(|&v| v == 0.0), "{dtype} × {activation} {level}: {tokens} tokens");
            }
        }
    }
}

#[test]
fn odd_numbers_of_blocks() {
    for dtype in types().filter(|t| t.block_len() == 32) {
        for blocks in [1, 2, 3, 5, 7] {
            let case = Case::new(dtype, 18, 32 * blocks, 9);
            for level in Level::available() {
                for (i, &got) in case.all(level, 0, 9).iter().enumerate() {
                    let (want, bound) = case.expected(i / 18, i % 18);
                    assert!((f64::from(got) - want).abs() <= bound, "{dtype} {blocks} blocks {level}: {got} {want}");
                }
            }
        }
    }
}

#[test]
fn groups_that_rows_fill_in_part() {
    for dtype in types().filter(|t| t.is_quantized()) {
        for k in [768, 800, 832, 896, 928, 1024, 1088].into_iter().filter(|k| k % dtype.block_len() == 0) {
            let case = Case::new(dtype, 18, k, 9);
            for level in Level::available() {
                for (i, &got) in case.all(level, 0, 9).iter().enumerate() {
                    let (want, bound) = case.expected(i / 18, i % 18);
                    assert!((f64::from(got) - want).abs() <= bound, "{dtype} k {k} {level}: {got} {want}");
                }
            }
        }
    }
}

#[test]
fn a_token_gets_the_same_bits_alone_and_among_others() {
    for kind @ (dtype, activation) in kinds(768) {
        let (rows, k) = (35, 768);
        let case = Case::of(kind, rows, k, 33);
        for level in Level::available() {
            let alone: Vec<f32> = (0..33).flat_map(|t| case.all(level, t, 1)).collect();
            for n in [1, 2, 3, 7, 8, 9, 33] {
                let got = case.all(level, 0, n);
                assert!(
                    got.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{dtype} × {activation} {level} {n} tokens"
                );
            }
        }
    }
}

/// More tokens than pass two panels at a time.
#[test]
fn a_token_gets_the_same_bits_among_hundreds() {
    for kind @ (dtype, activation) in FLOATS {
        let (rows, k, tokens) = (35, 577, 259);
        let case = Case::of(kind, rows, k, tokens);
        for level in Level::available() {
            let got = case.all(level, 0, tokens);
            for t in [0, 5, 124, 125, 126, 127, 131, 251, 252, 253, 258] {
                let alone = case.all(level, t, 1);
                let among = &got[t * rows..(t + 1) * rows];
                let same = among.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{dtype} × {activation} {level} token {t}");
            }
        }
    }
}

#[test]
fn panel_ranges_do_not_change_results() {
    let types = [DType::Q4_0, DType::Q6K, DType::F16, DType::Q2K, DType::Iq3S, DType::Mxfp6E2m3];
    let kinds = types.map(|t| (t, activation_type(t, 512)));
    for kind @ (dtype, activation) in kinds.into_iter().chain([(DType::Bf16, DType::Bf16)]) {
        let case = Case::of(kind, 70, 512, 12);
        for level in Level::available() {
            let whole = case.all(level, 0, 12);
            for (panels, columns) in [(0..2, 0..32), (2..5, 32..70), (3..3, 48..48), (4..5, 64..70)] {
                let part = case.run(level, 0, 12, panels);
                let want: Vec<f32> = whole.chunks(70).flat_map(|row| row[columns.clone()].to_vec()).collect();
                assert_eq!(part, want, "{dtype} × {activation} {level}");
            }
        }
    }
}

#[test]
fn rows_in_a_file_give_the_bits_of_packed_ones() {
    for (dtype, at_1024) in kinds(1024) {
        for (rows, k) in [(19, dtype.block_len().max(32)), (37, 768), (1, 1280), (163, 1024)] {
            let activation = if at_1024 == DType::Q8A { activation_type(dtype, k) } else { at_1024 };
            let case = Case::of((dtype, activation), rows, k, 33);
            assert_eq!(case.rows.activation_type(), case.matrix.activation_type(), "{dtype} {k}");
            let panels = case.matrix.panels();
            for level in Level::available() {
                for (n, panels) in [(1, 0..panels), (9, panels / 2..panels), (33, 0..panels)] {
                    let packed = case.run(level, 0, n, panels.clone());
                    let found = case.run_in_place(level, 0, n, panels);
                    let same = packed.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same && packed.len() == found.len(), "{dtype} {rows} x {k} {level}, {n} tokens");
                }
            }
        }
    }
}

#[test]
fn extreme_weights_and_activations_do_not_overflow() {
    for dtype in types().filter(|&t| activation_type(t, 256) == DType::Q8A) {
        let (rows, k) = (16, 1024);
        for fill in [0x00u8, 0xff, 0x7f, 0x80] {
            // Quants at their ends; scales are then whatever the bytes say, tamed by the finite check below.
            let bytes = vec![fill; dtype.row_bytes(k).unwrap() * rows];
            let mut w = vec![0f32; rows * k];
            for (src, dst) in bytes.chunks_exact(dtype.row_bytes(k).unwrap()).zip(w.chunks_exact_mut(k)) {
                dequantize_row(dtype, src, dst).unwrap();
            }
            if w.iter().any(|v| !v.is_finite() || v.abs() > 1e30) {
                continue;
            }
            for sign in [1.0f32, -1.0] {
                let x: Vec<f32> = vec![sign * 127.0; k];
                let mut q = vec![0; DType::Q8A.row_bytes(k).unwrap()];
                quantize_q8a(Level::best(), &x, &mut q);
                let matrix = PackedMatrix::pack(dtype, rows, k, &bytes).unwrap();
                let rows = PackedMatrix::in_place(dtype, rows, k, Arc::new(File(bytes.clone())), "w").unwrap();
                let (w, activation, x_row_bytes) = (w.clone(), DType::Q8A, q.len());
                let case = Case { matrix, rows, w, activation, x_values: x, x_row_bytes, x: q, tokens: 1 };
                for level in Level::available() {
                    for (row, &got) in case.all(level, 0, 1).iter().enumerate() {
                        let (want, bound) = case.expected(0, row);
                        assert!((f64::from(got) - want).abs() <= bound, "{dtype} {fill:x} {level}: {got} {want}");
                    }
                }
            }
        }
    }
}
