//! Products of integer weights with [`DType::Q8A`](crate::tensor::DType::Q8A) activations.

use super::super::activations::{BYTES, DS, OFF, OFF16, QS};
use super::super::lanes::{Kernel, LANES, Simd};
use super::super::packed::{PANEL_ROWS, panel_bytes};
use super::codebook::*;
use super::formats::*;
use super::low_bits::*;
use super::{Args, Tokens};
use crate::tensor::DType;
use std::marker::PhantomData;

/// # Safety
/// The contract of [`super::matmul`], for an integer type.
pub(super) unsafe fn run<S: Simd>(s: S, args: &Args) {
    // SAFETY: the caller's promise; each format reads the layout of its type.
    unsafe {
        match args.dtype {
            DType::Q8_0 => product::<S, Q8_0, SCALE, 8>(s, args),
            DType::Q4_0 => product::<S, Q4_0, SCALE, 4>(s, args),
            DType::Q5_0 => product::<S, Q5_0, SCALE, 5>(s, args),
            DType::Iq4Nl => product::<S, Iq4Nl, SCALE, 8>(s, args),
            DType::Iq4Xs => product::<S, Iq4Xs, SCALE, 8>(s, args),
            DType::Mxfp4 if S::SHIFTED => product::<S, Mxfp4, SCALE, 8>(s, args),
            DType::Mxfp4 => product::<S, Mxfp4Narrow, SCALE, 5>(s, args),
            DType::Q4_1 => product::<S, Q4_1, MINIMUM, 4>(s, args),
            DType::Q5_1 => product::<S, Q5_1, MINIMUM, 5>(s, args),
            DType::Q4K => product::<S, Q4K, MINIMUM, 4>(s, args),
            DType::Q5K => product::<S, Q5K, MINIMUM, 5>(s, args),
            DType::Q6K => product::<S, Q6K, HALVES, 6>(s, args),
            DType::Q2K => product::<S, Q2K, HALF_MINIMUMS, 4>(s, args),
            DType::Q3K => product::<S, Q3K, HALVES, 3>(s, args),
            DType::Tq1_0 | DType::Tq2_0 => product::<S, Ternary, SCALE, 2>(s, args),
            DType::Q2_0 => product::<S, Q2_0, SCALE, 2>(s, args),
            DType::Q1_0 => product::<S, Q1_0, SCALE, 2>(s, args),
            DType::Nvfp4 => product::<S, Nvfp4, HALVES, 5>(s, args),
            DType::Iq2Xxs => product::<S, Iq2Xxs, SCALE, 7>(s, args),
            DType::Iq2Xs => product::<S, Iq2Xs, HALVES, 7>(s, args),
            DType::Iq2S => product::<S, Iq2S, HALVES, 7>(s, args),
            DType::Iq3Xxs => product::<S, Iq3Xxs, SCALE, 7>(s, args),
            DType::Iq3S => product::<S, Iq3S, SCALE, 5>(s, args),
            DType::Iq1S => product::<S, Iq1S, SCALE, 5>(s, args),
            DType::Iq1M => product::<S, Iq1M, HALVES, 5>(s, args),
            other => unreachable!("{other} is not an integer type"),
        }
    }
}

/// Few tokens: panels as they are. Many: a few panels are unpacked into tiles, which all tokens then pass, so that unpacking is
/// paid once and a group of tokens stays in the first-level cache while it meets the tiles.
unsafe fn product<S: Simd, F: Format, const MODE: u8, const BITS: u32>(s: S, a: &Args) {
    let blocks = a.k / 32;
    let panel = panel_bytes(a.dtype, a.k).expect("checked when the matrix was packed");
    let tile = blocks * tile_block(MODE);
    if a.tokens <= S::TOKENS || blocks == 0 {
        for (t, n) in a.tokens(S::TOKENS) {
            // SAFETY: panels from..to exist, `panel` bytes each, and so do the tokens.
            unsafe { tokens::<S, F>(s, a, a.weights.add(a.from * panel), panel, a.from, a.to - a.from, t, n) };
        }
        return;
    }
    // Two panels of four tokens take fewer loads than one panel of eight, where registers suffice.
    let pair = S::ROWS >= 4 && MODE != HALF_MINIMUMS;
    let tiles = match a.scratch_len / tile {
        n if pair && n > 1 => n / 2 * 2,
        n => n,
    };
    let mut first = a.from;
    while first < a.to {
        let count = tiles.min(a.to - first);
        // SAFETY: panels first .. first + count exist, and `tiles` tiles fit the scratch.
        unsafe {
            let weights = a.weights.add(first * panel);
            s.vectorize(Unpack::<F> { weights, panel, panels: count, blocks, tiles: a.scratch, format: PhantomData });
        }
        for chunk in (0..a.tokens).step_by(a.tokens_at_a_time()) {
            let end = (chunk + a.tokens_at_a_time()).min(a.tokens);
            let mut done = 0;
            while done < count {
                let panels = if pair { 2.min(count - done) } else { 1 };
                for (t, n) in (Tokens { at: chunk, end, max: if panels == 2 && pair { 4 } else { S::TOKENS } }) {
                    // SAFETY: tile `done` and its successors up to `count` hold panels first + done and so on.
                    unsafe {
                        let tiles = a.scratch.add(done * tile);
                        if n == 4 && panels == 2 && pair {
                            pairs::<S, MODE, BITS>(s, a, tiles, first + done, t);
                        } else {
                            tokens::<S, Tile<MODE, BITS>>(s, a, tiles, tile, first + done, panels, t, n);
                        }
                    }
                }
                done += panels;
            }
        }
        first += count;
    }
}

