//! Row operations: norms, activations, elementwise arithmetic, softmax, rotation, conversion.
//!
//! All take raw rows; where the contract says so a result may replace an operand. A result depends on the row's contents and
//! length and on the level, on nothing else. Elementwise results depend on their own operands only.

use super::isa::Level;
use super::lanes::{Kernel, LANES, Simd};
use super::math::{erf, exp, sigmoid, tanh};
use crate::tensor::DType;
use half::bf16;

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// `x·sigmoid(x)`, within 6 units in the last place.
    Silu,
    /// `x·½·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`, within 1e-6·(1 + |x|).
    Gelu,
    /// `x·½·(1 + erf(x / √2))`, within 5e-7·(1 + |x|).
    GeluErf,
    /// `x·sigmoid(1.702·x)`.
    GeluQuick,
    /// `max(x, 0)`; a NaN stays one.
    Relu,
    /// `1 / (1 + e^−x)`.
    Sigmoid,
    /// Within 1e-6.
    Tanh,
    /// `e^x`, within 2 units in the last place.
    Exp,
    /// `a·x + b`, rounded once (on the portable level twice).
    Affine {
        /// Factor.
        a: f32,
        /// Addend.
        b: f32,
    },
}

/// A function of two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a·b`.
    Mul,
    /// `a / b`.
    Div,
    /// `silu(a)·b`.
    SiluMul,
    /// `gelu(a)·b` ([`Unary::Gelu`]).
    GeluMul,
    /// `gelu(a)·b` ([`Unary::GeluErf`]).
    GeluErfMul,
    /// `max(a, 0)·b`.
    ReluMul,
}

/// A normalization of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// `x / √(mean(x²) + eps)`.
    Rms {
        /// Added to the mean of squares.
        eps: f32,
    },
    /// `(x − mean) / √(variance + eps)`.
    Layer {
        /// Added to the variance.
        eps: f32,
    },
    /// `x / max(√Σx², eps)`.
    L2 {
        /// The least divisor.
        eps: f32,
    },
}

/// Which elements rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// 2i and 2i + 1.
    Interleaved,
    /// i and i + half of the rotated length.
    Halves,
}

/// `out[i] = f(x[i])`.
///
/// # Safety
/// `x` and `out` have `n` elements; they are the same row or do not overlap; nobody else writes them.
pub unsafe fn unary(level: Level, f: Unary, x: *const f32, out: *mut f32, n: usize) {
    // SAFETY: the table is of an available level; the rest is the caller's promise.
    unsafe { (level.kernels().unary)(f, x, out, n) }
}

/// `out[i] = f(a[i], b[i])`.
///
/// # Safety
/// All have `n` elements; `out` is the same row as an operand or does not overlap it; nobody else writes them.
pub unsafe fn binary(level: Level, f: Binary, a: *const f32, b: *const f32, out: *mut f32, n: usize) {
    // SAFETY: the table is of an available level; the rest is the caller's promise.
    unsafe { (level.kernels().binary)(f, a, b, out, n) }
}

/// `out[i] = norm(x)[i]·weight[i] + bias[i]`; `weight` and `bias` may be null.
///
/// # Safety
/// All rows that are not null have `n` elements; `out` is `x` or does not overlap any; nobody else writes them.
pub unsafe fn norm(
    level: Level,
    f: Norm,
    x: *const f32,
    weight: *const f32,
    bias: *const f32,
    out: *mut f32,
    n: usize,
) {
    // SAFETY: the table is of an available level; the rest is the caller's promise.
    unsafe { (level.kernels().norm)(f, x, weight, bias, out, n) }
}

/// `out = softmax(scale·x + mask)`; `mask` may be null. A row of −∞ only becomes NaN.
///
/// # Safety
/// All rows that are not null have `n` elements; `out` is `x` or does not overlap any; nobody else writes them.
pub unsafe fn softmax(level: Level, scale: f32, x: *const f32, mask: *const f32, out: *mut f32, n: usize) {
    // SAFETY: the table is of an available level; the rest is the caller's promise.
    unsafe { (level.kernels().softmax)(scale, x, mask, out, n) }
}

