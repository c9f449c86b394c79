//! `rms_norm`, `rms_norm_mul`, `add_rms_norm_mul`, `layer_norm`. A row is one thread's.

use super::{View, Worker};
use crate::backends::cpu::simd::vector::{self, Binary, Norm};
use std::ptr;

/// # Safety
/// The module's contract.
pub(super) unsafe fn run(norm: Norm, x: &View, weight: Option<&View>, out: &View, worker: &Worker<'_>) {
    let weight = weight.map_or(ptr::null(), |w| w.ptr.as_ptr() as *const f32);
    for row in worker.share(out.rows()) {
        let (x, out_row) = (x.row(row) as *const f32, out.row(row) as *mut f32);
        // SAFETY: rows of ne[0] elements, the result this thread's; in place it is x.
        unsafe { vector::norm(worker.level, norm, x, weight, ptr::null(), out_row, out.ne[0]) }
    }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn add_rms_norm(eps: f32, x: &[View], out: &[View], worker: &Worker<'_>) {
    let (n, weight) = (out[0].ne[0], x[2].ptr.as_ptr() as *const f32);
    for row in worker.share(out[0].rows()) {
        let (a, b) = (x[0].row(row) as *const f32, x[1].row(row) as *const f32);
        let (sum, normed) = (out[0].row(row) as *mut f32, out[1].row(row) as *mut f32);
        // SAFETY: rows of n elements; the sum may stand in an operand's row, the normed row is another buffer.
        unsafe {
            vector::binary(worker.level, Binary::Add, a, b, sum, n);
            vector::norm(worker.level, Norm::Rms { eps }, sum, weight, ptr::null(), normed, n);
        }
    }
}
