//! A unit of attention: the tokens and heads that share the loads of a block of keys and values.

use super::cache::{Cache, SCALED, scales_of};
use super::{AttentionArgs, BLOCK, Layout, layout, state_len};
use crate::backends::cpu::simd::lanes::{LANES, Simd};
use crate::backends::cpu::simd::math::{exp, exp_of_negative, tanh};
use std::marker::PhantomData;
use std::ops::Range;

/// A KV head and some tokens, with the scratch they use. A row is a token and a head of the group: `token·group + head`.
#[derive(Clone, Copy)]
pub(super) struct Unit<'a, C> {
    pub(super) args: &'a AttentionArgs,
    pub(super) scratch: *mut f32,
    pub(super) at: Layout,
    pub(super) kv_head: usize,
    pub(super) first: usize,
    pub(super) tokens: usize,
    /// From the first to the last position that any of the tokens sees.
    pub(super) seen_from: usize,
    pub(super) seen_to: usize,
    cache: PhantomData<C>,
}

impl<'a, C: Cache> Unit<'a, C> {
    /// # Safety
    /// The scratch is as long as its layout says, and this thread's.
    #[inline(always)]
    pub(super) unsafe fn new(args: &'a AttentionArgs, scratch: *mut f32) -> Self {
        let at = layout::<C>(args.heads, args.kv_heads, args.d, args.d_v);
        // SAFETY: the row of zeros ends where the queries begin.
        unsafe { scratch.add(at.zeros).write_bytes(0, at.queries - at.zeros) };
        Unit { args, scratch, at, kv_head: 0, first: 0, tokens: 0, seen_from: 0, seen_to: 0, cache: PhantomData }
    }

    #[inline(always)]
    pub(super) fn rows(&self) -> usize {
        self.tokens * self.args.group()
    }

    /// Floats of a value, padded to whole vectors.
    #[inline(always)]
    pub(super) fn dv(&self) -> usize {
        self.args.d_v.next_multiple_of(LANES)
    }

    /// The turned keys of the present block.
    #[inline(always)]
    pub(super) fn keys(&self) -> *mut u8 {
        self.scratch.cast()
    }

    /// Scaled queries from `row` on.
    #[inline(always)]
    pub(super) fn query(&self, row: usize) -> *mut f32 {
        self.scratch.wrapping_add(self.at.queries + row * self.args.d)
    }

    /// Of rows from `row` on: queries as pairs of 16-bit integers, and what an integer stands for.
    #[inline(always)]
    pub(super) fn rounded_query(&self, row: usize) -> (*mut i32, *mut f32) {
        let pairs = self.scratch.wrapping_add(self.at.rounded + row * self.args.d / 2).cast();
        (pairs, self.scratch.wrapping_add(self.at.steps + row))
    }

    /// Turns to unit `u`: notes what it sees and scales its queries.
    #[inline(always)]
    pub(super) unsafe fn select<S: Simd>(&mut self, s: S, u: usize) {
        let (a, group) = (self.args, self.args.group());
        let (kv_head, tokens) = a.unit(u);
        (self.kv_head, self.first, self.tokens) = (kv_head, tokens.start, tokens.len());
        (self.seen_from, self.seen_to) = (usize::MAX, 0);
        let scale = s.splat(a.scale);
        for t in 0..self.tokens {
            // SAFETY: the token exists; a row of queries has d floats, and the scratch has room for all rows.
            unsafe {
                let seen = a.seen(self.first + t);
                if !seen.is_empty() {
                    self.seen_from = self.seen_from.min(seen.start);
                    self.seen_to = self.seen_to.max(seen.end);
                }
                let mut from = a.q.add((self.first + t) * a.q_stride + kv_head * group * a.d);
                let mut to = self.query(t * group);
                let mut left = group * a.d;
                while left > 0 {
                    let n = left.min(LANES);
                    s.store_part(to, n, s.mul(s.load_part(from, n), scale));
                    (from, to, left) = (from.add(n), to.add(n), left - n);
                }
            }
        }
        self.seen_from = self.seen_from.min(self.seen_to);
        if C::BYTES {
            for row in 0..self.rows() {
                // SAFETY: the row exists.
                unsafe { self.round_query(row) }
            }
        }
    }

