//! What the reference quantizers share: scales, and the least-squares searches behind the K-quants.
//!
//! Sums run in element order, in f32, without fused multiply-add: the bytes that come out depend on it.

/// Groups whose largest magnitude is below this count as zero.
pub(super) const GROUP_MAX_EPS: f32 = 1e-15;

/// The largest magnitude of those after the last NaN; NaN if that is the last value.
pub(super) fn max_abs(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m: f32, v| if m > v.abs() { m } else { v.abs() })
}

/// The first value of the largest magnitude, with its sign. NaN is passed over; 0 if nothing is left.
pub(super) fn extreme(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m: f32, &v| if v.abs() > m.abs() { v } else { m })
}

/// The least and the greatest value, starting from `start`; NaN is passed over.
pub(super) fn min_max(x: &[f32], start: (f32, f32)) -> (f32, f32) {
    x.iter().fold(start, |(lo, hi), &v| (if v < lo { v } else { lo }, if v > hi { v } else { hi }))
}

/// `1 / d`, or 0 for 0.
pub(super) fn inverse(d: f32) -> f32 {
    if d != 0.0 { 1.0 / d } else { 0.0 }
}

/// `x` without its fraction; `i32::MIN` for NaN and what is out of range. C leaves those undefined, and this is what x86-64
/// gives, so that blocks of infinities and subnormals come out as in ggml's files too.
#[inline]
pub(super) fn truncate(x: f32) -> i32 {
    if (-2_147_483_648.0..2_147_483_648.0).contains(&x) { x as i32 } else { i32::MIN }
}

/// The nearest integer, ties to even, for magnitudes below 2²²; modulo 2²³ beyond, 0 for NaN.
#[inline]
pub(super) fn nearest(x: f32) -> i32 {
    // Adding 1.5 · 2²³ leaves the integer in the fraction's bits.
    let bits = (x + 12_582_912.0).to_bits();
    (bits & 0x007f_ffff) as i32 - 0x0040_0000
}

/// Sums for the scale that minimises Σ w · (x - scale · q)²: it is `xq / qq`.
#[derive(Clone, Copy, Default)]
struct Sums {
    xq: f32,
    qq: f32,
}

impl Sums {
    fn add(&mut self, w: f32, x: f32, q: f32) {
        self.xq += w * x * q;
        self.qq += w * q * q;
    }

    fn of(x: &[f32; 16], q: impl Fn(f32) -> i32) -> Self {
        let mut sums = Sums::default();
        for &x in x {
            sums.add(x * x, x, q(x) as f32);
        }
        sums
    }
}

/// A scale for `x ≈ scale · (q - half)` with `q` below `2 · half`, weighted by x², best of 19 starting scales.
/// Fills `q` and returns the scale (`q6_K`).
pub(super) fn fit_scale_by_search(x: &[f32; 16], half: i32, q: &mut [u8; 16]) -> f32 {
    let max = extreme(x);
    if max.abs() < GROUP_MAX_EPS {
        *q = [0; 16];
        return 0.0;
    }
    let quantize = |inverse: f32, x: f32| nearest(inverse * x).clamp(-half, half - 1);
    let store = |inverse: f32| x.map(|x| (quantize(inverse, x) + half) as u8);

    let start = -half as f32 / max;
    *q = store(start);
    let sums = Sums::of(x, |x| quantize(start, x));
    let mut scale = if sums.qq != 0.0 { sums.xq / sums.qq } else { 0.0 };
    let mut best = scale * sums.xq;
    for step in (-9..=9).filter(|&step| step != 0) {
        let candidate = -(half as f32 + 0.1 * step as f32) / max;
        let sums = Sums::of(x, |x| quantize(candidate, x));
        if sums.qq > 0.0 && sums.xq * sums.xq > best * sums.qq {
            *q = store(candidate);
            scale = sums.xq / sums.qq;
            best = scale * sums.xq;
        }
    }
    scale
}

