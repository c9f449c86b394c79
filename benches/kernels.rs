//! Speed of the CPU kernels on one thread, beside what the machine can do.
//!
//! `cargo bench --bench kernels -- <filter>`; run it on a quiet machine. Throughput of matrix kernels is in weight bytes for one
//! token (to be held against the memory's read bandwidth) and in multiply-adds × 2 for many (against the peaks, printed first).

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rocmforge::backends::cpu::simd::Level;
use rocmforge::backends::cpu::simd::activations::quantize_q8a;
use rocmforge::backends::cpu::simd::attention::{self, AttentionArgs, attention};
use rocmforge::backends::cpu::simd::matmul::{matmul, scratch_bytes};
use rocmforge::backends::cpu::simd::memory::AlignedBuf;
use rocmforge::backends::cpu::simd::packed::{PackedMatrix, activation_type};
use rocmforge::backends::cpu::simd::pool::Pool;
use rocmforge::tensor::DType;
use rocmforge::tensor::quant::quantize_row;
use std::hint::black_box;
use std::time::Duration;

const TYPES: [DType; 24] = [
    DType::Q2K,
    DType::Q3K,
    DType::Tq1_0,
    DType::Tq2_0,
    DType::Q1_0,
    DType::Q2_0,
    DType::Nvfp4,
    DType::Iq1S,
    DType::Iq1M,
    DType::Iq2Xxs,
    DType::Iq2Xs,
    DType::Iq2S,
    DType::Iq3Xxs,
    DType::Iq3S,
    DType::Q4_0,
    DType::Q8_0,
    DType::Q4K,
    DType::Q6K,
    DType::Q5_0,
    DType::Iq4Xs,
    DType::Mxfp4,
    DType::F16,
    DType::Bf16,
    DType::F32,
];

struct Product {
    w: PackedMatrix,
    x: Vec<u8>,
    x_row_bytes: usize,
    tokens: usize,
    out: Vec<f32>,
    scratch: AlignedBuf,
}

impl Product {
    fn new(dtype: DType, rows: usize, k: usize, tokens: usize) -> Product {
        let row = dtype.row_bytes(k).expect("whole blocks");
        let mut src = vec![0; row * rows];
        let values: Vec<f32> = (0..k).map(|i| (i * 29 % 211) as f32 * 0.01 - 1.0).collect();
        // One row, quantized where that is possible; else bytes of which tame scales come out.
        if quantize_row(dtype, &values, &mut src[..row]).is_err() {
            src[..row].iter_mut().enumerate().for_each(|(i, b)| *b = (100 + i * 7 % 20) as u8);
        }
        let (first, rest) = src.split_at_mut(row);
        rest.chunks_exact_mut(row).for_each(|dst| dst.copy_from_slice(first));
        let floats: Vec<f32> = (0..tokens * k).map(|i| (i % 113) as f32 * 0.01 - 0.5).collect();
        let x_row_bytes = activation_type(dtype, k).row_bytes(k).expect("whole blocks");
        let mut x = vec![0; tokens * x_row_bytes];
        if activation_type(dtype, k) == DType::Q8A {
            quantize_q8a(Level::best(), &floats, &mut x);
        } else {
            x.copy_from_slice(bytemuck::cast_slice(&floats));
        }
        Product {
            w: PackedMatrix::pack(dtype, rows, k, &src).expect("a good shape"),
            x,
            x_row_bytes,
            tokens,
            out: vec![0.0; tokens * rows],
            scratch: AlignedBuf::zeroed(scratch_bytes(dtype, k)).expect("memory"),
        }
    }

    fn run(&mut self, level: Level) {
        let (x, out, scratch) = (self.x.as_ptr(), self.out.as_mut_ptr(), self.scratch.as_mut_slice());
        // SAFETY: the buffers are as long as the shape says.
        unsafe {
            let panels = 0..self.w.panels();
            matmul(
                level,
                &self.w,
                x,
                self.w.activation_type(),
                self.x_row_bytes,
                self.tokens,
                panels,
                out,
                self.w.rows(),
                scratch,
            );
        }
        black_box(&self.out);
    }
}

/// One token, weights in the second-level cache and in memory.
fn gemv(c: &mut Criterion) {
    let mut g = c.benchmark_group("gemv");
    for dtype in TYPES {
        for (place, target) in [("cache", 400 << 10), ("memory", 512 << 20)] {
            let k = if dtype.block_len() == 256 { 1024 } else { 896 };
            let rows = (target / dtype.row_bytes(k).expect("whole blocks")).next_multiple_of(16);
            let mut p = Product::new(dtype, rows, k, 1);
            g.throughput(Throughput::Bytes(p.w.bytes() as u64));
            g.bench_function(BenchmarkId::new(dtype.name(), place), |b| b.iter(|| p.run(Level::best())));
        }
    }
}

/// 512 tokens against the two shapes of a feed-forward block.
fn gemm(c: &mut Criterion) {
    let mut g = c.benchmark_group("gemm");
    for dtype in TYPES {
        for (rows, k) in [(4864, 1024), (1024, 4864)] {
            for level in Level::available().into_iter().skip(1) {
                let k = if dtype.block_len() == 256 { k / 256 * 256 } else { k };
                let mut p = Product::new(dtype, rows, k, 512);
                g.throughput(Throughput::Elements((2 * rows * k * 512) as u64));
                let id = BenchmarkId::new(format!("{dtype}/{level}"), format!("{rows}x{k}"));
                g.bench_function(id, |b| b.iter(|| p.run(level)));
            }
        }
    }
}

