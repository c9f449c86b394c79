//! Against f64, on every level, for whole and partial vectors, also in place.

use super::*;

const LENGTHS: [usize; 9] = [1, 7, 15, 16, 17, 64, 100, 130, 896];

fn wave(n: usize, size: f32) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 + i * i * 11) % 201) as f32 / 100.0 * size - size).collect()
}

fn close(name: &str, got: &[f32], want: impl Iterator<Item = f64>, tolerance: impl Fn(usize, f64) -> f64) {
    for (i, (&got, want)) in got.iter().zip(want).enumerate() {
        let bound = tolerance(i, want);
        assert!((f64::from(got) - want).abs() <= bound, "{name} [{i}]: {got} instead of {want} ± {bound}");
    }
}

/// Units in the last place at a value.
fn ulp(x: f64) -> f64 {
    (x.abs() * 2f64.powi(-23)).max(1.5e-45)
}

fn erf64(x: f64) -> f64 {
    // Series for small, continued fraction for large arguments.
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let mut f = 0.0;
    for n in (1..60).rev() {
        f = f64::from(n) / 2.0 / (x.abs() + f);
    }
    x.signum() * (1.0 - (-x * x).exp() / (x.abs() + f) / std::f64::consts::PI.sqrt())
}

fn run(level: Level, f: Unary, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len()];
    let mut in_place = x.to_vec();
    // SAFETY: all rows have x.len() elements.
    unsafe {
        unary(level, f, x.as_ptr(), out.as_mut_ptr(), x.len());
        unary(level, f, in_place.as_ptr(), in_place.as_mut_ptr(), x.len());
    }
    assert!(out.iter().zip(&in_place).all(|(a, b)| a.to_bits() == b.to_bits()));
    out
}

#[test]
fn elementary_functions_have_their_stated_error() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for level in Level::available() {
        for size in [0.01, 1.0, 8.0, 40.0, 100.0] {
            // Beyond 88 the exponential is infinite in f32.
            let x: Vec<f32> = wave(4000, size).into_iter().filter(|x| *x < 88.0).collect();
            let at = |i: usize| f64::from(x[i]);
            let values = || x.iter().map(|&x| f64::from(x));
            let name = |f: &str| format!("{f} {level} ±{size}");
            close(&name("exp"), &run(level, Unary::Exp, &x), values().map(f64::exp), |_, y| 2.0 * ulp(y));
            close(&name("tanh"), &run(level, Unary::Tanh, &x), values().map(f64::tanh), |_, _| 1e-6);
            close(&name("sigmoid"), &run(level, Unary::Sigmoid, &x), values().map(sigmoid), |_, y| {
                4.0 * ulp(y) + 1.2e-38
            });
            close(&name("silu"), &run(level, Unary::Silu, &x), values().map(|x| x * sigmoid(x)), |_, y| {
                6.0 * ulp(y) + 1.2e-36
            });
            let gelu =
                |x: f64| x * 0.5 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh());
            close(&name("gelu"), &run(level, Unary::Gelu, &x), values().map(gelu), |i, _| 1e-6 * (1.0 + at(i).abs()));
            let gelu_erf = |x: f64| x * 0.5 * (1.0 + erf64(x / 2f64.sqrt()));
            close(&name("gelu_erf"), &run(level, Unary::GeluErf, &x), values().map(gelu_erf), |i, _| {
                5e-7 * (1.0 + at(i).abs())
            });
        }
    }
}

#[test]
fn exp_at_its_ends() {
    let x = [0.0, -0.0, f32::NEG_INFINITY, f32::INFINITY, f32::NAN, 88.7, 89.0, 1e30, -87.4, -103.0, -104.5, -1e30];
    for level in Level::available() {
        let y = run(level, Unary::Exp, &x);
        assert_eq!((y[0], y[1], y[2], y[3]), (1.0, 1.0, 0.0, f32::INFINITY), "{level}");
        assert!(y[4].is_nan());
        close("exp", &[y[5], y[8]], [88.7f32, -87.4].into_iter().map(|x| f64::from(x).exp()), |_, y| 2.0 * ulp(y));
        assert_eq!((y[6], y[7], y[10], y[11]), (f32::INFINITY, f32::INFINITY, 0.0, 0.0), "{level}");
        assert!((f64::from(y[9]) - (-103f64).exp()).abs() <= 1.5e-45, "{level} {}", y[9]);
        assert!(run(level, Unary::Relu, &[f32::NAN])[0].is_nan());
        assert!(run(level, Unary::Silu, &[f32::NAN])[0].is_nan());
    }
}

