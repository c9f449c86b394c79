//! The emulator of HIP devices: that it computes what a device would, and refuses what a device leaves undefined.
#![cfg(feature = "hip")]

mod support;

use libloading::Library;
use rocmforge::tensor::{DType, HostTensor};
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

type Pointer = *mut c_void;

/// One emulated device with the kernels of `tests/kernels/emulator.hip`.
struct Device {
    library: Library,
    wave: usize,
}

macro_rules! call {
    ($device:expr, $name:ident, $($type:ty => $value:expr),*) => {{
        // SAFETY: the types are those of AMD's header, with which the emulator exports the symbol.
        unsafe {
            let f = $device.library.get::<unsafe extern "C" fn($($type),*) -> c_int>(stringify!($name)).unwrap();
            f($($value),*)
        }
    }};
}

fn devices() -> Vec<Device> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels");
    let sources = ["emulator", "matrix_host_layout", "matrix_wmma11", "matrix_mma", "matrix_none", "attention_wmma11"];
    let sources = sources.map(|stem| folder.join(stem).with_extension("hip"));
    let sources: Vec<&Path> = sources.iter().map(|s| s.as_path()).collect();
    let Some(libraries) = support::emulator::build("hip-emulator-test", &sources) else { return Vec::new() };
    let open = |(path, wave): (_, usize)| {
        // SAFETY: the library's initializers only fill its list of kernels.
        let library = unsafe { Library::new(path).unwrap() };
        Device { library, wave }
    };
    libraries.iter().zip([32, 64]).map(open).collect()
}

impl Device {
    fn text(&self, function: &str, code: c_int) -> String {
        // SAFETY: both functions that give texts have this signature; the text is valid until this thread's next error.
        unsafe {
            let f = self.library.get::<unsafe extern "C" fn(c_int) -> *const c_char>(function).unwrap();
            CStr::from_ptr(f(code)).to_string_lossy().into_owned()
        }
    }

    fn check(&self, code: c_int) {
        assert_eq!(code, 0, "{}", self.text("hipGetErrorString", code));
    }

    fn buffer<T: bytemuck::Pod>(&self, values: &[T]) -> Pointer {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let mut out = null_mut();
        self.check(call!(self, hipMalloc, *mut Pointer => &mut out, usize => bytes.len()));
        self.check(call!(self, hipMemcpyHtoDAsync, Pointer => out, *const u8 => bytes.as_ptr(), usize => bytes.len(), Pointer => null_mut()));
        out
    }

    fn read<T: bytemuck::Pod>(&self, from: Pointer, count: usize) -> Vec<T> {
        let mut out = vec![T::zeroed(); count];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut out);
        self.check(call!(self, hipMemcpyDtoHAsync, *mut u8 => bytes.as_mut_ptr(), Pointer => from, usize => bytes.len(), Pointer => null_mut()));
        out
    }

    fn function(&self, name: &str) -> Pointer {
        self.function_of(c"host:emulator", name)
    }

    fn function_of(&self, file: &CStr, name: &str) -> Pointer {
        let (mut module, mut function) = (null_mut(), null_mut());
        let name = CString::new(name).unwrap();
        self.check(call!(self, hipModuleLoadData, *mut Pointer => &mut module, *const c_char => file.as_ptr()));
        self.check(
            call!(self, hipModuleGetFunction, *mut Pointer => &mut function, Pointer => module, *const c_char => name.as_ptr()),
        );
        function
    }

    fn launch_on(&self, stream: Pointer, name: &str, grid: [u32; 3], threads: u32, lds: u32, args: &[&[u8]]) -> c_int {
        self.launch_function(stream, self.function(name), grid, threads, lds, args)
    }

    fn launch_function(
        &self,
        stream: Pointer,
        function: Pointer,
        grid: [u32; 3],
        threads: u32,
        lds: u32,
        args: &[&[u8]],
    ) -> c_int {
        // Arguments at addresses that are aligned as the kernel's types are.
        let aligned: Vec<Vec<u64>> = args
            .iter()
            .map(|a| {
                let mut words = vec![0u64; a.len().div_ceil(8)];
                bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..a.len()].copy_from_slice(a);
                words
            })
            .collect();
        let mut params: Vec<*const u64> = aligned.iter().map(|a| a.as_ptr()).collect();
        call!(self, hipModuleLaunchKernel, Pointer => function,
            c_uint => grid[0], c_uint => grid[1], c_uint => grid[2], c_uint => threads, c_uint => 1, c_uint => 1,
            c_uint => lds, Pointer => stream, *mut *const u64 => params.as_mut_ptr(), *const c_void => null())
    }

    fn launch(&self, name: &str, grid: [u32; 3], threads: u32, lds: u32, args: &[&[u8]]) -> c_int {
        self.launch_on(null_mut(), name, grid, threads, lds, args)
    }

    /// What the emulator says of a launch that it must refuse.
    fn refused(&self, name: &str, args: &[&[u8]]) -> String {
        let code = self.launch(name, [1, 1, 1], 64, 0, args);
        assert_ne!(code, 0, "{name} was not refused (wave {})", self.wave);
        self.text("hipGetErrorString", code)
    }
}