    /// A query as multiples of 1/32767 of its largest magnitude.
    #[inline(always)]
    unsafe fn round_query(&self, row: usize) {
        let (pairs, step) = self.rounded_query(row);
        // SAFETY: the row has d floats, and room for d integers of 16 bits.
        unsafe {
            let q = std::slice::from_raw_parts(self.query(row), self.args.d);
            let out = std::slice::from_raw_parts_mut(pairs.cast::<i16>(), self.args.d);
            let mut largest = 0f32;
            for &x in q {
                largest = if x.abs() > largest { x.abs() } else { largest };
            }
            *step = largest / 32767.0;
            let inverse = if largest > 0.0 { 32767.0 / largest } else { 0.0 };
            for (out, &x) in out.iter_mut().zip(q) {
                // The sum is exact in the integer that stands in its low bits; a NaN becomes some number.
                *out = ((x * inverse + 12_582_912.0).to_bits() as i32 - 0x4b40_0000) as i16;
            }
        }
    }

    /// The state of a row in one of the two places.
    #[inline(always)]
    pub(super) unsafe fn state(&self, place: usize, row: usize) -> *mut f32 {
        // SAFETY: the scratch has a state for every row.
        unsafe { self.scratch.add(place + row * state_len(self.args.d_v)) }
    }

    /// Offset of a row's state of partition `p` of `parts` in the partials: `[token][head][partition]`.
    #[inline(always)]
    pub(super) fn partial(&self, row: usize, p: usize, parts: usize) -> usize {
        let group = self.args.group();
        let (t, head) = (self.first + row / group, self.kv_head * group + row % group);
        ((t * self.args.heads + head) * parts + p) * state_len(self.args.d_v)
    }

    #[inline(always)]
    pub(super) unsafe fn clear_total<S: Simd>(&self, s: S) {
        for row in 0..self.rows() {
            // SAFETY: the row exists.
            unsafe { clear(s, self.state(self.at.total, row), self.dv()) }
        }
    }

    /// Writes the results of all rows from their total states.
    #[inline(always)]
    pub(super) unsafe fn finish<S: Simd>(&self, s: S) {
        let (a, group) = (self.args, self.args.group());
        for row in 0..self.rows() {
            let (t, head) = (self.first + row / group, self.kv_head * group + row % group);
            // SAFETY: the row and its results exist.
            unsafe {
                let state = self.state(self.at.total, row);
                if !a.sinks.is_null() {
                    let sink = self.state(self.at.part, row);
                    clear(s, sink, self.dv());
                    (*sink, *sink.add(1)) = (*a.sinks.add(head), 1.0);
                    merge(s, state, sink, self.dv());
                }
                let sum = *state.add(1);
                let inverse = s.splat(if sum == 0.0 { 0.0 } else { 1.0 / sum });
                let out = a.out.add(t * a.out_stride + head * a.d_v);
                let mut i = 0;
                while i < a.d_v {
                    let x = s.mul(s.load(state.add(LANES + i)), inverse);
                    s.store_part(out.add(i), (a.d_v - i).min(LANES), x);
                    i += LANES;
                }
            }
        }
    }

    /// Key and value of a position.
    #[inline(always)]
    fn key(&self, position: usize) -> *const u8 {
        let a = self.args;
        a.k.wrapping_add(self.kv_head * a.k_strides[1] + position * a.k_strides[0])
    }
    #[inline(always)]
    fn value(&self, position: usize) -> *const u8 {
        let a = self.args;
        a.v.wrapping_add(self.kv_head * a.v_strides[1] + position * a.v_strides[0])
    }

    /// Turns the keys of positions `from..to` of the block at `block`; others of their vectors become zero.
    #[inline(always)]
    pub(super) unsafe fn load_keys<S: Simd>(&self, s: S, block: usize, from: usize, to: usize) {
        let zeros: *const u8 = self.scratch.wrapping_add(self.at.zeros).cast();
        for column in (0..BLOCK).step_by(LANES) {
            let first = block + column;
            if first >= to || first + LANES <= from {
                continue;
            }
            let mut rows = [zeros; LANES];
            for (r, row) in rows.iter_mut().enumerate() {
                if first + r >= from && first + r < to {
                    *row = self.key(first + r);
                }
            }
            // SAFETY: visible positions lie within the cache; the row of zeros is as long as one of them.
            unsafe { C::turn_keys(s, self, &rows, column) };
        }
    }

    #[inline(always)]
    pub(super) unsafe fn put_scores<S: Simd, const N: usize, const V: usize>(
        &self,
        s: S,
        row: usize,
        column: usize,
        scores: &[[S::F; V]; N],
    ) {
        for (n, scores) in scores.iter().enumerate() {
            for (v, &x) in scores.iter().enumerate() {
                // SAFETY: the caller's rows exist, and the places are within the block.
                unsafe { s.store(self.scratch.add(self.at.scores + (row + n) * BLOCK + column + v * LANES), x) };
            }
        }
    }

