//! `qmatmul`, `qmatmul_group`, `glu_qmatmul`: packed weights times activations, then bias, activation, residual or gated activation on
//! this thread's outputs while they are in its cache.
//!
//! Activations that are still f32 are rounded by every thread into its own scratch: for a single token that takes less time
//! than the barrier after a step of its own.

use super::quantize::round;
use super::{Extra, View, Worker, elementwise};
use crate::backends::cpu::simd::matmul::{self, matmul};
use crate::backends::cpu::simd::packed::PackedMatrix;
use crate::backends::cpu::simd::vector::{self, Binary, Norm};
use crate::graph::plan::Step;
use crate::ops::{Activation, GluQMatmul, QMatmul, QMatmulGroup};
use crate::tensor::{Bounds, DType};
use std::ops::Range;

/// Bytes that the upward projections of a group of panels may take before they meet their gates.
const UP_BYTES: usize = 128 << 10;

/// Bytes of rounded and of normalised activations.
fn rounded_bytes(activation: DType, norm_eps: f32, step: &Step, slot: usize, bounds: &Bounds) -> usize {
    let [k, rest @ ..] = step.operands[slot].ty.shape.eval(bounds);
    let rows = rest.iter().product::<usize>();
    let bytes = |of: DType| (of.row_bytes(k).unwrap_or(0) * rows).next_multiple_of(64);
    let rounded = if activation == DType::F32 { 0 } else { bytes(activation) };
    rounded + if norm_eps > 0.0 { bytes(DType::F32) } else { 0 }
}

/// Scratch of the largest product with one of the step's weights.
fn product_bytes(step: &Step, slots: Range<usize>, bounds: &Bounds, repack: bool) -> usize {
    let of = |slot: usize| {
        let w = &step.operands[slot].ty;
        let k = w.shape.row().eval(bounds);
        if repack { matmul::scratch_bytes(w.dtype, k) } else { matmul::rows_scratch_bytes(w.dtype, k) }
    };
    slots.map(of).max().unwrap_or(0).next_multiple_of(64)
}

/// Scratch of a thread for a `qmatmul`.
pub(super) fn scratch_bytes(op: &QMatmul, step: &Step, bounds: &Bounds, repack: bool) -> usize {
    rounded_bytes(op.activation, op.norm_eps, step, 1, bounds) + product_bytes(step, 0..1, bounds, repack)
}

/// Scratch of a thread for a `qmatmul_group`.
pub(super) fn group_scratch_bytes(op: &QMatmulGroup, step: &Step, bounds: &Bounds, repack: bool) -> usize {
    rounded_bytes(op.activation, op.norm_eps, step, 0, bounds) + product_bytes(step, 1..1 + op.weights, bounds, repack)
}

/// Panels whose upward projections fit into their part of the scratch, for this many tokens.
fn glu_panels(tokens: usize) -> usize {
    (UP_BYTES / (64 * tokens.max(1))).max(1)
}

/// Scratch of a thread for a `glu_qmatmul`.
pub(super) fn glu_scratch_bytes(op: &GluQMatmul, step: &Step, bounds: &Bounds, repack: bool) -> usize {
    let [rows, tokens @ ..] = step.results[0].ty.shape.eval(bounds);
    let tokens = tokens.iter().product::<usize>();
    // One panel at least, of which a smaller binding may take more; never more than there are.
    let up = (64 * tokens).max(UP_BYTES).min(64 * tokens * rows.div_ceil(16)).next_multiple_of(64);
    rounded_bytes(op.activation, op.norm_eps, step, 0, bounds) + up + product_bytes(step, 1..3, bounds, repack)
}

/// Activations as the kernels take them.
#[derive(Clone, Copy)]
struct Activations {
    ptr: *const u8,
    dtype: DType,
    row_bytes: usize,
    tokens: usize,
}

impl Activations {
    /// Those of some tokens.
    fn of(self, tokens: &Range<usize>) -> Activations {
        let ptr = self.ptr.wrapping_add(tokens.start * self.row_bytes);
        Activations { ptr, tokens: tokens.len(), ..self }
    }
}

/// What a thread computes of a product: some panels of the weights, for some tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Share {
    panels: Range<usize>,
    tokens: Range<usize>,
}

