//! `concat`: two tensors one after the other.

use super::{View, Worker};
use crate::ops::Concat;

/// # Safety
/// The module's contract.
pub(super) unsafe fn run(op: &Concat, x: &[View], out: &View, worker: &Worker<'_>) {
    let mut start = [0; 4];
    for part in x {
        for row in worker.share(part.rows()) {
            let (i1, rest) = (row % part.ne[1], row / part.ne[1]);
            let (i2, i3) = (rest % part.ne[2], rest / part.ne[2]);
            let to = out.at(start[0], i1 + start[1], i2 + start[2], i3 + start[3]) as *mut f32;
            // SAFETY: a row of the part and its place in the result, which is this thread's.
            unsafe { std::ptr::copy_nonoverlapping(part.row(row) as *const f32, to, part.ne[0]) }
        }
        start[op.dim] += part.ne[op.dim];
    }
}
