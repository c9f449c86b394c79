//! Every method of every level against the scalar meaning that its documentation states, bit for bit.

use super::super::isa::Level;
use super::*;
use half::f16;

/// Runs a kernel on every level that the machine has.
fn on_every_level<K: Kernel<Output = ()> + Copy>(kernel: K) {
    for level in Level::available() {
        // SAFETY: the level is available, and the kernels here touch only what is theirs.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => Avx2::assume().vectorize(kernel),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => Avx512::<false>::assume().vectorize(kernel),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512Bf16 => Avx512::<true>::assume().vectorize(kernel),
                #[cfg(target_arch = "aarch64")]
                Level::Neon => Neon::<false>::assume().vectorize(kernel),
                #[cfg(target_arch = "aarch64")]
                Level::NeonDotprod => Neon::<true>::assume().vectorize(kernel),
                _ => Portable::assume().vectorize(kernel),
            }
        }
    }
}

const ODD: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    2.5,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    1e-40,
    f32::MAX,
    -3.5,
    0.5,
    8_388_609.0,
    -f32::MIN_POSITIVE,
    1e30,
    0.333_333_34,
];

fn floats<S: Simd>(s: S, x: S::F) -> [f32; 16] {
    let mut out = [0.0; 16];
    // SAFETY: 16 floats.
    unsafe { s.store(out.as_mut_ptr(), x) };
    out
}

fn load<S: Simd>(s: S, x: &[f32; 16]) -> S::F {
    // SAFETY: 16 floats.
    unsafe { s.load(x.as_ptr()) }
}

fn bytes<S: Simd>(s: S, x: S::I) -> [u8; 64] {
    let mut out = [0; 64];
    // SAFETY: 64 bytes.
    unsafe { s.store_bytes(out.as_mut_ptr(), x) };
    out
}

fn ints<S: Simd>(s: S, x: S::I) -> [i32; 16] {
    let bytes = bytes(s, x);
    std::array::from_fn(|i| i32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()))
}

fn load_ints<S: Simd>(s: S, x: &[i32; 16]) -> S::I {
    let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    // SAFETY: 64 bytes.
    unsafe { s.load_bytes(bytes.as_ptr()) }
}

/// The same bits, or both not a number.
#[track_caller]
fn same<S: Simd>(what: &str, got: [f32; 16], want: [f32; 16]) {
    let equal = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    let level = std::any::type_name::<S>();
    assert!(got.iter().zip(&want).all(equal), "{what} on {level}: {got:?} instead of {want:?}");
}

#[derive(Clone, Copy)]
struct Floats;

impl Kernel for Floats {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for turn in 0..16 {
            let (a, mut b) = (ODD, ODD);
            b.rotate_left(turn);
            let (va, vb) = (load(s, &a), load(s, &b));
            let each = |f: fn(f32, f32) -> f32| std::array::from_fn(|i| f(a[i], b[i]));
            same::<S>("add", floats(s, s.add(va, vb)), each(|a, b| a + b));
            same::<S>("sub", floats(s, s.sub(va, vb)), each(|a, b| a - b));
            same::<S>("mul", floats(s, s.mul(va, vb)), each(|a, b| a * b));
            same::<S>("div", floats(s, s.div(va, vb)), each(|a, b| a / b));
            same::<S>("max", floats(s, s.max(va, vb)), each(|a, b| if a > b { a } else { b }));
            same::<S>("min", floats(s, s.min(va, vb)), each(|a, b| if a < b { a } else { b }));
            let less = s.select_lt(va, vb, s.splat(7.0), vb);
            same::<S>("select_lt", floats(s, less), each(|a, b| if a < b { 7.0 } else { b }));
            same::<S>("bits", floats(s, s.from_bits(s.to_bits(va))), a);
        }
        same::<S>("round", floats(s, s.round(load(s, &ODD))), ODD.map(f32::round_ties_even));
        same::<S>("splat", floats(s, s.splat(-2.5)), [-2.5; 16]);
        // Exact with one rounding or two.
        let small = std::array::from_fn(|i| i as f32 - 7.5);
        let fma = s.fma(load(s, &small), s.splat(0.25), s.splat(3.0));
        same::<S>("fma", floats(s, fma), small.map(|x| x * 0.25 + 3.0));
        for n in -252..=254 {
            let scaled = s.scale2(s.splat(1.5), s.splat(n as f32));
            let want = (1.5 * 2f64.powi(n)) as f32;
            same::<S>("scale2", floats(s, scaled), [want; 16]);
        }
    }
}

