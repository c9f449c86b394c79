//! Formats below four bits, and nvfp4. Packed layouts stand in `packed::low_bits`.

use super::super::lanes::Simd;
use super::formats::{format, *};

/// Quad `i` of two-bit weights, at the low end of their bytes.
#[inline(always)]
unsafe fn pair<S: Simd>(s: S, p: *const u8, i: usize) -> S::I {
    // SAFETY: the caller has 128 bytes at p.
    let w = unsafe { s.load_bytes(p.add(64 * (i / 4))) };
    let at_0 = match i % 4 {
        0 => w,
        1 => s.shr::<2>(w),
        2 => s.shr::<4>(w),
        _ => s.shr::<6>(w),
    };
    s.and(at_0, s.splat_i(0x0303_0303))
}

/// Quad `i` of two-bit weights with a zero: as it is, or times 64 where weights are shifted up.
#[inline(always)]
unsafe fn pair_around_zero<S: Simd>(s: S, p: *const u8, i: usize) -> S::I {
    if !S::SHIFTED {
        // SAFETY: the caller's promise.
        return unsafe { pair(s, p, i) };
    }
    // SAFETY: the caller has 128 bytes at p.
    let w = unsafe { s.load_bytes(p.add(64 * (i / 4))) };
    let at_6 = match i % 4 {
        0 => s.shl::<6>(w),
        1 => s.shl::<4>(w),
        2 => s.shl::<2>(w),
        _ => w,
    };
    s.and(at_6, s.splat_i(0xc0c0_c0c0u32 as i32))
}

/// Bit `i` of each byte of a plane, moved to bit `TO`.
#[inline(always)]
pub(super) fn plane<S: Simd, const TO: usize>(s: S, bits: S::I, i: usize) -> S::I {
    let moved = match TO as i32 - i as i32 {
        -7 => s.shr::<7>(bits),
        -6 => s.shr::<6>(bits),
        -5 => s.shr::<5>(bits),
        -4 => s.shr::<4>(bits),
        -3 => s.shr::<3>(bits),
        -2 => s.shr::<2>(bits),
        -1 => s.shr::<1>(bits),
        0 => bits,
        1 => s.shl::<1>(bits),
        2 => s.shl::<2>(bits),
        3 => s.shl::<3>(bits),
        4 => s.shl::<4>(bits),
        5 => s.shl::<5>(bits),
        6 => s.shl::<6>(bits),
        _ => s.shl::<7>(bits),
    };
    s.and(moved, s.splat_i((0x0101_0101u32 << TO) as i32))
}

/// The low and the high four bits of 16 bytes, as floats.
///
/// # Safety
/// 16 bytes are readable at `p`.
#[inline(always)]
pub(super) unsafe fn nibble_floats<S: Simd>(s: S, p: *const u8) -> [S::F; 2] {
    // SAFETY: the caller's promise.
    let byte = unsafe { s.load_u8(p) };
    // byte/16 − 15/32 is within 15/32 of the high part.
    let high = s.round(s.fma(byte, s.splat(1.0 / 16.0), s.splat(-15.0 / 32.0)));
    [s.fma(high, s.splat(-16.0), byte), high]
}

/// Two bits with a minimum for each half.
pub(super) struct Q2K;

impl Format for Q2K {
    const MODE: u8 = HALF_MINIMUMS;
    const BITS: u32 = 4;
    const GROUP: usize = 8;
    const GROUP_BYTES: usize = 1344;

    #[inline(always)]
    unsafe fn quad<S: Simd>(s: S, p: *const u8, j: usize, i: usize, _room: *const u8) -> S::I {
        // SAFETY: all addresses are within the group, whose layout stands in `packed::low_bits`.
        unsafe { pair(s, p.add(320 + 128 * j), i) }
    }

    #[inline(always)]
    unsafe fn factors<S: Simd>(s: S, p: *const u8, j: usize) -> [S::F; 2] {
        // SAFETY: as above.
        unsafe {
            let (d, scales) = (s.load_f16(p.cast()), p.add(64 + 32 * j));
            let (first, second) = (nibble_floats(s, scales), nibble_floats(s, scales.add(16)));
            [s.mul(d, first[0]), s.mul(d, second[0])]
        }
    }

