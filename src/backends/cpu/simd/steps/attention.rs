//! `attention`, `full_attention`: the fused kernel where its operands are laid out as it wants them; otherwise a plain pass over the visible positions.
//!
//! Where a step has one token or a few, threads may share a KV head's cache: each computes partitions of it into memory that all threads
//! have, and after a barrier the partitions are merged, to the same bits.
//!
//! Both ways take positions in blocks of 64 with a running maximum (online softmax; Milakov & Gimelshein 2018). Blocks begin at
//! multiples of 64 of the cache, so a token's result does not depend on what else the step carries.

use super::{View, Worker};
use crate::backends::cpu::simd::attention::{self, AttentionArgs};
use crate::graph::plan::Step;
use crate::ops::{Attention, FullAttention, KvMask};
use crate::tensor::quant::dequantizer;
use crate::tensor::{Bounds, DType};
use half::{bf16, f16};

/// Positions of a block.
const BLOCK: usize = 64;

/// Scratch of a thread for either way.
pub(super) fn scratch_bytes(step: &Step, bounds: &Bounds) -> usize {
    let size = |slot: usize, dim: usize| step.operands[slot].ty.shape.dim(dim).eval(bounds);
    let (heads, kv_heads, d, d_v) = (size(0, 1), size(1, 2), size(1, 0), size(2, 0));
    let plain = 4 * (d.max(d_v) + BLOCK + d_v);
    attention::scratch_bytes(step.operands[1].ty.dtype, heads, kv_heads, d, d_v).max(plain)
}

/// Tokens of a step whose caches may be shared among threads.
const SHARED_TOKENS: usize = 4;

/// Whether threads share the caches of heads: where there are few tokens, several partitions, and heads that leave threads idle.
fn is_shared(tokens: usize, kv_heads: usize, filled: usize, threads: usize) -> bool {
    let idle = kv_heads > 0 && kv_heads < 4 * threads && !kv_heads.is_multiple_of(threads);
    (1..=SHARED_TOKENS).contains(&tokens) && filled > attention::PARTITION && idle
}

/// Bytes that all threads have in common for a step: what partitions leave to be merged.
pub(super) fn shared_bytes(step: &Step, bounds: &Bounds, threads: usize) -> usize {
    let size = |slot: usize, dim: usize| step.operands[slot].ty.shape.dim(dim).eval(bounds);
    let (heads, tokens, filled, kv_heads) = (size(0, 1), size(0, 2).min(SHARED_TOKENS), size(1, 1), size(1, 2));
    let shared = is_shared(tokens, kv_heads, filled, threads);
    if shared { attention::partials_bytes(tokens, heads, size(2, 0), filled) } else { 0 }
}

/// What `attention` and `full_attention` have in common.
struct Call<'a> {
    x: &'a [View],
    out: &'a View,
    /// What a token sees, if not all.
    tables: Option<(KvMask, &'a View, &'a View)>,
    mask: Option<&'a View>,
    scale: f32,
    softcap: f32,
}

