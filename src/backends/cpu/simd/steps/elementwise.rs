//! `add`, `sub`, `mul`, `div`, `scale`, `unary`, `glu`, `constant`. Work is shared out in ranges of rows, or of one row's elements.

use super::{Level, View, Worker};
use crate::backends::cpu::simd::vector::{self, Binary, Unary};
use crate::ops::Activation;
use std::ops::Range;

/// This thread's parts: rows, and the range of elements in each. A single row is split by elements, in multiples of 16.
fn parts(out: &View, worker: &Worker<'_>) -> (Range<usize>, Range<usize>) {
    let rows = out.rows();
    if rows >= worker.threads {
        return (worker.share(rows), 0..out.ne[0]);
    }
    let share = worker.share(out.ne[0].div_ceil(16));
    (0..rows, (share.start * 16).min(out.ne[0])..(share.end * 16).min(out.ne[0]))
}

/// # Safety
/// The module's contract.
unsafe fn scalar(x: &View, out: &View, worker: &Worker<'_>, f: impl Fn(f32) -> f32) {
    let (rows, columns) = parts(out, worker);
    for row in rows {
        let (x, out) = (x.row(row) as *const f32, out.row(row) as *mut f32);
        for i in columns.clone() {
            // SAFETY: element i of a row of equal shape; each is read before the same one is written.
            unsafe { out.add(i).write(f(x.add(i).read())) }
        }
    }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn scale(factor: f32, x: &View, out: &View, worker: &Worker<'_>) {
    // SAFETY: passed on.
    unsafe { scalar(x, out, worker, |v| v * factor) }
}

/// `out[i] = f(x[i])` on a part of a row.
///
/// # Safety
/// Both have `n` elements and are the same or do not overlap; nobody else writes them.
pub(super) unsafe fn activate(level: Level, kind: Activation, x: *const f32, out: *mut f32, n: usize) {
    let f = match kind {
        Activation::Silu => Unary::Silu,
        Activation::Gelu => Unary::Gelu,
        Activation::Relu => Unary::Relu,
        Activation::Tanh => Unary::Tanh,
        Activation::Sigmoid => Unary::Sigmoid,
        Activation::Exp => Unary::Exp,
        Activation::Neg | Activation::Sqr | Activation::Sqrt => {
            for i in 0..n {
                // SAFETY: element i, read before the same one is written.
                unsafe { out.add(i).write(kind.apply(x.add(i).read())) }
            }
            return;
        }
    };
    // SAFETY: the caller's promise.
    unsafe { vector::unary(level, f, x, out, n) }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn activation(kind: Activation, x: &View, out: &View, worker: &Worker<'_>) {
    let (rows, columns) = parts(out, worker);
    for row in rows {
        let (x, out) = (x.row(row) as *const f32, out.row(row) as *mut f32);
        // SAFETY: these columns of rows of equal length; in place they are the same row.
        unsafe { activate(worker.level, kind, x.add(columns.start), out.add(columns.start), columns.len()) }
    }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn fill(value: f32, out: &View, worker: &Worker<'_>) {
    // SAFETY: passed on; the value read is not used, and is there.
    unsafe { scalar(out, out, worker, |_| value) }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn binary(f: Binary, x: &[View], out: &View, worker: &Worker<'_>) {
    let (rows, columns) = parts(out, worker);
    let (a, b) = (&x[0], &x[1]);
    let wrap = |i: usize, n: usize| if n == 1 { 0 } else { i };
    for row in rows {
        let (i1, rest) = (row % out.ne[1], row / out.ne[1]);
        let (i2, i3) = (rest % out.ne[2], rest / out.ne[2]);
        let a_row = a.at(0, i1, i2, i3) as *const f32;
        let b_row = b.at(0, wrap(i1, b.ne[1]), wrap(i2, b.ne[2]), wrap(i3, b.ne[3])) as *const f32;
        let out_row = out.at(0, i1, i2, i3) as *mut f32;
        if b.ne[0] == out.ne[0] {
            let from = columns.start;
            // SAFETY: these columns of rows of equal length; in place the result is an operand's row.
            unsafe {
                vector::binary(worker.level, f, a_row.add(from), b_row.add(from), out_row.add(from), columns.len())
            }
            continue;
        }
        for i in columns.clone() {
            // SAFETY: one element, with the only element of b's row.
            unsafe { vector::binary(worker.level, f, a_row.add(i), b_row, out_row.add(i), 1) }
        }
    }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn glu(act: Activation, x: &[View], out: &View, worker: &Worker<'_>) {
    let f = match act {
        Activation::Silu => Binary::SiluMul,
        Activation::Gelu => Binary::GeluMul,
        Activation::Relu => Binary::ReluMul,
        // SAFETY: passed on.
        other => unsafe { return glu_scalar(other, x, out, worker) },
    };
    // SAFETY: passed on; the shapes are equal, so nothing repeats.
    unsafe { binary(f, x, out, worker) }
}

/// # Safety
/// The module's contract.
unsafe fn glu_scalar(act: Activation, x: &[View], out: &View, worker: &Worker<'_>) {
    let (rows, columns) = parts(out, worker);
    for row in rows {
        let (gate, up, out) = (x[0].row(row) as *const f32, x[1].row(row) as *const f32, out.row(row) as *mut f32);
        for i in columns.clone() {
            // SAFETY: element i of rows of equal length; read before the same one is written.
            unsafe { out.add(i).write(act.apply(gate.add(i).read()) * up.add(i).read()) }
        }
    }
}
