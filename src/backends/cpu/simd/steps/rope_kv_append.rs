//! `rope_kv_append`: cos and sin once a token; query heads rotated in place or copied, key heads rotated on their way into the cache.

use super::kv_append::{by_tokens, store};
use super::rope::fill_table;
use super::{Extra, View, Worker};
use crate::backends::cpu::simd::vector::{self, RopePairs};
use crate::ops::{RopeKvAppend, RopeMode};

/// Scratch of a thread: cos, sin, and one rotated key.
pub(super) fn scratch_bytes(op: &RopeKvAppend, head_dim: usize) -> usize {
    op.rope.n_dims / 2 * 2 * 4 + head_dim * 4
}

/// # Safety
/// The module's contract. The second and third results are the states themselves.
pub(super) unsafe fn run(op: &RopeKvAppend, extra: &Extra, x: &[View], out: &View, worker: &mut Worker<'_>) {
    let Extra::Angles(angles, scale) = extra else { return };
    let (q, k, v, k_state, v_state) = (&x[0], &x[1], &x[2], &x[3], &x[4]);
    // SAFETY: inputs, and a weight or vector of an earlier step.
    let (positions, slots, factors) = unsafe { (x[5].i32s(), x[6].i32s(), x.get(7).map(|f| f.f32_row(0))) };
    let half = op.rope.n_dims / 2;
    let pairs = match op.rope.mode {
        RopeMode::Norm => RopePairs::Interleaved,
        RopeMode::Neox => RopePairs::Halves,
    };
    let level = worker.level;
    // Threads take tokens, each with its own sines; or heads.
    let (tokens, heads, kv_heads) = if by_tokens(&slots[..q.ne[2]], worker) {
        (worker.share(q.ne[2]), 0..q.ne[1], 0..k.ne[1])
    } else {
        (0..q.ne[2], worker.share(q.ne[1]), worker.share(k.ne[1]))
    };
    let scratch = &mut worker.scratch[..scratch_bytes(op, k.ne[0])];
    let Ok(floats) = bytemuck::try_cast_slice_mut::<u8, f32>(scratch) else { return };
    let (table, key) = floats.split_at_mut(half * 2);
    let (cos, sin) = table.split_at_mut(half);
    for t in tokens {
        fill_table(positions[t], angles, factors, *scale, cos, sin);
        for head in heads.clone() {
            let (from, to) = (q.at(0, head, t, 0) as *const f32, out.at(0, head, t, 0) as *mut f32);
            // SAFETY: heads of ne[0] elements; in place they are the same.
            unsafe { vector::rope(level, pairs, from, cos.as_ptr(), sin.as_ptr(), half, to, q.ne[0]) }
        }
        let Some(slot) = usize::try_from(slots[t]).ok().filter(|&s| s < k_state.ne[1]) else {
            worker.fault.note(worker.step, slots[t].into());
            continue;
        };
        for head in kv_heads.clone() {
            let from = k.at(0, head, t, 0) as *const f32;
            // SAFETY: heads of ne[0] elements, the scratch has one; rows of the caches are this thread's by head, or by token.
            unsafe {
                vector::rope(level, pairs, from, cos.as_ptr(), sin.as_ptr(), half, key.as_mut_ptr(), k.ne[0]);
                let row = k_state.at(0, slot, head, 0);
                store(level, k_state.dtype, key.as_ptr(), row, k.ne[0]);
                let (from, row) = (v.at(0, head, t, 0) as *const f32, v_state.at(0, slot, head, 0));
                store(level, v_state.dtype, from, row, v.ne[0]);
            }
        }
    }
}
