//! A unit of attention: the tokens and heads that share the loads of a block of keys and values.

use super::{AttentionArgs, BLOCK, Layout, PARTITION, layout, state_len};
use crate::backends::cpu::simd::lanes::{Kernel, LANES, Simd};
use crate::backends::cpu::simd::math::{exp, tanh};
use crate::tensor::DType;

/// A KV head and some tokens, with the scratch they use. A row is a token and a head of the group: `token·group + head`.
#[derive(Clone, Copy)]
pub(super) struct Unit<'a> {
    pub(super) args: &'a AttentionArgs,
    pub(super) scratch: *mut f32,
    pub(super) at: Layout,
    pub(super) kv_head: usize,
    pub(super) first: usize,
    pub(super) tokens: usize,
    /// From the first to the last position that any of the tokens sees.
    pub(super) seen_from: usize,
    pub(super) seen_to: usize,
}

impl<'a> Unit<'a> {
    #[inline(always)]
    pub(super) fn new(args: &'a AttentionArgs, scratch: *mut f32) -> Unit<'a> {
        let at = layout(args.heads, args.kv_heads, args.d, args.d_v);
        Unit { args, scratch, at, kv_head: 0, first: 0, tokens: 0, seen_from: 0, seen_to: 0 }
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
                let mut to = self.scratch.add(self.at.queries + t * group * a.d);
                let mut left = group * a.d;
                while left > 0 {
                    let n = left.min(LANES);
                    s.store_part(to, n, s.mul(s.load_part(from, n), scale));
                    (from, to, left) = (from.add(n), to.add(n), left - n);
                }
            }
        }
        self.seen_from = self.seen_from.min(self.seen_to);
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

    /// Divides the totals by their sums, sinks counted, and writes the results.
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

    /// Sixteen floats of a cached row, from element `i` on, zero beyond its `n` elements.
    #[inline(always)]
    pub(super) unsafe fn load<S: Simd>(&self, s: S, row: *const u8, i: usize, n: usize) -> S::F {
        // SAFETY: the caller's row has n elements.
        unsafe {
            if self.args.kv_type == DType::F32 {
                let p = row.cast::<f32>().add(i);
                return if n - i >= LANES { s.load(p) } else { s.load_part(p, n - i) };
            }
            let p = row.cast::<u16>().add(i);
            if self.args.kv_type == DType::Bf16 {
                let mut wide = [0f32; LANES];
                for (j, x) in wide.iter_mut().enumerate().take(n - i) {
                    *x = f32::from_bits(u32::from(p.add(j).read()) << 16);
                }
                return s.load(wide.as_ptr());
            }
            if n - i >= LANES {
                return s.load_f16(p);
            }
            let mut part = [0u16; LANES];
            std::ptr::copy_nonoverlapping(p, part.as_mut_ptr(), n - i);
            s.load_f16(part.as_ptr())
        }
    }

    /// Keys of positions `from..to` of the block at `block`, transposed to `[d][BLOCK]`; zero elsewhere.
    #[inline(always)]
    pub(super) unsafe fn load_keys<S: Simd>(&self, s: S, block: usize, from: usize, to: usize) {
        let a = self.args;
        for j in (0..BLOCK).step_by(LANES) {
            let first = block + j;
            if first >= to || first + LANES <= from {
                continue;
            }
            for i in (0..a.d).step_by(LANES) {
                let mut rows = [s.splat(0.0); LANES];
                for (r, row) in rows.iter_mut().enumerate() {
                    if first + r >= from && first + r < to {
                        // SAFETY: a visible position lies within the cache.
                        unsafe {
                            let key = a.k.add(self.kv_head * a.k_strides[1] + (first + r) * a.k_strides[0]);
                            *row = self.load(s, key, i, a.d);
                        }
                    }
                }
                let columns = s.transpose(rows);
                for (c, &column) in columns.iter().enumerate().take(a.d - i) {
                    // SAFETY: element i + c < d.
                    unsafe { s.store(self.scratch.add(self.at.keys + (i + c) * BLOCK + j), column) };
                }
            }
        }
    }