fn address(p: &Pointer) -> [u8; 8] {
    (*p as u64).to_ne_bytes()
}

#[test]
fn sums_of_rows() {
    for d in devices() {
        let (rows, n) = (300, 1000usize);
        let x: Vec<f32> = (0..rows * n).map(|i| (i * 7 % 13) as f32 - 6.0).collect();
        let (dx, dy) = (d.buffer(&x), d.buffer(&vec![0f32; rows]));
        d.check(d.launch(
            "row_sums",
            [rows as u32, 1, 1],
            256,
            0,
            &[&address(&dx), &address(&dy), &(n as i32).to_ne_bytes()],
        ));
        let expected: Vec<f32> = x.chunks(n).map(|row| row.iter().sum()).collect();
        assert_eq!(d.read::<f32>(dy, rows), expected);
        for p in [dx, dy] {
            d.check(call!(d, hipFree, Pointer => p));
        }
    }
}

#[test]
fn lanes_and_shuffles() {
    for d in devices() {
        let dy = d.buffer(&[0i32; 2 * 128 * 4]);
        let mut view = [0u8; 56];
        view[8 + 12..8 + 16].copy_from_slice(&5i32.to_ne_bytes());
        d.check(d.launch("lanes", [2, 1, 1], 128, 0, &[&address(&dy), &view]));
        for (i, y) in d.read::<i32>(dy, 2 * 128 * 4).chunks(4).enumerate() {
            let t = i % 128;
            let (lane, wave) = (t % d.wave, t / d.wave * d.wave);
            let expected = [lane, wave + (lane + 1) % d.wave, wave + 3, (t ^ (d.wave / 2)) + 5];
            assert_eq!(y, expected.map(|v| v as i32), "thread {i}");
        }
    }
}

#[test]
fn dynamic_lds_and_threads_that_return_early() {
    for d in devices() {
        let x: Vec<i32> = (0..256).collect();
        let (dx, dy) = (d.buffer(&x), d.buffer(&vec![0i32; 256]));
        d.check(d.launch("reverse", [1, 1, 1], 256, 1024, &[&address(&dx), &address(&dy)]));
        assert_eq!(d.read::<i32>(dy, 256), (0..256).rev().collect::<Vec<_>>());
        d.check(d.launch("early_exit", [1, 1, 1], 128, 0, &[&address(&dx), &address(&dy), &100i32.to_ne_bytes()]));
        assert_eq!(d.read::<i32>(dy, 99), (1..100).collect::<Vec<_>>());
    }
}

#[test]
fn what_lanes_hold_comes_together() {
    for d in devices() {
        let a: Vec<f32> = (0..256).map(|i| (i % 7) as f32).collect();
        let b: Vec<f32> = (0..256).map(|i| (i % 5) as f32 - 2.0).collect();
        let (da, db, dc) = (d.buffer(&a), d.buffer(&b), d.buffer(&[0f32; 256]));
        d.check(d.launch("matrix", [1, 1, 1], d.wave as u32, 0, &[&address(&da), &address(&db), &address(&dc)]));
        let expected: Vec<f32> =
            (0..256).map(|i| (0..16).map(|k| a[i / 16 * 16 + k] * b[k * 16 + i % 16]).sum()).collect();
        assert_eq!(d.read::<f32>(dc, 256), expected);
    }
}

