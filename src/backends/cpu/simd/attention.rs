//! Fused attention: `softmax(scale·q·K)·V` over a KV cache, without a score matrix.
//!
//! **Determinism.** Cache positions are taken in blocks of 64 by absolute position, blocks in partitions of 512; a block's
//! scores, the online softmax over a partition's blocks and the merge of partitions in ascending order are the same sequence
//! of operations for a token and head whatever tokens are beside it, whichever unit or thread computes it, and whether
//! partitions are computed in one go ([`attention`]) or apart ([`attention_partials`], [`attention_merge`]). So a token gets the same
//! bits in a prompt and alone.
//!
//! **Error.** Dot products and sums are f32 with one rounding a step; the exponential is `math::exp`'s.
//! Positions that a token does not see are never used, whatever the cache holds there. Over a cache of q8_0 queries are rounded to
//! 1/65534 of their largest magnitude, so that their products with the cache's bytes are sums of integers.
//!
//! **How.** A block's keys are turned once, in the cache's type, so that 16 positions are a vector, and all rows of a unit (tokens ×
//! heads of a KV group) multiply them; values are widened in registers, for four rows at a time.

mod cache;
mod partition;
mod unit;

use super::isa::Level;
use super::lanes::{Kernel, LANES, Simd};
use crate::tensor::DType;
use cache::{Bytes, Cache, Half, SCALED, Single};
use partition::Partition;
use std::marker::PhantomData;
use std::ops::Range;
use unit::{Unit, copy, merge};

/// Cache positions of a block.
const BLOCK: usize = 64;
/// Cache positions of a partition: what one thread takes at least when a sequence's cache is shared out.
pub const PARTITION: usize = 512;
/// Rows (tokens × heads of a KV group) that share the loads of a block, about.
const UNIT_ROWS: usize = 32;

/// One step's attention: buffers, shapes and what each token sees.
#[derive(Clone, Copy, Debug)]
pub struct AttentionArgs {
    /// Queries: `heads` × `d` floats a token.
    pub q: *const f32,
    /// Floats from token to token.
    pub q_stride: usize,
    /// Keys: `d` elements for each of `kv_heads` × `capacity`.
    pub k: *const u8,
    /// Bytes from a key's position to the next, and from head to head.
    pub k_strides: [usize; 2],
    /// Values: `d_v` elements for each of `kv_heads` × `capacity`.
    pub v: *const u8,
    /// Bytes from a value's position to the next, and from head to head.
    pub v_strides: [usize; 2],
    /// Type of keys and values: F16, BF16, F32 or Q8_0.
    pub kv_type: DType,
    /// Positions that there are.
    pub capacity: usize,
    /// Results: `heads` × `d_v` floats a token.
    pub out: *mut f32,
    /// Floats from token to token.
    pub out_stride: usize,
    /// Tokens of the step.
    pub tokens: usize,
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Length of a query and a key.
    pub d: usize,
    /// Length of a value.
    pub d_v: usize,
    /// Per token: the first cache position of its sequence. If this and `kv_slot` are null, every token sees all positions.
    pub kv_start: *const i32,
    /// Per token: its own cache position, the last one that it sees.
    pub kv_slot: *const i32,
    /// Every token sees up to here (exclusive) instead of up to its own position.
    pub see_until: Option<usize>,
    /// If not 0, only the last `window` positions up to the token's own are seen.
    pub window: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// If not 0, scores `s` become `softcap·tanh(s / softcap)`.
    pub softcap: f32,
    /// Per head a score that takes part in the softmax without a value; or null.
    pub sinks: *const f32,
}

// SAFETY: the pointers are only addresses here; using them is what the kernels' contracts are about.
unsafe impl Send for AttentionArgs {}
// SAFETY: as above.
unsafe impl Sync for AttentionArgs {}