    /// Values of positions `from..to` of the block at `block`, as `[BLOCK][dv]`.
    #[inline(always)]
    pub(super) unsafe fn load_values<S: Simd>(&self, s: S, block: usize, from: usize, to: usize) {
        let (a, dv) = (self.args, self.dv());
        for position in from..to {
            for i in (0..a.d_v).step_by(LANES) {
                // SAFETY: a visible position lies within the cache, and within the block.
                unsafe {
                    let value = a.v.add(self.kv_head * a.v_strides[1] + position * a.v_strides[0]);
                    let x = self.load(s, value, i, a.d_v);
                    s.store(self.scratch.add(self.at.values + (position - block) * dv + i), x);
                }
            }
        }
    }

    /// Scores of `N` rows against all of a block.
    #[inline(always)]
    pub(super) unsafe fn scores<S: Simd, const N: usize>(&self, s: S, row: usize) {
        let d = self.args.d;
        let mut acc = [[s.splat(0.0); 4]; N];
        // SAFETY: rows row .. row + N exist in queries and scores.
        unsafe {
            let (keys, q) = (self.scratch.add(self.at.keys), self.scratch.add(self.at.queries + row * d));
            for i in 0..d {
                let mut k = [s.splat(0.0); 4];
                for (v, k) in k.iter_mut().enumerate() {
                    *k = s.load(keys.add(i * BLOCK + v * LANES));
                }
                for (n, acc) in acc.iter_mut().enumerate() {
                    let q = s.splat(*q.add(n * d + i));
                    for (acc, &k) in acc.iter_mut().zip(&k) {
                        *acc = s.fma(q, k, *acc);
                    }
                }
            }
            for (n, acc) in acc.iter().enumerate() {
                for (v, &acc) in acc.iter().enumerate() {
                    s.store(self.scratch.add(self.at.scores + (row + n) * BLOCK + v * LANES), acc);
                }
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
                *x = exp(s, s.sub(*x, max));
            }
            *state.add(1) += s.reduce_add(s.add(s.add(x[0], x[1]), s.add(x[2], x[3])));
            for (v, &x) in x.iter().enumerate() {
                s.store(scores.add(v * LANES), x);
            }
        }
    }

