//! Elementary functions on vectors, each with its error against the exact value.

use super::lanes::Simd;

/// Below this `exp` is zero: half of the smallest subnormal is e^−103.97.
const EXP_MIN: f32 = -105.0;
/// Above this `exp` is infinite.
const EXP_MAX: f32 = 88.8;

/// e^x, within 2 units in the last place where the result is normal, and for results in the subnormal range within one
/// subnormal step. exp(−∞) = 0, exp(0) = 1 exactly, a NaN stays one. (Cephes' `expf` polynomial.)
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    // In this order of operands a NaN passes.
    let x = s.min(s.splat(EXP_MAX), s.max(s.splat(EXP_MIN), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, of which the first has few bits, so that n times it is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_1e-4);
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.0e-1] {
        p = s.fma(p, r, s.splat(c));
    }
    let y = s.add(s.fma(s.mul(r, r), p, r), s.splat(1.0));
    s.scale2(y, n)
}

/// tanh x, within 1e-6 of the exact value.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    // 1 − 2 / (e^2x + 1); where e^2x is infinite that is 1.
    let e = exp(s, s.add(x, x));
    s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0))))
}

/// 1 / (1 + e^−x), within 4 units in the last place; zero where that is subnormal.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    let e = exp(s, s.sub(s.splat(0.0), x));
    s.div(s.splat(1.0), s.add(s.splat(1.0), e))
}

/// erf x, within 5e-7 of the exact value (Abramowitz and Stegun 7.1.26 has 1.5e-7 in exact arithmetic).
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    let zero = s.splat(0.0);
    let negative = s.sub(zero, x);
    let magnitude = s.select_lt(x, zero, negative, x);
    let t = s.div(s.splat(1.0), s.fma(magnitude, s.splat(0.327_591_1), s.splat(1.0)));
    let mut p = s.splat(1.061_405_4);
    for c in [-1.453_152, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        p = s.fma(p, t, s.splat(c));
    }
    let tail = s.mul(s.mul(p, t), exp(s, s.mul(negative, x)));
    let y = s.sub(s.splat(1.0), tail);
    s.select_lt(x, zero, s.sub(zero, y), y)
}
