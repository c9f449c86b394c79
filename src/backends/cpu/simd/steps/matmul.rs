//! `matmul` of two activations with any strides: the plain path for graphs whose attention was not fused.

use super::{View, Worker};

/// # Safety
/// The module's contract.
pub(super) unsafe fn run(a: &View, b: &View, out: &View, worker: &Worker<'_>) {
    let (k, n) = (a.ne[0], out.ne[0]);
    let (r2, r3) = (b.ne[2] / a.ne[2].max(1), b.ne[3] / a.ne[3].max(1));
    let rows = out.rows();
    // With fewer rows than threads the columns are shared out.
    let (rows, columns) = if rows >= worker.threads { (worker.share(rows), 0..n) } else { (0..rows, worker.share(n)) };
    let dense = a.nb[0] == 4;
    for row in rows {
        let (i1, rest) = (row % out.ne[1], row / out.ne[1]);
        let (i2, i3) = (rest % out.ne[2], rest / out.ne[2]);
        let b_row = b.at(0, i1, i2, i3) as *const f32;
        let out_row = out.at(0, i1, i2, i3) as *mut f32;
        for i0 in columns.clone() {
            let a_row = a.at(0, i0, i2 / r2.max(1), i3 / r3.max(1));
            let mut lanes = [0.0f32; 8];
            for i in 0..k {
                let step = if dense { 4 * i } else { a.nb[0] * i };
                // SAFETY: element i of rows of k elements.
                unsafe { lanes[i % 8] += (a_row.add(step) as *const f32).read() * b_row.add(i).read() };
            }
            let sum = (lanes[0] + lanes[4]) + (lanes[2] + lanes[6]) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
            // SAFETY: element i0 of this thread's part of the row.
            unsafe { out_row.add(i0).write(sum) }
        }
    }
}
