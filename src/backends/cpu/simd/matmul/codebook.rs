//! Formats whose weights stand in a codebook of 4 or 8 values an entry.
//!
//! **Arithmetic.** A block of 16 rows × 32 weights has 64 entries of 8 weights (128 of 4). Each costs its number out of the
//! stream, a load from the table and one 4-byte store a quad: about 340 instructions, against 16 · 8 vector instructions for
//! signs, table of values and dot product, and about 1000 scalar ones for dequantizing to f32. The table holds not values but *level
//! numbers* of up to three bits a weight, so that one `or` of the sign (bit 3) and one byte lookup make the signed value, its
//! zero included. Values fit seven bits around 64 (iq2, iq3_xxs) or five bits around 16 (iq3_s, iq1), for which
//! AVX2 has cheaper dot products than for eight.
//!
//! Entries of a whole group of 256 columns are copied before the first is used, as a vector load that meets the bytes of several
//! recent stores would wait for them.

use super::super::lanes::{Kernel, Simd};
use super::formats::*;
use super::low_bits::{nibble_floats, plane, shifted};
use crate::tensor::quant::grids;

/// Level numbers of the entries of a codebook of eight values, for two quads.
const fn levels8<const N: usize>(grid: &[[u8; 8]; N]) -> [[u32; 2]; N] {
    let mut out = [[0; 2]; N];
    let mut n = 0;
    while n < N {
        let mut i = 0;
        while i < 8 {
            let level = match grid[n][i] {
                8 => 0,
                25 => 1,
                _ => 2,
            };
            out[n][i / 4] |= level << (8 * (i % 4));
            i += 1;
        }
        n += 1;
    }
    out
}

/// Level numbers of a codebook of four values, which are a multiple of `step` above the first.
const fn levels4<const N: usize>(grid: &[[u8; 4]; N], step: u8) -> [u32; N] {
    let mut out = [0; N];
    let mut n = 0;
    while n < N {
        let mut i = 0;
        while i < 4 {
            out[n] |= ((grid[n][i] / step) as u32) << (8 * i);
            i += 1;
        }
        n += 1;
    }
    out
}

/// The ternary codebook: −1, 0, 1 are levels 0, 1, 2.
const fn levels_ternary<const N: usize>(grid: &[[i8; 8]; N]) -> [[u32; 2]; N] {
    let mut out = [[0; 2]; N];
    let mut n = 0;
    while n < N {
        let mut i = 0;
        while i < 8 {
            out[n][i / 4] |= ((grid[n][i] + 1) as u32) << (8 * (i % 4));
            i += 1;
        }
        n += 1;
    }
    out
}

static IQ2_XXS: [[u32; 2]; 256] = levels8(&grids::IQ2_XXS_GRID);
static IQ2_XS: [[u32; 2]; 512] = levels8(&grids::IQ2_XS_GRID);
static IQ2_S: [[u32; 2]; 1024] = levels8(&grids::IQ2_S_GRID);
/// 4, 12, … 52, and 62.
static IQ3_XXS: [u32; 256] = levels4(&grids::IQ3_XXS_GRID, 8);
/// 1, 3, … 15.
static IQ3_S: [u32; 512] = levels4(&grids::IQ3_S_GRID, 2);
static IQ1: [[u32; 2]; 2048] = levels_ternary(&grids::IQ1_S_GRID);

/// Values of levels, those with bit 3 negative, around `zero`.
const fn signed(magnitudes: [u8; 8], zero: u8) -> [u8; 16] {
    let mut table = [zero; 16];
    let mut i = 0;
    while i < 8 {
        table[i] = zero + magnitudes[i];
        table[8 + i] = zero - magnitudes[i];
        i += 1;
    }
    table
}

/// A table of values as it is, and shifted up to eight bits.
struct Values([u8; 16], [u8; 16]);

impl Values {
    const fn new(table: [u8; 16], bits: u32) -> Values {
        Values(table, shifted(&table, bits))
    }

    #[inline(always)]
    fn of<S: Simd>(&self) -> &[u8; 16] {
        if S::SHIFTED { &self.1 } else { &self.0 }
    }
}

static IQ2_VALUES: Values = Values::new(signed([8, 25, 43, 0, 0, 0, 0, 0], 64), 7);
static IQ3_XXS_VALUES: Values = Values::new(signed([4, 12, 20, 28, 36, 44, 52, 62], 64), 7);
static IQ3_S_VALUES: Values = Values::new(signed([1, 3, 5, 7, 9, 11, 13, 15], 16), 5);
/// Eight times the ternary values, plus 1, or minus 1 where bit 2 is set; around 16.
static IQ1_VALUES: Values = Values::new([9, 17, 25, 16, 7, 15, 23, 16, 0, 0, 0, 0, 0, 0, 0, 0], 5);

