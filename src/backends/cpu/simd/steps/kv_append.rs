//! `kv_append`: rows into a cache, rounded to its type.

use super::{View, Worker};
use crate::backends::cpu::simd::{Level, vector};
use crate::tensor::DType;
use crate::tensor::quant::quantizer;

/// # Safety
/// The module's contract. The result is the state itself.
pub(super) unsafe fn run(x: &[View], worker: &Worker<'_>) {
    let (state, new) = (&x[0], &x[1]);
    // SAFETY: slots are an input vector.
    let slots = unsafe { x[2].i32s() };
    for head in worker.share(new.ne[1]) {
        for (t, &slot) in slots.iter().enumerate().take(new.ne[2]) {
            let Some(row) = usize::try_from(slot).ok().filter(|&s| s < state.ne[1]) else {
                worker.fault(slot.into());
                continue;
            };
            let from = new.at(0, head, t, 0) as *const f32;
            let to = state.at(0, row, head, 0);
            // SAFETY: the new row and the cache's row have ne[0] elements; heads are shared out among threads.
            unsafe { store(worker.level, state.dtype, from, to, new.ne[0]) }
        }
    }
}

/// A row of `n` elements in a cache's type.
///
/// # Safety
/// `from` has `n` elements and `to` room for a row of them, which nobody else touches.
pub(super) unsafe fn store(level: Level, dtype: DType, from: *const f32, to: *mut u8, n: usize) {
    let Some(quantize) = quantizer(dtype).filter(|_| dtype.is_quantized()) else {
        // SAFETY: the caller's promise.
        return unsafe { vector::convert(level, DType::F32, dtype, from as *const u8, to, n) };
    };
    let bytes = dtype.row_bytes(n).unwrap_or(0);
    // SAFETY: the caller's promise.
    unsafe { quantize(std::slice::from_raw_parts(from, n), std::slice::from_raw_parts_mut(to, bytes)) }
}