    /// Turns a row's scores into weights `exp(score − max)` and brings its state to the new maximum. Positions `from..to` of
    /// the block are visible.
    #[inline(always)]
    pub(super) unsafe fn weigh<S: Simd>(&self, s: S, row: usize, from: usize, to: usize) {
        // SAFETY: the row exists.
        unsafe {
            let scores = self.scratch.add(self.at.scores + row * BLOCK);
            let mut x = [s.splat(0.0); 4];
            for (v, x) in x.iter_mut().enumerate() {
                *x = s.load(scores.add(v * LANES));
                if self.args.softcap != 0.0 {
                    let cap = s.splat(self.args.softcap);
                    *x = s.mul(tanh(s, s.div(*x, cap)), cap);
                }
            }
            if from > 0 || to < BLOCK {
                let (minus, from, to) = (s.splat(f32::NEG_INFINITY), s.splat(from as f32), s.splat(to as f32));
                for (v, x) in x.iter_mut().enumerate() {
                    let i = s.load(POSITIONS.as_ptr().add(v * LANES));
                    *x = s.select_lt(i, from, minus, s.select_lt(i, to, *x, minus));
                }
            }
            let max = s.reduce_max(s.max(s.max(x[0], x[1]), s.max(x[2], x[3])));
            let state = self.state(self.at.part, row);
            let old = *state;
            if max > old {
                *state = max;
                let shrink = exp_one(s, old - max);
                *state.add(1) *= shrink;
                for i in (0..self.dv()).step_by(LANES) {
                    let p = state.add(LANES + i);
                    s.store(p, s.mul(s.load(p), s.splat(shrink)));
                }
            }
            let max = s.splat(*state);
            for x in &mut x {
                *x = exp_of_negative(s, s.sub(*x, max));
            }
            *state.add(1) += s.reduce_add(s.add(s.add(x[0], x[1]), s.add(x[2], x[3])));
            for (v, &x) in x.iter().enumerate() {
                s.store(scores.add(v * LANES), x);
            }
        }
    }

    /// Adds the weighted values of positions `block + seen` to the states of rows `rows`.
    #[inline(always)]
    pub(super) unsafe fn add_values<S: Simd>(
        &self,
        s: S,
        rows: Range<usize>,
        block: usize,
        seen: Range<usize>,
        next: Fetch,
    ) {
        let d_v = self.args.d_v;
        let mut sums = Sums { unit: self, block, seen, weights: self.at.scores, next };
        // SAFETY: the caller's rows exist; d_v elements of a value do.
        unsafe {
            if !C::BYTES {
                cover(s, &mut sums, rows.clone(), 0..d_v / LANES);
                if !d_v.is_multiple_of(LANES) {
                    cover(s, &mut PartSums(sums), rows, d_v / LANES..d_v / LANES + 1);
                }
                return;
            }
            sums.weights = self.at.scaled;
            for b in 0..d_v / SCALED {
                self.scale_weights(s, rows.clone(), block, sums.seen.clone(), b);
                cover(s, &mut sums, rows.clone(), b * SCALED / LANES..(b + 1) * SCALED / LANES);
            }
        }
    }

    /// Weights of `rows` times the scales of block `b` of the values.
    #[inline(always)]
    unsafe fn scale_weights<S: Simd>(&self, s: S, rows: Range<usize>, block: usize, seen: Range<usize>, b: usize) {
        let zeros: *const u8 = self.scratch.wrapping_add(self.at.zeros).cast();
        for column in (0..BLOCK).step_by(LANES) {
            if column >= seen.end || column + LANES <= seen.start {
                continue;
            }
            let mut values = [zeros; LANES];
            for (r, value) in values.iter_mut().enumerate() {
                if column + r >= seen.start && column + r < seen.end {
                    *value = self.value(block + column + r);
                }
            }
            // SAFETY: visible positions lie within the cache; rows exist.
            unsafe {
                let scales = scales_of(s, &values, b);
                for row in rows.clone() {
                    let at = row * BLOCK + column;
                    let x = s.mul(s.load(self.scratch.add(self.at.scores + at)), scales);
                    s.store(self.scratch.add(self.at.scaled + at), x);
                }
            }
        }
    }
}

/// Rows of memory that are asked for line by line while something else is computed: many at once would wait for each other.
#[derive(Clone, Copy)]
pub(super) struct Fetch {
    at: *const u8,
    /// Bytes of a row that have been asked for.
    done: usize,
    bytes: usize,
    stride: usize,
    rows: usize,
}

