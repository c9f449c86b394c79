//! `get_rows` and `dequantize`: rows of any type as f32.

use super::{View, Worker};
use crate::tensor::quant::{DequantFn, dequantizer};

/// # Safety
/// The module's contract. The table may stand at any alignment.
pub(super) unsafe fn run(x: &[View], out: &View, worker: &Worker<'_>) {
    let table = &x[0];
    // SAFETY: ids are an input vector.
    let ids = unsafe { x[1].i32s() };
    for t in worker.share(out.ne[1]) {
        let row = usize::try_from(ids[t]).ok().filter(|&r| r < table.ne[1]);
        // SAFETY: row t of the result is this thread's.
        let out_row = unsafe { out.f32_row_mut(t) };
        match row {
            // SAFETY: the row is within the table.
            Some(row) => unsafe { copy(table, row, out_row) },
            None => {
                worker.fault(ids[t].into());
                out_row.fill(0.0);
            }
        }
    }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn dequantize(x: &View, out: &View, worker: &Worker<'_>) {
    for row in worker.share(out.rows()) {
        // SAFETY: row numbers are the same in both; the result's is this thread's.
        unsafe { copy(x, row, out.f32_row_mut(row)) }
    }
}

/// # Safety
/// Row `row` of `x` is in memory and not written meanwhile.
unsafe fn copy(x: &View, row: usize, out: &mut [f32]) {
    let bytes = x.dtype.row_bytes(x.ne[0]).unwrap_or(0);
    // SAFETY: a row of ne[0] elements has this many bytes.
    let src = unsafe { std::slice::from_raw_parts(x.row(row) as *const u8, bytes) };
    if let Some(f) = dequantizer(x.dtype) {
        let f: DequantFn = f;
        f(src, out);
    }
}
