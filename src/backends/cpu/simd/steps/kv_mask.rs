//! `kv_mask` on stored scores.

use super::{View, Worker};
use crate::ops::KvMask;

/// # Safety
/// The module's contract.
pub(super) unsafe fn run(op: &KvMask, x: &[View], out: &View, worker: &Worker<'_>) {
    // SAFETY: both are input vectors.
    let (start, slot) = unsafe { (x[1].i32s(), x[2].i32s()) };
    for row in worker.share(out.rows()) {
        let t = row % out.ne[1];
        let visible = op.visible(start[t], slot[t], out.ne[0]);
        let (from, to) = (x[0].row(row) as *const f32, out.row(row) as *mut f32);
        for j in 0..out.ne[0] {
            // SAFETY: element j of this thread's row; read before the same one is written.
            unsafe { to.add(j).write(if visible.contains(&j) { from.add(j).read() } else { f32::NEG_INFINITY }) }
        }
    }
}