impl Fetch {
    /// `rows` rows of `bytes` bytes.
    #[inline(always)]
    pub(super) fn new(at: *const u8, rows: usize, bytes: usize, stride: usize) -> Fetch {
        // Rows without gaps are one.
        let (rows, bytes) = if bytes == stride { (rows.min(1), rows * bytes) } else { (rows, bytes) };
        Fetch { at, done: 0, bytes, stride, rows }
    }

    /// Asks for the next `n` lines.
    #[inline(always)]
    pub(super) fn lines<S: Simd>(&mut self, s: S, n: usize) {
        for _ in 0..n {
            if self.rows == 0 {
                return;
            }
            s.prefetch(self.at.wrapping_add(self.done));
            self.done += 64;
            if self.done >= self.bytes {
                self.done = 0;
                self.at = self.at.wrapping_add(self.stride);
                self.rows -= 1;
            }
        }
    }
}

/// Lines to ask for with each of the steps of a tile that has `v` vectors, so that one row of tiles asks for a whole block.
#[inline(always)]
pub(super) const fn lines_a_step(v: usize, element_bytes: usize) -> usize {
    if v * element_bytes <= 4 { 1 } else { v * element_bytes / 4 }
}

/// Work on `N` rows and `V` vectors at a time.
pub(super) trait Tile {
    /// # Safety
    /// The rows and the vectors `column ..` exist.
    unsafe fn tile<S: Simd, const N: usize, const V: usize>(&mut self, s: S, row: usize, column: usize);
}

/// Covers rows and columns (vectors) with tiles that keep the level's registers busy and no more.
#[inline(always)]
pub(super) unsafe fn cover<S: Simd, T: Tile>(s: S, work: &mut T, rows: Range<usize>, columns: Range<usize>) {
    let mut row = rows.start;
    while row < rows.end {
        let left = rows.end - row;
        let n = match left {
            // Few rows at a time load and widen columns more often; where registers suffice, seven or eight.
            6..=8 if S::ROWS >= 4 => left,
            11.. if S::ROWS >= 4 => 7 + !left.is_multiple_of(7) as usize,
            // Fours and twos keep the multipliers busy; a single row or three do not.
            5.. if left % 2 == 1 => 5,
            _ => left.min(4),
        };
        // SAFETY: the caller's rows and columns.
        unsafe {
            match n {
                1 => across::<S, T, 1, 4>(s, work, row, columns.clone()),
                2 if S::ROWS >= 4 => across::<S, T, 2, 4>(s, work, row, columns.clone()),
                2 => across::<S, T, 2, 2>(s, work, row, columns.clone()),
                3 if S::ROWS >= 4 => across::<S, T, 3, 4>(s, work, row, columns.clone()),
                3 => across::<S, T, 3, 1>(s, work, row, columns.clone()),
                4 if S::ROWS >= 4 => across::<S, T, 4, 4>(s, work, row, columns.clone()),
                4 => across::<S, T, 4, 1>(s, work, row, columns.clone()),
                5 if S::ROWS >= 4 => across::<S, T, 5, 4>(s, work, row, columns.clone()),
                6 if S::ROWS >= 4 => across::<S, T, 6, 2>(s, work, row, columns.clone()),
                7 if S::ROWS >= 4 => across::<S, T, 7, 2>(s, work, row, columns.clone()),
                8 if S::ROWS >= 4 => across::<S, T, 8, 2>(s, work, row, columns.clone()),
                _ => across::<S, T, 5, 1>(s, work, row, columns.clone()),
            }
        }
        row += n;
    }
}

#[inline(always)]
unsafe fn across<S: Simd, T: Tile, const N: usize, const V: usize>(
    s: S,
    work: &mut T,
    row: usize,
    columns: Range<usize>,
) {
    let mut column = columns.start;
    // SAFETY: the caller's rows and columns.
    unsafe {
        while column + V <= columns.end {
            work.tile::<S, N, V>(s, row, column);
            column += V;
        }
        if V > 2 && column + 2 <= columns.end {
            work.tile::<S, N, 2>(s, row, column);
            column += 2;
        }
        while V > 1 && column < columns.end {
            work.tile::<S, N, 1>(s, row, column);
            column += 1;
        }
    }
}

/// Scores of the present block.
pub(super) struct Scores<'a, 'b, C> {
    pub(super) unit: &'a Unit<'b, C>,
    pub(super) next: Fetch,
}

impl<C: Cache> Tile for Scores<'_, '_, C> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const N: usize, const V: usize>(&mut self, s: S, row: usize, column: usize) {
        // SAFETY: the caller's promise.
        unsafe { C::scores::<S, N, V>(s, self.unit, row, column * LANES, &mut self.next) }
    }
}