#[test]
fn floats_are_computed_lane_by_lane_also_odd_ones() {
    on_every_level(Floats);
}

#[derive(Clone, Copy)]
struct Sums;

impl Kernel for Sums {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // Numbers of which the sum depends on the order.
        let x: [f32; 16] = std::array::from_fn(|i| (i as f32 * 1.7 + 0.3) * 10f32.powi(i as i32 * 5 % 9 - 4));
        let mut tree = x.to_vec();
        while tree.len() > 1 {
            let half = tree.len() / 2;
            tree = (0..half).map(|i| tree[i] + tree[i + half]).collect();
        }
        assert_eq!(s.reduce_add(load(s, &x)).to_bits(), tree[0].to_bits(), "{}", std::any::type_name::<S>());
        let i: [i32; 16] = std::array::from_fn(|i| (i as i32 - 3).wrapping_mul(1_234_567_891));
        assert_eq!(s.reduce_add_i(load_ints(s, &i)), i.iter().fold(0i32, |a, &x| a.wrapping_add(x)));
        for lane in 0..16 {
            let (mut f, mut i) = (x.map(|x| -x), i.map(|x| x >> 8));
            (f[lane], i[lane]) = (0.5, 1 << 30);
            assert_eq!((s.reduce_max(load(s, &f)), s.reduce_max_i(load_ints(s, &i))), (0.5, 1 << 30), "lane {lane}");
        }
    }
}

#[test]
fn sums_go_by_halves_and_no_lane_is_left_out() {
    on_every_level(Sums);
}

#[derive(Clone, Copy)]
struct Moves;

impl Kernel for Moves {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut rows = [s.splat(0.0); 16];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = load(s, &std::array::from_fn(|c| (16 * r + c) as f32));
        }
        for (c, column) in s.transpose(rows).into_iter().enumerate() {
            same::<S>("transpose", floats(s, column), std::array::from_fn(|r| (16 * r + c) as f32));
        }
        for n in 0..=16 {
            let part = &ODD[..n];
            // SAFETY: `part` has n floats, and `out` has 16.
            let loaded = unsafe { s.load_part(part.as_ptr(), n) };
            same::<S>("load_part", floats(s, loaded), std::array::from_fn(|i| if i < n { ODD[i] } else { 0.0 }));
            let mut out = [9.0; 16];
            // SAFETY: as above.
            unsafe { s.store_part(out.as_mut_ptr(), n, load(s, &ODD)) };
            same::<S>("store_part", out, std::array::from_fn(|i| if i < n { ODD[i] } else { 9.0 }));
        }
        let raw: [u8; 65] = std::array::from_fn(|i| (i * 83 + 7) as u8);
        // SAFETY: 16 or 64 bytes from the second one on are readable.
        let (signed, unsigned, all) =
            unsafe { (s.load_i8(raw[1..].as_ptr()), s.load_u8(raw[1..].as_ptr()), s.load_bytes(raw[1..].as_ptr())) };
        same::<S>("load_i8", floats(s, signed), std::array::from_fn(|i| f32::from(raw[1 + i] as i8)));
        same::<S>("load_u8", floats(s, unsigned), std::array::from_fn(|i| f32::from(raw[1 + i])));
        assert_eq!(bytes(s, all), raw[1..]);
        let mut low = [0u8; 16];
        // SAFETY: 16 bytes are writable.
        unsafe { s.store_low_bytes(low.as_mut_ptr(), all) };
        assert_eq!(low, std::array::from_fn(|i| raw[1 + 4 * i]));
        s.prefetch(raw.as_ptr());
        s.prefetch(std::ptr::null());
    }
}

#[test]
fn loads_stores_and_transposes_keep_every_lane_in_its_place() {
    on_every_level(Moves);
}

#[derive(Clone, Copy)]
struct Integers;

