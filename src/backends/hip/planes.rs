//! Planes: how the device keeps the weights of the fast types (`kernels/common/planes.h` has the layout), and how they are made.
//!
//! A matrix is packed in units, blocks as the file has them: unit `i` of the file is unit `i` of every plane, whatever row it is of, so
//! that any run of units can be packed by itself.

use crate::tensor::DType;
use crate::tensor::quant::{fifth_bits_by_four, scales_mins_k4};
use std::ops::Range;

/// Where each plane of a matrix begins in its memory, and how long the whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaneLayout {
    dtype: DType,
    /// `FORMAT_…` of planes.h.
    pub format: i32,
    /// Units of the matrix: blocks of its type; 32 elements of plain types.
    pub units: usize,
    /// Bytes of a unit in the file.
    pub unit_bytes: usize,
    /// Bytes of a unit in each plane: quants, high, scales, supers.
    pub unit: [usize; 4],
    /// Where each plane begins.
    pub offsets: [usize; 4],
    /// Bytes in all.
    pub bytes: usize,
}

/// Planes begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 256;

/// The format's number in planes.h and the bytes of a block of 32 in each plane, `supers` those of 256; `None` for types without
/// planes.
fn format_of(dtype: DType) -> Option<(i32, [usize; 4])> {
    Some(match dtype {
        DType::F16 => (1, [64, 0, 0, 0]),
        DType::Bf16 => (2, [64, 0, 0, 0]),
        DType::Q8_0 => (3, [32, 0, 2, 0]),
        DType::Q4_0 => (4, [16, 0, 2, 0]),
        DType::Q4_1 => (5, [16, 0, 4, 0]),
        DType::Q5_0 => (6, [16, 4, 2, 0]),
        DType::Q5_1 => (7, [16, 4, 4, 0]),
        DType::Q4K => (8, [16, 0, 2, 4]),
        DType::Q5K => (9, [16, 4, 2, 4]),
        DType::Q6K => (10, [16, 8, 2, 2]),
        DType::Iq4Nl => (11, [16, 0, 2, 0]),
        DType::Iq4Xs => (12, [16, 0, 1, 2]),
        DType::Mxfp4 => (13, [16, 0, 1, 0]),
        _ => return None,
    })
}

/// The shortest rows of quantized types that are kept in planes. Their products round activations to int8, which a short sum does not
/// average out; a model with shorter rows is tiny, and its products run in f32.
pub(crate) const SHORTEST_ROW: usize = 768;

impl PlaneLayout {
    /// The layout of a matrix; `None` where the device keeps the file's bytes.
    pub fn of(dtype: DType, rows: usize, k: usize) -> Option<PlaneLayout> {
        let (format, block) = format_of(dtype)?;
        let plain = matches!(dtype, DType::F16 | DType::Bf16);
        if !k.is_multiple_of(32) || k < if plain { 32 } else { SHORTEST_ROW } {
            return None;
        }
        let elements = if plain { 32 } else { dtype.block_len() };
        if !k.is_multiple_of(elements) {
            return None;
        }
        let unit_bytes = dtype.row_bytes(elements)?;
        let units = (k / elements).checked_mul(rows)?;
        let groups = elements / 32;
        let unit = [block[0] * groups, block[1] * groups, block[2] * groups, block[3]];
        let mut offsets = [0; 4];
        let mut bytes: usize = 0;
        for (offset, unit) in offsets.iter_mut().zip(unit) {
            *offset = bytes;
            bytes = bytes.checked_add(unit.checked_mul(units)?.checked_next_multiple_of(ALIGNMENT)?)?;
        }
        Some(PlaneLayout { dtype, format, units, unit_bytes, unit, offsets, bytes })
    }

    /// Where units stand in the memory of the matrix, for each plane; after the last unit with the bytes up to the next plane.
    pub fn places(&self, units: &Range<usize>) -> [Range<usize>; 4] {
        std::array::from_fn(|i| {
            let end = match units.end == self.units {
                true => self.offsets.get(i + 1).copied().unwrap_or(self.bytes),
                false => self.offsets[i] + units.end * self.unit[i],
            };
            self.offsets[i] + units.start * self.unit[i]..end
        })
    }

