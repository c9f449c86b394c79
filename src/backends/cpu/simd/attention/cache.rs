//! How a block of a cache is read, by element type: keys are turned so that positions lie side by side, values are read where
//! they stand.

use super::BLOCK;
use super::unit::{Fetch, Unit, lines_a_step};
use crate::backends::cpu::simd::lanes::{LANES, Simd};
use crate::tensor::DType;

/// An element type of keys and values.
///
/// # Safety
/// `turn_keys` writes and `scores` reads at most `key_bytes(d)` bytes of the scratch for keys.
pub(super) unsafe trait Cache: Copy + 'static {
    /// The type.
    const DTYPE: DType;
    /// Whether elements are bytes with a scale per [`SCALED`] of them: queries are rounded to 16 bits to be multiplied with them,
    /// and weights take the scales of the values.
    const BYTES: bool = false;

    /// Bytes of the scratch that a block of turned keys takes.
    fn key_bytes(d: usize) -> usize;

    /// Puts the keys of 16 positions into places `column ..` of the turned block.
    ///
    /// # Safety
    /// Rows have `d` elements; the scratch is the unit's.
    unsafe fn turn_keys<S: Simd>(s: S, unit: &Unit<'_, Self>, rows: &[*const u8; LANES], column: usize);

    /// Scores of `N` rows of queries against `V` vectors of positions from place `column` of the block on; meanwhile `next` is asked for.
    ///
    /// # Safety
    /// The rows exist; keys and queries are in the scratch.
    unsafe fn scores<S: Simd, const N: usize, const V: usize>(
        s: S,
        unit: &Unit<'_, Self>,
        row: usize,
        column: usize,
        next: &mut Fetch,
    );

    /// Sixteen elements of a row from element `i` on, not yet scaled; where `PART` those up to the row's `n`, then zeros.
    ///
    /// # Safety
    /// The row has `n` elements, and without `PART` `i + 16` of them.
    unsafe fn values<S: Simd, const PART: bool>(s: S, row: *const u8, i: usize, n: usize) -> S::F;
}

/// Turned keys that are read as floats.
///
/// # Safety
/// `key` reads the element at `at` of the turned keys and the 15 after it.
unsafe trait FloatKeys: Cache {
    /// # Safety
    /// The keys have the elements.
    unsafe fn key<S: Simd>(s: S, keys: *const u8, at: usize) -> S::F;
}

/// Elements of 32 bits.
#[derive(Clone, Copy)]
pub(super) struct Single;
/// Elements of 16 bits: bf16 where `BRAIN`, else f16.
#[derive(Clone, Copy)]
pub(super) struct Half<const BRAIN: bool>;
/// q8_0: blocks of 32 signed bytes behind an f16 scale.
#[derive(Clone, Copy)]
pub(super) struct Bytes;

/// Elements that have a scale in common, and the bytes they take with it.
pub(super) const SCALED: usize = 32;
pub(super) const SCALED_BYTES: usize = 34;

#[inline(always)]
unsafe fn float_scores<S: Simd, C: FloatKeys, const N: usize, const V: usize>(
    s: S,
    unit: &Unit<'_, C>,
    row: usize,
    column: usize,
    next: &mut Fetch,
) {
    let mut fetch = *next;
    let d = unit.args.d;
    let mut acc = [[s.splat(0.0); V]; N];
    // SAFETY: rows row .. row + N exist in queries and scores, and d elements of BLOCK keys.
    unsafe {
        let (keys, q) = (unit.keys(), unit.query(row));
        for i in 0..d {
            fetch.lines(s, lines_a_step(V, C::DTYPE.block_bytes()));
            let mut k = [s.splat(0.0); V];
            for (v, k) in k.iter_mut().enumerate() {
                *k = C::key(s, keys, i * BLOCK + column + v * LANES);
            }
            for (n, acc) in acc.iter_mut().enumerate() {
                let q = s.splat(*q.add(n * d + i));
                for (acc, &k) in acc.iter_mut().zip(&k) {
                    *acc = s.fma(q, k, *acc);
                }
            }
        }
        unit.put_scores(s, row, column, &acc);
    }
    *next = fetch;
}

// SAFETY: the turned keys are f32 [d][BLOCK].
unsafe impl Cache for Single {
    const DTYPE: DType = DType::F32;