/// A scale for `x ≈ scale · (q - half)`, weighted by x², improved one value at a time, at most five times over (`q3_K`).
pub(super) fn fit_scale_by_descent(x: &[f32; 16], half: i32, q: &mut [u8; 16]) -> f32 {
    let max = extreme(x);
    if max.abs() < GROUP_MAX_EPS {
        *q = [0; 16];
        return 0.0;
    }
    let start = -half as f32 / max;
    let mut levels = x.map(|x| nearest(start * x).clamp(-half, half - 1));
    let mut sums = Sums::default();
    for (&x, &level) in x.iter().zip(&levels) {
        sums.add(x * x, x, level as f32);
    }
    for _ in 0..5 {
        let mut changed = false;
        for (&x, level) in x.iter().zip(&mut levels) {
            let (w, old) = (x * x, *level as f32);
            let mut others = Sums { xq: sums.xq - w * x * old, qq: sums.qq };
            if others.xq > 0.0 {
                others.qq -= w * old * old;
                let new = nearest(x * others.qq / others.xq).clamp(-half, half - 1);
                if new != *level {
                    others.add(w, x, new as f32);
                    if others.qq > 0.0 && others.xq * others.xq * sums.qq > sums.xq * sums.xq * others.qq {
                        *level = new;
                        sums = others;
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    *q = levels.map(|level| (level + half) as u8);
    if sums.qq > 0.0 { sums.xq / sums.qq } else { 0.0 }
}

/// How [`fit_scale_and_min`] searches.
pub(super) struct AffineSearch {
    /// The largest `q`.
    pub max: u8,
    /// The first starting scale covers `max + first` levels; each further one 0.1 more.
    pub first: f32,
    /// Starting scales after the first.
    pub steps: u8,
    /// Whether errors count by magnitude instead of by square.
    pub absolute: bool,
}

impl AffineSearch {
    fn error<const N: usize>(&self, x: &[f32; N], weights: &[f32; N], q: &[u8; N], scale: f32, min: f32) -> f32 {
        let mut sum = 0.0;
        for ((&x, &w), &q) in x.iter().zip(weights).zip(q) {
            let diff = scale * f32::from(q) + min - x;
            sum += w * if self.absolute { diff.abs() } else { diff * diff };
        }
        sum
    }
}

/// Scale and minimum for `x ≈ scale · q - min`, both at least 0. Fills `q`, returns `(scale, min)`
/// (`q2_K`, `q4_K`, `q5_K`).
pub(super) fn fit_scale_and_min<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    search: &AffineSearch,
    q: &mut [u8; N],
) -> (f32, f32) {
    let (min, max) = min_max(x, (x[0], x[0]));
    let mut min = if min > 0.0 { 0.0 } else { min };
    if max == min {
        *q = [0; N];
        return (0.0, -min);
    }
    let levels = f32::from(search.max);
    let quantize =
        |inverse: f32, min: f32| x.map(|x| nearest(inverse * (x - min)).clamp(0, i32::from(search.max)) as u8);

    let (mut sum_w, mut sum_x) = (0.0, 0.0);
    for (&x, &w) in x.iter().zip(weights) {
        sum_w += w;
        sum_x += w * x;
    }
    let inverse = levels / (max - min);
    let mut scale = 1.0 / inverse;
    *q = quantize(inverse, min);
    let mut best = search.error(x, weights, q, scale, min);
    for step in 0..=search.steps {
        let inverse = (search.first + 0.1 * f32::from(step) + levels) / (max - min);
        let candidate = quantize(inverse, min);
        let (mut sum_q, mut sum_qq, mut sum_xq) = (0.0, 0.0, 0.0);
        for ((&x, &w), &q) in x.iter().zip(weights).zip(&candidate) {
            let q = f32::from(q);
            sum_q += w * q;
            sum_qq += w * q * q;
            sum_xq += w * q * x;
        }
        let determinant = sum_w * sum_qq - sum_q * sum_q;
        if determinant > 0.0 {
            let mut new_scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
            let mut new_min = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
            if new_min > 0.0 {
                new_min = 0.0;
                new_scale = sum_xq / sum_qq;
            }
            let error = search.error(x, weights, &candidate, new_scale, new_min);
            if error < best {
                (*q, best, scale, min) = (candidate, error, new_scale, new_min);
            }
        }
    }
    (scale, -min)
}
