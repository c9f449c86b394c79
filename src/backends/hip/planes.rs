//! Planes: how the device keeps the weights of the fast types (`kernels/common/planes.h` has the layout), and how they are made.

use crate::tensor::DType;
use rayon::prelude::*;

/// Where each plane of a matrix begins in its memory, and how long the whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaneLayout {
    /// `FORMAT_…` of planes.h.
    pub format: i32,
    /// Bytes of a row in each plane: quants, high, scales, supers.
    pub row: [usize; 4],
    /// Where each plane begins.
    pub offsets: [usize; 4],
    /// Bytes in all.
    pub bytes: usize,
}

/// Planes begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 256;

/// Rows that a task of packing takes.
const ROWS_OF_A_TASK: usize = 32;

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
        let blocks = k / 32;
        let row = [block[0] * blocks, block[1] * blocks, block[2] * blocks, block[3] * (k / 256)];
        let mut offsets = [0; 4];
        let mut bytes: usize = 0;
        for (offset, row) in offsets.iter_mut().zip(row) {
            *offset = bytes;
            bytes = bytes.checked_add(row.checked_mul(rows)?.checked_next_multiple_of(ALIGNMENT)?)?;
        }
        Some(PlaneLayout { format, row, offsets, bytes })
    }

    /// Packs a matrix's bytes as the file has them into `out`, which has `self.bytes` bytes.
    pub fn pack(&self, dtype: DType, rows: usize, source: &[u8], out: &mut [u8]) {
        let stride = source.len() / rows.max(1);
        let mut rest = out;
        let mut planes: [&mut [u8]; 4] = Default::default();
        for i in 0..4 {
            let end = if i < 3 { self.offsets[i + 1] } else { self.bytes };
            let (plane, after) = rest.split_at_mut(end - self.offsets[i]);
            planes[i] = &mut plane[..self.row[i] * rows];
            rest = after;
        }
        let [q, h, s, p] = planes;
        let mut tasks = Vec::new();
        let (mut q, mut h, mut s, mut p) = (q, h, s, p);
        let mut first = 0;
        while first < rows {
            let n = ROWS_OF_A_TASK.min(rows - first);
            let (q0, q1) = q.split_at_mut(n * self.row[0]);
            let (h0, h1) = h.split_at_mut(n * self.row[1]);
            let (s0, s1) = s.split_at_mut(n * self.row[2]);
            let (p0, p1) = p.split_at_mut(n * self.row[3]);
            (q, h, s, p) = (q1, h1, s1, p1);
            tasks.push((&source[first * stride..(first + n) * stride], q0, h0, s0, p0));
            first += n;
        }
        tasks.into_par_iter().for_each(|(source, q, h, s, p)| pack_rows(dtype, source, q, h, s, p));
    }
}

/// Packs whole rows: blocks follow each other in the source as in every plane.
fn pack_rows(dtype: DType, source: &[u8], q: &mut [u8], h: &mut [u8], s: &mut [u8], p: &mut [u8]) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::quant::{dequantize_row, quantize_row};
    use half::f16;

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
            let mut planes = vec![0; layout.bytes];
            layout.pack(dtype, rows, &source, &mut planes);
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
