//! How packed blocks of 32 weights of each integer type become vectors: [`Format`], one small type a layout.
//!
//! A weight is `a·(q − zero)` ([`SCALE`]), `a·q + b` ([`MINIMUM`]), `a·(q − zero)` with `a` for the first and `b` for the second 16
//! ([`HALVES`]), or `a·q + m₀` and `b·q + m₁` for the halves ([`HALF_MINIMUMS`]). `zero` is `2^(BITS−1)`. Where the instruction set multiplies full bytes ([`Simd::SHIFTED`]), weights with a zero
//! are shifted up to eight bits, so that their zero is 128 and one stored activation sum serves all; the result is scaled
//! back by [`Format::result_scale`], a power of two.

use super::super::lanes::{Quads, Simd};
use crate::tensor::DType;
use std::marker::PhantomData;

/// One scale a block.
pub(super) const SCALE: u8 = 0;
/// A scale and an additive minimum a block.
pub(super) const MINIMUM: u8 = 1;
/// A scale for each half of a block.
pub(super) const HALVES: u8 = 2;
/// A scale and an additive minimum for each half of a block.
pub(super) const HALF_MINIMUMS: u8 = 3;

pub(super) trait Format: 'static {
    /// [`SCALE`], [`MINIMUM`], [`HALVES`] or [`HALF_MINIMUMS`].
    const MODE: u8;
    /// Bits of a weight.
    const BITS: u32;
    /// Blocks in a group.
    const GROUP: usize;
    /// Bytes of a group.
    const GROUP_BYTES: usize;
    /// Whether quads are loaded alike ([`Quads::UNIFORM`]).
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    const UNIFORM: bool = false;

    /// What is to be done once before quads of a group are loaded: what it writes into the room, `quad` gets.
    ///
    /// # Safety
    /// `group` points to a whole group, `room` to [`ROOM`] bytes.
    #[inline(always)]
    unsafe fn open<S: Simd>(_s: S, _group: *const u8, _room: *mut u8) {}

    /// Quad `i` of block `j` of a group.
    ///
    /// # Safety
    /// `group` points to a whole group that was opened into this room; `j < GROUP`, `i < 8`.
    unsafe fn quad<S: Simd>(s: S, group: *const u8, j: usize, i: usize, room: *const u8) -> S::I;

    /// The factors `a` and `b` of block `j` of a group; `b` is not used if the mode is [`SCALE`].
    ///
    /// # Safety
    /// `group` points to a whole group; `j < GROUP`.
    unsafe fn factors<S: Simd>(s: S, group: *const u8, j: usize) -> [S::F; 2];

    /// The minimums of the halves of block `j`, with [`HALF_MINIMUMS`].
    ///
    /// # Safety
    /// As for `factors`.
    #[inline(always)]
    unsafe fn minimums<S: Simd>(s: S, _group: *const u8, _j: usize) -> [S::F; 2] {
        [s.splat(0.0); 2]
    }

    /// What results are multiplied with at the end.
    #[inline(always)]
    fn result_scale<S: Simd>() -> f32 {
        if S::SHIFTED && matches!(Self::MODE, SCALE | HALVES) { 1.0 / (1 << (8 - Self::BITS)) as f32 } else { 1.0 }
    }
}

/// Bytes that [`Format::open`] may write: 256 weights of 16 rows.
pub(super) const ROOM: usize = 4096;

/// The room of a kernel.
#[repr(C, align(64))]
pub(super) struct Room(std::mem::MaybeUninit<[u8; ROOM]>);

impl Room {
    #[inline(always)]
    pub(super) fn new() -> Room {
        Room(std::mem::MaybeUninit::uninit())
    }

    #[inline(always)]
    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// The quads of 16 rows of a block, loaded when they are asked for.
pub(super) struct Block<F> {
    pub group: *const u8,
    /// Which block of the group.
    pub j: usize,
    /// The room into which the group was opened.
    pub room: *const u8,
    pub format: PhantomData<F>,
}

impl<F> Clone for Block<F> {
    fn clone(&self) -> Block<F> {
        *self
    }
}

impl<F> Copy for Block<F> {}

impl<S: Simd, F: Format> Quads<S> for Block<F> {
    const UNIFORM: bool = F::UNIFORM;