#[test]
fn the_dialect() {
    for d in devices() {
        let (dy, dn) = (d.buffer(&[0f32; 7]), d.buffer(&[0u32; 2]));
        d.check(d.launch("dialect", [3, 1, 1], d.wave as u32, 0, &[&address(&dy), &address(&dn)]));
        assert_eq!(d.read::<u32>(dn, 2), [3 * 2 * d.wave as u32, 7]);
        let y = d.read::<f32>(dy, 7);
        // 1 * 2 - 1 * 3 - 128 * 127 + 127 * 2 + 100
        assert_eq!(y[0], -15903.0);
        assert_eq!(y[1], f32::from(0x77u8));
        assert!((y[2] - std::f32::consts::E).abs() < 1e-6 && (y[6] - 0.5f32.tanh()).abs() < 1e-6);
        assert_eq!(y[3], half::f16::from_f32(1.0 / 3.0).to_f32());
        assert_eq!(y[4], half::bf16::from_f32(1.0 / 3.0).to_f32());
        assert_eq!(y[5], 2.0 + 3.0);
    }
}

#[test]
fn barriers_and_shuffles_that_not_all_reach_are_errors() {
    for d in devices() {
        let dy = d.buffer(&[0i32; 64]);
        for kernel in ["half_a_barrier", "half_a_shuffle"] {
            let said = d.refused(kernel, &[&address(&dy)]);
            assert!(said.starts_with(&format!("kernel {kernel}, block (0, 0, 0)")), "{said}");
            assert!(said.contains("not all threads reach the same barrier"), "{said}");
        }
        let said = d.refused("other_barrier", &[&address(&dy)]);
        assert!(said.contains("the threads of the block part"), "{said}");
        let said = d.refused("shuffle_from_nobody", &[&address(&dy)]);
        assert!(said.contains("from lane 16, which takes no part"), "{said}");
        // The device works on.
        d.check(d.launch("past_the_end", [1, 1, 1], 64, 0, &[&address(&dy), &0i32.to_ne_bytes()]));
        assert_eq!(d.read::<i32>(dy, 64), [1; 64]);
    }
}

#[test]
fn memory_that_is_not_the_kernels_is_an_error() {
    for d in devices() {
        let dy = d.buffer(&[0i32; 64]);
        let said = d.refused("past_the_end", &[&address(&dy), &1i32.to_ne_bytes()]);
        assert!(said.starts_with("kernel past_the_end, block (0, 0, 0), thread 63: memory access at 0x"), "{said}");
        assert!(said.ends_with("0 bytes past the end of an allocation of 256 bytes"), "{said}");
        let said = d.refused("past_the_lds", &[&address(&dy)]);
        assert!(said.contains("past the end of an LDS array of 256 bytes"), "{said}");
        let said = d.refused("endless_stack", &[&address(&dy), &100_000i32.to_ne_bytes()]);
        assert!(said.starts_with("kernel endless_stack"), "{said}");
        let said = d.refused("reverse", &[&address(&dy), &address(&dy)]);
        assert!(said.contains("blocks of 64 x 1 x 1 threads, compiled for 256"), "{said}");
        d.check(call!(d, hipFree, Pointer => dy));
        let said = d.refused("past_the_end", &[&address(&dy), &0i32.to_ne_bytes()]);
        assert!(said.starts_with("kernel past_the_end"), "freed memory: {said}");

        let mut beyond = [0u8; 257];
        let dy = d.buffer(&[0i32; 64]);
        let code = call!(d, hipMemcpyDtoHAsync, *mut u8 => beyond.as_mut_ptr(), Pointer => dy, usize => 257, Pointer => null_mut());
        assert_eq!(d.text("hipGetErrorName", code), "hipErrorInvalidValue");
        assert_eq!(
            d.text("hipGetErrorName", call!(d, hipFree, Pointer => dy.wrapping_byte_add(16))),
            "hipErrorInvalidValue"
        );
    }
}