/// Codebook numbers in a group's stream.
trait Entries: 'static {
    /// Writes the level numbers of row `r` of block `j`: one u32 a quad, 64 bytes apart from `to` on.
    ///
    /// # Safety
    /// `group` points to a group, `j < 8`, `r < 16`; eight quads are writable.
    unsafe fn copy(group: *const u8, j: usize, r: usize, to: *mut u8);
}

/// Copies the level numbers of a group.
struct Open<E> {
    group: *const u8,
    room: *mut u8,
    entries: std::marker::PhantomData<E>,
}

impl<E: Entries> Kernel for Open<E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, _: S) {
        for j in 0..8 {
            for r in 0..16 {
                // SAFETY: the group has 8 blocks of 16 rows, the room 8 · 512 bytes.
                unsafe { E::copy(self.group, j, r, self.room.add(512 * j + 4 * r)) }
            }
        }
    }
}

/// An entry of eight weights, number `e` of its block.
#[inline(always)]
unsafe fn put8([first, second]: [u32; 2], e: usize, to: *mut u8) {
    // SAFETY: the caller has eight quads at `to`, e < 4.
    unsafe {
        to.add(128 * e).cast::<u32>().write_unaligned(first);
        to.add(128 * e + 64).cast::<u32>().write_unaligned(second);
    }
}

/// Quad `i` of weights: the values of the levels at `levels`, with the signs of a plane if there are signs.
#[inline(always)]
unsafe fn value<S: Simd>(s: S, levels: *const u8, signs: Option<*const u8>, i: usize, values: &Values) -> S::I {
    // SAFETY: the caller has 64 bytes at each.
    unsafe {
        let levels = s.load_bytes(levels);
        let index = match signs {
            Some(signs) => s.or(levels, plane::<S, 3>(s, s.load_bytes(signs), i)),
            None => levels,
        };
        s.lookup(values.of::<S>(), index)
    }
}

/// `d·unit·(n + add)`; exact, as `d` has 11 bits and `n` four.
#[inline(always)]
fn scale<S: Simd>(s: S, d: S::F, unit: f32, n: S::F, add: f32) -> S::F {
    s.mul(s.mul(d, s.splat(unit)), s.add(n, s.splat(add)))
}