/// What the machine can do: sequential reads, and int8 and f32 multiply-adds from registers.
fn peaks(c: &mut Criterion) {
    let mut g = c.benchmark_group("peak");
    let memory: Vec<u64> = (0..(512usize << 20) / 8).map(|i| i as u64).collect();
    g.throughput(Throughput::Bytes(512 << 20));
    g.bench_function("read", |b| b.iter(|| memory.iter().fold(0u64, |a, x| a ^ x)));
    #[cfg(target_arch = "x86_64")]
    if matches!(Level::best(), Level::Avx512 | Level::Avx512Bf16) {
        const ROUNDS: u64 = 100_000;
        g.throughput(Throughput::Elements(ROUNDS * 16 * 128));
        // SAFETY: the level is available.
        g.bench_function("int8", |b| b.iter(|| unsafe { dpbusd(ROUNDS, black_box(3)) }));
        g.throughput(Throughput::Elements(ROUNDS * 16 * 32));
        // SAFETY: the level is available.
        g.bench_function("f32", |b| b.iter(|| unsafe { fma(ROUNDS, black_box(1.0)) }));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dpbusd(rounds: u64, x: i32) -> i32 {
    use std::arch::x86_64::*;
    let mut acc = [_mm512_set1_epi32(x); 16];
    for i in 0..rounds {
        let w = _mm512_set1_epi32(i as i32);
        for a in &mut acc {
            // The accumulator is also a factor, so that nothing can be hoisted.
            *a = _mm512_dpbusd_epi32(*a, w, *a);
        }
    }
    acc.into_iter().map(|a| _mm512_reduce_add_epi32(a)).fold(0, i32::wrapping_add)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn fma(rounds: u64, x: f32) -> f32 {
    use std::arch::x86_64::*;
    let mut acc = [_mm512_set1_ps(x); 16];
    let w = _mm512_set1_ps(black_box(0.5));
    for _ in 0..rounds {
        for a in &mut acc {
            *a = _mm512_fmadd_ps(*a, w, w);
        }
    }
    acc.into_iter().map(|a| _mm512_reduce_add_ps(a)).sum()
}

/// An empty run and a barrier.
fn pool(c: &mut Criterion) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = Pool::new(threads).expect("threads");
    c.bench_function("pool/run", |b| {
        b.iter(|| {
            pool.run(&|tid| {
                black_box(tid);
            })
        })
    });
    c.bench_function("pool/100 barriers", |b| {
        b.iter(|| {
            pool.run(&|_| {
                for _ in 0..100 {
                    let _ = pool.barrier_wait();
                }
            })
        });
    });
}

/// One layer of a small model (14 heads on 2, 64 wide): a token at depth 4096, and a prompt of 512.
fn attend(c: &mut Criterion) {
    let (heads, kv_heads, d, capacity) = (14, 2, 64, 4608);
    let mut g = c.benchmark_group("attention");
    for (name, depth, tokens) in [("decode at 4096", 4096, 1), ("prompt of 512", 0, 512), ("512 at 4096", 4096, 512)] {
        let q: Vec<f32> = (0..tokens * heads * d).map(|i| (i % 31) as f32 * 0.01 - 0.15).collect();
        let cache: Vec<u16> = (0..kv_heads * capacity * d).map(|i| 0x2c00 + (i * 37 % 1024) as u16).collect();
        let mut out = vec![0f32; tokens * heads * d];
        let starts = vec![0i32; tokens];
        let slots: Vec<i32> = (0..tokens).map(|t| (depth + t) as i32).collect();
        let args = AttentionArgs {
            q: q.as_ptr(),
            q_stride: heads * d,
            k: cache.as_ptr().cast(),
            k_strides: [2 * d, 2 * d * capacity],
            v: cache.as_ptr().cast(),
            v_strides: [2 * d, 2 * d * capacity],
            kv_type: DType::F16,
            capacity,
            out: out.as_mut_ptr(),
            out_stride: heads * d,
            tokens,
            heads,
            kv_heads,
            d,
            d_v: d,
            kv_start: starts.as_ptr(),
            kv_slot: slots.as_ptr(),
            see_until: None,
            window: 0,
            scale: 0.125,
            softcap: 0.0,
            sinks: std::ptr::null(),
        };
        let mut scratch =
            AlignedBuf::zeroed(attention::scratch_bytes(DType::F16, heads, kv_heads, d, d)).expect("memory");
        let pairs: usize = slots.iter().map(|s| *s as usize + 1).sum();
        g.throughput(Throughput::Elements((pairs * heads * d * 4) as u64));
        for level in Level::available().into_iter().skip(1) {
            g.bench_function(BenchmarkId::new(level.name(), name), |b| {
                // SAFETY: the buffers are as large as the shapes say.
                b.iter(|| unsafe { attention(level, &args, 0..args.units(), scratch.as_mut_slice()) })
            });
        }
    }
}

fn quantize(c: &mut Criterion) {
    let x: Vec<f32> = (0..4864).map(|i| (i % 113) as f32 * 0.01 - 0.5).collect();
    let mut out = vec![0; DType::Q8A.row_bytes(x.len()).expect("whole blocks")];
    let mut g = c.benchmark_group("quantize");
    g.throughput(Throughput::Elements(x.len() as u64));
    for level in Level::available() {
        g.bench_function(level.name(), |b| b.iter(|| quantize_q8a(level, black_box(&x), &mut out)));
    }
}

criterion_group! {
    name = kernels;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1000))
        .sample_size(10);
    targets = peaks, gemv, gemm, attend, quantize, pool
}
criterion_main!(kernels);