#[test]
fn a_graph_replays_what_was_captured() {
    for d in devices() {
        let (mut stream, mut graph, mut exec) = (null_mut(), null_mut(), null_mut());
        d.check(call!(d, hipStreamCreateWithFlags, *mut Pointer => &mut stream, c_uint => 1));
        let x = d.buffer(&(0..256).collect::<Vec<i32>>());
        let y = d.buffer(&vec![0i32; 256]);
        d.check(call!(d, hipStreamBeginCapture, Pointer => stream, c_int => 2));
        d.check(d.launch_on(stream, "reverse", [1, 1, 1], 256, 1024, &[&address(&x), &address(&y)]));
        d.check(call!(d, hipMemcpyDtoDAsync, Pointer => x, Pointer => y, usize => 512, Pointer => stream));
        d.check(call!(d, hipMemsetAsync, Pointer => y, c_int => 0, usize => 4, Pointer => stream));
        assert_ne!(call!(d, hipStreamSynchronize, Pointer => stream), 0);
        d.check(call!(d, hipStreamEndCapture, Pointer => stream, *mut Pointer => &mut graph));
        assert_eq!(d.read::<i32>(y, 1), [0], "nothing runs while it is captured");
        d.check(call!(d, hipGraphInstantiate, *mut Pointer => &mut exec, Pointer => graph, *mut Pointer => null_mut(),
            *mut c_char => null_mut(), usize => 0));
        d.check(call!(d, hipGraphDestroy, Pointer => graph));
        for _ in 0..2 {
            d.check(call!(d, hipGraphLaunch, Pointer => exec, Pointer => stream));
        }
        // Once: x is 255 … 128, 128 … 255. Twice: y is that reversed.
        let mut expected: Vec<i32> = (128..256).rev().chain(128..256).collect();
        assert_eq!(d.read::<i32>(x, 256), expected);
        expected[0] = 0;
        assert_eq!(d.read::<i32>(y, 256), expected);
        d.check(call!(d, hipGraphExecDestroy, Pointer => exec));
        d.check(call!(d, hipStreamDestroy, Pointer => stream));
    }
}

#[test]
fn the_device_says_what_it_is() {
    for d in devices() {
        let mut count = 0;
        d.check(call!(d, hipInit, c_uint => 0));
        d.check(call!(d, hipGetDeviceCount, *mut c_int => &mut count));
        assert_eq!(count, 1);
        assert_eq!(d.text("hipGetErrorName", call!(d, hipSetDevice, c_int => 1)), "hipErrorInvalidDevice");
        let mut wave = 0;
        d.check(call!(d, hipDeviceGetAttribute, *mut c_int => &mut wave, c_int => 87, c_int => 0));
        assert_eq!(wave as usize, d.wave);
        let mut properties = vec![0u8; 1472];
        d.check(call!(d, hipGetDevicePropertiesR0600, *mut u8 => properties.as_mut_ptr(), c_int => 0));
        let name = CStr::from_bytes_until_nul(&properties[1160..]).unwrap();
        assert_eq!(name.to_str().unwrap(), format!("host{}", d.wave));
        let mut module = null_mut();
        let code =
            call!(d, hipModuleLoadData, *mut Pointer => &mut module, *const c_char => c"host:no_such_file".as_ptr());
        assert_eq!(d.text("hipGetErrorString", code), "the emulator was compiled without no_such_file.hip");
    }
}