/// Rotates the first `2·pairs` elements of a row of `n`: `(a, b) → (a·cos − b·sin, a·sin + b·cos)`; copies the rest. All levels
/// give the same bits.
///
/// # Safety
/// `x` and `out` have `n` elements, `cos` and `sin` `pairs`, `2·pairs ≤ n`; `out` is `x` or overlaps nothing; nobody else writes them.
#[allow(clippy::too_many_arguments)]
pub unsafe fn rope(
    level: Level,
    style: RopePairs,
    x: *const f32,
    cos: *const f32,
    sin: *const f32,
    pairs: usize,
    out: *mut f32,
    n: usize,
) {
    // SAFETY: the table is of an available level; the rest is the caller's promise.
    unsafe { (level.kernels().rope)(style, x, cos, sin, pairs, out, n) }
}

/// Converts a row of `n` elements between F32 and F16 or BF16 (or copies it), rounding to nearest even. All levels give the same bits
/// for numbers.
///
/// # Panics
/// If a type is another, or neither is F32 and they differ.
///
/// # Safety
/// `x` and `out` have `n` elements of their types, aligned for them, and do not overlap; nobody else writes them.
pub unsafe fn convert(level: Level, from: DType, to: DType, x: *const u8, out: *mut u8, n: usize) {
    let float = |t| matches!(t, DType::F32 | DType::F16 | DType::Bf16);
    assert!(float(from) && float(to) && (from == to || from == DType::F32 || to == DType::F32), "{from} to {to}");
    // SAFETY: the table is of an available level; the rest is the caller's promise.
    unsafe { (level.kernels().convert)(from, to, x, out, n) }
}

/// Functions of the table: the contract of each is that of the function above with its name.
pub(crate) mod table {
    use super::*;

    macro_rules! entry {
        ($name:ident($($arg:ident: $ty:ty),*) = $kernel:ident) => {
            /// # Safety
            /// The contract of the public function of this name.
            pub(crate) unsafe fn $name<S: Simd>($($arg: $ty),*) {
                // SAFETY: the caller's promise.
                unsafe { S::assume().vectorize($kernel { $($arg),* }) }
            }
        };
    }

    entry!(unary(f: Unary, x: *const f32, out: *mut f32, n: usize) = UnaryRow);
    entry!(binary(f: Binary, a: *const f32, b: *const f32, out: *mut f32, n: usize) = BinaryRow);
    entry!(norm(f: Norm, x: *const f32, weight: *const f32, bias: *const f32, out: *mut f32, n: usize) = NormRow);
    entry!(softmax(scale: f32, x: *const f32, mask: *const f32, out: *mut f32, n: usize) = SoftmaxRow);
    entry!(rope(style: RopePairs, x: *const f32, cos: *const f32, sin: *const f32, pairs: usize, out: *mut f32, n: usize)
        = RopeRow);
    entry!(convert(from: DType, to: DType, x: *const u8, out: *mut u8, n: usize) = ConvertRow);
}

/// Steps over a row: (offset, elements), whole vectors first.
#[derive(Clone, Copy)]
struct Steps {
    at: usize,
    n: usize,
}

impl Iterator for Steps {
    type Item = (usize, usize);

    #[inline(always)]
    fn next(&mut self) -> Option<(usize, usize)> {
        let at = self.at;
        if at >= self.n {
            return None;
        }
        self.at += LANES;
        Some((at, (self.n - at).min(LANES)))
    }
}

#[inline(always)]
fn steps(n: usize) -> Steps {
    Steps { at: 0, n }
}

/// Up to 16 elements, zero beyond.
#[inline(always)]
unsafe fn get<S: Simd>(s: S, p: *const f32, count: usize) -> S::F {
    // SAFETY: the caller has `count` elements at p.
    unsafe { if count == LANES { s.load(p) } else { s.load_part(p, count) } }
}