    #[inline(always)]
    unsafe fn minimums<S: Simd>(s: S, p: *const u8, j: usize) -> [S::F; 2] {
        // SAFETY: as above.
        unsafe {
            let (d, scales) = (s.load_f16(p.add(32).cast()), p.add(64 + 32 * j));
            let (first, second) = (nibble_floats(s, scales), nibble_floats(s, scales.add(16)));
            [s.mul(d, first[1]), s.mul(d, second[1])]
        }
    }
}

format! {
    Q3K: HALVES, 3 bits, 8 blocks in 1856;
    quad |s, p, j, i| {
        let at = p.add(320 + 192 * j);
        let q = s.or(pair(s, at, i), plane::<S, 2>(s, s.load_bytes(at.add(128)), i));
        if S::SHIFTED { s.shl::<5>(q) } else { q }
    };
    factors |s, p, j| {
        let d = s.load_f16(p.cast());
        let scales = p.add(64 + 32 * j);
        [s.mul(d, s.load_i8(scales)), s.mul(d, s.load_i8(scales.add(16)))]
    }
}

format! {
    /// tq1_0 and tq2_0.
    Ternary: SCALE, 2 bits, 8 blocks in 1088;
    quad |s, p, j, i| pair_around_zero(s, p.add(64 + 128 * j), i);
    factors |s, p, _j| [s.load_f16(p.cast()); 2]
}

format! {
    Q2_0: SCALE, 2 bits, 4 blocks in 576;
    quad |s, p, j, i| pair_around_zero(s, p.add(64 + 128 * j), i);
    factors |s, p, j| [s.load_f16(p.add(32 * (j / 2)).cast()); 2]
}

format! {
    /// A bit is 1 or 3, of which the zero is 2.
    Q1_0: SCALE, 2 bits, 8 blocks in 576;
    quad |s, p, j, i| {
        let bits = s.load_bytes(p.add(64 + 64 * j));
        if S::SHIFTED {
            s.or(plane::<S, 7>(s, bits, i), s.splat_i(0x4040_4040))
        } else {
            s.or(plane::<S, 1>(s, bits, i), s.splat_i(0x0101_0101))
        }
    };
    factors |s, p, j| [s.load_f16(p.add(32 * (j / 4)).cast()); 2]
}

/// Twice the values of E2M1 (0, ½, 1, 1½, 2, 3, 4, 6 and their negatives), plus 16.
const E2M1: [u8; 16] = [16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4];
const E2M1_SHIFTED: [u8; 16] = shifted(&E2M1, 5);

/// A table for weights of `bits` bits, shifted up to eight.
pub(super) const fn shifted(table: &[u8; 16], bits: u32) -> [u8; 16] {
    let mut out = [0; 16];
    let mut i = 0;
    while i < 16 {
        out[i] = table[i] << (8 - bits);
        i += 1;
    }
    out
}

format! {
    Nvfp4: HALVES, 5 bits, 2 blocks in 576;
    quad |s, p, j, i| {
        s.lookup(if S::SHIFTED { &E2M1_SHIFTED } else { &E2M1 }, nibble(s, p.add(64 + 256 * j), i))
    };
    factors |s, p, j| [half_ue4m3(s, p.add(32 * j)), half_ue4m3(s, p.add(32 * j + 16))]
}

/// Half of 16 UE4M3 numbers without sign and NaN.
#[inline(always)]
unsafe fn half_ue4m3<S: Simd>(s: S, p: *const u8) -> S::F {
    // The exponent and fraction as those of an f32, which is then 2^119 times too small (subnormal numbers included).
    // SAFETY: the caller has 16 bytes at p.
    let bits = s.shl::<20>(s.to_i(unsafe { s.load_u8(p) }));
    s.mul(s.from_bits(bits), s.splat(f32::from_bits((119 + 127) << 23)))
}
