//! Products of float weights with f32 activations; also of every other type, dequantized to a tile of f32.

use super::super::lanes::{Kernel, LANES, Simd, apart, opaque};
use super::super::packed::{PANEL_ROWS, panel_bytes};
use super::{Args, Tokens};
use crate::tensor::{DType, quant};
use std::marker::PhantomData;
use std::ops::Range;

/// Products that are summed before they are added to the total.
const BLOCK: usize = 32;
/// Columns of panels that tokens pass at a time, all panels of a [`Division`] together: 16 KiB of f32, which stay in the first-level cache.
pub(super) const COLUMNS: usize = 256;
/// Activations that they pass meanwhile, of [`Division::tokens`] and [`Division::span`]: 256 KiB, which stay in the second-level cache.
const PASSING: usize = 256 << 10;
/// Tokens whose sums are in registers, of two panels.
const PAIR_TOKENS: usize = 6;

/// How many tokens are multiplied at a time: with how many panels side by side, which columns and tokens.
#[derive(Clone, Copy)]
struct Division {
    /// Panels side by side: two take fewer loads of activations than one, where registers suffice for the sums.
    panels: usize,
    /// Columns of a panel in the first-level cache.
    columns: usize,
    /// Columns for which tokens pass all panels.
    span: usize,
    /// Tokens that pass them, in groups of at most `group`.
    tokens: usize,
    group: usize,
}

impl Division {
    const fn of<S: Simd>() -> Division {
        let (panels, group) = if S::ROWS > 1 { (2, PAIR_TOKENS) } else { (1, S::FLOAT_TOKENS) };
        let (columns, span) = (COLUMNS / panels, COLUMNS * panels);
        Division { panels, columns, span, tokens: PASSING / (4 * span) / group * group, group }
    }
}

/// How 16 rows of weights lie in a panel.
trait Weights: 'static {
    /// Bytes of two consecutive columns.
    const PAIR: usize;
    /// Whether a panel is f32 as it is packed.
    const WIDE: bool = false;

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
    const WIDE: bool = true;

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
            DType::F32 => product::<S, F32>(s, args),
            DType::F16 => product::<S, F16>(s, args),
            DType::Bf16 => product::<S, Bf16>(s, args),
            other => unreachable!("{other} is not a float type"),
        }
    }
}