#[test]
fn rows_of_any_length() {
    for level in Level::available() {
        for n in LENGTHS {
            let (a, b): (_, Vec<f32>) = (wave(n, 3.0), wave(n, 1.7).iter().map(|x| x + 2.0).collect());
            let pairs = || a.iter().zip(&b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
            let call = |f| {
                // Two floats more, which must stay.
                let mut out = vec![7.5; n + 2];
                // SAFETY: the rows have n elements.
                unsafe { binary(level, f, a.as_ptr(), b.as_ptr(), out.as_mut_ptr(), n) };
                assert_eq!(out.split_off(n), [7.5, 7.5]);
                out
            };
            let near = |_, y: f64| ulp(y.abs().max(1e-2)) * 8.0;
            close("add", &call(Binary::Add), pairs().map(|(a, b)| a + b), near);
            close("sub", &call(Binary::Sub), pairs().map(|(a, b)| a - b), |_, _| 1e-6);
            close("mul", &call(Binary::Mul), pairs().map(|(a, b)| a * b), near);
            close("div", &call(Binary::Div), pairs().map(|(a, b)| a / b), near);
            close("relu_mul", &call(Binary::ReluMul), pairs().map(|(a, b)| a.max(0.0) * b), near);
            let silu = |(a, b): (f64, f64)| a / (1.0 + (-a).exp()) * b;
            close("silu_mul", &call(Binary::SiluMul), pairs().map(silu), near);
            let y = run(level, Unary::Affine { a: 2.5, b: -1.0 }, &a);
            close("affine", &y, a.iter().map(|&x| f64::from(x) * 2.5 - 1.0), |_, _| 1e-6);
            let mut y = vec![0.0; n];
            // SAFETY: the rows have n elements.
            unsafe { binary(level, Binary::GeluMul, a.as_ptr(), b.as_ptr(), y.as_mut_ptr(), n) };
            let gelu = run(level, Unary::Gelu, &a);
            assert!(y.iter().zip(gelu.iter().zip(&b)).all(|(y, (g, b))| *y == g * b));
        }
    }
}

#[test]
fn norms() {
    for level in Level::available() {
        for n in LENGTHS {
            let (x, w, b) = (wave(n, 2.0), wave(n, 1.0), wave(n, 0.5));
            let values: Vec<f64> = x.iter().map(|&x| f64::from(x) + 1.0).collect();
            let x: Vec<f32> = x.iter().map(|x| x + 1.0).collect();
            let mean = values.iter().sum::<f64>() / n as f64;
            let squares = values.iter().map(|x| x * x).sum::<f64>();
            let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
            let kinds = [
                (Norm::Rms { eps: 1e-3 }, 0.0, (squares / n as f64 + 1e-3).sqrt()),
                (Norm::Layer { eps: 1e-3 }, mean, (variance + 1e-3).sqrt()),
                (Norm::L2 { eps: 0.5 }, 0.0, squares.sqrt().max(0.5)),
            ];
            for (kind, mean, root) in kinds {
                let mut out = vec![0.0; n];
                let mut in_place = x.clone();
                let none = std::ptr::null();
                // SAFETY: the rows have n elements.
                unsafe {
                    norm(level, kind, x.as_ptr(), w.as_ptr(), b.as_ptr(), out.as_mut_ptr(), n);
                    norm(level, kind, in_place.as_ptr(), none, none, in_place.as_mut_ptr(), n);
                }
                let plain = values.iter().map(|x| (x - mean) / root);
                let full = plain.clone().zip(w.iter().zip(&b)).map(|(y, (w, b))| y * f64::from(*w) + f64::from(*b));
                close(&format!("{kind:?} {level} {n}"), &out, full, |_, _| 4e-6);
                close(&format!("plain {kind:?} {level} {n}"), &in_place, plain, |_, _| 4e-6);
            }
        }
    }
}

#[test]
fn softmax_rows() {
    for level in Level::available() {
        for n in LENGTHS {
            let x = wave(n, 20.0);
            let mut mask = vec![0f32; n];
            mask.iter_mut().skip(1).step_by(3).for_each(|m| *m = f32::NEG_INFINITY);
            for masked in [false, true] {
                let at = |i: usize| if masked && mask[i] != 0.0 { f64::NEG_INFINITY } else { f64::from(x[i]) * 0.5 };
                let max = (0..n).map(at).fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = (0..n).map(|i| (at(i) - max).exp()).sum();
                let mut out = x.clone();
                let mask = if masked { mask.as_ptr() } else { std::ptr::null() };
                // SAFETY: the rows have n elements.
                unsafe { softmax(level, 0.5, out.as_ptr(), mask, out.as_mut_ptr(), n) };
                close("softmax", &out, (0..n).map(|i| (at(i) - max).exp() / total), |_, y| 1e-6 * y + 1e-9);
            }
        }
    }
}

#[test]
fn rotation_turns_pairs_and_copies_the_rest() {
    for (pairs, n) in [(1, 2), (4, 8), (16, 32), (20, 64), (32, 64), (40, 80), (64, 128)] {
        let x = wave(n, 1.0);
        let angle = |i: usize| 0.3 + i as f32 * 0.7;
        let (cos, sin): (Vec<f32>, Vec<f32>) = (0..pairs).map(|i| (angle(i).cos(), angle(i).sin())).unzip();
        for style in [RopePairs::Interleaved, RopePairs::Halves] {
            let mut want = x.clone();
            for i in 0..pairs {
                let (p, q) = if style == RopePairs::Halves { (i, i + pairs) } else { (2 * i, 2 * i + 1) };
                want[p] = x[p] * cos[i] - x[q] * sin[i];
                want[q] = x[p] * sin[i] + x[q] * cos[i];
            }
            for level in Level::available() {
                let mut out = vec![f32::NAN; n];
                let mut in_place = x.clone();
                // SAFETY: the rows are as long as they must be.
                unsafe {
                    rope(level, style, x.as_ptr(), cos.as_ptr(), sin.as_ptr(), pairs, out.as_mut_ptr(), n);
                    let p = in_place.as_mut_ptr();
                    rope(level, style, p, cos.as_ptr(), sin.as_ptr(), pairs, p, n);
                }
                assert_eq!(out, want, "{style:?} {level} {pairs} of {n}");
                assert_eq!(in_place, want);
            }
        }
    }
}

#[test]
fn conversions_round_as_half_does() {
    for n in LENGTHS {
        let mut x = wave(n, 3.0);
        x[0] = 1e-7;
        x[n / 2] = 70000.0;
        // Ties, upwards and downwards, the largest number, which rounds to infinity, and none.
        for (x, bits) in x.iter_mut().skip(1).zip([0x3f80_8000, 0x3f81_8000, 0x7f7f_ffff, 0xff80_0000, 0x7f80_0001u32])
        {
            *x = f32::from_bits(bits);
        }
        for level in Level::available() {
            for t in [DType::F16, DType::Bf16] {
                let (mut bits, mut back) = (vec![0u16; n], vec![0f32; n]);
                // SAFETY: the rows have n elements of their types.
                unsafe {
                    convert(level, DType::F32, t, x.as_ptr().cast(), bits.as_mut_ptr().cast(), n);
                    convert(level, t, DType::F32, bits.as_ptr().cast(), back.as_mut_ptr().cast(), n);
                }
                for i in 0..n {
                    let (want, value) = match t {
                        DType::F16 => (half::f16::from_f32(x[i]).to_bits(), half::f16::from_f32(x[i]).to_f32()),
                        _ => (bf16::from_f32(x[i]).to_bits(), bf16::from_f32(x[i]).to_f32()),
                    };
                    assert_eq!((bits[i], back[i].to_bits()), (want, value.to_bits()), "{level} {t} {}", x[i]);
                }
            }
        }
    }
}