/// Four tokens from `t` on against two tiles, of panels `first` and `first + 1`.
unsafe fn pairs<S: Simd, const MODE: u8, const BITS: u32>(s: S, a: &Args, tiles: *const u8, first: usize, t: usize) {
    // SAFETY: token t and row first·16 exist; the rest is the caller's promise.
    unsafe {
        let (x, out) = (a.x.add(t * a.x_row_bytes), a.out.add(t * a.out_stride + first * PANEL_ROWS));
        s.vectorize(Pairs::<MODE, BITS, 4> {
            tiles,
            rows: a.rows_from(first),
            blocks: a.k / 32,
            x,
            x_stride: a.x_row_bytes,
            out,
            out_stride: a.out_stride,
        });
    }
}

/// Tokens `t..t + n` against `panels` panels of which the first is number `first`.
#[allow(clippy::too_many_arguments)]
unsafe fn tokens<S: Simd, F: Format>(
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
        ($n:literal) => {
            // SAFETY: the caller's promise.
            unsafe {
                s.vectorize(Micro::<F, $n> {
                    weights,
                    panel,
                    panels,
                    rows,
                    blocks: a.k / 32,
                    x,
                    x_stride: a.x_row_bytes,
                    out,
                    out_stride: a.out_stride,
                    ahead: if n <= 4 { a.ahead } else { 0 },
                    format: PhantomData,
                })
            }
        };
    }
    match n {
        8 => micro!(8),
        6 => micro!(6),
        4 => micro!(4),
        2 => micro!(2),
        _ => micro!(1),
    }
}

/// Unpacks panels into tiles.
struct Unpack<F> {
    weights: *const u8,
    panel: usize,
    panels: usize,
    blocks: usize,
    tiles: *mut u8,
    format: PhantomData<F>,
}

impl<F: Format> Kernel for Unpack<F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut tile = self.tiles;
        let mut room = Room::new();
        let room = room.as_mut_ptr();
        for p in 0..self.panels {
            // SAFETY: panel p exists and holds `blocks` blocks in groups; the tiles hold as many.
            unsafe {
                let mut group = self.weights.add(p * self.panel);
                let mut b = 0;
                while b < self.blocks {
                    F::open(s, group, room);
                    for j in 0..F::GROUP.min(self.blocks - b) {
                        unpack::<S, F>(s, group, j, room, tile);
                        tile = tile.add(tile_block(F::MODE));
                    }
                    b += F::GROUP;
                    group = group.add(F::GROUP_BYTES);
                }
            }
        }
    }
}

/// `T` tokens against consecutive panels.
struct Micro<F, const T: usize> {
    weights: *const u8,
    /// Bytes from panel to panel.
    panel: usize,
    panels: usize,
    /// Rows from the first panel to the end of the matrix.
    rows: usize,
    blocks: usize,
    x: *const u8,
    x_stride: usize,
    out: *mut f32,
    out_stride: usize,
    /// Bytes to prefetch ahead; 0 for none.
    ahead: usize,
    format: PhantomData<F>,
}

impl<F: Format, const T: usize> Kernel for Micro<F, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut room = Room::new();
        let room = room.as_mut_ptr();
        for p in 0..self.panels {
            let mut acc = [s.splat(0.0); T];
            // SAFETY: panel p holds `blocks` blocks in groups, and each token as many.
            unsafe {
                let mut group = self.weights.add(p * self.panel);
                let mut x = self.x;
                let mut b = 0;
                while b < self.blocks {
                    F::open(s, group, room);
                    for j in 0..F::GROUP.min(self.blocks - b) {
                        if T <= 4 && self.ahead > 0 {
                            let each = F::GROUP_BYTES / F::GROUP;
                            for line in (0..each).step_by(64) {
                                s.prefetch(group.wrapping_add(self.ahead + j * each + line));
                            }
                        }
                        accumulate::<S, F, T>(
                            s,
                            Block { group, j, room, format: self.format },
                            x,
                            self.x_stride,
                            &mut acc,
                        );
                        x = x.add(BYTES);
                    }
                    b += F::GROUP;
                    group = group.add(F::GROUP_BYTES);
                }
            }
            for (t, &acc) in acc.iter().enumerate() {
                // SAFETY: these rows of the panel's outputs are the caller's to write.
                unsafe {
                    let out = self.out.add(t * self.out_stride + p * PANEL_ROWS);
                    write::<S, F>(s, out, self.rows - p * PANEL_ROWS, acc);
                }
            }
        }
    }
}