impl Kernel for Integers {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let a: [i32; 16] = std::array::from_fn(|i| (i as i32 - 8).wrapping_mul(0x1f3d_5b79));
        let mut b = a;
        b.rotate_left(3);
        let (va, vb) = (load_ints(s, &a), load_ints(s, &b));
        let each = |f: fn(i32, i32) -> i32| -> [i32; 16] { std::array::from_fn(|i| f(a[i], b[i])) };
        assert_eq!(ints(s, s.splat_i(-5)), [-5; 16]);
        assert_eq!(ints(s, s.and(va, vb)), each(|a, b| a & b));
        assert_eq!(ints(s, s.or(va, vb)), each(|a, b| a | b));
        assert_eq!(ints(s, s.add_i(va, vb)), each(i32::wrapping_add));
        assert_eq!(ints(s, s.max_i(va, vb)), each(i32::max));
        assert_eq!(ints(s, s.shl::<3>(va)), a.map(|a| a << 3));
        assert_eq!(ints(s, s.shr::<5>(va)), a.map(|a| (a as u32 >> 5) as i32));
        same::<S>("to_f", floats(s, s.to_f(va)), a.map(|a| a as f32));
        let ties: [f32; 16] = std::array::from_fn(|i| i as f32 * 0.5 - 4.0);
        assert_eq!(ints(s, s.to_i(load(s, &ties))), ties.map(|x| x.round_ties_even() as i32));
        let table: [u8; 16] = std::array::from_fn(|i| (200 + 31 * i) as u8);
        let index = s.and(va, s.splat_i(0x0f0f_0f0f));
        assert_eq!(bytes(s, s.lookup(&table, index)), bytes(s, index).map(|i| table[usize::from(i)]));
    }
}

#[test]
fn integers_are_computed_lane_by_lane() {
    on_every_level(Integers);
}

#[derive(Clone, Copy)]
struct Halves;

impl Kernel for Halves {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for base in (0..=u16::MAX).step_by(16) {
            let bits: [u16; 16] = std::array::from_fn(|i| base + i as u16);
            // SAFETY: 16 numbers are readable.
            let loaded = floats(s, unsafe { s.load_f16(bits.as_ptr()) });
            same::<S>("load_f16", loaded, bits.map(|b| f16::from_bits(b).to_f32()));
            // The number itself, halfway to the next one, and just beyond.
            for beyond in [0u32, 1 << 12, (1 << 12) + 1] {
                let x = loaded.map(|x| if x.is_finite() { f32::from_bits(x.to_bits() + beyond) } else { x });
                let mut stored = [0u16; 16];
                // SAFETY: 16 numbers are writable.
                unsafe { s.store_f16(stored.as_mut_ptr(), load(s, &x)) };
                let want = x.map(|x| f16::from_f32(x).to_f32());
                same::<S>("store_f16", stored.map(|b| f16::from_bits(b).to_f32()), want);
            }
        }
    }
}

#[test]
fn half_precision_is_read_and_rounded_as_ieee_says() {
    on_every_level(Halves);
}

#[derive(Clone, Copy)]
struct Dots;

impl Dots {
    /// `N` quads of weights of `BITS` bits, with their zero and without one.
    #[inline(always)]
    unsafe fn check<S: Simd, const N: usize, const BITS: u32>(s: S, weights: fn(usize) -> u8, x: fn(usize) -> i8) {
        let plain: [[u8; 64]; N] =
            std::array::from_fn(|q| std::array::from_fn(|i| weights(64 * q + i) & (255 >> (8 - BITS))));
        let x: Vec<i8> = (0..4 * N).map(x).collect();
        let sum = |zero: i32| -> [i32; 16] {
            let product = |lane: usize, i: usize| (i32::from(plain[i / 4][4 * lane + i % 4]) - zero) * i32::from(x[i]);
            std::array::from_fn(|lane| (0..4 * N).map(|i| product(lane, i)).sum())
        };
        let shift = if S::SHIFTED { 8 - BITS } else { 0 };
        let offset = -128 * x.iter().map(|&x| i32::from(x)).sum::<i32>();
        let (mut with_zero, mut without) = ([s.splat_i(0); N], [s.splat_i(0); N]);
        for q in 0..N {
            let shifted = plain[q].map(|w| w << shift);
            // SAFETY: 64 bytes are readable.
            (with_zero[q], without[q]) = unsafe { (s.load_bytes(shifted.as_ptr()), s.load_bytes(plain[q].as_ptr())) };
        }
        // SAFETY: an offset and 4·N activations are readable.
        let got = unsafe { s.dot::<N, BITS>(s.dot_start::<BITS>(&offset), &with_zero, x.as_ptr()) };
        let level = std::any::type_name::<S>();
        assert_eq!(ints(s, got), sum(1 << (BITS - 1)).map(|d| d << shift), "{N} quads of {BITS} bits on {level}");
        if BITS < 8 {
            // SAFETY: as above.
            let got = unsafe { s.dot::<N, BITS>(s.splat_i(1000), &without, x.as_ptr()) };
            assert_eq!(ints(s, got), sum(0).map(|d| d + 1000), "{N} quads of {BITS} bits without zero on {level}");
        }
    }

