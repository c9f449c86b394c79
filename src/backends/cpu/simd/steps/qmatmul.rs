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
    let panels = worker.share(packed.panels());
    let norm = x.last().filter(|_| op.norm_eps > 0.0).map(|w| (op.norm_eps, w));
    // SAFETY: passed on.
    let (activations, scratch) = unsafe { activations(op.activation, &x[1], norm, worker.level, worker.scratch) };
    // SAFETY: passed on; the panels' rows of the result are this thread's.
    unsafe { product(worker.level, packed, activations, panels.clone(), out, scratch) };
    let (rows, terms) = (packed.rows_of(panels), &x[2..][..op.bias as usize + op.residual as usize]);
    // SAFETY: passed on, to each.
    unsafe {
        if op.bias {
            add_term(worker.level, rows.clone(), &terms[0], true, out);
        }
        if let Some(act) = op.act {
            activate(worker.level, rows.clone(), act, out);
        }
        if op.residual {
            add_term(worker.level, rows, &terms[terms.len() - 1], false, out);
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
    for (i, (packed, out)) in list.iter().zip(out).enumerate() {
        // SAFETY: the program keeps its weights alive.
        let packed = unsafe { &**packed };
        let panels = super::packed::share(packed.panels(), worker.tid, worker.threads);
        // SAFETY: passed on; the panels' rows of each result are this thread's.
        unsafe {
            product(worker.level, packed, activations, panels.clone(), out, scratch);
            if op.bias {
                add_term(worker.level, packed.rows_of(panels), &x[1 + op.weights + i], true, out);
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
    let share = worker.share(gate.panels());
    let level = worker.level;
    let norm = x.last().filter(|_| op.norm_eps > 0.0).map(|w| (op.norm_eps, w));
    // SAFETY: passed on.
    let (activations, scratch) = unsafe { activations(op.activation, &x[0], norm, level, worker.scratch) };
    let group = glu_panels(activations.tokens).min(gate.panels());
    let (up_bytes, scratch) = scratch.split_at_mut((64 * activations.tokens * group).next_multiple_of(64));
    let up_values = up_bytes.as_mut_ptr() as *mut f32;
    let stride = out.ne[0];
    let mut from = share.start;
    while from < share.end {
        let panels = from..(from + group).min(share.end);
        let rows = gate.rows_of(panels.clone());
        // SAFETY: the panels' rows of the result are this thread's, and so is the scratch, which holds the panels' rows of `up`
        // for every token at the stride of the panels' rows; its first row is rows.start.
        unsafe {
            product(level, gate, activations, panels.clone(), out, scratch);
            let Activations { ptr, dtype, row_bytes, tokens } = activations;
            let base = up_values.wrapping_sub(rows.start);
            matmul(level, up, ptr, dtype, row_bytes, tokens, panels.clone(), base, rows.len(), scratch);
            for t in 0..tokens {
                let out_row = (out.ptr.as_mut_ptr() as *mut f32).add(t * stride + rows.start);
                combine(op.act, level, out_row, up_values.add(t * rows.len()), rows.len());
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
/// The module's contract; the panels' rows of the result are this thread's.
unsafe fn product(
    level: super::Level,
    packed: &PackedMatrix,
    x: Activations,
    panels: Range<usize>,
    out: &View,
    scratch: &mut [u8],
) {
    let result = out.ptr.as_mut_ptr() as *mut f32;
    // SAFETY: x and out are contiguous with as many rows.
    unsafe { matmul(level, packed, x.ptr, x.dtype, x.row_bytes, x.tokens, panels, result, out.ne[0], scratch) }
}

/// Applies an activation function to this thread's outputs.
///
/// # Safety
/// The module's contract; the rows of the result are this thread's.
unsafe fn activate(level: super::Level, rows: Range<usize>, act: Activation, out: &View) {
    for t in 0..out.rows() {
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
/// The module's contract; the rows of the result are this thread's.
unsafe fn add_term(level: super::Level, rows: Range<usize>, term: &View, is_bias: bool, out: &View) {
    for t in 0..out.rows() {
        let from = (if is_bias { term.ptr.as_mut_ptr() } else { term.row(t) }) as *const f32;
        // SAFETY: these elements of the bias or of the residual's row t, and of the result's.
        unsafe {
            let out_row = (out.ptr.as_mut_ptr() as *mut f32).add(t * out.ne[0] + rows.start);
            vector::binary(level, Binary::Add, out_row, from.add(rows.start), out_row, rows.len());
        }
    }
}