/// Few tokens: panels as they are, all of them. Many: one panel or two at a time, parts of them widened to f32 for some tokens; how tokens and
/// columns are divided keeps what is read again in the second-level cache.
unsafe fn product<S: Simd, W: Weights>(s: S, a: &Args) {
    if a.k == 0 {
        // SAFETY: the caller's promise; without columns nothing is read.
        return unsafe { direct_zero(a) };
    }
    let panel = panel_bytes(a.dtype, a.k).expect("checked when the matrix was packed");
    if a.tokens <= S::FLOAT_TOKENS {
        for (t, n) in a.tokens(S::FLOAT_TOKENS) {
            let weights = a.weights.wrapping_add(a.from * panel);
            // SAFETY: panels from .. to exist.
            unsafe { tokens::<S, W>(s, a, weights, panel, a.from, a.to - a.from, t, n, 0..a.k) };
        }
        return;
    }
    let by = const { Division::of::<S>() };
    for t in (0..a.tokens).step_by(by.tokens) {
        let end = (t + by.tokens).min(a.tokens);
        for span in (0..a.k).step_by(by.span) {
            for p in (a.from..a.to).step_by(by.panels) {
                let panels = by.panels.min(a.to - p);
                for from in (span..(span + by.span).min(a.k)).step_by(by.columns) {
                    let columns = from..(from + by.columns).min(a.k);
                    // Where column 0 of each panel is, or would be.
                    // SAFETY: panels p to p + panels exist and have these columns, of which the first is even; the scratch has room for as
                    // many columns of f32.
                    let wide = |i: usize| unsafe {
                        let weights = a.weights.wrapping_add((p + i) * panel);
                        if W::WIDE || i >= panels {
                            return weights;
                        }
                        let tile = a.scratch.add(i * by.columns * 64).cast::<f32>();
                        let weights = weights.add(from / 2 * W::PAIR);
                        s.vectorize(Widen::<W> { weights, k: columns.len(), tile, layout: PhantomData });
                        tile.wrapping_sub(from * LANES).cast_const().cast()
                    };
                    let tiles = [wide(0), wide(1)];
                    // SAFETY: the tiles hold the columns of the panels that exist.
                    unsafe {
                        if panels == 2 {
                            for t in (t..end).step_by(by.group) {
                                pairs::<S>(s, a, tiles, p, t, by.group.min(end - t), columns.clone());
                            }
                        } else {
                            for (t, n) in (Tokens { at: t, end, max: S::FLOAT_TOKENS }) {
                                tokens::<S, F32>(s, a, tiles[0], 0, p, 1, t, n, columns.clone());
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Tokens `t..t + n` against columns of the widened panels `first` and `first + 1`.
unsafe fn pairs<S: Simd>(
    s: S,
    a: &Args,
    tiles: [*const u8; 2],
    first: usize,
    t: usize,
    n: usize,
    columns: Range<usize>,
) {
    // SAFETY: token t and row first·16 exist.
    let (x, out) = unsafe { (a.x.add(t * a.x_row_bytes), a.out.add(t * a.out_stride + first * PANEL_ROWS)) };
    macro_rules! pairs {
        ($n:literal) => {
            // SAFETY: the caller's promise.
            unsafe {
                s.vectorize(Pairs::<$n> {
                    tiles,
                    rows: a.rows_from(first),
                    from: columns.start,
                    to: columns.end,
                    x: x.cast(),
                    x_stride: a.x_row_bytes / 4,
                    out,
                    out_stride: a.out_stride,
                })
            }
        };
    }
    match n {
        6 => pairs!(6),
        5 => pairs!(5),
        4 => pairs!(4),
        3 => pairs!(3),
        2 => pairs!(2),
        _ => pairs!(1),
    }
}

/// All tokens against panel `p` of f32, so many columns at a time that they stay in the first-level cache meanwhile.
unsafe fn all_tokens<S: Simd>(s: S, a: &Args, weights: *const u8, p: usize) {
    for from in (0..a.k).step_by(COLUMNS) {
        for (t, n) in a.tokens(S::FLOAT_TOKENS) {
            // SAFETY: the panel has these columns.
            unsafe { tokens::<S, F32>(s, a, weights, 0, p, 1, t, n, from..(from + COLUMNS).min(a.k)) };
        }
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
        // SAFETY: the tile holds panel p.
        unsafe { all_tokens::<S>(s, a, tile.as_ptr().cast(), p) };
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
    columns: Range<usize>,
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
                    from: columns.start,
                    to: columns.end,
                    x: x.cast(),
                    x_stride: a.x_row_bytes / 4,
                    out,
                    out_stride: a.out_stride,
                    ahead: if n <= 4 { distance::<S, W>(a.ahead) } else { 0 },
                    layout: PhantomData,
                })
            }
        };
    }
    // Registers hold U·T sums of sixteen rows.
    match n {
        8 => micro!(8, 1),
        6 => micro!(6, 1),
        4 if S::ROWS > 1 => micro!(4, 2),
        4 => micro!(4, 1),
        2 if S::ROWS > 1 => micro!(2, 4),
        2 => micro!(2, 2),
        // One stream: the next block's products begin before this one's end. (Four streams: two thirds of the bandwidth.)
        _ => micro!(1, 1),
    }
}

/// How far ahead to prefetch, of the processor's distance. (Measured on Zen 3: 16-bit weights do best at half of it, f32 without.)
const fn distance<S: Simd, W: Weights>(processor: usize) -> usize {
    match W::PAIR {
        _ if S::ROWS > 1 => processor,
        0..=64 => processor / 2,
        _ => 0,
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

/// `T` tokens against columns of two panels of f32: the same sequence of operations for each output as in [`Micro`].
struct Pairs<const T: usize> {
    /// Where column 0 of each would be.
    tiles: [*const u8; 2],
    /// Rows from the first panel to the end of the matrix.
    rows: usize,
    /// Columns to add, from a multiple of [`BLOCK`] on. All but the first are added to what the outputs hold.
    from: usize,
    to: usize,
    x: *const f32,
    x_stride: usize,
    out: *mut f32,
    out_stride: usize,
}

impl<const T: usize> Kernel for Pairs<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut total = [[s.splat(0.0); 2]; T];
        let second = (self.rows - PANEL_ROWS).min(LANES);
        // SAFETY: both panels and each token have the columns; the outputs are the caller's, of the second panel `second` rows.
        unsafe {
            if self.from > 0 {
                for (t, total) in total.iter_mut().enumerate() {
                    let out = self.out.add(t * self.out_stride);
                    *total = [s.load(out), s.load_part(out.add(PANEL_ROWS), second)];
                }
            }
            let mut k = self.from;
            while k < self.to {
                let end = (k + BLOCK).min(self.to);
                let mut sums = [[s.splat(0.0); 2]; T];
                for column in k..end {
                    let w = self.tiles.map(|tile| s.load(tile.wrapping_add(column * 64).cast()));
                    for (t, sums) in sums.iter_mut().enumerate() {
                        let x = s.splat(*self.x.add(t * self.x_stride + column));
                        *sums = [s.fma(w[0], x, sums[0]), s.fma(w[1], x, sums[1])];
                    }
                }
                for (total, sums) in total.iter_mut().zip(sums) {
                    *total = [s.add(total[0], sums[0]), s.add(total[1], sums[1])];
                }
                k = end;
            }
            for (t, total) in total.iter().enumerate() {
                let out = self.out.add(t * self.out_stride);
                s.store(out, total[0]);
                s.store_part(out.add(PANEL_ROWS), second, total[1]);
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
    /// Columns to add, from a multiple of [`BLOCK`] on. All but the first are added to what the outputs hold.
    from: usize,
    to: usize,
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
            let pairs = if S::ROWS == 1 && T > 1 { opaque(BLOCK / 2) } else { BLOCK / 2 };
            for i in 0..pairs {
                for (n, sums) in sums.iter_mut().enumerate() {
                    let column = n * BLOCK + 2 * i;
                    let w = w.add(column / 2 * W::PAIR);
                    if T <= 4 && self.ahead > 0 {
                        for line in (0..W::PAIR).step_by(64) {
                            s.prefetch(w.wrapping_add(self.ahead + line));
                        }
                    }
                    let [a, b] = W::pair(s, w);
                    for (t, sum) in sums.iter_mut().enumerate() {
                        let x = x.add(t * self.x_stride + column);
                        *sum = s.fma(b, s.splat(*x.add(1)), s.fma(a, s.splat(*x), *sum));
                    }
                    if S::ROWS == 1 && T == 1 {
                        apart();
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
        // SAFETY: the panel and each token have columns k .. self.to.
        unsafe {
            for column in k..self.to {
                let pair = panel.add(column / 2 * W::PAIR);
                let w = if column + 1 == self.to && column % 2 == 0 {
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
            let rows = (self.rows - p * PANEL_ROWS).min(LANES);
            // SAFETY: the panel exists and has these columns; the outputs are the caller's.
            unsafe {
                let panel = self.weights.add(p * self.panel);
                let out = self.out.add(p * PANEL_ROWS);
                if self.from > 0 {
                    for (t, total) in total.iter_mut().enumerate() {
                        let out = out.add(t * self.out_stride);
                        *total = if rows == LANES { s.load(out) } else { s.load_part(out, rows) };
                    }
                }
                let mut k = self.from;
                while k + U * BLOCK <= self.to {
                    self.blocks::<S, U>(s, panel, k, &mut total);
                    k += U * BLOCK;
                }
                while k + BLOCK <= self.to {
                    self.blocks::<S, 1>(s, panel, k, &mut total);
                    k += BLOCK;
                }
                if k < self.to {
                    self.rest(s, panel, k, &mut total);
                }
                for (t, &total) in total.iter().enumerate() {
                    let out = out.add(t * self.out_stride);
                    if rows == LANES { s.store(out, total) } else { s.store_part(out, rows, total) }
                }
            }
        }
    }
}