#[inline(always)]
unsafe fn put<S: Simd>(s: S, p: *mut f32, count: usize, x: S::F) {
    // SAFETY: the caller has `count` elements at p.
    unsafe { if count == LANES { s.store(p, x) } else { s.store_part(p, count, x) } }
}

struct UnaryRow {
    f: Unary,
    x: *const f32,
    out: *mut f32,
    n: usize,
}

#[inline(always)]
fn silu<S: Simd>(s: S, x: S::F) -> S::F {
    s.mul(x, sigmoid(s, x))
}

#[inline(always)]
fn gelu<S: Simd>(s: S, x: S::F) -> S::F {
    // ½(1 + tanh u) is sigmoid(2u).
    let cubic = s.fma(s.mul(x, x), s.splat(0.044_715), s.splat(1.0));
    s.mul(x, sigmoid(s, s.mul(s.mul(x, cubic), s.splat(1.595_769))))
}

#[inline(always)]
fn gelu_erf<S: Simd>(s: S, x: S::F) -> S::F {
    let half = s.mul(x, s.splat(0.5));
    s.fma(half, erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2))), half)
}

#[inline(always)]
fn relu<S: Simd>(s: S, x: S::F) -> S::F {
    s.max(s.splat(0.0), x)
}

impl Kernel for UnaryRow {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        macro_rules! each {
            (|$x:ident| $e:expr) => {
                for (i, count) in steps(self.n) {
                    // SAFETY: the rows have elements i .. i + count.
                    unsafe {
                        let $x = get(s, self.x.add(i), count);
                        put(s, self.out.add(i), count, $e);
                    }
                }
            };
        }
        match self.f {
            Unary::Silu => each!(|x| silu(s, x)),
            Unary::Gelu => each!(|x| gelu(s, x)),
            Unary::GeluErf => each!(|x| gelu_erf(s, x)),
            Unary::GeluQuick => each!(|x| s.mul(x, sigmoid(s, s.mul(x, s.splat(1.702))))),
            Unary::Relu => each!(|x| relu(s, x)),
            Unary::Sigmoid => each!(|x| sigmoid(s, x)),
            Unary::Tanh => each!(|x| tanh(s, x)),
            Unary::Exp => each!(|x| exp(s, x)),
            Unary::Affine { a, b } => each!(|x| s.fma(x, s.splat(a), s.splat(b))),
        }
    }
}

struct BinaryRow {
    f: Binary,
    a: *const f32,
    b: *const f32,
    out: *mut f32,
    n: usize,
}

impl Kernel for BinaryRow {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        macro_rules! each {
            (|$a:ident, $b:ident| $e:expr) => {
                for (i, count) in steps(self.n) {
                    // SAFETY: the rows have elements i .. i + count.
                    unsafe {
                        let ($a, $b) = (get(s, self.a.add(i), count), get(s, self.b.add(i), count));
                        put(s, self.out.add(i), count, $e);
                    }
                }
            };
        }
        match self.f {
            Binary::Add => each!(|a, b| s.add(a, b)),
            Binary::Sub => each!(|a, b| s.sub(a, b)),
            Binary::Mul => each!(|a, b| s.mul(a, b)),
            Binary::Div => each!(|a, b| s.div(a, b)),
            Binary::SiluMul => each!(|a, b| s.mul(silu(s, a), b)),
            Binary::GeluMul => each!(|a, b| s.mul(gelu(s, a), b)),
            Binary::GeluErfMul => each!(|a, b| s.mul(gelu_erf(s, a), b)),
            Binary::ReluMul => each!(|a, b| s.mul(relu(s, a), b)),
        }
    }
}

struct NormRow {
    f: Norm,
    x: *const f32,
    weight: *const f32,
    bias: *const f32,
    out: *mut f32,
    n: usize,
}