/// `T` tokens against two consecutive tiles: the same sequence of operations for each output as in [`Micro`].
struct Pairs<const MODE: u8, const BITS: u32, const T: usize> {
    tiles: *const u8,
    rows: usize,
    blocks: usize,
    x: *const u8,
    x_stride: usize,
    out: *mut f32,
    out_stride: usize,
}

impl<const MODE: u8, const BITS: u32, const T: usize> Pairs<MODE, BITS, T> {
    /// Adds quads `from..from + N` of two tiles' blocks to the integers of `T` tokens, which start from `start`.
    #[inline(always)]
    unsafe fn dots<S: Simd, const N: usize>(
        &self,
        s: S,
        w: [*const u8; 2],
        x: *const u8,
        from: usize,
        start: usize,
    ) -> [[S::I; 2]; T] {
        let mut ints = [[s.splat_i(0); 2]; T];
        // SAFETY: w points to blocks of two tiles, x to a block of the first of T tokens.
        unsafe {
            if MODE != MINIMUM {
                for (t, ints) in ints.iter_mut().enumerate() {
                    *ints = [s.dot_start::<BITS>(x.add(t * self.x_stride + start).cast()); 2];
                }
            }
            for i in from..from + N {
                let w = [s.load_bytes(w[0].add(64 * i)), s.load_bytes(w[1].add(64 * i))];
                for (t, ints) in ints.iter_mut().enumerate() {
                    let x = x.add(t * self.x_stride + QS + 4 * i).cast();
                    for (ints, w) in ints.iter_mut().zip(w) {
                        *ints = s.dot::<1, BITS>(*ints, &[w], x);
                    }
                }
            }
        }
        ints
    }
}

impl<const MODE: u8, const BITS: u32, const T: usize> Kernel for Pairs<MODE, BITS, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let tile = self.blocks * tile_block(MODE);
        let mut acc = [[s.splat(0.0); 2]; T];
        // SAFETY: both tiles and all tokens hold `blocks` blocks; the outputs are the caller's to write.
        unsafe {
            let mut w = [self.tiles, self.tiles.add(tile)];
            let mut x = self.x;
            for _ in 0..self.blocks {
                let first = if MODE == HALVES {
                    self.dots::<S, 4>(s, w, x, 0, OFF16)
                } else {
                    self.dots::<S, 8>(s, w, x, 0, OFF)
                };
                let a = [s.load(w[0].add(512).cast()), s.load(w[1].add(512).cast())];
                let mut b = a;
                if MODE != SCALE {
                    b = [s.load(w[0].add(576).cast()), s.load(w[1].add(576).cast())];
                }
                let second =
                    if MODE == HALVES { self.dots::<S, 4>(s, w, x, 4, OFF16 + 4) } else { [[s.splat_i(0); 2]; T] };
                for t in 0..T {
                    let x = x.add(t * self.x_stride);
                    let dx = s.splat(x.cast::<f32>().read_unaligned());
                    for r in 0..2 {
                        acc[t][r] = match MODE {
                            SCALE => s.fma(s.to_f(first[t][r]), s.mul(a[r], dx), acc[t][r]),
                            MINIMUM => {
                                let ds = s.splat(x.add(DS).cast::<f32>().read_unaligned());
                                s.fma(s.to_f(first[t][r]), s.mul(a[r], dx), s.fma(b[r], ds, acc[t][r]))
                            }
                            _ => {
                                let both = s.fma(s.to_f(second[t][r]), b[r], s.mul(s.to_f(first[t][r]), a[r]));
                                s.fma(both, dx, acc[t][r])
                            }
                        };
                    }
                }
                w = [w[0].add(tile_block(MODE)), w[1].add(tile_block(MODE))];
                x = x.add(BYTES);
            }
            for (t, acc) in acc.iter().enumerate() {
                for (r, &acc) in acc.iter().enumerate() {
                    let row = r * PANEL_ROWS;
                    let out = self.out.add(t * self.out_stride + row);
                    write::<S, Tile<MODE, BITS>>(s, out, self.rows - row, acc);
                }
            }
        }
    }
}