impl Call<'_> {
    /// The fused kernel's arguments, if the operands are laid out as it wants them.
    fn fused_args(&self) -> Option<AttentionArgs> {
        let (q, k, v, out) = (&self.x[0], &self.x[1], &self.x[2], self.out);
        let heads_dense = q.nb[1] == 4 * q.ne[0] && out.nb[1] == 4 * out.ne[0];
        let known = attention::is_supported(k.dtype, k.ne[0], v.ne[0]) && k.dtype == v.dtype;
        if !heads_dense || !known || self.mask.is_some() {
            return None;
        }
        let table = |view: &View| view.ptr.as_ptr() as *const i32;
        let (mask, start, slot) = match &self.tables {
            Some((mask, start, slot)) => (mask.clone(), table(start), table(slot)),
            None => (KvMask { causal: false, window: 0 }, std::ptr::null(), std::ptr::null()),
        };
        Some(AttentionArgs {
            q: q.ptr.as_ptr() as *const f32,
            q_stride: q.nb[2] / 4,
            k: k.ptr.as_ptr(),
            k_strides: [k.nb[1], k.nb[2]],
            v: v.ptr.as_ptr(),
            v_strides: [v.nb[1], v.nb[2]],
            kv_type: k.dtype,
            capacity: k.ne[1],
            out: out.ptr.as_mut_ptr() as *mut f32,
            out_stride: out.nb[2] / 4,
            tokens: out.ne[2],
            heads: out.ne[1],
            kv_heads: k.ne[2],
            d: q.ne[0],
            d_v: v.ne[0],
            kv_start: start,
            kv_slot: slot,
            see_until: (!mask.causal).then_some(k.ne[1]),
            window: mask.window,
            scale: self.scale,
            softcap: self.softcap,
            sinks: std::ptr::null(),
        })
    }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn run(op: &Attention, x: &[View], out: &View, worker: &mut Worker<'_>) {
    let tables = Some((op.mask(), &x[3], &x[4]));
    let call = Call { x, out, tables, mask: x.get(5), scale: op.scale, softcap: op.softcap };
    // SAFETY: passed on.
    unsafe { compute(&call, worker) }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn run_full(op: &FullAttention, x: &[View], out: &View, worker: &mut Worker<'_>) {
    let call = Call { x, out, tables: None, mask: x.get(3), scale: op.scale, softcap: op.softcap };
    // SAFETY: passed on.
    unsafe { compute(&call, worker) }
}

/// # Safety
/// The module's contract.
unsafe fn compute(call: &Call<'_>, worker: &mut Worker<'_>) {
    if let Some(args) = call.fused_args() {
        // As the plan has it, for which memory in common is there, also while fewer threads take part.
        if is_shared(args.tokens, args.kv_heads, args.capacity, worker.pool.threads()) {
            // SAFETY: as below.
            return unsafe { compute_shared(&args, worker) };
        }
        let units = worker.share(args.units());
        // SAFETY: the views are what the arguments say; heads and tokens of these units are this thread's; positions up to a
        // token's own were written by `kv_append`, and the cache is zeroed memory elsewhere.
        return unsafe { attention::attention(worker.level, &args, units, worker.scratch) };
    }
    // SAFETY: passed on.
    unsafe { compute_plainly(call, worker) }
}

/// # Safety
/// The module's contract, for what the arguments say.
unsafe fn compute_shared(args: &AttentionArgs, worker: &mut Worker<'_>) {
    let (filled, partials) = (args.capacity, worker.shared.as_mut_ptr() as *mut f32);
    let parts = worker.share(args.partial_units(filled));
    // SAFETY: the shared memory has room for the partitions of the plan's bounds (`shared_bytes`), and each has its own place; no other
    // step uses it between the barriers around this one.
    unsafe { attention::attention_partials(worker.level, args, filled, parts, partials, worker.scratch) };
    if worker.pool.barrier_wait().is_err() {
        return;
    }
    let units = worker.share(args.units());
    // SAFETY: after the barrier all partitions are complete; heads and tokens of these units are this thread's.
    unsafe { attention::attention_merge(worker.level, args, filled, units, partials, worker.scratch) }
}

/// # Safety
/// The module's contract.
unsafe fn compute_plainly(call: &Call<'_>, worker: &mut Worker<'_>) {
    let (q, k, v, out) = (&call.x[0], &call.x[1], &call.x[2], call.out);
    // SAFETY: both are input vectors.
    let tables = call.tables.as_ref().map(|(mask, start, slot)| unsafe { (mask, start.i32s(), slot.i32s()) });
    let [_, heads, tokens, _] = out.ne;
    let group = heads / k.ne[2].max(1);
    let share = worker.share(heads * tokens);
    let width = k.ne[0].max(v.ne[0]);
    let Ok(floats) = bytemuck::try_cast_slice_mut::<u8, f32>(&mut worker.scratch[..4 * (2 * width + BLOCK)]) else {
        return;
    };
    let (row, rest) = floats.split_at_mut(width);
    let (scores, acc) = rest.split_at_mut(BLOCK);
    for item in share {
        let (t, h) = (item / heads, item % heads);
        let visible = tables.map_or(0..k.ne[1], |(mask, start, slot)| mask.visible(start[t], slot[t], k.ne[1]));
        // SAFETY: head h of token t.
        let query = unsafe { std::slice::from_raw_parts(q.at(0, h, t, 0) as *const f32, q.ne[0]) };
        let acc = &mut acc[..v.ne[0]];
        acc.fill(0.0);
        let (mut max, mut sum) = (f32::NEG_INFINITY, 0.0f32);
        let mut from = visible.start;
        while from < visible.end {
            let to = ((from / BLOCK + 1) * BLOCK).min(visible.end);
            let mut block_max = max;
            for (j, score) in (from..to).zip(scores.iter_mut()) {
                // SAFETY: position j of the head's cache.
                unsafe { widen(k, j, h / group, row) };
                let mut s = dot(query, &row[..k.ne[0]]) * call.scale;
                if call.softcap > 0.0 {
                    s = call.softcap * (s / call.softcap).tanh();
                }
                if let Some(mask) = call.mask {
                    // SAFETY: element j of the mask's row t.
                    s += unsafe { (mask.at(j, t, 0, 0) as *const f32).read() };
                }
                *score = s;
                block_max = block_max.max(s);
            }
            if block_max > f32::NEG_INFINITY {
                let rescale = (max - block_max).exp();
                sum *= rescale;
                acc.iter_mut().for_each(|a| *a *= rescale);
                max = block_max;
                for (j, score) in (from..to).zip(scores.iter()) {
                    let p = (score - max).exp();
                    sum += p;
                    // SAFETY: position j of the head's cache.
                    unsafe { widen(v, j, h / group, row) };
                    for (a, &r) in acc.iter_mut().zip(row.iter()) {
                        *a += p * r;
                    }
                }
            }
            from = to;
        }
        let factor = if sum == 0.0 { 0.0 } else { 1.0 / sum };
        // SAFETY: head h of token t of the result is this thread's.
        let out_row = unsafe { std::slice::from_raw_parts_mut(out.at(0, h, t, 0) as *mut f32, out.ne[0]) };
        for (o, a) in out_row.iter_mut().zip(acc.iter()) {
            *o = a * factor;
        }
    }
}

/// Σ a·b in 8 lanes, which are added pairwise.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (ca, cb) = (a.chunks_exact(8), b.chunks_exact(8));
    for (lane, (x, y)) in lanes.iter_mut().zip(ca.remainder().iter().zip(cb.remainder())) {
        *lane += x * y;
    }
    for (x, y) in ca.zip(cb) {
        for i in 0..8 {
            lanes[i] += x[i] * y[i];
        }
    }
    (lanes[0] + lanes[4]) + (lanes[2] + lanes[6]) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
}

