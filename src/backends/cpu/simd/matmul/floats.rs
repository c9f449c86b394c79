//! Products of float weights with f32 activations; also of every other type, dequantized to a tile of f32.

use super::super::lanes::{Kernel, LANES, Simd};
use super::super::packed::{PANEL_ROWS, panel_bytes};
use super::{Args, TILE_BUDGET};
use crate::tensor::{DType, quant};
use std::marker::PhantomData;

/// Products that are summed before they are added to the total.
const BLOCK: usize = 32;

/// How 16 rows of weights lie in a panel.
trait Weights: 'static {
    /// Bytes of two consecutive columns.
    const PAIR: usize;

    /// Two columns.
    ///
    /// # Safety
    /// They are readable at `p`.
    unsafe fn pair<S: Simd>(s: S, p: *const u8) -> [S::F; 2];

    /// One column, the last of an odd number.
    ///
    /// # Safety
    /// It is readable at `p`.
    unsafe fn last<S: Simd>(s: S, p: *const u8) -> S::F;
}

struct F32;
struct F16;
struct Bf16;

impl Weights for F32 {
    const PAIR: usize = 128;

    #[inline(always)]
    unsafe fn pair<S: Simd>(s: S, p: *const u8) -> [S::F; 2] {
        // SAFETY: the caller's promise.
        unsafe { [s.load(p.cast()), s.load(p.add(64).cast())] }
    }
    #[inline(always)]
    unsafe fn last<S: Simd>(s: S, p: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load(p.cast()) }
    }
}

impl Weights for F16 {
    const PAIR: usize = 64;

    #[inline(always)]
    unsafe fn pair<S: Simd>(s: S, p: *const u8) -> [S::F; 2] {
        // SAFETY: the caller's promise.
        unsafe { [s.load_f16(p.cast()), s.load_f16(p.add(32).cast())] }
    }
    #[inline(always)]
    unsafe fn last<S: Simd>(s: S, p: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load_f16(p.cast()) }
    }
}

impl Weights for Bf16 {
    const PAIR: usize = 64;

    #[inline(always)]
    unsafe fn pair<S: Simd>(s: S, p: *const u8) -> [S::F; 2] {
        // SAFETY: the caller's promise.
        let pairs = unsafe { s.load_bytes(p) };
        [s.from_bits(s.shl::<16>(pairs)), s.from_bits(s.and(pairs, s.splat_i(0xffff_0000u32 as i32)))]
    }
    #[inline(always)]
    unsafe fn last<S: Simd>(s: S, p: *const u8) -> S::F {
        // SAFETY: a panel has whole pairs, the second of the last one zero.
        s.from_bits(s.shl::<16>(unsafe { s.load_bytes(p) }))
    }
}

/// # Safety
/// The contract of [`super::matmul`], for a float type.
pub(super) unsafe fn run<S: Simd>(s: S, args: &Args) {
    // SAFETY: the caller's promise; each type reads its own layout.
    unsafe {
        match args.dtype {
            DType::F32 => direct::<S, F32>(s, args),
            DType::F16 => product::<S, F16>(s, args),
            DType::Bf16 => product::<S, Bf16>(s, args),
            other => unreachable!("{other} is not a float type"),
        }
    }
}

/// Panels as they are, as many at a time as stay in the second-level cache while all tokens pass.
unsafe fn direct<S: Simd, W: Weights>(s: S, a: &Args) {
    let panel = panel_bytes(a.dtype, a.k).expect("checked when the matrix was packed");
    let at_a_time = if a.tokens <= S::TOKENS { a.to - a.from } else { (TILE_BUDGET / panel.max(1)).max(1) };
    let mut first = a.from;
    while first < a.to {
        let count = at_a_time.min(a.to - first);
        for (t, n) in a.tokens(S::TOKENS) {
            // SAFETY: panels first .. first + count exist.
            unsafe { tokens::<S, W>(s, a, a.weights.add(first * panel), panel, first, count, t, n) };
        }
        first += count;
    }
}