    fn key_bytes(d: usize) -> usize {
        d * BLOCK * 4
    }

    #[inline(always)]
    unsafe fn turn_keys<S: Simd>(s: S, unit: &Unit<'_, Self>, rows: &[*const u8; LANES], column: usize) {
        let d = unit.args.d;
        for i in (0..d).step_by(LANES) {
            let mut square = [s.splat(0.0); LANES];
            for (x, row) in square.iter_mut().zip(rows) {
                // SAFETY: the row has elements i .. min(i + 16, d).
                unsafe {
                    let p = row.cast::<f32>().add(i);
                    *x = if d - i >= LANES { s.load(p) } else { s.load_part(p, d - i) };
                }
            }
            let turned = s.transpose(square);
            for (c, &x) in turned.iter().enumerate().take(d - i) {
                // SAFETY: element i + c < d.
                unsafe { s.store(unit.keys().cast::<f32>().add((i + c) * BLOCK + column), x) };
            }
        }
    }

    #[inline(always)]
    unsafe fn scores<S: Simd, const N: usize, const V: usize>(
        s: S,
        unit: &Unit<'_, Self>,
        row: usize,
        column: usize,
        next: &mut Fetch,
    ) {
        // SAFETY: the caller's promise.
        unsafe { float_scores::<S, Self, N, V>(s, unit, row, column, next) }
    }

    #[inline(always)]
    unsafe fn values<S: Simd, const PART: bool>(s: S, row: *const u8, i: usize, n: usize) -> S::F {
        // SAFETY: the caller's promise.
        unsafe {
            let p = row.cast::<f32>().add(i);
            if PART { s.load_part(p, n - i) } else { s.load(p) }
        }
    }
}

// SAFETY: 16 floats.
unsafe impl FloatKeys for Single {
    #[inline(always)]
    unsafe fn key<S: Simd>(s: S, keys: *const u8, at: usize) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load(keys.cast::<f32>().add(at)) }
    }
}

// SAFETY: the turned keys are u16 [d, padded to 16][BLOCK].
unsafe impl<const BRAIN: bool> Cache for Half<BRAIN> {
    const DTYPE: DType = if BRAIN { DType::Bf16 } else { DType::F16 };

    fn key_bytes(d: usize) -> usize {
        d.next_multiple_of(LANES) * BLOCK * 2
    }

    #[inline(always)]
    unsafe fn turn_keys<S: Simd>(s: S, unit: &Unit<'_, Self>, rows: &[*const u8; LANES], column: usize) {
        let d = unit.args.d;
        for i in (0..d).step_by(LANES) {
            // SAFETY: rows have elements i .. min(i + 16, d), the scratch has 16 more of BLOCK.
            unsafe {
                let out = unit.keys().cast::<u16>().add(i * BLOCK + column);
                if d - i >= LANES {
                    s.transpose_u16(rows, 2 * i, out, BLOCK);
                    continue;
                }
                let (mut parts, mut from) = ([[0u16; LANES]; LANES], *rows);
                for (from, part) in from.iter_mut().zip(&mut parts) {
                    std::ptr::copy_nonoverlapping(from.add(2 * i), part.as_mut_ptr().cast(), 2 * (d - i));
                    *from = part.as_ptr().cast();
                }
                s.transpose_u16(&from, 0, out, BLOCK);
            }
        }
    }

    #[inline(always)]
    unsafe fn scores<S: Simd, const N: usize, const V: usize>(
        s: S,
        unit: &Unit<'_, Self>,
        row: usize,
        column: usize,
        next: &mut Fetch,
    ) {
        // SAFETY: the caller's promise.
        unsafe { float_scores::<S, Self, N, V>(s, unit, row, column, next) }
    }

    #[inline(always)]
    unsafe fn values<S: Simd, const PART: bool>(s: S, row: *const u8, i: usize, n: usize) -> S::F {
        // SAFETY: the caller's promise.
        unsafe {
            if !PART {
                return Self::key(s, row, i);
            }
            let mut part = [0u16; LANES];
            std::ptr::copy_nonoverlapping(row.cast::<u16>().add(i), part.as_mut_ptr(), n - i);
            Self::key(s, part.as_ptr().cast(), 0)
        }
    }
}