impl AttentionArgs {
    fn group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }

    /// Tokens of a unit.
    fn unit_tokens(&self) -> usize {
        (UNIT_ROWS / self.group().max(1)).max(1)
    }

    /// Units of work of [`attention`] and [`attention_merge`].
    pub fn units(&self) -> usize {
        self.kv_heads * self.tokens.div_ceil(self.unit_tokens())
    }

    /// Units of work of [`attention_partials`], for a cache filled up to `filled` positions.
    pub fn partial_units(&self, filled: usize) -> usize {
        self.units() * filled.div_ceil(PARTITION)
    }

    /// The KV head and tokens of a unit. The first tokens, which see the least where attention is causal, and the last are neighbours, so that
    /// ranges of units are equally much work.
    fn unit(&self, unit: usize) -> (usize, Range<usize>) {
        let blocks = self.tokens.div_ceil(self.unit_tokens());
        let place = unit % blocks;
        let block = if place.is_multiple_of(2) { place / 2 } else { blocks - 1 - place / 2 };
        let first = block * self.unit_tokens();
        (unit / blocks, first..(first + self.unit_tokens()).min(self.tokens))
    }

    /// The positions that a token sees.
    ///
    /// # Safety
    /// `t < tokens`, and the tables are readable or both null.
    unsafe fn seen(&self, t: usize) -> Range<usize> {
        if self.kv_start.is_null() || self.kv_slot.is_null() {
            return 0..self.capacity;
        }
        // SAFETY: the caller's promise.
        let (start, slot) = unsafe { (*self.kv_start.add(t), *self.kv_slot.add(t)) };
        let after_slot = usize::try_from(slot.saturating_add(1)).unwrap_or(0);
        let mut start = usize::try_from(start).unwrap_or(0);
        if self.window > 0 {
            start = start.max(after_slot.saturating_sub(self.window));
        }
        let end = self.see_until.unwrap_or(after_slot).min(self.capacity);
        start.min(end)..end
    }
}

/// Floats of a row's state: largest score, sum, accumulated values padded to whole vectors.
fn state_len(d_v: usize) -> usize {
    d_v.next_multiple_of(LANES) + LANES
}

/// Scratch of a thread: offsets in floats. At 0 the turned keys of a block.
#[derive(Clone, Copy)]
struct Layout {
    /// A row of the cache in which all is zero.
    zeros: usize,
    /// Scaled queries, `[rows][d]`.
    queries: usize,
    /// Scores, then weights, `[rows][BLOCK]`.
    scores: usize,
    /// States of the present partition and of all so far, `[rows][state_len]` each.
    part: usize,
    total: usize,
    /// For caches of bytes: weights times the scales of values, `[rows][BLOCK]`; queries in 16 bits, `[rows][d]`, and what one of their
    /// units stands for, `[rows]`.
    scaled: usize,
    rounded: usize,
    steps: usize,
    len: usize,
}

fn layout<C: Cache>(heads: usize, kv_heads: usize, d: usize, d_v: usize) -> Layout {
    let group = heads / kv_heads.max(1);
    let rows = (UNIT_ROWS / group.max(1)).max(1) * group;
    let mut len = (C::key_bytes(d) / 4).next_multiple_of(LANES);
    let mut take = |floats: usize| {
        let at = len;
        len += floats.next_multiple_of(LANES);
        at
    };
    let bytes_only = |floats: usize| if C::BYTES { floats } else { 0 };
    let row_bytes = d.max(d_v).div_ceil(C::DTYPE.block_len()) * C::DTYPE.block_bytes();
    Layout {
        zeros: take(row_bytes.div_ceil(4)),
        queries: take(rows * d),
        scores: take(rows * BLOCK),
        part: take(rows * state_len(d_v)),
        total: take(rows * state_len(d_v)),
        scaled: take(bytes_only(rows * BLOCK)),
        rounded: take(bytes_only(rows * d / 2)),
        steps: take(bytes_only(rows)),
        len,
    }
}

/// `$f::<…>` for the type of a cache; `$else` for types that are none of caches.
macro_rules! by_type {
    ($dtype:expr, |$c:ident| $e:expr, $else:expr) => {
        match $dtype {
            DType::F32 => {
                type $c = Single;
                $e
            }
            DType::F16 => {
                type $c = Half<false>;
                $e
            }
            DType::Bf16 => {
                type $c = Half<true>;
                $e
            }
            DType::Q8_0 => {
                type $c = Bytes;
                $e
            }
            _ => $else,
        }
    };
}