    /// Packs units as the file has them into pieces of the planes that are as long as [`PlaneLayout::places`] says.
    pub fn pack(&self, source: &[u8], planes: [&mut [u8]; 4]) {
        let units = source.len() / self.unit_bytes;
        let mut planes = planes;
        for (plane, unit) in planes.iter_mut().zip(self.unit) {
            let (packed, after) = std::mem::take(plane).split_at_mut(units * unit);
            after.fill(0);
            *plane = packed;
        }
        pack_units(self.dtype, source, planes);
    }
}

/// Packs whole units of a type: those of `source`, which follow each other in every plane as in the file.
fn pack_units(dtype: DType, source: &[u8], planes: [&mut [u8]; 4]) {
    match dtype {
        DType::Q8_0 => blocks::<34, 32, 0, 2, 0>(source, planes, |b| (part(b, 2), [], part(b, 0), [])),
        DType::Q4_0 => blocks::<18, 16, 0, 2, 0>(source, planes, |b| {
            // Codes as two's complement: the sign bit of each nibble.
            (part::<16>(b, 2).map(|codes| codes ^ 0x88), [], part(b, 0), [])
        }),
        DType::Q4_1 => blocks::<20, 16, 0, 4, 0>(source, planes, |b| (part(b, 4), [], part(b, 0), [])),
        DType::Q5_0 => blocks::<22, 16, 4, 2, 0>(source, planes, |b| {
            (part(b, 6), fifth_bits_by_four(!u32::from_le_bytes(part(b, 2))), part(b, 0), [])
        }),
        DType::Q5_1 => blocks::<24, 16, 4, 4, 0>(source, planes, |b| {
            (part(b, 8), fifth_bits_by_four(u32::from_le_bytes(part(b, 4))), part(b, 0), [])
        }),
        DType::Iq4Nl => blocks::<18, 16, 0, 2, 0>(source, planes, |b| (part(b, 2), [], part(b, 0), [])),
        DType::Mxfp4 => blocks::<17, 16, 0, 1, 0>(source, planes, |b| (part(b, 1), [], part(b, 0), [])),
        DType::Iq4Xs => blocks::<136, 128, 0, 8, 2>(source, planes, |b| (part(b, 8), [], iq4_xs_scales(b), part(b, 0))),
        DType::Q4K => blocks::<144, 128, 0, 16, 4>(source, planes, |b| {
            (nibbles(&part::<128>(b, 16)), [], scales_and_mins(part(b, 4)), part(b, 0))
        }),
        DType::Q5K => blocks::<176, 128, 32, 16, 4>(source, planes, |b| {
            (nibbles(&part::<128>(b, 48)), bits_by_group(part(b, 16)), scales_and_mins(part(b, 4)), part(b, 0))
        }),
        DType::Q6K => blocks::<210, 128, 64, 16, 2>(source, planes, |b| {
            (q6_k_nibbles(b), q6_k_upper_bits(b), part(b, 192), part(b, 208))
        }),
        // Floats.
        _ => {
            let [quants, ..] = planes;
            quants.copy_from_slice(source);
        }
    }
}

/// Writes what `pack` makes of each block of `B` bytes to the four planes.
#[inline(always)]
fn blocks<const B: usize, const Q: usize, const H: usize, const S: usize, const P: usize>(
    source: &[u8],
    [q, h, s, p]: [&mut [u8]; 4],
    pack: impl Fn(&[u8; B]) -> ([u8; Q], [u8; H], [u8; S], [u8; P]),
) {
    for (i, block) in source.as_chunks().0.iter().enumerate() {
        let (quants, high, scales, supers) = pack(block);
        q[i * Q..][..Q].copy_from_slice(&quants);
        h[i * H..][..H].copy_from_slice(&high);
        s[i * S..][..S].copy_from_slice(&scales);
        p[i * P..][..P].copy_from_slice(&supers);
    }
}