    #[inline(always)]
    unsafe fn quad(&self, s: S, i: usize) -> S::I {
        // SAFETY: who makes a block has its group; the caller's promise.
        unsafe { F::quad(s, self.group, self.j, i, self.room) }
    }
}

const LOW: i32 = 0x0f0f_0f0f;
const HIGH: i32 = 0xf0f0_f0f0u32 as i32;

/// Quad `i` of four-bit weights as they are.
///
/// # Safety
/// 256 bytes are readable at `p`.
#[inline(always)]
pub(super) unsafe fn nibble<S: Simd>(s: S, p: *const u8, i: usize) -> S::I {
    // SAFETY: the caller has 256 bytes at p.
    let w = unsafe { s.load_bytes(p.add(64 * (i % 4))) };
    s.and(if i < 4 { w } else { s.shr::<4>(w) }, s.splat_i(LOW))
}

/// Quad `i` of four-bit weights times 16.
#[inline(always)]
unsafe fn nibble_high<S: Simd>(s: S, p: *const u8, i: usize) -> S::I {
    // SAFETY: the caller has 256 bytes at p.
    let w = unsafe { s.load_bytes(p.add(64 * (i % 4))) };
    s.and(if i < 4 { s.shl::<4>(w) } else { w }, s.splat_i(HIGH))
}

/// Quad `i` of the vector of fifth bits, at bit 4 of each byte.
#[inline(always)]
fn fifth<S: Simd>(s: S, bits: S::I, i: usize) -> S::I {
    let at_4 = match i {
        0 => s.shl::<4>(bits),
        1 => s.shl::<3>(bits),
        2 => s.shl::<2>(bits),
        3 => s.shl::<1>(bits),
        4 => bits,
        5 => s.shr::<1>(bits),
        6 => s.shr::<2>(bits),
        _ => s.shr::<3>(bits),
    };
    s.and(at_4, s.splat_i(0x1010_1010))
}

/// Quad `i` of five-bit weights: 256 bytes of nibbles, 64 of fifth bits.
#[inline(always)]
unsafe fn five_bits<S: Simd>(s: S, p: *const u8, i: usize) -> S::I {
    // SAFETY: the caller has 320 bytes at p.
    unsafe { s.or(nibble(s, p, i), fifth(s, s.load_bytes(p.add(256)), i)) }
}

/// Quad `i` of six-bit weights: 256 bytes of nibbles, two vectors of upper bits.
#[inline(always)]
unsafe fn six_bits<S: Simd>(s: S, p: *const u8, i: usize) -> S::I {
    // SAFETY: the caller has 384 bytes at p.
    let (low, w) = unsafe { (nibble(s, p, i), s.load_bytes(p.add(256 + 64 * (i / 4)))) };
    let at_4 = match i % 4 {
        0 => s.shl::<4>(w),
        1 => s.shl::<2>(w),
        2 => w,
        _ => s.shr::<2>(w),
    };
    s.or(low, s.and(at_4, s.splat_i(0x3030_3030)))
}

macro_rules! format {
    ($(#[$doc:meta])* $name:ident: $mode:ident, $bits:literal bits, $group:literal blocks in $bytes:expr;
     quad |$s:ident, $p:ident, $j:ident, $i:ident| $quad:expr;
     factors |$fs:ident, $fp:ident, $fj:ident| $factors:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Format for $name {
            const MODE: u8 = $mode;
            const BITS: u32 = $bits;
            const GROUP: usize = $group;
            const GROUP_BYTES: usize = $bytes;

            #[inline(always)]
            unsafe fn quad<S: Simd>($s: S, $p: *const u8, $j: usize, $i: usize, _room: *const u8) -> S::I {
                // SAFETY: all addresses are within the group, whose layout stands in `packed`.
                unsafe { $quad }
            }

            #[inline(always)]
            unsafe fn factors<S: Simd>($fs: S, $fp: *const u8, $fj: usize) -> [S::F; 2] {
                // SAFETY: all addresses are within the group, whose layout stands in `packed`.
                unsafe { $factors }
            }
        }
    };
}
pub(super) use format;

format! {
    Q8_0: SCALE, 8 bits, 2 blocks in 1088;
    quad |s, p, j, i| s.load_bytes(p.add(64 + 512 * j + 64 * i));
    factors |s, p, j| [s.load_f16(p.add(32 * j).cast()); 2]
}

format! {
    Q4_0: SCALE, 4 bits, 2 blocks in 576;
    quad |s, p, j, i| {
        let at = p.add(64 + 256 * j);
        if S::SHIFTED { nibble_high(s, at, i) } else { nibble(s, at, i) }
    };
    factors |s, p, j| [s.load_f16(p.add(32 * j).cast()); 2]
}

format! {
    Q5_0: SCALE, 5 bits, 2 blocks in 704;
    quad |s, p, j, i| {
        let q = five_bits(s, p.add(64 + 320 * j), i);
        if S::SHIFTED { s.shl::<3>(q) } else { q }
    };
    factors |s, p, j| [s.load_f16(p.add(32 * j).cast()); 2]
}

format! {
    Q4_1: MINIMUM, 4 bits, 1 blocks in 320;
    quad |s, p, _j, i| nibble(s, p.add(64), i);
    factors |s, p, _j| [s.load_f16(p.cast()), s.load_f16(p.add(32).cast())]
}

format! {
    Q5_1: MINIMUM, 5 bits, 1 blocks in 384;
    quad |s, p, _j, i| five_bits(s, p.add(64), i);
    factors |s, p, _j| [s.load_f16(p.cast()), s.load_f16(p.add(32).cast())]
}

/// Factors of q4_K and q5_K.
#[inline(always)]
unsafe fn k_factors<S: Simd>(s: S, p: *const u8, j: usize) -> [S::F; 2] {
    // SAFETY: the caller has a group at p, which begins with its factors.
    unsafe {
        [
            s.mul(s.load_f16(p.cast()), s.load_u8(p.add(64 + 32 * j))),
            s.mul(s.load_f16(p.add(32).cast()), s.load_u8(p.add(80 + 32 * j))),
        ]
    }
}

format! {
    Q4K: MINIMUM, 4 bits, 8 blocks in 2368;
    quad |s, p, j, i| nibble(s, p.add(320 + 256 * j), i);
    factors |s, p, j| k_factors(s, p, j)
}

format! {
    Q5K: MINIMUM, 5 bits, 8 blocks in 2880;
    quad |s, p, j, i| five_bits(s, p.add(320 + 320 * j), i);
    factors |s, p, j| k_factors(s, p, j)
}

format! {
    Q6K: HALVES, 6 bits, 8 blocks in 3392;
    quad |s, p, j, i| {
        let q = six_bits(s, p.add(320 + 384 * j), i);
        if S::SHIFTED { s.shl::<2>(q) } else { q }
    };
    factors |s, p, j| {
        let d = s.load_f16(p.cast());
        let scales = p.add(64 + 32 * j);
        [s.mul(d, s.load_i8(scales)), s.mul(d, s.load_i8(scales.add(16)))]
    }
}

/// The values of iq4_nl and iq4_xs (−127, −104, −83, −65, −49, −35, −22, −10, 1, 13, 25, 38, 53, 69, 89, 113), plus 128.
const NON_LINEAR: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];
/// Twice the values of E2M1 (0, ½, 1, 1½, 2, 3, 4, 6 and their negatives), plus 128.
const E2M1: [u8; 16] = [128, 129, 130, 131, 132, 134, 136, 140, 128, 127, 126, 125, 124, 122, 120, 116];
/// The same, plus 16.
const E2M1_5: [u8; 16] = [16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4];

format! {
    Iq4Nl: SCALE, 8 bits, 2 blocks in 576;
    quad |s, p, j, i| s.lookup(&NON_LINEAR, nibble(s, p.add(64 + 256 * j), i));
    factors |s, p, j| [s.load_f16(p.add(32 * j).cast()); 2]
}

format! {
    Iq4Xs: SCALE, 8 bits, 8 blocks in 2240;
    quad |s, p, j, i| s.lookup(&NON_LINEAR, nibble(s, p.add(192 + 256 * j), i));
    factors |s, p, j| [s.mul(s.load_f16(p.cast()), s.load_i8(p.add(64 + 16 * j))); 2]
}

/// Factors of mxfp4. The tables hold doubled values, so these are 2^(e − 128), of which e = 0 and 1 make subnormal numbers: the
/// bits are those of ggml's `e8m0_to_fp32_half`, of two formulas the larger.
#[inline(always)]
unsafe fn mx_factors<S: Simd>(s: S, p: *const u8, j: usize) -> [S::F; 2] {
    // SAFETY: the caller has a group at p, which begins with its exponents.
    let e = unsafe { s.load_u8_i(p.add(16 * j)) };
    let normal = s.add_i(s.shl::<23>(e), s.splat_i(-0x0080_0000));
    let subnormal = s.add_i(s.shl::<21>(e), s.splat_i(0x0020_0000));
    [s.from_bits(s.max_i(normal, subnormal)); 2]
}

format! {
    Mxfp4: SCALE, 8 bits, 4 blocks in 1088;
    quad |s, p, j, i| s.lookup(&E2M1, nibble(s, p.add(64 + 256 * j), i));
    factors |s, p, j| mx_factors(s, p, j)
}

format! {
    /// Mxfp4 for levels whose dot products are faster for fewer bits.
    Mxfp4Narrow: SCALE, 5 bits, 4 blocks in 1088;
    quad |s, p, j, i| s.lookup(&E2M1_5, nibble(s, p.add(64 + 256 * j), i));
    factors |s, p, j| mx_factors(s, p, j)
}

/// Unpacked blocks: eight quads, the factor `a`, unless the mode is [`SCALE`] the factor `b`, and with [`HALF_MINIMUMS`] two
/// minimums. A panel is unpacked once for many tokens.
pub(super) struct Tile<const MODE: u8, const BITS: u32>;

/// Bytes of an unpacked block; room for both factors whatever the mode.
pub(super) const fn tile_block(mode: u8) -> usize {
    if mode == HALF_MINIMUMS { 768 } else { 640 }
}

/// [`tile_block`] of a type.
pub(super) const fn tile_block_of(dtype: DType) -> usize {
    tile_block(if matches!(dtype, DType::Q2K) { HALF_MINIMUMS } else { SCALE })
}

impl<const MODE: u8, const BITS: u32> Format for Tile<MODE, BITS> {
    const MODE: u8 = MODE;
    const BITS: u32 = BITS;
    const GROUP: usize = 1;
    const GROUP_BYTES: usize = tile_block(MODE);
    const UNIFORM: bool = true;

