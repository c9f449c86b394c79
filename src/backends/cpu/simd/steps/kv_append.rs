//! `kv_append`: rows into a cache, rounded to its type.

use super::{View, Worker};
use crate::tensor::DType;
use half::{bf16, f16};

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
            for i in 0..new.ne[0] {
                // SAFETY: element i of the new row and of the cache's row; heads are shared out among threads.
                unsafe {
                    let v = from.add(i).read();
                    match state.dtype {
                        DType::F16 => (to as *mut f16).add(i).write(f16::from_f32(v)),
                        DType::Bf16 => (to as *mut bf16).add(i).write(bf16::from_f32(v)),
                        _ => (to as *mut f32).add(i).write(v),
                    }
                }
            }
        }
    }
}