/// Whether there is a kernel for caches of a type with these lengths of keys and values.
pub fn is_supported(kv_type: DType, d: usize, d_v: usize) -> bool {
    let whole = |n: usize| kv_type != DType::Q8_0 || n.is_multiple_of(SCALED);
    by_type!(kv_type, |C| C::DTYPE == kv_type, false) && whole(d) && whole(d_v)
}

/// Bytes of scratch that each thread needs; 0 for types that are not supported.
pub fn scratch_bytes(kv_type: DType, heads: usize, kv_heads: usize, d: usize, d_v: usize) -> usize {
    4 * by_type!(kv_type, |C| layout::<C>(heads, kv_heads, d, d_v).len, 0)
}

/// Bytes that [`attention_partials`] writes for all units, for a cache filled up to `filled` positions.
pub fn partials_bytes(tokens: usize, heads: usize, d_v: usize, filled: usize) -> usize {
    tokens * heads * filled.div_ceil(PARTITION) * state_len(d_v) * 4
}

/// Attention of whole units ([`AttentionArgs::units`]). Nothing is allocated.
///
/// # Panics
/// If the scratch is too short or not aligned to 64 bytes, `units` out of range, or the cache not [supported](is_supported).
///
/// # Safety
/// All of `args`' buffers are as large as its doc says; nobody writes them meanwhile, and the results of these units (heads of
/// their KV head, their tokens) are written by nobody else. Tokens' visible cache positions are initialised.
pub unsafe fn attention(level: Level, args: &AttentionArgs, units: Range<usize>, scratch: &mut [u8]) {
    check(args, scratch);
    assert!(units.end <= args.units(), "attention units {units:?} of {}", args.units());
    // SAFETY: the table is of an available level; the rest is the caller's promise.
    unsafe { (level.kernels().attention)(args, units.start, units.end, scratch.as_mut_ptr().cast()) }
}

/// The same work in smaller units ([`AttentionArgs::partial_units`]), for threads that share one head's cache. Results appear
/// after [`attention_merge`]; `partials` takes [`partials_bytes`].
///
/// # Panics
/// As [`attention`].
///
/// # Safety
/// As [`attention`], with `partials` in place of the results; `filled` is the same in all calls and no token sees a position
/// from there on.
pub unsafe fn attention_partials(
    level: Level,
    args: &AttentionArgs,
    filled: usize,
    units: Range<usize>,
    partials: *mut f32,
    scratch: &mut [u8],
) {
    check(args, scratch);
    assert!(units.end <= args.partial_units(filled), "attention units {units:?} of {}", args.partial_units(filled));
    let scratch = scratch.as_mut_ptr().cast();
    // SAFETY: the table is of an available level; the rest is the caller's promise.
    unsafe { (level.kernels().attention_partials)(args, filled, units.start, units.end, partials, scratch) }
}

/// Merges what [`attention_partials`] left into results, for whole units ([`AttentionArgs::units`]).
///
/// # Panics
/// As [`attention`].
///
/// # Safety
/// As [`attention`]; all partial units of these units are complete and visible to this thread.
pub unsafe fn attention_merge(
    level: Level,
    args: &AttentionArgs,
    filled: usize,
    units: Range<usize>,
    partials: *const f32,
    scratch: &mut [u8],
) {
    check(args, scratch);
    assert!(units.end <= args.units(), "attention units {units:?} of {}", args.units());
    let scratch = scratch.as_mut_ptr().cast();
    // SAFETY: the table is of an available level; the rest is the caller's promise.
    unsafe { (level.kernels().attention_merge)(args, filled, units.start, units.end, partials, scratch) }
}

fn check(args: &AttentionArgs, scratch: &[u8]) {
    assert!(is_supported(args.kv_type, args.d, args.d_v), "attention over a cache of {}", args.kv_type);
    let need = scratch_bytes(args.kv_type, args.heads, args.kv_heads, args.d, args.d_v);
    assert!(scratch.len() >= need, "attention scratch: {} bytes of {need}", scratch.len());
    assert!((scratch.as_ptr() as usize).is_multiple_of(64), "attention scratch is not aligned");
    assert!(args.kv_heads > 0 && args.heads.is_multiple_of(args.kv_heads), "{} heads", args.heads);
}