macro_rules! codebook {
    ($(#[$doc:meta])* $name:ident: $mode:ident, $bits:literal bits, $bytes:literal bytes;
     |$group:ident, $block:ident, $r:ident, $to:ident| $copy:expr;
     signs |$sp:ident, $sj:ident| $signs:expr, $values:ident;
     factors |$s:ident, $p:ident, $j:ident| $factors:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Entries for $name {
            #[inline(always)]
            unsafe fn copy($group: *const u8, $block: usize, $r: usize, $to: *mut u8) {
                // SAFETY: all addresses are within the group, whose layout stands in `packed::low_bits`, and the quads.
                unsafe { $copy }
            }
        }

        impl Format for $name {
            const MODE: u8 = $mode;
            const BITS: u32 = $bits;
            const GROUP: usize = 8;
            const GROUP_BYTES: usize = $bytes;

            #[inline(always)]
            unsafe fn open<S: Simd>(s: S, group: *const u8, room: *mut u8) {
                // SAFETY: the caller's promise.
                unsafe { s.vectorize(Open::<$name> { group, room, entries: std::marker::PhantomData }) }
            }

            #[inline(always)]
            unsafe fn quad<S: Simd>(s: S, $sp: *const u8, $sj: usize, i: usize, room: *const u8) -> S::I {
                // SAFETY: as above, and the group was opened.
                unsafe { value(s, room.add(512 * $sj + 64 * i), $signs, i, &$values) }
            }

            #[inline(always)]
            unsafe fn factors<S: Simd>($s: S, $p: *const u8, $j: usize) -> [S::F; 2] {
                // SAFETY: as above.
                unsafe { $factors }
            }
        }
    };
}

codebook! {
    Iq2Xxs: SCALE, 7 bits, 1120 bytes;
    |group, j, r, to| {
        let entries = group.add(96 + 64 * j + 4 * r).cast::<[u8; 4]>().read();
        for (e, entry) in entries.into_iter().enumerate() {
            put8(IQ2_XXS[usize::from(entry)], e, to);
        }
    };
    signs |p, j| Some(p.add(608 + 64 * j)), IQ2_VALUES;
    factors |s, p, j| {
        let n = nibble_floats(s, p.add(32 + 16 * (j / 2)))[j % 2];
        let a = scale(s, s.load_f16(p.cast()), 0.25, n, 0.5);
        [a; 2]
    }
}

codebook! {
    Iq2Xs: HALVES, 7 bits, 1248 bytes;
    |group, j, r, to| {
        let high = usize::from(*group.add(160 + 16 * (j / 2) + r) >> (j % 2 * 4));
        let entries = group.add(224 + 64 * j + 4 * r).cast::<[u8; 4]>().read();
        for (e, entry) in entries.into_iter().enumerate() {
            put8(IQ2_XS[usize::from(entry) | (high >> e & 1) << 8], e, to);
        }
    };
    signs |p, j| Some(p.add(736 + 64 * j)), IQ2_VALUES;
    factors |s, p, j| {
        let (d, n) = (s.load_f16(p.cast()), nibble_floats(s, p.add(32 + 16 * j)));
        [scale(s, d, 0.25, n[0], 0.5), scale(s, d, 0.25, n[1], 0.5)]
    }
}

codebook! {
    Iq2S: HALVES, 7 bits, 1312 bytes;
    |group, j, r, to| {
        let high = usize::from(*group.add(160 + 16 * j + r));
        let entries = group.add(288 + 64 * j + 4 * r).cast::<[u8; 4]>().read();
        for (e, entry) in entries.into_iter().enumerate() {
            put8(IQ2_S[usize::from(entry) | (high >> (2 * e) & 3) << 8], e, to);
        }
    };
    signs |p, j| Some(p.add(800 + 64 * j)), IQ2_VALUES;
    factors |s, p, j| {
        let (d, n) = (s.load_f16(p.cast()), nibble_floats(s, p.add(32 + 16 * j)));
        [scale(s, d, 0.25, n[0], 0.5), scale(s, d, 0.25, n[1], 0.5)]
    }
}

codebook! {
    Iq3Xxs: SCALE, 7 bits, 1632 bytes;
    |group, j, r, to| {
        let entries = group.add(96 + 128 * j + 8 * r).cast::<[u8; 8]>().read();
        for (i, entry) in entries.into_iter().enumerate() {
            to.add(64 * i).cast::<u32>().write_unaligned(IQ3_XXS[usize::from(entry)]);
        }
    };
    signs |p, j| Some(p.add(1120 + 64 * j)), IQ3_XXS_VALUES;
    factors |s, p, j| {
        let n = nibble_floats(s, p.add(32 + 16 * (j / 2)))[j % 2];
        let a = scale(s, s.load_f16(p.cast()), 0.5, n, 0.5);
        [a; 2]
    }
}

codebook! {
    Iq3S: SCALE, 5 bits, 1760 bytes;
    |group, j, r, to| {
        let high = usize::from(*group.add(96 + 16 * j + r));
        let entries = group.add(224 + 128 * j + 8 * r).cast::<[u8; 8]>().read();
        for (i, entry) in entries.into_iter().enumerate() {
            let entry = usize::from(entry) | (high >> i & 1) << 8;
            to.add(64 * i).cast::<u32>().write_unaligned(IQ3_S[entry]);
        }
    };
    signs |p, j| Some(p.add(1248 + 64 * j)), IQ3_S_VALUES;
    factors |s, p, j| {
        let n = nibble_floats(s, p.add(32 + 16 * (j / 2)))[j % 2];
        let a = scale(s, s.load_f16(p.cast()), 2.0, n, 0.5);
        [a; 2]
    }
}

/// Bit 2 of each of eight levels if the offset is negative.
#[inline(always)]
fn with_offset([first, second]: [u32; 2], minus: usize) -> [u32; 2] {
    let bits = minus as u32 * 0x0404_0404;
    [first | bits, second | bits]
}

codebook! {
    Iq1S: SCALE, 5 bits, 800 bytes;
    |group, j, r, to| {
        let (low, high) = (*group.add(32 + 16 * j + r), *group.add(160 + 16 * j + r));
        let qh = usize::from(low) | usize::from(high) << 8;
        let entries = group.add(288 + 64 * j + 4 * r).cast::<[u8; 4]>().read();
        for (e, entry) in entries.into_iter().enumerate() {
            let entry = usize::from(entry) | (qh >> (3 * e) & 7) << 8;
            put8(with_offset(IQ1[entry], qh >> 15), e, to);
        }
    };
    signs |_p, j| None, IQ1_VALUES;
    factors |s, p, j| {
        // The high half of the byte is the offset's sign and three bits of scale.
        let n = nibble_floats(s, p.add(160 + 16 * j))[1];
        let n = s.select_lt(n, s.splat(8.0), n, s.sub(n, s.splat(8.0)));
        let a = scale(s, s.load_f16(p.cast()), 0.25, n, 0.5);
        [a; 2]
    }
}

codebook! {
    Iq1M: HALVES, 5 bits, 928 bytes;
    |group, j, r, to| {
        let qh = usize::from(u16::from_le_bytes(group.add(160 + 32 * j + 2 * r).cast::<[u8; 2]>().read()));
        let entries = group.add(416 + 64 * j + 4 * r).cast::<[u8; 4]>().read();
        for (e, entry) in entries.into_iter().enumerate() {
            let high = qh >> (4 * e);
            put8(with_offset(IQ1[usize::from(entry) | (high & 7) << 8], high >> 3 & 1), e, to);
        }
    };
    signs |_p, j| None, IQ1_VALUES;
    factors |s, p, j| {
        let (d, n) = (s.load_f16(p.cast()), nibble_floats(s, p.add(32 + 16 * j)));
        [scale(s, d, 0.25, n[0], 0.5), scale(s, d, 0.25, n[1], 0.5)]
    }
}