/// Row `j` of head `g` of a cache as f32.
///
/// # Safety
/// The row is in memory and nobody writes it meanwhile.
unsafe fn widen(cache: &View, j: usize, g: usize, out: &mut [f32]) {
    let from = cache.at(0, j, g, 0);
    let out = &mut out[..cache.ne[0]];
    // SAFETY: a row of ne[0] elements of the cache's type.
    unsafe {
        match cache.dtype {
            DType::F16 => {
                let row = std::slice::from_raw_parts(from as *const f16, out.len());
                half::slice::HalfFloatSliceExt::convert_to_f32_slice(row, out);
            }
            DType::Bf16 => {
                let row = std::slice::from_raw_parts(from as *const bf16, out.len());
                half::slice::HalfFloatSliceExt::convert_to_f32_slice(row, out);
            }
            DType::F32 => out.copy_from_slice(std::slice::from_raw_parts(from as *const f32, out.len())),
            _ => {
                if let Some(dequantize) = dequantizer(cache.dtype) {
                    let bytes = cache.dtype.row_bytes(out.len()).unwrap_or(0);
                    dequantize(std::slice::from_raw_parts(from as *const u8, bytes), out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_shared_where_heads_leave_threads_idle() {
        assert!(
            is_shared(1, 2, 4096, 16)
                && is_shared(1, 8, 4096, 16)
                && is_shared(4, 1, 513, 2)
                && is_shared(1, 8, 900, 3)
        );
        assert!(!is_shared(1, 2, 4096, 1) && !is_shared(1, 2, 4096, 2) && !is_shared(1, 8, 4096, 4));
        assert!(!is_shared(1, 2, attention::PARTITION, 16), "one partition");
        assert!(!is_shared(512, 2, 4096, 16) && !is_shared(0, 2, 4096, 16) && !is_shared(1, 0, 4096, 16));
    }
}