/// Σ (x − shift)², as four sums that are added at the end.
#[inline(always)]
unsafe fn sum_squares<S: Simd>(s: S, x: *const f32, n: usize, shift: f32) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    let mean = s.splat(shift);
    let whole = n / (4 * LANES) * (4 * LANES);
    // SAFETY: all offsets are below n.
    unsafe {
        let mut i = 0;
        while i < whole {
            for (v, sum) in sums.iter_mut().enumerate() {
                let d = s.sub(s.load(x.add(i + v * LANES)), mean);
                *sum = s.fma(d, d, *sum);
            }
            i += 4 * LANES;
        }
        while i < n {
            let count = (n - i).min(LANES);
            let mut part = [0f32; LANES];
            s.store_part(part.as_mut_ptr(), count, s.sub(get(s, x.add(i), count), mean));
            let d = s.load(part.as_ptr());
            sums[i / LANES % 4] = s.fma(d, d, sums[i / LANES % 4]);
            i += LANES;
        }
    }
    s.reduce_add(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// Σ x.
#[inline(always)]
unsafe fn sum<S: Simd>(s: S, x: *const f32, n: usize) -> f32 {
    let mut sums = [s.splat(0.0); 2];
    for (i, count) in steps(n) {
        // SAFETY: the row has elements i .. i + count.
        sums[i / LANES % 2] = s.add(sums[i / LANES % 2], unsafe { get(s, x.add(i), count) });
    }
    s.reduce_add(s.add(sums[0], sums[1]))
}

impl Kernel for NormRow {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let n = self.n as f32;
        // SAFETY: the caller's rows have n elements.
        let (mean, factor) = unsafe {
            match self.f {
                Norm::Rms { eps } => (0.0, 1.0 / (sum_squares(s, self.x, self.n, 0.0) / n + eps).sqrt()),
                Norm::Layer { eps } => {
                    let mean = sum(s, self.x, self.n) / n;
                    (mean, 1.0 / (sum_squares(s, self.x, self.n, mean) / n + eps).sqrt())
                }
                Norm::L2 { eps } => (0.0, 1.0 / sum_squares(s, self.x, self.n, 0.0).sqrt().max(eps)),
            }
        };
        let (mean, factor) = (s.splat(mean), s.splat(factor));
        for (i, count) in steps(self.n) {
            // SAFETY: the rows have elements i .. i + count.
            unsafe {
                let mut y = s.mul(s.sub(get(s, self.x.add(i), count), mean), factor);
                if !self.weight.is_null() {
                    y = s.mul(y, get(s, self.weight.add(i), count));
                }
                if !self.bias.is_null() {
                    y = s.add(y, get(s, self.bias.add(i), count));
                }
                put(s, self.out.add(i), count, y);
            }
        }
    }
}

struct SoftmaxRow {
    scale: f32,
    x: *const f32,
    mask: *const f32,
    out: *mut f32,
    n: usize,
}

impl Kernel for SoftmaxRow {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let scale = s.splat(self.scale);
        let mut max = f32::NEG_INFINITY;
        for (i, count) in steps(self.n) {
            // SAFETY: the rows have elements i .. i + count.
            unsafe {
                let mut x = s.mul(get(s, self.x.add(i), count), scale);
                if !self.mask.is_null() {
                    x = s.add(x, get(s, self.mask.add(i), count));
                }
                put(s, self.out.add(i), count, x);
                if count == LANES {
                    max = max.max(s.reduce_max(x));
                } else {
                    for j in i..i + count {
                        max = max.max(*self.out.add(j));
                    }
                }
            }
        }
        let max = s.splat(max);
        for (i, count) in steps(self.n) {
            // SAFETY: as above.
            unsafe { put(s, self.out.add(i), count, exp(s, s.sub(get(s, self.out.add(i), count), max))) };
        }
        // SAFETY: as above.
        let factor = s.splat(1.0 / unsafe { sum(s, self.out, self.n) });
        for (i, count) in steps(self.n) {
            // SAFETY: as above.
            unsafe { put(s, self.out.add(i), count, s.mul(get(s, self.out.add(i), count), factor)) };
        }
    }
}

struct RopeRow {
    style: RopePairs,
    x: *const f32,
    cos: *const f32,
    sin: *const f32,
    pairs: usize,
    out: *mut f32,
    n: usize,
}

