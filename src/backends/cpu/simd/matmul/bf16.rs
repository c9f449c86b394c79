//! Products of bf16 weights with bf16 activations, two columns at a time ([`Simd::dot_bf16`]), from panels as they are packed.

use super::super::lanes::{Kernel, LANES, Simd};
use super::super::packed::{PANEL_ROWS, panel_bytes};
use super::{Args, Tokens};
use crate::tensor::DType;
use std::ops::Range;

/// Pairs of columns that are summed before they are added to the total.
const BLOCK: usize = 16;
/// Pairs of columns that many tokens pass at a time: 16 KiB of two panels, which stay in the first-level cache.
const SPAN: usize = 128;
/// Tokens that pass them: 64 KiB of activations, which stay in the second-level cache.
const GROUP: usize = 126;
/// Tokens whose sums are in registers, of two panels.
const TOKENS: usize = 6;

/// # Safety
/// The contract of [`super::matmul`], for weights and activations of bf16.
pub(super) unsafe fn run<S: Simd>(s: S, a: &Args) {
    let panel = panel_bytes(DType::Bf16, a.k).expect("checked when the matrix was packed");
    let pairs = a.k.div_ceil(2);
    // SAFETY: panels from .. to exist and have these pairs of columns.
    unsafe {
        if a.tokens == 1 || pairs == 0 {
            // One stream of weights.
            for t in 0..a.tokens {
                dots::<S, 1, 1>(s, a, panel, a.from..a.to, t, 0..pairs);
            }
            return;
        }
        for first in (0..a.tokens).step_by(GROUP) {
            let end = (first + GROUP).min(a.tokens);
            for from in (0..pairs).step_by(SPAN) {
                let columns = from..(from + SPAN).min(pairs);
                for p in (a.from..a.to).step_by(2) {
                    for (t, n) in (Tokens { at: first, end, max: TOKENS }) {
                        let (panels, columns) = (p..(p + 2).min(a.to), columns.clone());
                        match (n, panels.len()) {
                            (6, 2) => dots::<S, 6, 2>(s, a, panel, panels, t, columns),
                            (4, 2) => dots::<S, 4, 2>(s, a, panel, panels, t, columns),
                            (2, 2) => dots::<S, 2, 2>(s, a, panel, panels, t, columns),
                            (1, 2) => dots::<S, 1, 2>(s, a, panel, panels, t, columns),
                            (6, _) => dots::<S, 6, 1>(s, a, panel, panels, t, columns),
                            (4, _) => dots::<S, 4, 1>(s, a, panel, panels, t, columns),
                            (2, _) => dots::<S, 2, 1>(s, a, panel, panels, t, columns),
                            _ => dots::<S, 1, 1>(s, a, panel, panels, t, columns),
                        }
                    }
                }
            }
        }
    }
}

/// Tokens `t..t + T` against pairs of columns of some panels, `P` at a time.
unsafe fn dots<S: Simd, const T: usize, const P: usize>(
    s: S,
    a: &Args,
    panel: usize,
    panels: Range<usize>,
    t: usize,
    pairs: Range<usize>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        s.vectorize(Dots::<T, P> {
            weights: a.weights.add(panels.start * panel),
            panel,
            panels: panels.len(),
            rows: a.rows_from(panels.start),
            k: a.k,
            pairs,
            x: a.x.add(t * a.x_row_bytes),
            x_row_bytes: a.x_row_bytes,
            out: a.out.add(t * a.out_stride + panels.start * PANEL_ROWS),
            out_stride: a.out_stride,
            ahead: if a.tokens == 1 { a.ahead } else { 0 },
        })
    }
}

/// `T` tokens against consecutive panels, `P` at a time.
struct Dots<const T: usize, const P: usize> {
    weights: *const u8,
    /// Bytes from panel to panel.
    panel: usize,
    /// A multiple of `P`.
    panels: usize,
    /// Rows from the first panel to the end of the matrix.
    rows: usize,
    k: usize,
    /// Pairs of columns to add, from a multiple of [`BLOCK`] on. All but the first are added to what the outputs hold.
    pairs: Range<usize>,
    x: *const u8,
    x_row_bytes: usize,
    out: *mut f32,
    out_stride: usize,
    /// Bytes to prefetch ahead; 0 for none.
    ahead: usize,
}

impl<const T: usize, const P: usize> Kernel for Dots<T, P> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // Pairs that activations have both of.
        let whole = (self.k / 2).min(self.pairs.end);
        let mut p = 0;
        while p < self.panels {
            // SAFETY: the panels have these pairs of columns, each token these columns; the outputs are the caller's.
            unsafe {
                let weights = self.weights.add(p * self.panel);
                let mut total = [[s.splat(0.0); P]; T];
                if self.pairs.start > 0 {
                    for (t, total) in total.iter_mut().enumerate() {
                        for (i, total) in total.iter_mut().enumerate() {
                            let rows = (self.rows - (p + i) * PANEL_ROWS).min(LANES);
                            let out = self.out.add(t * self.out_stride + (p + i) * PANEL_ROWS);
                            *total = if rows == LANES { s.load(out) } else { s.load_part(out, rows) };
                        }
                    }
                }
                let mut pair = self.pairs.start;
                while pair < self.pairs.end {
                    let end = (pair + BLOCK).min(whole);
                    let mut sums = [[s.splat(0.0); P]; T];
                    while pair < end {
                        let w = weights.add(pair * 64);
                        if T == 1 && self.ahead > 0 {
                            s.prefetch(w.wrapping_add(self.ahead));
                        }
                        let mut columns = [s.splat_i(0); P];
                        for (i, columns) in columns.iter_mut().enumerate() {
                            *columns = s.load_bytes(w.add(i * self.panel));
                        }
                        for (t, sums) in sums.iter_mut().enumerate() {
                            let x = self.x.add(t * self.x_row_bytes + pair * 4).cast::<i32>();
                            let x = s.splat_i(x.read_unaligned());
                            for (sum, &columns) in sums.iter_mut().zip(&columns) {
                                *sum = s.dot_bf16(*sum, columns, x);
                            }
                        }
                        pair += 1;
                    }
                    if pair == whole && whole < self.pairs.end {
                        // The last column has no second; the panel's is zero.
                        for (t, sums) in sums.iter_mut().enumerate() {
                            let x = self.x.add(t * self.x_row_bytes + pair * 4).cast::<u16>();
                            let x = s.splat_i(i32::from(x.read_unaligned()));
                            for (i, sum) in sums.iter_mut().enumerate() {
                                *sum = s.dot_bf16(*sum, s.load_bytes(weights.add(i * self.panel + pair * 64)), x);
                            }
                        }
                        pair += 1;
                    }
                    for (total, sums) in total.iter_mut().zip(sums) {
                        for (total, sum) in total.iter_mut().zip(sums) {
                            *total = s.add(*total, sum);
                        }
                    }
                }
                for (t, total) in total.iter().enumerate() {
                    for (i, &total) in total.iter().enumerate() {
                        let rows = (self.rows - (p + i) * PANEL_ROWS).min(LANES);
                        let out = self.out.add(t * self.out_stride + (p + i) * PANEL_ROWS);
                        if rows == LANES { s.store(out, total) } else { s.store_part(out, rows, total) }
                    }
                }
            }
            p += P;
        }
    }
}