// SAFETY: 16 halves.
unsafe impl<const BRAIN: bool> FloatKeys for Half<BRAIN> {
    #[inline(always)]
    unsafe fn key<S: Simd>(s: S, keys: *const u8, at: usize) -> S::F {
        // SAFETY: the caller's promise.
        unsafe {
            let p = keys.cast::<u16>().add(at);
            if BRAIN { s.load_bf16(p) } else { s.load_f16(p) }
        }
    }
}

// SAFETY: the turned keys are pairs of bytes [d / 2][BLOCK], then scales f32 [d / 32][BLOCK].
unsafe impl Cache for Bytes {
    const DTYPE: DType = DType::Q8_0;
    const BYTES: bool = true;

    fn key_bytes(d: usize) -> usize {
        d * BLOCK + d / SCALED * BLOCK * 4
    }

    #[inline(always)]
    unsafe fn turn_keys<S: Simd>(s: S, unit: &Unit<'_, Self>, rows: &[*const u8; LANES], column: usize) {
        let d = unit.args.d;
        for b in 0..d / SCALED {
            // SAFETY: rows have d / 32 blocks; the scratch has their pairs and scales.
            unsafe {
                let out = unit.keys().cast::<u16>().add(b * SCALED / 2 * BLOCK + column);
                s.transpose_u16(rows, b * SCALED_BYTES + 2, out, BLOCK);
                let scales = unit.keys().add(d * BLOCK).cast::<f32>().add(b * BLOCK + column);
                s.store(scales, scales_of(s, rows, b));
            }
        }
    }

    #[inline(always)]
    unsafe fn scores<S: Simd, const N: usize, const V: usize>(
        s: S,
        unit: &Unit<'_, Self>,
        row: usize,
        column: usize,
        next: &mut Fetch,
    ) {
        let (d, mut fetch) = (unit.args.d, *next);
        let mut acc = [[s.splat(0.0); V]; N];
        // SAFETY: rows row .. row + N exist in queries and scores, and d elements of BLOCK keys.
        unsafe {
            let (keys, scales) = (unit.keys().add(2 * column), unit.keys().add(d * BLOCK).cast::<f32>().add(column));
            let (q, steps) = unit.rounded_query(row);
            for b in 0..d / SCALED {
                let mut sums = [[s.splat_i(0); V]; N];
                for i in b * SCALED / 2..(b + 1) * SCALED / 2 {
                    // A step is two elements.
                    fetch.lines(s, lines_a_step(V, 2));
                    let mut k = [s.splat_i(0); V];
                    for (v, k) in k.iter_mut().enumerate() {
                        *k = s.load_i8_pairs(keys.add(2 * (i * BLOCK + v * LANES)));
                    }
                    for (n, sums) in sums.iter_mut().enumerate() {
                        let q = s.splat_i(*q.add(n * d / 2 + i));
                        for (sum, &k) in sums.iter_mut().zip(&k) {
                            *sum = s.dot_pairs(*sum, k, q);
                        }
                    }
                }
                for (n, (acc, sums)) in acc.iter_mut().zip(&sums).enumerate() {
                    let step = s.splat(*steps.add(n));
                    for (v, (acc, &sum)) in acc.iter_mut().zip(sums).enumerate() {
                        let scale = s.mul(s.load(scales.add(b * BLOCK + v * LANES)), step);
                        *acc = s.fma(s.to_f(sum), scale, *acc);
                    }
                }
            }
            unit.put_scores(s, row, column, &acc);
        }
        *next = fetch;
    }

    #[inline(always)]
    unsafe fn values<S: Simd, const PART: bool>(s: S, row: *const u8, i: usize, _: usize) -> S::F {
        // SAFETY: the row has the whole block of element i.
        unsafe { s.load_i8(row.add(i / SCALED * SCALED_BYTES + 2 + i % SCALED)) }
    }
}

/// The scales of block `b` of 16 rows of q8_0.
///
/// # Safety
/// The rows have the block.
#[inline(always)]
pub(super) unsafe fn scales_of<S: Simd>(s: S, rows: &[*const u8; LANES], b: usize) -> S::F {
    let mut scales = [0u16; LANES];
    for (scale, row) in scales.iter_mut().zip(rows) {
        // SAFETY: a block begins with its scale.
        *scale = unsafe { row.add(b * SCALED_BYTES).cast::<u16>().read_unaligned() };
    }
    // SAFETY: 16 halves.
    unsafe { s.load_f16(scales.as_ptr()) }
}
