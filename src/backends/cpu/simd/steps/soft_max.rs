//! `soft_max` over stored rows.

use super::{View, Worker};

/// # Safety
/// The module's contract.
pub(super) unsafe fn run(x: &View, out: &View, worker: &Worker<'_>) {
    for row in worker.share(out.rows()) {
        let (from, to) = (x.row(row) as *const f32, out.row(row) as *mut f32);
        let n = out.ne[0];
        // SAFETY: elements of this thread's row; in place each is read before it is written.
        unsafe {
            let max = (0..n).fold(f32::NEG_INFINITY, |m, j| m.max(from.add(j).read()));
            let mut sum = 0.0f32;
            for j in 0..n {
                let e = if max == f32::NEG_INFINITY { 0.0 } else { (from.add(j).read() - max).exp() };
                to.add(j).write(e);
                sum += e;
            }
            let factor = if sum > 0.0 {
                1.0 / sum
            } else if sum == 0.0 {
                0.0
            } else {
                f32::NAN
            };
            for j in 0..n {
                to.add(j).write(to.add(j).read() * factor);
            }
        }
    }
}