    #[inline(always)]
    unsafe fn quads<S: Simd, const N: usize>(s: S, weights: fn(usize) -> u8, x: fn(usize) -> i8) {
        // SAFETY: `check` touches only what is its own.
        unsafe {
            Dots::check::<S, N, 4>(s, weights, x);
            Dots::check::<S, N, 5>(s, weights, x);
            Dots::check::<S, N, 6>(s, weights, x);
            Dots::check::<S, N, 8>(s, weights, x);
        }
    }
}

impl Kernel for Dots {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // The largest sums of either sign, where 16 bits would overflow first, and anything.
        let weights: [fn(usize) -> u8; 3] = [|_| 255, |_| 0, |i| (i * 151 + i / 64 * 37 + 11) as u8];
        let activations: [fn(usize) -> i8; 4] =
            [|_| 127, |_| -127, |i| if i % 4 < 2 { 127 } else { -127 }, |i| (((i * 89 + 3) % 255) as i32 - 127) as i8];
        for w in weights {
            for x in activations {
                // Activations are in −127 ..= 127.
                assert!((0..32).all(|i| x(i) > -128));
                // SAFETY: `quads` touches only what is its own.
                unsafe {
                    Dots::quads::<S, 1>(s, w, x);
                    Dots::quads::<S, 3>(s, w, x);
                    Dots::quads::<S, 4>(s, w, x);
                    Dots::quads::<S, 8>(s, w, x);
                }
            }
        }
    }
}

#[test]
fn dot_products_are_exact_at_their_extremes() {
    on_every_level(Dots);
}

#[derive(Clone, Copy)]
struct DotBf16;

impl Kernel for DotBf16 {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Numbers of 8 bits around 1.
            half::bf16::from_f32((state >> 8) as f32 / (1u32 << 23) as f32 - 1.0)
        };
        let (a, b): ([half::bf16; 32], [half::bf16; 32]) =
            (std::array::from_fn(|_| next()), std::array::from_fn(|_| next()));
        let acc: [f32; 16] = std::array::from_fn(|i| i as f32 * 0.3 - 2.0);
        // SAFETY: 64 bytes each.
        let sums = unsafe {
            floats(s, s.dot_bf16(load(s, &acc), s.load_bytes(a.as_ptr().cast()), s.load_bytes(b.as_ptr().cast())))
        };
        for i in 0..16 {
            let product = |j: usize| f64::from(a[j].to_f32()) * f64::from(b[j].to_f32());
            let terms = [f64::from(acc[i]), product(2 * i), product(2 * i + 1)];
            let (want, size) = (terms.iter().sum::<f64>(), terms.iter().map(|t| t.abs()).sum::<f64>());
            assert!(
                (f64::from(sums[i]) - want).abs() <= size * 2f64.powi(-22),
                "lane {i}: {} instead of {want}",
                sums[i]
            );
        }
        let mut special = a;
        special[4] = half::bf16::INFINITY;
        special[7] = half::bf16::NAN;
        // SAFETY: 64 bytes each.
        let sums = unsafe {
            floats(s, s.dot_bf16(load(s, &acc), s.load_bytes(special.as_ptr().cast()), s.load_bytes(b.as_ptr().cast())))
        };
        assert!(sums[2].is_infinite() && sums[3].is_nan() && sums[4].is_finite(), "{sums:?}");
    }
}

#[test]
fn dot_products_of_bf16() {
    on_every_level(DotBf16);
}