    #[inline(always)]
    unsafe fn quad<S: Simd>(s: S, p: *const u8, _j: usize, i: usize, _room: *const u8) -> S::I {
        // SAFETY: a group is `tile_block` bytes.
        unsafe { s.load_bytes(p.add(64 * i)) }
    }

    #[inline(always)]
    unsafe fn factors<S: Simd>(s: S, p: *const u8, _j: usize) -> [S::F; 2] {
        // SAFETY: a group is `tile_block` bytes.
        unsafe {
            let a = s.load(p.add(512).cast());
            [a, if MODE == SCALE { a } else { s.load(p.add(576).cast()) }]
        }
    }

    #[inline(always)]
    unsafe fn minimums<S: Simd>(s: S, p: *const u8, _j: usize) -> [S::F; 2] {
        // SAFETY: a group of this mode is 768 bytes.
        unsafe { [s.load(p.add(640).cast()), s.load(p.add(704).cast())] }
    }
}

/// Writes block `j` of a group as [`Tile`] reads it.
///
/// # Safety
/// `group` points to a whole group that was opened into `room`, `j < GROUP`; [`tile_block`] bytes are writable at `tile`.
#[inline(always)]
pub(super) unsafe fn unpack<S: Simd, F: Format>(s: S, group: *const u8, j: usize, room: *const u8, tile: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        for i in 0..8 {
            s.store_bytes(tile.add(64 * i), F::quad(s, group, j, i, room));
        }
        let [a, b] = F::factors(s, group, j);
        s.store(tile.add(512).cast(), a);
        s.store(tile.add(576).cast(), b);
        if F::MODE == HALF_MINIMUMS {
            let [first, second] = F::minimums(s, group, j);
            s.store(tile.add(640).cast(), first);
            s.store(tile.add(704).cast(), second);
        }
    }
}
