//! How packed blocks of 32 weights of each integer type become vectors: [`Format`], one small type a layout.
//!
//! A weight is `a·(q − zero)` ([`SCALE`]), `a·q + b` ([`MINIMUM`]), or `a·(q − zero)` with `a` for the first and `b` for the second 16
//! ([`HALVES`]). `zero` is `2^(BITS−1)`. Where the instruction set multiplies full bytes ([`Simd::SHIFTED`]), weights with a zero
//! are shifted up to eight bits, so that their zero is 128 and one stored activation sum serves all; the result is scaled
//! back by [`Format::result_scale`], a power of two.

use super::super::lanes::Simd;

/// One scale a block.
pub(super) const SCALE: u8 = 0;
/// A scale and an additive minimum a block.
pub(super) const MINIMUM: u8 = 1;
/// A scale for each half of a block.
pub(super) const HALVES: u8 = 2;

/// 16 rows of a block: eight quads of weights, and the factors (see [`Format::MODE`]).
#[derive(Clone, Copy)]
pub(super) struct Block<S: Simd> {
    pub q: [S::I; 8],
    pub a: S::F,
    pub b: S::F,
}

pub(super) trait Format: 'static {
    /// [`SCALE`], [`MINIMUM`] or [`HALVES`].
    const MODE: u8;
    /// Bits of a weight.
    const BITS: u32;
    /// Blocks in a group.
    const GROUP: usize;
    /// Bytes of a group.
    const GROUP_BYTES: usize;

    /// Block `j` of a group.
    ///
    /// # Safety
    /// `group` points to a whole group; `j < GROUP`.
    unsafe fn load<S: Simd>(s: S, group: *const u8, j: usize) -> Block<S>;

    /// What results are multiplied with at the end.
    #[inline(always)]
    fn result_scale<S: Simd>() -> f32 {
        if S::SHIFTED && Self::MODE != MINIMUM { 1.0 / (1 << (8 - Self::BITS)) as f32 } else { 1.0 }
    }
}

const LOW: i32 = 0x0f0f_0f0f;
const HIGH: i32 = 0xf0f0_f0f0u32 as i32;

/// Quads of four-bit weights as they are.
#[inline(always)]
unsafe fn nibbles<S: Simd>(s: S, p: *const u8) -> [S::I; 8] {
    let mut q = [s.splat_i(0); 8];
    for v in 0..4 {
        // SAFETY: the caller has 256 bytes at p.
        let w = unsafe { s.load_bytes(p.add(64 * v)) };
        q[v] = s.and(w, s.splat_i(LOW));
        q[v + 4] = s.and(s.shr::<4>(w), s.splat_i(LOW));
    }
    q
}