/// `N` bytes of a block.
#[inline(always)]
fn part<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    *block[at..].first_chunk().expect("the part is within the block")
}

/// 32 bytes that hold a group of 32 codes in their low and one in their high nibbles, as 16 bytes for each group: codes `j` and
/// `j + 16` in byte `j`.
#[inline(always)]
fn split(x: &[u8; 32]) -> [[u8; 16]; 2] {
    let mut out = [[0; 16]; 2];
    for j in 0..16 {
        out[0][j] = (x[j] & 15) | (x[j + 16] << 4);
        out[1][j] = (x[j] >> 4) | (x[j + 16] & 0xf0);
    }
    out
}

/// Nibbles of q4_k and q5_k: the groups of each 32 bytes follow each other.
#[inline(always)]
fn nibbles(source: &[u8; 128]) -> [u8; 128] {
    let mut out = [0; 128];
    for (out, x) in out.as_chunks_mut::<32>().0.iter_mut().zip(source.as_chunks().0) {
        out.copy_from_slice(split(x).as_flattened());
    }
    out
}

/// Nibbles of q6_k: 64 bytes hold groups 0 and 1 in the low and groups 2 and 3 in the high nibbles.
#[inline(always)]
fn q6_k_nibbles(block: &[u8; 210]) -> [u8; 128] {
    let mut out = [0; 128];
    for (half, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        let [a, c] = split(&part(block, 64 * half));
        let [b, d] = split(&part(block, 64 * half + 32));
        out.copy_from_slice([a, b, c, d].as_flattened());
    }
    out
}

/// The upper two bits of q6_k's codes, the uppermost flipped: codes as two's complement.
#[inline(always)]
fn q6_k_upper_bits(block: &[u8; 210]) -> [u8; 64] {
    let mut out = [0; 64];
    for (half, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let [a, b, c, d, e, f, g, h] = pairs_by_group(words(part(block, 128 + 32 * half)));
        *out = bytes([a, e, b, f, c, g, d, h].map(|word| word ^ 0xaaaa_aaaa));
    }
    out
}

/// q4_k's and q5_k's scales and minima of six bits, in turns.
#[inline(always)]
fn scales_and_mins(packed: [u8; 12]) -> [u8; 16] {
    let [scales, mins] = scales_mins_k4(&packed);
    let mut out = [0; 16];
    for (g, out) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        *out = [scales[g], mins[g]];
    }
    out
}

/// iq4_xs' scales of six bits, which count from -32.
#[inline(always)]
fn iq4_xs_scales(block: &[u8; 136]) -> [u8; 8] {
    let high = u16::from_le_bytes(part(block, 2));
    std::array::from_fn(|g| {
        let low = block[4 + g / 2] >> (4 * (g % 2)) & 15;
        (low | ((high >> (2 * g) & 3) as u8) << 4).wrapping_sub(32)
    })
}

/// Exchanges the bits `mask << shift` of `words[a]` and `mask` of `words[b]`.
#[inline(always)]
fn exchange(words: &mut [u32; 8], a: usize, b: usize, shift: u32, mask: u32) {
    let differ = (words[a] >> shift ^ words[b]) & mask;
    words[a] ^= differ << shift;
    words[b] ^= differ;
}

/// Bit g of each byte of word i goes to bit i of that byte of word g.
#[inline(always)]
fn bits_by_group(bits: [u8; 32]) -> [u8; 32] {
    let mut words = words(bits);
    for i in [0, 1, 2, 3] {
        exchange(&mut words, i, i + 4, 4, 0x0f0f_0f0f);
    }
    for i in [0, 1, 4, 5] {
        exchange(&mut words, i, i + 2, 2, 0x3333_3333);
    }
    for i in [0, 2, 4, 6] {
        exchange(&mut words, i, i + 1, 1, 0x5555_5555);
    }
    bytes(words)
}

/// The pair of bits g of each byte of word i goes to pair i of that byte of word g, in each half of the words.
#[inline(always)]
fn pairs_by_group(mut words: [u32; 8]) -> [u32; 8] {
    for i in [0, 1, 4, 5] {
        exchange(&mut words, i, i + 2, 4, 0x0f0f_0f0f);
    }
    for i in [0, 2, 4, 6] {
        exchange(&mut words, i, i + 1, 2, 0x3333_3333);
    }
    words
}