/// The lane layouts of every matrix instruction, which the host carries out as the manuals give them: unsymmetric tiles whose strides differ.
#[test]
fn matrix_products_in_every_layout() {
    let (k, strides) = (48, [56usize, 72]);
    let values = |n: usize, seed: u32| -> Vec<f32> {
        (0..n as u32).map(|i| ((i + 1).wrapping_mul(seed) >> 24) as f32 / 16.0 - 6.0).collect()
    };
    let halves = |v: &[f32]| -> Vec<u16> { v.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect() };
    for d in devices() {
        let (a, b) = (values(16 * strides[0], 2654435761), values(16 * strides[1], 2246822519));
        let (da, db) = (d.buffer(&halves(&a)), d.buffer(&halves(&b)));
        let files = [c"host:matrix_host_layout", c"host:matrix_wmma11", c"host:matrix_mma", c"host:matrix_none"];
        for file in &files[..if d.wave == 32 { 4 } else { 1 }] {
            let out = d.buffer(&[f32::NAN; 256]);
            let [sa, sb, k_arg] = [strides[0], strides[1], k].map(|n| (n as u32).to_ne_bytes());
            let args: [&[u8]; 6] = [&address(&da), &address(&db), &address(&out), &sa, &sb, &k_arg];
            let function = d.function_of(file, "matrix_product");
            d.check(d.launch_function(null_mut(), function, [1, 1, 1], d.wave as u32, 0, &args));
            let found = d.read::<f32>(out, 256);
            for (i, &v) in found.iter().enumerate() {
                let (row, col) = (i / 16 * strides[0], i % 16 * strides[1]);
                let sum: f64 = (0..k).map(|k| f64::from(a[row + k]) * f64::from(b[col + k])).sum();
                assert!((f64::from(v) - sum).abs() < 1e-3, "{file:?}, wave {}: element {i} is {v}, not {sum}", d.wave);
            }
        }
    }
}

/// The codes, then the scales of rows of blocks of q8_0, as devices keep a cache of them (`kernels/common/cache.h`).
fn planes_of(blocks: &[u8], row: usize) -> Vec<u8> {
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for row in blocks.chunks_exact(row / 32 * 34) {
        for word in 0..8 {
            codes.extend(row.chunks_exact(34).flat_map(|block| block[2 + 4 * word..][..4].iter().map(|q| q ^ 0x80)));
        }
        scales.extend(row.chunks_exact(34).flat_map(|block| &block[..2]));
    }
    [codes, scales].concat()
}

/// Attention of one token over a cache of q8_0 by matrix instructions, which backends launch on NVIDIA's devices only: up to four query heads
/// and up to eight of a kv head, two splits, a first position that is no multiple of a tile, an odd number of positions.
#[test]
fn attention_over_q8_0_by_matrix_instructions() {
    for d in devices().iter().filter(|d| d.wave == 32) {
        for (dim, group) in [(64, 3), (64, 4), (64, 7), (128, 4), (128, 8)] {
            attention_over_q8_0(d, dim, group);
        }
    }
}

