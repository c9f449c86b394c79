//! `cont`: a contiguous copy of f32 elements with any strides.

use super::{View, Worker};

/// # Safety
/// The module's contract.
pub(super) unsafe fn run(x: &View, out: &View, worker: &Worker<'_>) {
    for row in worker.share(out.rows()) {
        let (from, to) = (x.row(row), out.row(row) as *mut f32);
        for i in 0..out.ne[0] {
            // SAFETY: element i of both rows.
            unsafe { to.add(i).write((from.add(i * x.nb[0]) as *const f32).read()) }
        }
    }
}
