//! The small floats of the FP4 formats: E2M1 values, E8M0 and UE4M3 scales.
//!
//! ggml stores E2M1 values doubled, to have them as integers, and halves the scales instead.

/// Twice the E2M1 value of each code: bit 3 is the sign, bits 2..1 the exponent, bit 0 the fraction.
pub static FP4_VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of the E8M0 scale `e`: 2^(e - 128). As in ggml, 255 is a number too (OCP has NaN there).
#[inline]
pub const fn e8m0_half_to_f32(e: u8) -> f32 {
    f32::from_bits(match e {
        0 => 0x0020_0000, // 2^-128 and 2^-127 are subnormal
        1 => 0x0040_0000,
        _ => (e as u32 - 1) << 23,
    })
}

/// Half of the UE4M3 scale `x`: exponent in bits 6..3 with bias 7, fraction in bits 2..0, bit 7 ignored.
/// The NaN code 0x7f gives 0, as in ggml.
#[inline]
pub const fn ue4m3_half_to_f32(x: u8) -> f32 {
    if x == 0x7f {
        return 0.0;
    }
    let exponent = (x >> 3) as u32 & 15;
    let fraction = x as u32 & 7;
    if exponent == 0 {
        fraction as f32 / 1024.0
    } else {
        f32::from_bits(((exponent + 127 - 7 - 1) << 23) | (fraction << 20))
    }
}