/// Fewer tokens than this for each thread are not worth unpacking weights for once more.
const SHARED_TOKENS: usize = 64;

impl Share {
    fn of(worker: &Worker<'_>, panels: usize, tokens: usize) -> Share {
        Share::of_parts(worker.tid, worker.threads, panels, tokens)
    }

    /// Threads take panels; where these leave some threads with more than others, groups of threads also divide the tokens, as long as that
    /// makes the largest share smaller.
    fn of_parts(tid: usize, threads: usize, panels: usize, tokens: usize) -> Share {
        let size = |groups: usize| panels.div_ceil(threads / groups) * tokens.div_ceil(groups);
        let possible = |&groups: &usize| threads.is_multiple_of(groups) && tokens >= groups * SHARED_TOKENS;
        let groups = (2..=threads).filter(possible).fold(1, |best, g| if size(g) < size(best) { g } else { best });
        let each = threads / groups;
        Share {
            panels: super::packed::share(panels, tid % each, each),
            tokens: super::packed::share(tokens, tid / each, groups),
        }
    }
}

/// The activations, normalised and rounded into the beginning of the scratch if they are to be; and the rest of the scratch.
///
/// # Safety
/// The module's contract; x is contiguous.
unsafe fn activations<'a>(
    activation: DType,
    x: &View,
    norm: Option<(f32, &View)>,
    worker_level: super::Level,
    scratch: &'a mut [u8],
) -> (Activations, &'a mut [u8]) {
    let tokens = x.rows();
    let k = x.ne[0];
    if let Some((eps, weight)) = norm {
        let (normed, rest) = scratch.split_at_mut((4 * k * tokens).next_multiple_of(64));
        let base = normed.as_mut_ptr() as *mut f32;
        for t in 0..tokens {
            let (from, weight) = (x.row(t) as *const f32, weight.ptr.as_ptr() as *const f32);
            // SAFETY: row t of x, a factor of k elements, and row t of this thread's scratch.
            unsafe { vector::norm(worker_level, Norm::Rms { eps }, from, weight, std::ptr::null(), base.add(t * k), k) }
        }
        if activation == DType::F32 {
            return (Activations { ptr: normed.as_ptr(), dtype: activation, row_bytes: 4 * k, tokens }, rest);
        }
        let row_bytes = activation.row_bytes(k).unwrap_or(0);
        let (rounded, rest) = rest.split_at_mut((row_bytes * tokens).next_multiple_of(64));
        for (t, row) in rounded.chunks_exact_mut(row_bytes.max(1)).take(tokens).enumerate() {
            // SAFETY: row t of what was just normalised.
            round(worker_level, activation, unsafe { std::slice::from_raw_parts(base.add(t * k), k) }, row);
        }
        return (Activations { ptr: rounded.as_ptr(), dtype: activation, row_bytes, tokens }, rest);
    }
    if activation == DType::F32 {
        let row_bytes = x.dtype.row_bytes(k).unwrap_or(0);
        return (Activations { ptr: x.ptr.as_ptr(), dtype: x.dtype, row_bytes, tokens }, scratch);
    }
    let row_bytes = activation.row_bytes(k).unwrap_or(0);
    let (rounded, rest) = scratch.split_at_mut((row_bytes * tokens).next_multiple_of(64));
    for (t, row) in rounded.chunks_exact_mut(row_bytes.max(1)).take(tokens).enumerate() {
        // SAFETY: row t of x is not written during the step.
        round(worker_level, activation, unsafe { x.f32_row(t) }, row);
    }
    (Activations { ptr: rounded.as_ptr(), dtype: activation, row_bytes, tokens }, rest)
}

