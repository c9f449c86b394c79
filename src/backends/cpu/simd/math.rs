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
    s.scale2(exp_of_rest(s, x, n), n)
}

/// e^x for x ≤ 0, within 2 units in the last place from −87.3 on and e^−87.3 (1.2e-38) below; exp(0) = 1 exactly, a NaN stays
/// one. Half the work of [`exp`].
#[inline(always)]
pub(crate) fn exp_of_negative<S: Simd>(s: S, x: S::F) -> S::F {
    /// 1.5·2^23: added to a number below 2^22, it leaves the nearest integer in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    let x = s.max(s.splat(-87.3), x);
    let shifted = s.fma(x, s.splat(std::f32::consts::LOG2_E), s.splat(SHIFT));
    let n = s.sub(shifted, s.splat(SHIFT));
    let y = exp_of_rest(s, x, n);
    // The shift takes all of SHIFT's own bits out; n is −126 or more, so the factor is a normal number.
    s.mul(y, s.from_bits(s.add_i(s.shl::<23>(s.to_bits(shifted)), s.splat_i(127 << 23))))
}

/// e^(x − n·ln 2) for an n that brings it near 1.
#[inline(always)]
fn exp_of_rest<S: Simd>(s: S, x: S::F, n: S::F) -> S::F {
    // ln 2 in two parts, of which the first has few bits, so that n times it is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_1e-4);
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.0e-1] {
        p = s.fma(p, r, s.splat(c));
    }
    s.add(s.fma(s.mul(r, r), p, r), s.splat(1.0))
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

#[cfg(test)]
mod tests {
    use super::super::isa::Level;
    use super::super::lanes::{Kernel, LANES, Portable};
    use super::*;

    /// [`exp_of_negative`] of all elements, in place.
    struct Row<'a>(&'a mut [[f32; LANES]]);

    impl Kernel for Row<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<S: Simd>(self, s: S) {
            for x in self.0 {
                // SAFETY: sixteen floats.
                unsafe { s.store(x.as_mut_ptr(), exp_of_negative(s, s.load(x.as_ptr()))) }
            }
        }
    }

    fn exps(level: Level, x: &[[f32; LANES]]) -> Vec<[f32; LANES]> {
        let mut y = x.to_vec();
        // SAFETY: the level is available.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => super::super::lanes::Avx2::assume().vectorize(Row(&mut y)),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 | Level::Avx512Bf16 => {
                    super::super::lanes::Avx512::<false>::assume().vectorize(Row(&mut y))
                }
                _ => Portable::assume().vectorize(Row(&mut y)),
            }
        }
        y
    }

    #[test]
    fn exp_of_negative_has_its_stated_error() {
        let x: Vec<[f32; LANES]> =
            (0..4000).map(|i| std::array::from_fn(|j| -87.3 * ((i * LANES + j) as f32 / 64_000.0).powi(2))).collect();
        for level in Level::available() {
            for (x, y) in x.as_flattened().iter().zip(exps(level, &x).as_flattened()) {
                let exact = f64::from(*x).exp();
                let ulp = f64::from(f32::EPSILON) * 2f64.powi(exact.log2().floor() as i32);
                assert!((f64::from(*y) - exact).abs() <= 2.0 * ulp, "{level}: exp({x}) is {exact}, found {y}");
            }
        }
    }

    #[test]
    fn exp_of_negative_at_its_ends() {
        let mut x = [[0.0; LANES]];
        x[0][..6].copy_from_slice(&[0.0, -0.0, -87.4, f32::NEG_INFINITY, f32::NAN, f32::from_bits(u32::MAX)]);
        for level in Level::available() {
            let y = exps(level, &x)[0];
            assert_eq!((y[0], y[1]), (1.0, 1.0), "{level}");
            assert!(y[2] == y[3] && (1.1e-38..1.3e-38).contains(&y[2]), "{level} {}", y[2]);
            assert!(y[4].is_nan() && y[5].is_nan(), "{level}");
        }
    }
}
