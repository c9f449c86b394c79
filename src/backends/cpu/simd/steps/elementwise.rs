//! `add`, `sub`, `mul`, `div`, `scale`, `unary`, `glu`, `constant`. Work is shared out in ranges of rows, or of one row's elements.

use super::{View, Worker};
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
pub(super) unsafe fn unary(x: &View, out: &View, worker: &Worker<'_>, f: impl Fn(f32) -> f32) {
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
pub(super) unsafe fn fill(value: f32, out: &View, worker: &Worker<'_>) {
    let (rows, columns) = parts(out, worker);
    for row in rows {
        let out = out.row(row) as *mut f32;
        for i in columns.clone() {
            // SAFETY: element i of the row.
            unsafe { out.add(i).write(value) }
        }
    }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn activation(kind: Activation, x: &View, out: &View, worker: &Worker<'_>) {
    // SAFETY: passed on.
    unsafe { unary(x, out, worker, |v| kind.apply(v)) }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn binary(x: &[View], out: &View, worker: &Worker<'_>, f: impl Fn(f32, f32) -> f32) {
    let (rows, columns) = parts(out, worker);
    let (a, b) = (&x[0], &x[1]);
    let wrap = |i: usize, n: usize| if n == 1 { 0 } else { i };
    for row in rows {
        let (i1, rest) = (row % out.ne[1], row / out.ne[1]);
        let (i2, i3) = (rest % out.ne[2], rest / out.ne[2]);
        let a = a.at(0, i1, i2, i3) as *const f32;
        let b_row = b.at(0, wrap(i1, b.ne[1]), wrap(i2, b.ne[2]), wrap(i3, b.ne[3])) as *const f32;
        let out = out.at(0, i1, i2, i3) as *mut f32;
        let step = usize::from(b.ne[0] != 1);
        for i in columns.clone() {
            // SAFETY: element i of rows of equal length, or the only element of b's row; read before the same one is written.
            unsafe { out.add(i).write(f(a.add(i).read(), b_row.add(i * step).read())) }
        }
    }
}

/// # Safety
/// The module's contract.
pub(super) unsafe fn glu(act: Activation, x: &[View], out: &View, worker: &Worker<'_>) {
    // SAFETY: passed on; the shapes are equal, so nothing repeats.
    unsafe { binary(x, out, worker, |g, u| act.apply(g) * u) }
}
