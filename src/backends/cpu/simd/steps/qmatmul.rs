//! `qmatmul`: packed weights times activations, then bias and residual on this thread's outputs while they are in its cache.

use super::{Extra, View, Worker};
use crate::backends::cpu::simd::matmul::matmul;
use crate::ops::QMatmul;

/// # Safety
/// The module's contract; the packed weight lives.
pub(super) unsafe fn run(op: &QMatmul, extra: &Extra, x: &[View], out: &View, worker: &mut Worker<'_>) {
    let Extra::Packed(packed) = extra else { return };
    // SAFETY: the program keeps its weights alive.
    let packed = unsafe { &**packed };
    let tokens = out.rows();
    let panels = worker.share(packed.panels());
    let rows = packed.rows_of(panels.clone());
    let (activations, x_row_bytes) = (x[1].ptr.as_ptr(), x[1].dtype.row_bytes(x[1].ne[0]).unwrap_or(0));
    let (result, stride) = (out.ptr.as_mut_ptr() as *mut f32, out.ne[0]);
    // SAFETY: x and out are contiguous with `tokens` rows; the panels' rows of the result are this thread's.
    unsafe { matmul(worker.level, packed, activations, x_row_bytes, tokens, panels, result, stride, worker.scratch) };
    for (i, term) in x[2..].iter().enumerate() {
        let is_bias = op.bias && i == 0;
        for t in 0..tokens {
            // SAFETY: the same rows of the result, and the same elements of the bias or of the residual's row t.
            unsafe {
                let out_row = std::slice::from_raw_parts_mut(result.add(t * stride + rows.start), rows.len());
                let term_row = (if is_bias { term.ptr.as_ptr() } else { term.row(t) as *const u8 }) as *const f32;
                let term_row = std::slice::from_raw_parts(term_row.add(rows.start), rows.len());
                for (o, v) in out_row.iter_mut().zip(term_row) {
                    *o += v;
                }
            }
        }
    }
}