/// Writes a panel's outputs, of which `rows` exist.
#[inline(always)]
unsafe fn write<S: Simd, F: Format>(s: S, out: *mut f32, rows: usize, acc: S::F) {
    let acc = s.mul(acc, s.splat(F::result_scale::<S>()));
    // SAFETY: the caller has that many floats at `out`.
    unsafe { if rows >= LANES { s.store(out, acc) } else { s.store_part(out, rows, acc) } }
}

/// Adds a block's share of 16 outputs of `T` tokens, whose blocks of activations are `stride` bytes apart.
#[inline(always)]
unsafe fn accumulate<S: Simd, F: Format, const T: usize>(
    s: S,
    w: Block<F>,
    x: *const u8,
    stride: usize,
    acc: &mut [S::F; T],
) {
    // SAFETY: x points to a block of activations of each token; w is a block.
    unsafe {
        let qs = x.add(QS).cast::<i8>();
        match F::MODE {
            SCALE => {
                let ints = dots::<S, F, T, 8>(s, w, 0, qs, x.add(OFF), stride);
                let [a, _] = F::factors(s, w.group, w.j);
                for (t, acc) in acc.iter_mut().enumerate() {
                    *acc = s.fma(s.to_f(ints[t]), s.mul(a, field(s, x, t * stride)), *acc);
                }
            }
            MINIMUM => {
                let ints = dots::<S, F, T, 8>(s, w, 0, qs, std::ptr::null(), stride);
                let [a, b] = F::factors(s, w.group, w.j);
                for (t, acc) in acc.iter_mut().enumerate() {
                    let minimum = s.fma(b, field(s, x, t * stride + DS), *acc);
                    *acc = s.fma(s.to_f(ints[t]), s.mul(a, field(s, x, t * stride)), minimum);
                }
            }
            HALF_MINIMUMS => {
                let first = dots::<S, F, T, 4>(s, w, 0, qs, std::ptr::null(), stride);
                let second = dots::<S, F, T, 4>(s, w, 4, qs.add(16), std::ptr::null(), stride);
                let [a, b] = F::factors(s, w.group, w.j);
                let [m0, m1] = F::minimums(s, w.group, w.j);
                for (t, acc) in acc.iter_mut().enumerate() {
                    // The sums of the activations, times their scale.
                    let off = x.add(t * stride + OFF16).cast::<[i32; 2]>().read_unaligned();
                    let scale = x.add(t * stride).cast::<f32>().read_unaligned();
                    let s0 = s.splat(scale * -(off[0] >> 7) as f32);
                    let s1 = s.splat(scale * -(off[1] >> 7) as f32);
                    let both = s.fma(s.to_f(second[t]), b, s.mul(s.to_f(first[t]), a));
                    let share = s.fma(both, s.splat(scale), s.fma(m1, s1, s.mul(m0, s0)));
                    *acc = s.add(*acc, share);
                }
            }
            _ => {
                let first = dots::<S, F, T, 4>(s, w, 0, qs, x.add(OFF16), stride);
                let second = dots::<S, F, T, 4>(s, w, 4, qs.add(16), x.add(OFF16 + 4), stride);
                let [a, b] = F::factors(s, w.group, w.j);
                for (t, acc) in acc.iter_mut().enumerate() {
                    let both = s.fma(s.to_f(second[t]), b, s.mul(s.to_f(first[t]), a));
                    *acc = s.fma(both, field(s, x, t * stride), *acc);
                }
            }
        }
    }
}

/// All lanes the float `at` bytes behind `x`.
#[inline(always)]
unsafe fn field<S: Simd>(s: S, x: *const u8, at: usize) -> S::F {
    // SAFETY: the caller's promise.
    s.splat(unsafe { x.add(at).cast::<f32>().read_unaligned() })
}

/// [`Simd::dots`] with the format's bits, which cannot be a generic argument directly.
#[inline(always)]
unsafe fn dots<S: Simd, F: Format, const T: usize, const N: usize>(
    s: S,
    w: Block<F>,
    from: usize,
    x: *const i8,
    offset: *const u8,
    stride: usize,
) -> [S::I; T] {
    let offset = offset.cast();
    // SAFETY: the caller's promise.
    unsafe {
        match F::BITS {
            2 => s.dots::<_, T, N, 2>(&w, from, x, offset, stride),
            3 => s.dots::<_, T, N, 3>(&w, from, x, offset, stride),
            4 => s.dots::<_, T, N, 4>(&w, from, x, offset, stride),
            5 => s.dots::<_, T, N, 5>(&w, from, x, offset, stride),
            6 => s.dots::<_, T, N, 6>(&w, from, x, offset, stride),
            7 => s.dots::<_, T, N, 7>(&w, from, x, offset, stride),
            _ => s.dots::<_, T, N, 8>(&w, from, x, offset, stride),
        }
    }
}