/// # Safety
/// The contract of [`attention`].
pub(crate) unsafe fn run<S: Simd>(args: &AttentionArgs, from: usize, to: usize, scratch: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        by_type!(
            args.kv_type,
            |C| S::assume().vectorize(Whole { args, from, to, scratch, cache: PhantomData::<C> }),
            ()
        )
    }
}

/// # Safety
/// The contract of [`attention_partials`].
pub(crate) unsafe fn run_partials<S: Simd>(
    args: &AttentionArgs,
    filled: usize,
    from: usize,
    to: usize,
    partials: *mut f32,
    scratch: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        by_type!(
            args.kv_type,
            |C| S::assume().vectorize(Partials { args, filled, from, to, partials, scratch, cache: PhantomData::<C> }),
            ()
        )
    }
}

/// # Safety
/// The contract of [`attention_merge`].
pub(crate) unsafe fn run_merge<S: Simd>(
    args: &AttentionArgs,
    filled: usize,
    from: usize,
    to: usize,
    partials: *const f32,
    scratch: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        by_type!(
            args.kv_type,
            |C| S::assume().vectorize(Merge { args, filled, from, to, partials, scratch, cache: PhantomData::<C> }),
            ()
        )
    }
}

struct Whole<'a, C> {
    args: &'a AttentionArgs,
    from: usize,
    to: usize,
    scratch: *mut f32,
    cache: PhantomData<C>,
}

impl<C: Cache> Kernel for Whole<'_, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: the caller's promise; all addresses in the scratch follow its layout.
        unsafe {
            let mut unit = Unit::<C>::new(self.args, self.scratch);
            for u in self.from..self.to {
                unit.select(s, u);
                unit.clear_total(s);
                let mut p = unit.seen_from / PARTITION;
                while p * PARTITION < unit.seen_to {
                    s.vectorize(Partition { unit, p });
                    for row in 0..unit.rows() {
                        let (total, part) = (unit.state(unit.at.total, row), unit.state(unit.at.part, row));
                        merge(s, total, part, unit.dv());
                    }
                    p += 1;
                }
                unit.finish(s);
            }
        }
    }
}

struct Partials<'a, C> {
    args: &'a AttentionArgs,
    filled: usize,
    from: usize,
    to: usize,
    partials: *mut f32,
    scratch: *mut f32,
    cache: PhantomData<C>,
}

impl<C: Cache> Kernel for Partials<'_, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let parts = self.filled.div_ceil(PARTITION);
        // SAFETY: the caller's promise; all addresses in the scratch follow its layout.
        unsafe {
            let mut unit = Unit::<C>::new(self.args, self.scratch);
            for u in self.from..self.to {
                unit.select(s, u / parts);
                let p = u % parts;
                s.vectorize(Partition { unit, p });
                for row in 0..unit.rows() {
                    let to = self.partials.add(unit.partial(row, p, parts));
                    copy(s, to, unit.state(unit.at.part, row), unit.dv() + LANES);
                }
            }
        }
    }
}

struct Merge<'a, C> {
    args: &'a AttentionArgs,
    filled: usize,
    from: usize,
    to: usize,
    partials: *const f32,
    scratch: *mut f32,
    cache: PhantomData<C>,
}

impl<C: Cache> Kernel for Merge<'_, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let parts = self.filled.div_ceil(PARTITION);
        // SAFETY: the caller's promise; all addresses in the scratch follow its layout.
        unsafe {
            let mut unit = Unit::<C>::new(self.args, self.scratch);
            for u in self.from..self.to {
                unit.select(s, u);
                unit.clear_total(s);
                for p in 0..parts {
                    for row in 0..unit.rows() {
                        let part = self.partials.add(unit.partial(row, p, parts));
                        merge(s, unit.state(unit.at.total, row), part, unit.dv());
                    }
                }
                unit.finish(s);
            }
        }
    }
}

#[cfg(test)]
mod tests;