/// Quads of four-bit weights times 16.
#[inline(always)]
unsafe fn nibbles_high<S: Simd>(s: S, p: *const u8) -> [S::I; 8] {
    let mut q = [s.splat_i(0); 8];
    for v in 0..4 {
        // SAFETY: the caller has 256 bytes at p.
        let w = unsafe { s.load_bytes(p.add(64 * v)) };
        q[v] = s.and(s.shl::<4>(w), s.splat_i(HIGH));
        q[v + 4] = s.and(w, s.splat_i(HIGH));
    }
    q
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

/// Quads of five-bit weights: 256 bytes of nibbles, 64 of fifth bits.
#[inline(always)]
unsafe fn five_bits<S: Simd>(s: S, p: *const u8) -> [S::I; 8] {
    // SAFETY: the caller has 320 bytes at p.
    let (mut q, bits) = unsafe { (nibbles(s, p), s.load_bytes(p.add(256))) };
    for (i, q) in q.iter_mut().enumerate() {
        *q = s.or(*q, fifth(s, bits, i));
    }
    q
}

/// Weights through a table of bytes around 128.
#[inline(always)]
unsafe fn looked_up<S: Simd>(s: S, p: *const u8, table: &[u8; 16]) -> [S::I; 8] {
    // SAFETY: the caller has 256 bytes at p.
    let mut q = unsafe { nibbles(s, p) };
    for q in &mut q {
        *q = s.lookup(table, *q);
    }
    q
}

macro_rules! format {
    ($(#[$doc:meta])* $name:ident: $mode:ident, $bits:literal bits, $group:literal blocks in $bytes:expr;
     |$s:ident, $p:ident, $j:ident| $body:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Format for $name {
            const MODE: u8 = $mode;
            const BITS: u32 = $bits;
            const GROUP: usize = $group;
            const GROUP_BYTES: usize = $bytes;

            #[inline(always)]
            unsafe fn load<S: Simd>($s: S, $p: *const u8, $j: usize) -> Block<S> {
                // SAFETY: all addresses are within the group, whose layout stands in `packed`.
                unsafe { $body }
            }
        }
    };
}

format! {
    Q8_0: SCALE, 8 bits, 2 blocks in 1088;
    |s, p, j| {
        let mut q = [s.splat_i(0); 8];
        for (i, q) in q.iter_mut().enumerate() {
            *q = s.load_bytes(p.add(64 + 512 * j + 64 * i));
        }
        let a = s.load_f16(p.add(32 * j).cast());
        Block { q, a, b: a }
    }
}

format! {
    Q4_0: SCALE, 4 bits, 2 blocks in 576;
    |s, p, j| {
        let at = p.add(64 + 256 * j);
        let q = if S::SHIFTED { nibbles_high(s, at) } else { nibbles(s, at) };
        let a = s.load_f16(p.add(32 * j).cast());
        Block { q, a, b: a }
    }
}

format! {
    Q5_0: SCALE, 5 bits, 2 blocks in 704;
    |s, p, j| {
        let mut q = five_bits(s, p.add(64 + 320 * j));
        if S::SHIFTED {
            for q in &mut q {
                *q = s.shl::<3>(*q);
            }
        }
        let a = s.load_f16(p.add(32 * j).cast());
        Block { q, a, b: a }
    }
}

format! {
    Q4_1: MINIMUM, 4 bits, 1 blocks in 320;
    |s, p, _j| Block { q: nibbles(s, p.add(64)), a: s.load_f16(p.cast()), b: s.load_f16(p.add(32).cast()) }
}

format! {
    Q5_1: MINIMUM, 5 bits, 1 blocks in 384;
    |s, p, _j| Block { q: five_bits(s, p.add(64)), a: s.load_f16(p.cast()), b: s.load_f16(p.add(32).cast()) }
}

format! {
    Q4K: MINIMUM, 4 bits, 8 blocks in 2368;
    |s, p, j| {
        let a = s.mul(s.load_f16(p.cast()), s.load_u8(p.add(64 + 32 * j)));
        let b = s.mul(s.load_f16(p.add(32).cast()), s.load_u8(p.add(80 + 32 * j)));
        Block { q: nibbles(s, p.add(320 + 256 * j)), a, b }
    }
}

format! {
    Q5K: MINIMUM, 5 bits, 8 blocks in 2880;
    |s, p, j| {
        let a = s.mul(s.load_f16(p.cast()), s.load_u8(p.add(64 + 32 * j)));
        let b = s.mul(s.load_f16(p.add(32).cast()), s.load_u8(p.add(80 + 32 * j)));
        Block { q: five_bits(s, p.add(320 + 320 * j)), a, b }
    }
}

format! {
    Q6K: HALVES, 6 bits, 8 blocks in 3392;
    |s, p, j| {
        let at = p.add(320 + 384 * j);
        let mut q = nibbles(s, at);
        for u in 0..2 {
            let w = s.load_bytes(at.add(256 + 64 * u));
            let m = s.splat_i(0x3030_3030);
            let upper = [s.and(s.shl::<4>(w), m), s.and(s.shl::<2>(w), m), s.and(w, m), s.and(s.shr::<2>(w), m)];
            for i in 0..4 {
                q[4 * u + i] = s.or(q[4 * u + i], upper[i]);
                if S::SHIFTED {
                    q[4 * u + i] = s.shl::<2>(q[4 * u + i]);
                }
            }
        }
        let d = s.load_f16(p.cast());
        let scales = p.add(64 + 32 * j);
        Block { q, a: s.mul(d, s.load_i8(scales)), b: s.mul(d, s.load_i8(scales.add(16))) }
    }
}

/// The values of iq4_nl and iq4_xs (−127, −104, −83, −65, −49, −35, −22, −10, 1, 13, 25, 38, 53, 69, 89, 113), plus 128.
const NON_LINEAR: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];
/// Twice the values of E2M1 (0, ½, 1, 1½, 2, 3, 4, 6 and their negatives), plus 128.
const E2M1: [u8; 16] = [128, 129, 130, 131, 132, 134, 136, 140, 128, 127, 126, 125, 124, 122, 120, 116];

format! {
    Iq4Nl: SCALE, 8 bits, 2 blocks in 576;
    |s, p, j| {
        let a = s.load_f16(p.add(32 * j).cast());
        Block { q: looked_up(s, p.add(64 + 256 * j), &NON_LINEAR), a, b: a }
    }
}

format! {
    Iq4Xs: SCALE, 8 bits, 8 blocks in 2240;
    |s, p, j| {
        let a = s.mul(s.load_f16(p.cast()), s.load_i8(p.add(64 + 16 * j)));
        Block { q: looked_up(s, p.add(192 + 256 * j), &NON_LINEAR), a, b: a }
    }
}

format! {
    Mxfp4: SCALE, 8 bits, 4 blocks in 1088;
    |s, p, j| {
        // The table holds doubled values, so the scale 2^(e − 127) is halved.
        let exponent = s.sub(s.load_u8(p.add(16 * j)), s.splat(128.0));
        let a = s.scale2(s.splat(1.0), exponent);
        Block { q: looked_up(s, p.add(64 + 256 * j), &E2M1), a, b: a }
    }
}

/// Unpacked blocks: eight quads, the factor `a`, and unless the mode is [`SCALE`] the factor `b`. A panel is unpacked once for
/// many tokens.
pub(super) struct Tile<const MODE: u8, const BITS: u32>;

/// Bytes of an unpacked block; room for both factors whatever the mode.
pub(super) const TILE_BLOCK: usize = 640;

impl<const MODE: u8, const BITS: u32> Format for Tile<MODE, BITS> {
    const MODE: u8 = MODE;
    const BITS: u32 = BITS;
    const GROUP: usize = 1;
    const GROUP_BYTES: usize = TILE_BLOCK;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u8, _j: usize) -> Block<S> {
        let mut q = [s.splat_i(0); 8];
        // SAFETY: a group is TILE_BLOCK bytes.
        unsafe {
            for (i, q) in q.iter_mut().enumerate() {
                *q = s.load_bytes(p.add(64 * i));
            }
            let a = s.load(p.add(512).cast());
            Block { q, a, b: if MODE == SCALE { a } else { s.load(p.add(576).cast()) } }
        }
    }
}

impl<S: Simd> Block<S> {
    /// Writes the block as [`Tile`] reads it.
    ///
    /// # Safety
    /// [`TILE_BLOCK`] bytes are writable at `p`.
    #[inline(always)]
    pub(super) unsafe fn store_tile(&self, s: S, p: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            for (i, &q) in self.q.iter().enumerate() {
                s.store_bytes(p.add(64 * i), q);
            }
            s.store(p.add(512).cast(), self.a);
            s.store(p.add(576).cast(), self.b);
        }
    }
}