    /// Adds the weighted values of positions `from..to` of the block to the states of `N` rows, `V` vectors from element `i` on.
    #[inline(always)]
    pub(super) unsafe fn add_values<S: Simd, const N: usize, const V: usize>(
        &self,
        s: S,
        row: usize,
        i: usize,
        from: usize,
        to: usize,
    ) {
        let dv = self.dv();
        let mut acc = [[s.splat(0.0); V]; N];
        // SAFETY: rows row .. row + N exist, and elements i .. i + 16·V of a padded value.
        unsafe {
            let state = self.state(self.at.part, row).add(LANES + i);
            let stride = state_len(self.args.d_v);
            for (n, acc) in acc.iter_mut().enumerate() {
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = s.load(state.add(n * stride + v * LANES));
                }
            }
            let values = self.scratch.add(self.at.values + i);
            let weights = self.scratch.add(self.at.scores + row * BLOCK);
            for j in from..to {
                let mut x = [s.splat(0.0); V];
                for (v, x) in x.iter_mut().enumerate() {
                    *x = s.load(values.add(j * dv + v * LANES));
                }
                for (n, acc) in acc.iter_mut().enumerate() {
                    let w = s.splat(*weights.add(n * BLOCK + j));
                    for (acc, &x) in acc.iter_mut().zip(&x) {
                        *acc = s.fma(w, x, *acc);
                    }
                }
            }
            for (n, acc) in acc.iter().enumerate() {
                for (v, &acc) in acc.iter().enumerate() {
                    s.store(state.add(n * stride + v * LANES), acc);
                }
            }
        }
    }

    /// [`Unit::add_values`] for all elements of `N` rows.
    #[inline(always)]
    pub(super) unsafe fn add_all_values<S: Simd, const N: usize>(&self, s: S, row: usize, from: usize, to: usize) {
        let (dv, mut i) = (self.dv(), 0);
        // SAFETY: the caller's rows exist; i stays below dv.
        unsafe {
            while i + 4 * LANES <= dv {
                self.add_values::<S, N, 4>(s, row, i, from, to);
                i += 4 * LANES;
            }
            while i < dv {
                self.add_values::<S, N, 1>(s, row, i, from, to);
                i += LANES;
            }
        }
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

/// Calls `$f::<S, N>(s, row, …)` for rows `$from..$to`, as many at a time as registers hold.
macro_rules! by_rows {
    ($s:ident, $from:expr, $to:expr, |$row:ident| $unit:ident.$f:ident($($arg:expr),*)) => {{
        let mut $row = $from;
        while $row < $to {
            match $to - $row {
                4.. if S::ROWS >= 4 => {
                    $unit.$f::<S, 4>($s, $row $(, $arg)*);
                    $row += 4;
                }
                3 if S::ROWS >= 4 => {
                    $unit.$f::<S, 3>($s, $row $(, $arg)*);
                    $row += 3;
                }
                2 if S::ROWS >= 4 => {
                    $unit.$f::<S, 2>($s, $row $(, $arg)*);
                    $row += 2;
                }
                _ => {
                    $unit.$f::<S, 1>($s, $row $(, $arg)*);
                    $row += 1;
                }
            }
        }
    }};
}

/// One partition of a unit: the online softmax over its blocks, into the unit's `part` states.
pub(super) struct Partition<'a> {
    pub(super) unit: Unit<'a>,
    pub(super) p: usize,
}

impl Kernel for Partition<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let unit = &self.unit;
        let (group, rows) = (unit.args.group(), unit.rows());
        // SAFETY: rows and tokens are the unit's; positions are visible ones.
        unsafe {
            for row in 0..rows {
                clear(s, unit.state(unit.at.part, row), unit.dv());
            }
            let start = (self.p * PARTITION).max(unit.seen_from / BLOCK * BLOCK);
            let end = ((self.p + 1) * PARTITION).min(unit.seen_to);
            for block in (start..end).step_by(BLOCK) {
                let (from, to) = (block.max(unit.seen_from), (block + BLOCK).min(unit.seen_to));
                let mut loaded = false;
                // Tokens that see the same part of the block share its loads.
                let mut t = 0;
                while t < unit.tokens {
                    let range = visible(unit, t, block);
                    let mut next = t + 1;
                    while next < unit.tokens && visible(unit, next, block) == range {
                        next += 1;
                    }
                    if range.0 < range.1 {
                        if !loaded {
                            unit.load_keys(s, block, from, to);
                            unit.load_values(s, block, from, to);
                            loaded = true;
                        }
                        let first = t * group;
                        by_rows!(s, first, next * group, |row| unit.scores());
                        for row in first..next * group {
                            unit.weigh(s, row, range.0, range.1);
                        }
                        by_rows!(s, first, next * group, |row| unit.add_all_values(range.0, range.1));
                    }
                    t = next;
                }
            }
        }
    }
}

/// What the unit's token `t` sees of a block, relative to it.
#[inline(always)]
pub(super) unsafe fn visible(unit: &Unit, t: usize, block: usize) -> (usize, usize) {
    // SAFETY: the caller's token exists.
    let seen = unsafe { unit.args.seen(unit.first + t) };
    (seen.start.max(block).min(block + BLOCK) - block, seen.end.max(block).min(block + BLOCK) - block)
}

#[inline(always)]
pub(super) fn exp_one<S: Simd>(s: S, x: f32) -> f32 {
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
