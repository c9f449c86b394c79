//! `rms_norm`, `rms_norm_mul`, `add_rms_norm_mul`, `layer_norm`. A row is one thread's; its sums run in 16 lanes in a fixed order.

use super::{View, Worker};

/// Σ f(x) in 16 lanes, which are added pairwise.
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    let chunks = x.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += f(v);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane += f(v);
    }
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

fn rms_factor(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum(x, |v| v * v) / x.len() as f32 + eps).sqrt()
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn rms_norm(eps: f32, x: &View, weight: Option<&View>, out: &View, worker: &Worker<'_>) {
    for row in worker.share(out.rows()) {
        // SAFETY: the row is this thread's; in place, the factor is computed before the first element is written.
        let factor = rms_factor(unsafe { x.f32_row(row) }, eps);
        // SAFETY: the weight is not written by any step.
        let weight = weight.map(|w| unsafe { w.f32_row(0) });
        let (x, out_row) = (x.row(row) as *const f32, out.row(row) as *mut f32);
        for i in 0..out.ne[0] {
            let w = weight.map_or(1.0, |w| w[i]);
            // SAFETY: element i of a row of ne[0] elements; read before the same one is written.
            unsafe { out_row.add(i).write(x.add(i).read() * factor * w) }
        }
    }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn add_rms_norm(eps: f32, x: &[View], out: &[View], worker: &Worker<'_>) {
    for row in worker.share(out[0].rows()) {
        let (a, b, sum_row) = (x[0].row(row) as *const f32, x[1].row(row) as *const f32, out[0].row(row) as *mut f32);
        for i in 0..out[0].ne[0] {
            // SAFETY: element i of rows of equal length; read before the same one is written.
            unsafe { sum_row.add(i).write(a.add(i).read() + b.add(i).read()) }
        }
        // SAFETY: the sum is written above by this thread; the normed row is another buffer of this thread's.
        let (sum_row, normed, weight) = unsafe { (out[0].f32_row(row), out[1].f32_row_mut(row), x[2].f32_row(0)) };
        let factor = rms_factor(sum_row, eps);
        for ((n, &s), &w) in normed.iter_mut().zip(sum_row).zip(weight) {
            *n = s * factor * w;
        }
    }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn layer_norm(eps: f32, x: &View, out: &View, worker: &Worker<'_>) {
    for row in worker.share(out.rows()) {
        // SAFETY: the row is this thread's; in place, both sums are computed before the first element is written.
        let values = unsafe { x.f32_row(row) };
        let n = values.len() as f32;
        let mean = sum(values, |v| v) / n;
        let factor = 1.0 / (sum(values, |v| (v - mean) * (v - mean)) / n + eps).sqrt();
        let (x, out_row) = (x.row(row) as *const f32, out.row(row) as *mut f32);
        for i in 0..out.ne[0] {
            // SAFETY: element i of the row; read before the same one is written.
            unsafe { out_row.add(i).write((x.add(i).read() - mean) * factor) }
        }
    }
}