fn attention_over_q8_0(d: &Device, dim: usize, group: usize) {
    let (kv_heads, capacity, first, slot, scale) = (2usize, 333usize, 5usize, 318usize, 0.125f32);
    let heads = group * kv_heads;
    let q = support::uniform(3, dim * heads);
    let cache = |seed| {
        // Magnitudes differ among positions and blocks, so that their scales do.
        let mut x = support::uniform(seed, dim * capacity * kv_heads);
        for (i, block) in x.chunks_mut(32).enumerate() {
            block.iter_mut().for_each(|x| *x *= [0.01, 1.0, 0.3, 20.0, 0.0][i % 5]);
        }
        HostTensor::quantized(DType::Q8_0, [dim, capacity, kv_heads, 1], &x).unwrap()
    };
    let (k, v) = (cache(4), cache(5));
    let [dk, dv] = [&k, &v].map(|x| d.buffer(&planes_of(&x.bytes(), dim)));
    let scales = [dk, dv].map(|p| (p as usize + dim * capacity * kv_heads) as Pointer);
    let dq = d.buffer(&q);
    let (out, scratch) = (d.buffer(&vec![f32::NAN; dim * heads]), d.buffer(&vec![0u8; 1 << 16]));
    let (start, slots) = (d.buffer(&[first as i32]), d.buffer(&[slot as i32]));
    let floats = [4, dim * 4, dim * heads * 4];
    let codes = [32, dim, dim * capacity];
    let mut args = Vec::new();
    for (p, nb) in [(dq, floats), (dk, codes), (dv, codes), (out, floats), (null_mut(), [0; 3])] {
        args.extend(address(&p));
        args.extend(nb.iter().flat_map(|n| (*n as i64).to_ne_bytes()));
    }
    args.extend([start, slots, scratch, scales[0], scales[1]].iter().flat_map(address));
    args.extend([scale, 0.0].iter().flat_map(|x: &f32| x.to_ne_bytes()));
    let (causal, window, splits, parts, early) = (1, 0, 2, 1, 0);
    let sizes = [heads, kv_heads, 1, dim, dim, causal, window, capacity, splits, parts, early, 0];
    args.extend(sizes.iter().flat_map(|n| (*n as i32).to_ne_bytes()));
    let most = if group > 4 { 8 } else { 4 };
    let function = d.function_of(c"host:attention_decode", &format!("attention_decode_mma_q8_0_{dim}_{most}"));
    d.check(d.launch_function(null_mut(), function, [splits as u32, kv_heads as u32, 1], 256, 0, &[&args]));
    let found = d.read::<f32>(out, dim * heads);

    let (k, v) = (k.f32s().unwrap(), v.f32s().unwrap());
    let mut expected = vec![0.0f64; dim * heads];
    for h in 0..heads {
        let at = |j: usize| (h / group * capacity + j) * dim;
        let score = |j: usize| -> f64 {
            let products = (0..dim).map(|i| f64::from(q[h * dim + i]) * f64::from(k[at(j) + i]));
            products.sum::<f64>() * f64::from(scale)
        };
        let scores: Vec<f64> = (first..=slot).map(score).collect();
        let most = scores.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = scores.iter().map(|s| (s - most).exp()).sum();
        for (s, j) in scores.iter().zip(first..) {
            for i in 0..dim {
                expected[h * dim + i] += (s - most).exp() / total * f64::from(v[at(j) + i]);
            }
        }
    }
    let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
        let close = (f64::from(*f) - e).abs() <= 1e-5 * largest;
        assert!(close, "{dim}, groups of {group}, element {i}: {f}, expected {e}");
    }
    for p in [dq, dk, dv, out, scratch, start, slots] {
        d.check(call!(d, hipFree, Pointer => p));
    }
}

/// Attention of many tokens over a cache of f16 by tiles.
struct Attention {
    d: usize,
    heads: usize,
    kv_heads: usize,
    /// What every token sees the start of, and the position of the first.
    start: i32,
    slot: i32,
    tokens: usize,
    window: i32,
    scale: f32,
    softcap: f32,
}

impl Attention {
    const POSITIONS: usize = 160;

    /// Without a window and a soft cap, over the whole of the cache.
    fn plain(d: usize, heads: usize, kv_heads: usize, slot: i32, tokens: usize) -> Attention {
        Attention { d, heads, kv_heads, start: 0, slot, tokens, window: 0, scale: 0.25, softcap: 0.0 }
    }

    /// The positions that a token sees.
    fn visible(&self, t: usize) -> std::ops::Range<usize> {
        let end = self.slot as usize + t + 1;
        let window = if self.window > 0 { end.saturating_sub(self.window as usize) } else { 0 };
        window.max(self.start as usize)..end
    }

