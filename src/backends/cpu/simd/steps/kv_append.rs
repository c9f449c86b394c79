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
    let slots = &slots[..new.ne[2]];
    let (tokens, heads) = if by_tokens(slots, worker) {
        (worker.share(slots.len()), 0..new.ne[1])
    } else {
        (0..slots.len(), worker.share(new.ne[1]))
    };
    for head in heads {
        for t in tokens.clone() {
            let slot = slots[t];
            let Some(row) = usize::try_from(slot).ok().filter(|&s| s < state.ne[1]) else {
                worker.fault(slot.into());
                continue;
            };
            let from = new.at(0, head, t, 0) as *const f32;
            let to = state.at(0, row, head, 0);
            // SAFETY: the new row and the cache's row have ne[0] elements; heads are shared out among threads, or tokens, which have slots of their own.
            unsafe { store(worker.level, state.dtype, from, to, new.ne[0]) }
        }
    }
}

/// Whether threads may take tokens: there are enough, and no two go to the same slot (slots are ascending where a session made them).
pub(super) fn by_tokens(slots: &[i32], worker: &Worker<'_>) -> bool {
    slots.len() >= 2 * worker.threads && slots.is_sorted_by(|a, b| a < b)
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