/// Sums of weighted values of a block.
struct Sums<'a, 'b, C> {
    unit: &'a Unit<'b, C>,
    block: usize,
    seen: Range<usize>,
    /// Where the weights of all rows stand in the scratch.
    weights: usize,
    next: Fetch,
}

impl<C: Cache> Sums<'_, '_, C> {
    #[inline(always)]
    unsafe fn add<S: Simd, const N: usize, const V: usize, const PART: bool>(&mut self, s: S, row: usize, i: usize) {
        let unit = self.unit;
        let d_v = unit.args.d_v;
        let mut acc = [[s.splat(0.0); V]; N];
        // SAFETY: rows row .. row + N exist, elements i .. i + 16·V of a padded state, and visible values.
        unsafe {
            let state = unit.state(unit.at.part, row).add(LANES + i);
            let stride = state_len(d_v);
            for (n, acc) in acc.iter_mut().enumerate() {
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = s.load(state.add(n * stride + v * LANES));
                }
            }
            let weights = unit.scratch.add(self.weights + row * BLOCK);
            let mut value = unit.value(self.block + self.seen.start);
            let mut next = self.next;
            for j in self.seen.start..self.seen.end {
                next.lines(s, lines_a_step(V, C::DTYPE.block_bytes() / C::DTYPE.block_len()));
                let mut x = [s.splat(0.0); V];
                for (v, x) in x.iter_mut().enumerate() {
                    *x = C::values::<S, PART>(s, value, i + v * LANES, d_v);
                }
                for (n, acc) in acc.iter_mut().enumerate() {
                    let w = s.splat(*weights.add(n * BLOCK + j));
                    for (acc, &x) in acc.iter_mut().zip(&x) {
                        *acc = s.fma(w, x, *acc);
                    }
                }
                value = value.wrapping_add(unit.args.v_strides[0]);
            }
            self.next = next;
            for (n, acc) in acc.iter().enumerate() {
                for (v, &acc) in acc.iter().enumerate() {
                    s.store(state.add(n * stride + v * LANES), acc);
                }
            }
        }
    }
}

impl<C: Cache> Tile for Sums<'_, '_, C> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const N: usize, const V: usize>(&mut self, s: S, row: usize, column: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.add::<S, N, V, false>(s, row, column * LANES) }
    }
}

/// [`Sums`] of the last, incomplete vector of the values.
struct PartSums<'a, 'b, C>(Sums<'a, 'b, C>);

impl<C: Cache> Tile for PartSums<'_, '_, C> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const N: usize, const V: usize>(&mut self, s: S, row: usize, column: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.0.add::<S, N, V, true>(s, row, column * LANES) }
    }
}

/// 0, 1, 2 …: positions within a block.
static POSITIONS: [f32; BLOCK] = {
    let mut p = [0.0; BLOCK];
    let mut i = 0;
    while i < BLOCK {
        p[i] = i as f32;
        i += 1;
    }
    p
};

#[inline(always)]
fn exp_one<S: Simd>(s: S, x: f32) -> f32 {
    s.reduce_max(exp(s, s.splat(x)))
}

/// An empty state.
#[inline(always)]
pub(super) unsafe fn clear<S: Simd>(s: S, state: *mut f32, dv: usize) {
    // SAFETY: a state is LANES + dv floats.
    unsafe {
        for i in (0..dv + LANES).step_by(LANES) {
            s.store(state.add(i), s.splat(0.0));
        }
        *state = f32::NEG_INFINITY;
    }
}

#[inline(always)]
pub(super) unsafe fn copy<S: Simd>(s: S, to: *mut f32, from: *const f32, len: usize) {
    for i in (0..len).step_by(LANES) {
        // SAFETY: both have `len` floats, whole vectors.
        unsafe { s.store(to.add(i), s.load(from.add(i))) }
    }
}

/// Adds a partition's state to the total.
#[inline(always)]
pub(super) unsafe fn merge<S: Simd>(s: S, total: *mut f32, part: *const f32, dv: usize) {
    // SAFETY: a state is LANES + dv floats.
    unsafe {
        let (m, p) = (*total, *part);
        if p == f32::NEG_INFINITY && *part.add(1) == 0.0 {
            return;
        }
        let max = if m > p { m } else { p };
        let (a, b) = (exp_one(s, m - max), exp_one(s, p - max));
        *total = max;
        *total.add(1) = *total.add(1) * a + *part.add(1) * b;
        let (a, b) = (s.splat(a), s.splat(b));
        for i in (LANES..LANES + dv).step_by(LANES) {
            let x = s.mul(s.load(total.add(i)), a);
            s.store(total.add(i), s.fma(s.load(part.add(i)), b, x));
        }
    }
}