    /// By f64: `[d, heads, tokens]`.
    fn reference(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f64> {
        let (d, mut out) = (self.d, Vec::new());
        for (row, query) in q.chunks_exact(d).enumerate() {
            let (t, head) = (row / self.heads, row % self.heads);
            let cache = head * self.kv_heads / self.heads * Self::POSITIONS;
            let score = |j: usize| {
                let key = &k[(cache + j) * d..][..d];
                let x = query.iter().zip(key).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                let (x, cap) = (x * f64::from(self.scale), f64::from(self.softcap));
                if cap > 0.0 { cap * (x / cap).tanh() } else { x }
            };
            let powers: Vec<f64> = self.visible(t).map(|j| score(j).exp()).collect();
            let sum: f64 = powers.iter().sum();
            out.extend((0..d).map(|i| {
                let weighted = self.visible(t).zip(&powers).map(|(j, p)| p * f64::from(v[(cache + j) * d + i]));
                weighted.sum::<f64>() / sum
            }));
        }
        out
    }

    /// `AttentionArgs` of `kernels/common/attention.h`, over a cache of f16, or of q8_0 with these scales of K and V.
    fn args(&self, [q, k, v, out, start, slot]: [&Pointer; 6], scales: Option<[Pointer; 2]>) -> Vec<u8> {
        let (d, rows) = (self.d as i64, self.heads as i64);
        let [block, element] = if scales.is_some() { [32, 1] } else { [2, 2] };
        let activations = [4, 4 * d, 4 * d * rows];
        let cache = [block, element * d, element * d * Self::POSITIONS as i64];
        let mut bytes = Vec::new();
        for (pointer, strides) in [(q, activations), (k, cache), (v, cache), (out, activations)] {
            bytes.extend(address(pointer));
            strides.iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        }
        bytes.extend([0; 32]);
        [start, slot].iter().for_each(|p| bytes.extend(address(p)));
        bytes.extend([0; 8]);
        scales.unwrap_or([null_mut(); 2]).iter().for_each(|p| bytes.extend(address(p)));
        [self.scale, self.softcap].iter().for_each(|x| bytes.extend(x.to_ne_bytes()));
        let sizes = [self.heads, self.kv_heads, self.tokens, self.d, self.d].map(|n| n as i32);
        sizes.iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        let (causal, splits) = (1, 1);
        let rest = [causal, self.window, Self::POSITIONS as i32, splits, 1, 0, 0];
        rest.iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        assert_eq!(bytes.len(), 256);
        bytes
    }

    /// The bound is that of `backend_ops` for products of halves.
    fn compare(&self, found: &[f32], [q, k, v]: [&[f32]; 3], kernel: &str) {
        let expected = self.reference(q, k, v);
        let largest = expected.iter().fold(0f64, |m, x| m.max(x.abs()));
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let (off, size, tokens) = ((f64::from(*found) - expected).abs(), self.d, self.tokens);
            assert!(
                off <= largest / 1024.0,
                "{kernel}, heads of {size}, {tokens} tokens: element {i} is {found}, not {expected}"
            );
        }
    }
}

/// Tiles of attention in the layouts of gfx12 and CDNA, which the emulated devices have, and of gfx11. What the cache has behind the last
/// token is NaN: it must not count.
#[test]
fn attention_in_tiles_in_every_layout() {
    let plain = Attention::plain;
    let cases = [
        plain(64, 2, 2, 0, 9),
        plain(64, 14, 2, 120, 19),
        plain(80, 4, 1, 30, 33),
        plain(96, 3, 3, 63, 10),
        plain(128, 8, 2, 5, 70),
        plain(256, 4, 2, 65, 21),
        Attention { window: 16, ..plain(128, 4, 2, 50, 40) },
        Attention { window: 5, start: 70, ..plain(256, 2, 1, 72, 12) },
        Attention { start: 37, softcap: 3.0, scale: 2.0, ..plain(64, 4, 2, 41, 13) },
    ];
    for d in devices() {
        let files = [c"host:attention_prefill_matrix", c"host:attention_wmma11"];
        for (file, case) in
            files[..if d.wave == 32 { 2 } else { 1 }].iter().flat_map(|f| cases.iter().map(move |c| (f, c)))
        {
            let (cached, last) = (case.kv_heads * Attention::POSITIONS * case.d, case.slot as usize + case.tokens);
            let q = support::uniform(1, case.tokens * case.heads * case.d);
            let cache = |seed| -> Vec<f32> {
                let values = support::uniform(seed, cached).into_iter().enumerate();
                let there = |i: usize| i / case.d % Attention::POSITIONS < last;
                values.map(|(i, x)| if there(i) { half::f16::from_f32(x).to_f32() } else { f32::NAN }).collect()
            };
            let (k, v) = (cache(2), cache(3));
            let halves = |x: &[f32]| -> Vec<u16> { x.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect() };
            let slots: Vec<i32> = (0..case.tokens as i32).map(|t| case.slot + t).collect();
            let (dq, dk, dv) = (d.buffer(&q), d.buffer(&halves(&k)), d.buffer(&halves(&v)));
            let (out, start, slot) =
                (d.buffer(&vec![f32::NAN; q.len()]), d.buffer(&vec![case.start; case.tokens]), d.buffer(&slots));
            let function = d.function_of(file, &format!("attention_prefill_matrix_f16_{}", case.d));
            let tiles = (case.tokens * case.heads / case.kv_heads).div_ceil(64) as u32;
            let args = case.args([&dq, &dk, &dv, &out, &start, &slot], None);
            let grid = [case.kv_heads as u32, tiles, 1];
            d.check(d.launch_function(null_mut(), function, grid, 4 * d.wave as u32, 0, &[&args]));
            case.compare(&d.read::<f32>(out, q.len()), [&q, &k, &v], &format!("{file:?}, wave {}", d.wave));
            for p in [dq, dk, dv, out, start, slot] {
                d.check(call!(d, hipFree, Pointer => p));
            }
        }
    }
}