/// Few tokens: panels as they are. Many: a few panels at a time are widened to f32 for all of them.
unsafe fn product<S: Simd, W: Weights>(s: S, a: &Args) {
    let panel = panel_bytes(a.dtype, a.k).expect("checked when the matrix was packed");
    let tile = a.k * 64;
    if a.tokens <= S::TOKENS || tile == 0 {
        // SAFETY: the caller's promise.
        return unsafe { direct::<S, W>(s, a) };
    }
    let tiles = a.scratch_len / tile;
    let mut first = a.from;
    while first < a.to {
        let count = tiles.min(a.to - first);
        for i in 0..count {
            // SAFETY: panel first + i exists, and `tiles` tiles fit the scratch.
            unsafe {
                let (weights, tile) = (a.weights.add((first + i) * panel), a.scratch.add(i * tile));
                s.vectorize(Widen::<W> { weights, k: a.k, tile: tile.cast(), layout: PhantomData });
            }
        }
        for (t, n) in a.tokens(S::TOKENS) {
            // SAFETY: the tiles hold panels first .. first + count.
            unsafe { tokens::<S, F32>(s, a, a.scratch, tile, first, count, t, n) };
        }
        first += count;
    }
}

/// Types without a kernel of their own: rows are dequantized into a tile, panel after panel.
///
/// # Safety
/// The contract of [`super::matmul`], for a type that is kept row-major.
pub(super) unsafe fn run_generic<S: Simd>(s: S, a: &Args) {
    if a.k == 0 {
        // SAFETY: the caller's promise; without columns nothing is read.
        return unsafe { direct_zero(a) };
    }
    let row_bytes = a.dtype.row_bytes(a.k).expect("checked when the matrix was packed");
    // SAFETY: the scratch holds a tile of 64·k bytes and a row of 4·k (`scratch_bytes`), and is aligned and ours alone.
    let (tile, row) = unsafe {
        let floats = std::slice::from_raw_parts_mut(a.scratch.cast::<f32>(), a.k * (LANES + 1));
        floats.split_at_mut(a.k * LANES)
    };
    for p in a.from..a.to {
        let rows = a.rows_from(p).min(PANEL_ROWS);
        for r in 0..LANES {
            if r < rows {
                // SAFETY: row p·16 + r exists.
                let src =
                    unsafe { std::slice::from_raw_parts(a.weights.add((p * PANEL_ROWS + r) * row_bytes), row_bytes) };
                quant::dequantize_row(a.dtype, src, row).expect("the row is as long as its type and k say");
            } else {
                row.fill(0.0);
            }
            for (column, &x) in tile.chunks_exact_mut(LANES).zip(row.iter()) {
                column[r] = x;
            }
        }
        for (t, n) in a.tokens(S::TOKENS) {
            // SAFETY: the tile holds panel p.
            unsafe { tokens::<S, F32>(s, a, tile.as_ptr().cast(), 0, p, 1, t, n) };
        }
    }
}

/// Products of nothing.
unsafe fn direct_zero(a: &Args) {
    for t in 0..a.tokens {
        for n in a.from * PANEL_ROWS..(a.to * PANEL_ROWS).min(a.rows) {
            // SAFETY: these outputs are the caller's to write.
            unsafe { a.out.add(t * a.out_stride + n).write(0.0) }
        }
    }
}

#[allow(clippy::too_many_arguments)]
unsafe fn tokens<S: Simd, W: Weights>(
    s: S,
    a: &Args,
    weights: *const u8,
    panel: usize,
    first: usize,
    panels: usize,
    t: usize,
    n: usize,
) {
    // SAFETY: token t and row first·16 exist.
    let (x, out) = unsafe { (a.x.add(t * a.x_row_bytes), a.out.add(t * a.out_stride + first * PANEL_ROWS)) };
    let rows = a.rows_from(first);
    macro_rules! micro {
        ($n:literal, $u:literal) => {
            // SAFETY: the caller's promise.
            unsafe {
                s.vectorize(Micro::<W, $n, $u> {
                    weights,
                    panel,
                    panels,
                    rows,
                    k: a.k,
                    x: x.cast(),
                    x_stride: a.x_row_bytes / 4,
                    out,
                    out_stride: a.out_stride,
                    ahead: if n <= 4 { a.ahead } else { 0 },
                    layout: PhantomData,
                })
            }
        };
    }
    match n {
        8 => micro!(8, 1),
        4 => micro!(4, 2),
        2 => micro!(2, 4),
        _ => micro!(1, 4),
    }
}

/// Widens a panel to f32.
struct Widen<W> {
    weights: *const u8,
    k: usize,
    tile: *mut f32,
    layout: PhantomData<W>,
}