#[inline(always)]
fn words(bytes: [u8; 32]) -> [u32; 8] {
    std::array::from_fn(|i| u32::from_le_bytes(part(&bytes, 4 * i)))
}

#[inline(always)]
fn bytes(words: [u32; 8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (out, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *out = word.to_le_bytes();
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::tensor::quant::{dequantize_row, quantize_row};
    use half::f16;

    /// Packs code by code.
    fn pack_plainly(dtype: DType, source: &[u8], q: &mut [u8], h: &mut [u8], s: &mut [u8], p: &mut [u8]) {
        if matches!(dtype, DType::F16 | DType::Bf16) {
            q.copy_from_slice(source);
            return;
        }
        let per_block = dtype.block_len() / 32;
        for (i, block) in source.chunks_exact(dtype.block_bytes()).enumerate() {
            for g in 0..per_block {
                let b = i * per_block + g;
                if dtype == DType::Q8_0 {
                    q[b * 32..][..32].copy_from_slice(&block[2..34]);
                    s[b * 2..][..2].copy_from_slice(&block[..2]);
                    continue;
                }
                let v = codes(dtype, block, g);
                let nibbles = &mut q[b * 16..][..16];
                let flip = if dtype == DType::Q4_0 { 8 } else { 0 };
                for (j, byte) in nibbles.iter_mut().enumerate() {
                    *byte = ((v[j] ^ flip) & 15) | (((v[j + 16] ^ flip) & 15) << 4);
                }
                match dtype {
                    DType::Q5_0 | DType::Q5_1 | DType::Q5K => {
                        let flip = if dtype == DType::Q5_0 { 16 } else { 0 };
                        let high = &mut h[b * 4..][..4];
                        for (j, &code) in v.iter().enumerate() {
                            let (half, w, byte) = (j / 16, j % 16 / 4, j % 4);
                            high[byte] |= ((code ^ flip) >> 4 & 1) << (4 * half + w);
                        }
                    }
                    DType::Q6K => {
                        let high = &mut h[b * 8..][..8];
                        for (j, &code) in v.iter().enumerate() {
                            let (half, w, byte) = (j / 16, j % 16 / 4, j % 4);
                            high[4 * half + byte] |= ((code ^ 32) >> 4 & 3) << (2 * w);
                        }
                    }
                    _ => {}
                }
                scales(dtype, block, g, b, s, p);
            }
        }
    }

    /// The 32 codes of group `g` of a block.
    fn codes(dtype: DType, block: &[u8], g: usize) -> [u8; 32] {
        let mut v = [0u8; 32];
        let split = |v: &mut [u8; 32], qs: &[u8]| {
            for j in 0..16 {
                (v[j], v[j + 16]) = (qs[j] & 15, qs[j] >> 4);
            }
        };
        match dtype {
            DType::Q4_0 | DType::Iq4Nl => split(&mut v, &block[2..]),
            DType::Q4_1 => split(&mut v, &block[4..]),
            DType::Mxfp4 => split(&mut v, &block[1..]),
            DType::Iq4Xs => split(&mut v, &block[8 + 16 * g..]),
            DType::Q5_0 | DType::Q5_1 => {
                let at = if dtype == DType::Q5_0 { 2 } else { 4 };
                split(&mut v, &block[at + 4..]);
                let high = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
                for (j, code) in v.iter_mut().enumerate() {
                    *code |= ((high >> j & 1) as u8) << 4;
                }
            }
            DType::Q4K | DType::Q5K => {
                let qs = if dtype == DType::Q4K { &block[16..] } else { &block[48..] };
                for (l, code) in v.iter_mut().enumerate() {
                    let byte = qs[32 * (g / 2) + l];
                    *code = if g.is_multiple_of(2) { byte & 15 } else { byte >> 4 };
                    if dtype == DType::Q5K {
                        *code |= (block[16 + l] >> g & 1) << 4;
                    }
                }
            }
            _ => {
                // q6_k: 128 elements share 64 bytes of low nibbles and 32 of upper bits.
                let (half, m) = (g / 4, g % 4);
                for (l, code) in v.iter_mut().enumerate() {
                    let low = block[64 * half + 32 * (m % 2) + l];
                    let high = block[128 + 32 * half + l] >> (2 * m) & 3;
                    *code = (if m < 2 { low & 15 } else { low >> 4 }) | (high << 4);
                }
            }
        }
        v
    }

    /// The scales of group `g` of a block, which is entry `b` of its plane.
    fn scales(dtype: DType, block: &[u8], g: usize, b: usize, s: &mut [u8], p: &mut [u8]) {
        match dtype {
            DType::Q4_0 | DType::Q5_0 | DType::Iq4Nl => s[b * 2..][..2].copy_from_slice(&block[..2]),
            DType::Q4_1 | DType::Q5_1 => s[b * 4..][..4].copy_from_slice(&block[..4]),
            DType::Mxfp4 => s[b] = block[0],
            DType::Q4K | DType::Q5K => {
                let packed = &block[4..16];
                let (scale, min) = if g < 4 {
                    (packed[g] & 63, packed[g + 4] & 63)
                } else {
                    let low = packed[g + 4];
                    ((low & 15) | (packed[g - 4] >> 6 << 4), (low >> 4) | (packed[g] >> 6 << 4))
                };
                s[b * 2..][..2].copy_from_slice(&[scale, min]);
                p[b / 8 * 4..][..4].copy_from_slice(&block[..4]);
            }
            DType::Iq4Xs => {
                let high = u16::from_le_bytes([block[2], block[3]]);
                let low = block[4 + g / 2] >> (4 * (g % 2)) & 15;
                let scale = low | (((high >> (2 * g) & 3) as u8) << 4);
                s[b] = (scale as i8 - 32) as u8;
                p[b / 8 * 2..][..2].copy_from_slice(&block[..2]);
            }
            _ => {
                let at = 192 + 8 * (g / 4) + 2 * (g % 4);
                s[b * 2..][..2].copy_from_slice(&block[at..at + 2]);
                p[b / 8 * 2..][..2].copy_from_slice(&block[208..210]);
            }
        }
    }

    /// The types that have planes.
    pub(in crate::backends::hip) const ALL: [DType; 13] = [
        DType::F16,
        DType::Bf16,
        DType::Q8_0,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q4K,
        DType::Q5K,
        DType::Q6K,
        DType::Iq4Nl,
        DType::Iq4Xs,
        DType::Mxfp4,
    ];

    /// Packs a matrix in pieces of `step` units into memory that held something else.
    fn packed(layout: &PlaneLayout, source: &[u8], step: usize) -> Vec<u8> {
        let mut out = vec![0xa5; layout.bytes];
        for first in (0..layout.units).step_by(step) {
            let units = first..(first + step).min(layout.units);
            let places = layout.places(&units);
            let mut pieces = places.clone().map(|place| vec![0x5a; place.len()]);
            let [q, h, s, p] = &mut pieces;
            layout.pack(&source[units.start * layout.unit_bytes..units.end * layout.unit_bytes], [q, h, s, p]);
            for (place, piece) in places.into_iter().zip(pieces) {
                out[place].copy_from_slice(&piece);
            }
        }
        out
    }

    #[test]
    fn planes_of_any_bytes_are_those_packed_code_by_code() {
        let (rows, k) = (5, 768);
        for dtype in ALL {
            let layout = PlaneLayout::of(dtype, rows, k).unwrap();
            assert_eq!(layout.units * layout.unit_bytes, dtype.row_bytes(rows * k).unwrap(), "{dtype}");
            let mut state = 1u32;
            let random = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            let source: Vec<u8> = std::iter::repeat_with(random).take(layout.units * layout.unit_bytes).collect();
            let mut wanted = vec![0; layout.bytes];
            let mut rest = &mut wanted[..];
            let mut planes: [&mut [u8]; 4] = Default::default();
            for (plane, unit) in planes.iter_mut().zip(layout.unit) {
                let bytes = unit * layout.units;
                let (this, after) = rest.split_at_mut(bytes.next_multiple_of(ALIGNMENT));
                (*plane, rest) = (&mut this[..bytes], after);
            }
            let [q, h, s, p] = planes;
            pack_plainly(dtype, &source, q, h, s, p);
            for step in [1, 7, layout.units] {
                assert!(packed(&layout, &source, step) == wanted, "{dtype} in pieces of {step}");
            }
        }
    }

    /// What planes.h says a block's elements are, in the plainest way.
    fn decode(dtype: DType, layout: &PlaneLayout, planes: &[u8], row: usize, k: usize) -> Vec<f32> {
        let blocks = k / 32;
        let half = |at: usize| f16::from_le_bytes([planes[at], planes[at + 1]]).to_f32();
        let [q, h, s, p] = layout.offsets;
        let mut out = Vec::new();
        for block in 0..blocks {
            let b = row * blocks + block;
            let nibble = |j: usize| {
                let byte = planes[q + b * 16 + j % 16];
                i32::from(if j < 16 { byte & 15 } else { byte >> 4 })
            };
            let fifth = |j: usize| i32::from(planes[h + b * 4 + j % 4] >> (4 * (j / 16) + j % 16 / 4) & 1);
            let upper = |j: usize| i32::from(planes[h + b * 8 + 4 * (j / 16) + j % 4] >> (2 * (j % 16 / 4)) & 3);
            let signed = |v: i32, bits: u32| (v << (32 - bits)) >> (32 - bits);
            for j in 0..32 {
                out.push(match dtype {
                    DType::Q8_0 => half(s + b * 2) * f32::from(planes[q + b * 32 + j] as i8),
                    DType::Q4_0 => half(s + b * 2) * signed(nibble(j), 4) as f32,
                    DType::Q4_1 => half(s + b * 4) * nibble(j) as f32 + half(s + b * 4 + 2),
                    DType::Q5_0 => half(s + b * 2) * signed(nibble(j) | fifth(j) << 4, 5) as f32,
                    DType::Q5_1 => half(s + b * 4) * (nibble(j) | fifth(j) << 4) as f32 + half(s + b * 4 + 2),
                    DType::Q4K | DType::Q5K => {
                        let code = nibble(j) | if dtype == DType::Q5K { fifth(j) << 4 } else { 0 };
                        let (d, m) = (half(p + b / 8 * 4), half(p + b / 8 * 4 + 2));
                        d * f32::from(planes[s + b * 2]) * code as f32 - m * f32::from(planes[s + b * 2 + 1])
                    }
                    DType::Q6K => {
                        let scale = f32::from(planes[s + b * 2 + j / 16] as i8);
                        half(p + b / 8 * 2) * scale * signed(nibble(j) | upper(j) << 4, 6) as f32
                    }
                    _ => unreachable!(),
                });
            }
        }
        out
    }

    #[test]
    fn planes_hold_the_values_of_the_file() {
        let (rows, k) = (3, 1024);
        let x: Vec<f32> = (0..rows * k).map(|i| ((i * 7919 % 1009) as f32 - 500.0) / 333.0).collect();
        for dtype in
            [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::Q4K, DType::Q5K, DType::Q6K]
        {
            let layout = PlaneLayout::of(dtype, rows, k).unwrap();
            let mut source = vec![0; dtype.row_bytes(rows * k).unwrap()];
            quantize_row(dtype, &x, &mut source).unwrap();
            let planes = packed(&layout, &source, layout.units);
            let mut wanted = vec![0.0; rows * k];
            dequantize_row(dtype, &source, &mut wanted).unwrap();
            for row in 0..rows {
                let found = decode(dtype, &layout, &planes, row, k);
                for (i, (a, b)) in found.iter().zip(&wanted[row * k..]).enumerate() {
                    assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{dtype} row {row} element {i}: {a} not {b}");
                }
            }
        }
    }
}