/// # Safety
/// The module's contract; the packed weight lives.
pub(super) unsafe fn run(op: &QMatmul, extra: &Extra, x: &[View], out: &View, worker: &mut Worker<'_>) {
    let Extra::Packed(packed) = extra else { return };
    // SAFETY: the program keeps its weights alive.
    let packed = unsafe { &**packed };
    let share = Share::of(worker, packed.panels(), x[1].rows());
    let norm = x.last().filter(|_| op.norm_eps > 0.0).map(|w| (op.norm_eps, w));
    // SAFETY: passed on.
    let (activations, scratch) = unsafe { activations(op.activation, &x[1], norm, worker.level, worker.scratch) };
    // SAFETY: passed on; the share of the result is this thread's.
    unsafe { product(worker.level, packed, activations, &share, out, scratch) };
    let (tokens, rows) = (share.tokens, packed.rows_of(share.panels));
    let terms = &x[2..][..op.bias as usize + op.residual as usize];
    // SAFETY: passed on, to each.
    unsafe {
        if op.bias {
            add_term(worker.level, tokens.clone(), rows.clone(), &terms[0], true, out);
        }
        if let Some(act) = op.act {
            activate(worker.level, tokens.clone(), rows.clone(), act, out);
        }
        if op.residual {
            add_term(worker.level, tokens, rows, &terms[terms.len() - 1], false, out);
        }
    }
}

/// # Safety
/// The module's contract; the packed weights live.
pub(super) unsafe fn run_group(op: &QMatmulGroup, extra: &Extra, x: &[View], out: &[View], worker: &mut Worker<'_>) {
    let Extra::PackedList(list) = extra else { return };
    let norm = x.last().filter(|_| op.norm_eps > 0.0).map(|w| (op.norm_eps, w));
    // SAFETY: passed on.
    let (activations, scratch) = unsafe { activations(op.activation, &x[0], norm, worker.level, worker.scratch) };
    // SAFETY: the program keeps its weights alive.
    let panels = |packed: &*const PackedMatrix| unsafe { (**packed).panels() };
    // The panels of all matrices are dealt out as if they were one's.
    let all = Share::of_parts(worker.tid, worker.threads, list.iter().map(panels).sum(), activations.tokens);
    let mut before = 0;
    for (i, (packed, out)) in list.iter().zip(out).enumerate() {
        // SAFETY: the program keeps its weights alive.
        let packed = unsafe { &**packed };
        let within = |panel: usize| panel.clamp(before, before + packed.panels()) - before;
        let share = Share { panels: within(all.panels.start)..within(all.panels.end), tokens: all.tokens.clone() };
        before += packed.panels();
        // SAFETY: passed on; the share of each result is this thread's.
        unsafe {
            product(worker.level, packed, activations, &share, out, scratch);
            if op.bias {
                let (tokens, rows) = (share.tokens, packed.rows_of(share.panels));
                add_term(worker.level, tokens, rows, &x[1 + op.weights + i], true, out);
            }
        }
    }
}

/// # Safety
/// The module's contract; the packed weights live.
pub(super) unsafe fn run_glu(op: &GluQMatmul, extra: &Extra, x: &[View], out: &View, worker: &mut Worker<'_>) {
    let Extra::PackedList(list) = extra else { return };
    let [gate, up] = list[..] else { return };
    // SAFETY: the program keeps its weights alive.
    let (gate, up) = unsafe { (&*gate, &*up) };
    let share = Share::of(worker, gate.panels(), x[0].rows());
    let level = worker.level;
    let norm = x.last().filter(|_| op.norm_eps > 0.0).map(|w| (op.norm_eps, w));
    // SAFETY: passed on.
    let (activations, scratch) = unsafe { activations(op.activation, &x[0], norm, level, worker.scratch) };
    let mine = activations.of(&share.tokens);
    let group = glu_panels(mine.tokens).min(gate.panels());
    let (up_bytes, scratch) = scratch.split_at_mut((64 * mine.tokens * group).next_multiple_of(64));
    let up_values = up_bytes.as_mut_ptr() as *mut f32;
    let stride = out.ne[0];
    let mut from = share.panels.start;
    while from < share.panels.end {
        let panels = from..(from + group).min(share.panels.end);
        let rows = gate.rows_of(panels.clone());
        // SAFETY: the share of the result is this thread's, and so is the scratch, which holds the panels' rows of `up`
        // for each of its tokens at the stride of the panels' rows; its first row is rows.start.
        unsafe {
            let share = Share { panels: panels.clone(), tokens: share.tokens.clone() };
            product(level, gate, activations, &share, out, scratch);
            let Activations { ptr, dtype, row_bytes, tokens } = mine;
            let base = up_values.wrapping_sub(rows.start);
            matmul(level, up, ptr, dtype, row_bytes, tokens, panels.clone(), base, rows.len(), scratch);
            for (i, t) in share.tokens.enumerate() {
                let out_row = (out.ptr.as_mut_ptr() as *mut f32).add(t * stride + rows.start);
                combine(op.act, level, out_row, up_values.add(i * rows.len()), rows.len());
            }
        }
        from = panels.end;
    }
}