/// Tiles of attention by `mma.sync` over a cache of q8_0, which backends launch on NVIDIA's devices only. What the cache has behind the last
/// token has NaN as its scale.
#[test]
fn attention_in_tiles_over_q8_0() {
    let plain = Attention::plain;
    let cases = [
        plain(64, 2, 2, 0, 9),
        plain(64, 14, 2, 120, 19),
        plain(96, 3, 3, 63, 10),
        plain(128, 8, 2, 5, 70),
        plain(256, 4, 2, 65, 21),
        Attention { window: 16, ..plain(128, 4, 2, 50, 40) },
        Attention { start: 37, softcap: 3.0, scale: 2.0, ..plain(64, 4, 2, 41, 13) },
    ];
    for d in devices().iter().filter(|d| d.wave == 32) {
        for case in &cases {
            let (rows, last) = (case.kv_heads * Attention::POSITIONS, case.slot as usize + case.tokens);
            let q = support::uniform(1, case.tokens * case.heads * case.d);
            let cache = |seed| {
                let x = support::uniform(seed, rows * case.d);
                let mut x = HostTensor::quantized(DType::Q8_0, [case.d, rows, 1, 1], &x).unwrap().bytes().into_owned();
                for (i, block) in x.chunks_exact_mut(34).enumerate() {
                    if i / (case.d / 32) % Attention::POSITIONS >= last {
                        block[..2].copy_from_slice(&half::f16::NAN.to_le_bytes());
                    }
                }
                x
            };
            let (k, v) = (cache(2), cache(3));
            let slots: Vec<i32> = (0..case.tokens as i32).map(|t| case.slot + t).collect();
            let [dk, dv] = [&k, &v].map(|x| d.buffer(&planes_of(x, case.d)));
            let scales = [dk, dv].map(|p| (p as usize + rows * case.d) as Pointer);
            let (dq, out) = (d.buffer(&q), d.buffer(&vec![f32::NAN; q.len()]));
            let (start, slot) = (d.buffer(&vec![case.start; case.tokens]), d.buffer(&slots));
            let name = format!("attention_prefill_mma_q8_0_{}", case.d);
            let function = d.function_of(c"host:attention_prefill", &name);
            let tiles = (case.tokens * case.heads / case.kv_heads).div_ceil(64) as u32;
            let args = case.args([&dq, &dk, &dv, &out, &start, &slot], Some(scales));
            let grid = [case.kv_heads as u32, tiles, 1];
            let staging = 2 * 24 * case.d as u32 / 16 * if case.d > 128 { 16 } else { 64 };
            d.check(d.launch_function(null_mut(), function, grid, 128, staging, &[&args]));
            let values = |x: &[u8]| {
                let x = HostTensor::from_bytes(DType::Q8_0, [case.d, rows, 1, 1], x).unwrap();
                x.f32s().unwrap().into_owned()
            };
            case.compare(&d.read::<f32>(out, q.len()), [&q, &values(&k), &values(&v)], &name);
            for p in [dq, dk, dv, out, start, slot] {
                d.check(call!(d, hipFree, Pointer => p));
            }
        }
    }
}