impl Kernel for RopeRow {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: the rows are as long as the contract says, and an element is read before it is written.
        unsafe {
            match self.style {
                RopePairs::Halves => {
                    for (i, count) in steps(self.pairs) {
                        let (c, sn) = (get(s, self.cos.add(i), count), get(s, self.sin.add(i), count));
                        let (a, b) = (get(s, self.x.add(i), count), get(s, self.x.add(self.pairs + i), count));
                        put(s, self.out.add(i), count, s.sub(s.mul(a, c), s.mul(b, sn)));
                        put(s, self.out.add(self.pairs + i), count, s.add(s.mul(a, sn), s.mul(b, c)));
                    }
                }
                RopePairs::Interleaved => {
                    let mut i = 0;
                    while i + LANES <= self.pairs {
                        // A copy, so that the compiler knows that nothing overlaps and can shuffle pairs in registers.
                        let x = self.x.add(2 * i).cast::<[f32; 2 * LANES]>().read_unaligned();
                        let c = self.cos.add(i).cast::<[f32; LANES]>().read_unaligned();
                        let sn = self.sin.add(i).cast::<[f32; LANES]>().read_unaligned();
                        let mut y = [0f32; 2 * LANES];
                        for p in 0..LANES {
                            let (a, b) = (x[2 * p], x[2 * p + 1]);
                            y[2 * p] = a * c[p] - b * sn[p];
                            y[2 * p + 1] = a * sn[p] + b * c[p];
                        }
                        self.out.add(2 * i).cast::<[f32; 2 * LANES]>().write_unaligned(y);
                        i += LANES;
                    }
                    while i < self.pairs {
                        let (a, b) = (*self.x.add(2 * i), *self.x.add(2 * i + 1));
                        let (c, sn) = (*self.cos.add(i), *self.sin.add(i));
                        *self.out.add(2 * i) = a * c - b * sn;
                        *self.out.add(2 * i + 1) = a * sn + b * c;
                        i += 1;
                    }
                }
            }
            if !std::ptr::eq(self.x, self.out) {
                let rotated = 2 * self.pairs;
                std::ptr::copy_nonoverlapping(self.x.add(rotated), self.out.add(rotated), self.n - rotated);
            }
        }
    }
}

struct ConvertRow {
    from: DType,
    to: DType,
    x: *const u8,
    out: *mut u8,
    n: usize,
}

impl Kernel for ConvertRow {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let (x16, x32) = (self.x.cast::<u16>(), self.x.cast::<f32>());
        let (out16, out32) = (self.out.cast::<u16>(), self.out.cast::<f32>());
        // SAFETY: the rows have n elements of their types.
        unsafe {
            match (self.from, self.to) {
                (DType::F32, DType::F16) => {
                    for (i, count) in steps(self.n) {
                        let x = get(s, x32.add(i), count);
                        if count == LANES {
                            s.store_f16(out16.add(i), x);
                        } else {
                            let mut part = [0u16; LANES];
                            s.store_f16(part.as_mut_ptr(), x);
                            std::ptr::copy_nonoverlapping(part.as_ptr(), out16.add(i), count);
                        }
                    }
                }
                (DType::F16, DType::F32) => {
                    for (i, count) in steps(self.n) {
                        let mut part = [0u16; LANES];
                        std::ptr::copy_nonoverlapping(x16.add(i), part.as_mut_ptr(), count);
                        put(s, out32.add(i), count, s.load_f16(part.as_ptr()));
                    }
                }
                (DType::F32, DType::Bf16) => {
                    let whole = self.n / LANES * LANES;
                    for i in (0..whole).step_by(LANES) {
                        s.store_bf16(out16.add(i), s.load(x32.add(i)));
                    }
                    for i in whole..self.n {
                        *out16.add(i) = bf16::from_f32(*x32.add(i)).to_bits();
                    }
                }
                (DType::Bf16, DType::F32) => {
                    for i in 0..self.n {
                        *out32.add(i) = f32::from_bits(u32::from(*x16.add(i)) << 16);
                    }
                }
                (same, _) => std::ptr::copy_nonoverlapping(self.x, self.out, self.n * same.block_bytes()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