impl<W: Weights> Kernel for Widen<W> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: the panel has k columns, the tile room for them.
        unsafe {
            for i in 0..self.k / 2 {
                let [a, b] = W::pair(s, self.weights.add(i * W::PAIR));
                s.store(self.tile.add(2 * i * LANES), a);
                s.store(self.tile.add((2 * i + 1) * LANES), b);
            }
            if self.k % 2 == 1 {
                let last = W::last(s, self.weights.add(self.k / 2 * W::PAIR));
                s.store(self.tile.add((self.k - 1) * LANES), last);
            }
        }
    }
}

/// `T` tokens against consecutive panels, `U` blocks of columns at a time so that their sums do not wait for each other.
struct Micro<W, const T: usize, const U: usize> {
    weights: *const u8,
    /// Bytes from panel to panel.
    panel: usize,
    panels: usize,
    /// Rows from the first panel to the end of the matrix.
    rows: usize,
    k: usize,
    x: *const f32,
    x_stride: usize,
    out: *mut f32,
    out_stride: usize,
    /// Bytes to prefetch ahead; 0 for none.
    ahead: usize,
    layout: PhantomData<W>,
}

impl<W: Weights, const T: usize, const U: usize> Micro<W, T, U> {
    /// Adds `N` whole blocks from column `k` on to the totals.
    #[inline(always)]
    unsafe fn blocks<S: Simd, const N: usize>(&self, s: S, panel: *const u8, k: usize, total: &mut [S::F; T]) {
        let mut sums = [[s.splat(0.0); T]; N];
        // SAFETY: the panel and each token have columns k .. k + N·BLOCK.
        unsafe {
            let w = panel.add(k / 2 * W::PAIR);
            let x = self.x.add(k);
            for i in 0..BLOCK / 2 {
                for (n, sums) in sums.iter_mut().enumerate() {
                    let column = n * BLOCK + 2 * i;
                    let [a, b] = W::pair(s, w.add(column / 2 * W::PAIR));
                    for (t, sum) in sums.iter_mut().enumerate() {
                        let x = x.add(t * self.x_stride + column);
                        *sum = s.fma(b, s.splat(*x.add(1)), s.fma(a, s.splat(*x), *sum));
                    }
                }
            }
        }
        for sums in sums {
            for (total, sum) in total.iter_mut().zip(sums) {
                *total = s.add(*total, sum);
            }
        }
    }

    /// Adds the columns from `k` on, fewer than a block.
    #[inline(always)]
    unsafe fn rest<S: Simd>(&self, s: S, panel: *const u8, k: usize, total: &mut [S::F; T]) {
        let mut sums = [s.splat(0.0); T];
        // SAFETY: the panel and each token have columns k .. self.k.
        unsafe {
            for column in k..self.k {
                let pair = panel.add(column / 2 * W::PAIR);
                let w = if column + 1 == self.k && column % 2 == 0 {
                    W::last(s, pair)
                } else {
                    W::pair(s, pair)[column % 2]
                };
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = s.fma(w, s.splat(*self.x.add(t * self.x_stride + column)), *sum);
                }
            }
        }
        for (total, sum) in total.iter_mut().zip(sums) {
            *total = s.add(*total, sum);
        }
    }
}

impl<W: Weights, const T: usize, const U: usize> Kernel for Micro<W, T, U> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for p in 0..self.panels {
            let mut total = [s.splat(0.0); T];
            // SAFETY: the panel exists and has k columns; the outputs are the caller's to write.
            unsafe {
                let panel = self.weights.add(p * self.panel);
                let mut k = 0;
                while k + U * BLOCK <= self.k {
                    if self.ahead > 0 {
                        let at = panel.add(k / 2 * W::PAIR);
                        for line in (0..U * BLOCK / 2 * W::PAIR).step_by(64) {
                            s.prefetch(at.wrapping_add(self.ahead + line));
                        }
                    }
                    self.blocks::<S, U>(s, panel, k, &mut total);
                    k += U * BLOCK;
                }
                while k + BLOCK <= self.k {
                    self.blocks::<S, 1>(s, panel, k, &mut total);
                    k += BLOCK;
                }
                if k < self.k {
                    self.rest(s, panel, k, &mut total);
                }
                let rows = (self.rows - p * PANEL_ROWS).min(LANES);
                for (t, &total) in total.iter().enumerate() {
                    let out = self.out.add(t * self.out_stride + p * PANEL_ROWS);
                    if rows == LANES { s.store(out, total) } else { s.store_part(out, rows, total) }
                }
            }
        }
    }
}