/// gate = f(gate) · up
///
/// # Safety
/// Both have `n` elements, `gate` is this thread's.
unsafe fn combine(act: Activation, level: super::Level, gate: *mut f32, up: *const f32, n: usize) {
    let f = match act {
        Activation::Silu => Binary::SiluMul,
        Activation::Gelu => Binary::GeluMul,
        Activation::Relu => Binary::ReluMul,
        other => {
            for i in 0..n {
                // SAFETY: element i of both.
                unsafe { gate.add(i).write(other.apply(gate.add(i).read()) * up.add(i).read()) }
            }
            return;
        }
    };
    // SAFETY: the caller's promise; in place the result is the first operand.
    unsafe { vector::binary(level, f, gate, up, gate, n) }
}

/// # Safety
/// The module's contract; the share of the result is this thread's.
unsafe fn product(
    level: super::Level,
    packed: &PackedMatrix,
    x: Activations,
    share: &Share,
    out: &View,
    scratch: &mut [u8],
) {
    let (x, panels) = (x.of(&share.tokens), share.panels.clone());
    // SAFETY: x and out are contiguous with as many rows.
    unsafe {
        let result = (out.ptr.as_mut_ptr() as *mut f32).add(share.tokens.start * out.ne[0]);
        matmul(level, packed, x.ptr, x.dtype, x.row_bytes, x.tokens, panels, result, out.ne[0], scratch)
    }
}

/// Applies an activation function to this thread's outputs.
///
/// # Safety
/// The module's contract; the rows of the tokens' results are this thread's.
unsafe fn activate(level: super::Level, tokens: Range<usize>, rows: Range<usize>, act: Activation, out: &View) {
    for t in tokens {
        // SAFETY: these elements of the result's row t.
        unsafe {
            let row = (out.ptr.as_mut_ptr() as *mut f32).add(t * out.ne[0] + rows.start);
            elementwise::activate(level, act, row, row, rows.len());
        }
    }
}

/// Adds a bias, or the rows of a residual, to this thread's outputs.
///
/// # Safety
/// The module's contract; the rows of the tokens' results are this thread's.
unsafe fn add_term(
    level: super::Level,
    tokens: Range<usize>,
    rows: Range<usize>,
    term: &View,
    is_bias: bool,
    out: &View,
) {
    for t in tokens {
        let from = (if is_bias { term.ptr.as_mut_ptr() } else { term.row(t) }) as *const f32;
        // SAFETY: these elements of the bias or of the residual's row t, and of the result's.
        unsafe {
            let out_row = (out.ptr.as_mut_ptr() as *mut f32).add(t * out.ne[0] + rows.start);
            vector::binary(level, Binary::Add, out_row, from.add(rows.start), out_row, rows.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_all_outputs_once_and_are_even() {
        for (threads, panels, tokens) in [(16, 56, 512), (16, 8, 512), (12, 72, 100), (3, 7, 1), (7, 1, 700), (1, 5, 9)]
        {
            let mut seen = vec![0; panels * tokens];
            let shares: Vec<Share> = (0..threads).map(|tid| Share::of_parts(tid, threads, panels, tokens)).collect();
            for share in &shares {
                for t in share.tokens.clone() {
                    share.panels.clone().for_each(|p| seen[t * panels + p] += 1);
                }
            }
            assert!(seen.iter().all(|&n| n == 1), "{threads} threads, {panels} panels, {tokens} tokens");
        }
        let largest = |threads, panels, tokens| {
            let share = Share::of_parts(0, threads, panels, tokens);
            (share.panels.len(), share.tokens.len())
        };
        assert_eq!(largest(16, 56, 512), (7, 256), "56 panels are no multiple of 16 threads, but of 8");
        assert_eq!(largest(16, 64, 512), (4, 512), "even as it is");
        assert_eq!(largest(16, 56, 100), (4, 100), "too few tokens");
        assert_eq!(largest(2, 56, 512), (28, 512));
    }
}
