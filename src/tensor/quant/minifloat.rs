//! The small floats of the FP4 and FP6 formats: E2M1, E2M3 and E3M2 values, E8M0 and UE4M3 scales.
//!
//! ggml has E2M1 values doubled, to have them as integers, and halves the scales instead.

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

/// The code whose doubled value times `half_scale` is nearest to `x`, the lowest one of several.
pub(super) fn nearest_fp4(x: f32, half_scale: f32) -> u8 {
    let error = |code: usize| (f32::from(FP4_VALUES[code]) * half_scale - x).abs();
    let best = (1..16).fold((0, error(0)), |best, code| {
        let error = error(code);
        if error < best.1 { (code, error) } else { best }
    });
    best.0 as u8
}

/// The UE4M3 code of `x`: rounded to nearest, halves up; 0 for what is not positive. As in ggml, all from 248 up is 448.
pub(super) fn f32_to_ue4m3(x: f32) -> u8 {
    // NaN is not positive either.
    if x.is_nan() || x <= 0.0 {
        return 0;
    }
    if x < 1.0 / 64.0 {
        return ((x * 512.0 + 0.5) as u8).min(7);
    }
    // Keep the exponent and four bits of the fraction, the last of which rounds; a carry moves into the exponent.
    let code = (((x.min(448.0).to_bits() >> 19) + 1) >> 1) - ((127 - 7) << 3);
    if code >= 15 << 3 { 0x7e } else { code as u8 }
}

/// The E8M0 scale `e` as OCP defines it: 2^(e - 127), and NaN for 255.
#[inline]
pub const fn e8m0_to_f32(e: u8) -> f32 {
    match e {
        0 => f32::from_bits(0x0040_0000),
        255 => f32::NAN,
        _ => f32::from_bits((e as u32) << 23),
    }
}

/// A 6-bit float: sign, exponent, fraction; no infinity and no NaN.
pub(super) struct Fp6 {
    pub fraction_bits: u32,
    pub bias: i32,
}

impl Fp6 {
    /// The values of all codes.
    pub const fn values(&self) -> [f32; 64] {
        let mut values = [0.0; 64];
        let mut code = 0;
        while code < 32 {
            let exponent = code >> self.fraction_bits;
            let fraction = code & ((1 << self.fraction_bits) - 1);
            // In units of the smallest step, which is 2^(1 - bias - fraction_bits).
            let steps = if exponent == 0 { fraction } else { (fraction | 1 << self.fraction_bits) << (exponent - 1) };
            let value = steps as f32 / (1u32 << (self.bias - 1 + self.fraction_bits as i32)) as f32;
            values[code as usize] = value;
            values[code as usize + 32] = -value;
            code += 1;
        }
        values
    }

    /// The exponent of the largest value.
    fn max_exponent(&self) -> i32 {
        (31 >> self.fraction_bits) - self.bias
    }

    /// The nearest code, ties to even, at most the largest.
    fn encode(&self, x: f32) -> u8 {
        let (sign, x) = ((x.to_bits() >> 26) as u8 & 32, x.abs());
        let smallest_normal = f32::from_bits(((1 - self.bias + 127) as u32) << 23);
        let code = if x < smallest_normal {
            let step = smallest_normal / (1 << self.fraction_bits) as f32;
            (x / step).round_ties_even() as u32
        } else {
            let dropped = 23 - self.fraction_bits;
            let odd = x.to_bits() >> dropped & 1;
            let rounded = (x.to_bits() + (1 << (dropped - 1)) - 1 + odd) >> dropped;
            rounded - (((127 - self.bias) as u32) << self.fraction_bits)
        };
        sign | code.min(31) as u8
    }

    /// An E8M0 scale and 32 packed codes.
    ///
    /// The scale is the power of two that takes the largest magnitude, rounded to as many fraction bits as a code has (halves
    /// up), to the topmost binade: Quark's mode `even`. A block with an infinity or a NaN gets the NaN scale.
    pub fn quantize(&self, x: &[f32; 32]) -> (u8, [u8; 24]) {
        if !x.iter().all(|v| v.is_finite()) {
            return (255, [0; 24]);
        }
        let max = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let rounded = (max.to_bits() + (1 << (22 - self.fraction_bits))) >> 23;
        let e = (rounded as i32 - self.max_exponent()).clamp(0, 254) as u8;
        let inverse = e8m0_to_f32(254 - e);
        let codes = x.map(|x| u32::from(self.encode(x * inverse)));
        let mut qs = [0; 24];
        for (bytes, c) in qs.as_chunks_mut::<3>().0.iter_mut().zip(codes.as_chunks::<4>().0) {
            let word = c[0] | c[1] << 6 | c[2] << 12 | c[3] << 18;
            bytes.copy_from_slice(&word.to_le_bytes()[..3]);
        }
        (e, qs)
    }

    /// The values of 32 packed codes, `values[code]` times the scale `e`.
    pub fn dequantize(e: u8, qs: &[u8; 24], values: &[f32; 64], y: &mut [f32; 32]) {
        let d = e8m0_to_f32(e);
        for (y, &[a, b, c]) in y.as_chunks_mut::<4>().0.iter_mut().zip(qs.as_chunks::<3>().0) {
            let word = u32::from_le_bytes([a, b, c, 0]);
            *y = std::array::from_fn(|i| values[(word >> (6 * i) & 63) as usize] * d);
        }
    }
}
