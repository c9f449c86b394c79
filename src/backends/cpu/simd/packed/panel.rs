//! Packing 16 rows at once: the same bytes as row after row, written from the first to the last, four of a row at a time.

use super::{PANEL_ROWS, group};
use crate::tensor::DType;

/// Sixteen rows as the file has them.
struct Rows<'a> {
    bytes: &'a [u8],
    row_bytes: usize,
}

/// The same block of 16 rows.
type Blocks<'a, const N: usize> = [&'a [u8; N]; PANEL_ROWS];

impl<'a> Rows<'a> {
    /// Block `i`, of `N` bytes, of each row.
    #[inline(always)]
    fn blocks<const N: usize>(&self, i: usize) -> Blocks<'a, N> {
        std::array::from_fn(|r| {
            self.bytes[r * self.row_bytes + i * N..][..N].try_into().expect("a slice of N bytes is an array of N bytes")
        })
    }
}

/// Fills the panel of 16 rows; `false` for types that are packed row by row.
pub(super) fn pack(dtype: DType, k: usize, bytes: &[u8], panel: &mut [u8]) -> bool {
    let rows = Rows { bytes, row_bytes: bytes.len() / PANEL_ROWS };
    match dtype {
        DType::F32 => words(&rows, k, panel),
        DType::F16 => f16(&rows, k, panel),
        DType::Bf16 => bf16(&rows, k, panel),
        DType::Q8_0 => each_block::<34>(dtype, &rows, panel, |b, j, dst| {
            halves(&mut dst[32 * j..], b, 0);
            for q in 0..8 {
                quads(&mut dst[64 + 512 * j + 64 * q..], |r| word(b[r], 2 + 4 * q) ^ 0x8080_8080);
            }
        }),
        DType::Q4_0 | DType::Iq4Nl => each_block::<18>(dtype, &rows, panel, |b, j, dst| {
            halves(&mut dst[32 * j..], b, 0);
            file_nibbles(&mut dst[64 + 256 * j..], b, 2);
        }),
        DType::Q5_0 => each_block::<22>(dtype, &rows, panel, |b, j, dst| {
            halves(&mut dst[32 * j..], b, 0);
            file_nibbles(&mut dst[64 + 320 * j..], b, 6);
            quads(&mut dst[64 + 320 * j + 256..], |r| fifth(word(b[r], 2)));
        }),
        DType::Q4_1 => each_block::<20>(dtype, &rows, panel, |b, _, dst| {
            halves(dst, b, 0);
            halves(&mut dst[32..], b, 2);
            file_nibbles(&mut dst[64..], b, 4);
        }),
        DType::Q5_1 => each_block::<24>(dtype, &rows, panel, |b, _, dst| {
            halves(dst, b, 0);
            halves(&mut dst[32..], b, 2);
            file_nibbles(&mut dst[64..], b, 8);
            quads(&mut dst[320..], |r| fifth(word(b[r], 4)));
        }),
        DType::Mxfp4 => each_block::<17>(dtype, &rows, panel, |b, j, dst| {
            each_row(&mut dst[16 * j..], |r| b[r][0]);
            file_nibbles(&mut dst[64 + 256 * j..], b, 1);
        }),
        DType::Q4K => each_block::<144>(dtype, &rows, panel, |b, _, dst| {
            scales(b, dst);
            for j in 0..8 {
                nibbles(&mut dst[320 + 256 * j..], b, 16 + 32 * (j / 2), j % 2);
            }
        }),
        DType::Q5K => each_block::<176>(dtype, &rows, panel, |b, _, dst| {
            scales(b, dst);
            for j in 0..8 {
                nibbles(&mut dst[320 + 320 * j..], b, 48 + 32 * (j / 2), j % 2);
                let bit = |r: usize, quad: usize| ((word(b[r], 16 + 4 * quad) >> j) & 0x0101_0101) << quad;
                quads(&mut dst[576 + 320 * j..], |r| (0..8).fold(0, |bits, quad| bits | bit(r, quad)));
            }
        }),
        DType::Iq4Xs => each_block::<136>(dtype, &rows, panel, |b, _, dst| {
            halves(dst, b, 0);
            for j in 0..8 {
                each_row(&mut dst[64 + 16 * j..], |r| {
                    let low = (b[r][4 + j / 2] >> (4 * (j % 2))) & 15;
                    let high = (u16::from_le_bytes([b[r][2], b[r][3]]) >> (2 * j)) as u8 & 3;
                    (low | high << 4).wrapping_sub(32)
                });
                file_nibbles(&mut dst[192 + 256 * j..], b, 8 + 16 * j);
            }
        }),
        DType::Q6K => each_block::<210>(dtype, &rows, panel, |b, _, dst| {
            halves(dst, b, 208);
            for j in 0..16 {
                each_row(&mut dst[64 + 16 * j..], |r| b[r][192 + j]);
            }
            for j in 0..8 {
                let (half, part) = (j / 4, j % 4);
                nibbles(&mut dst[320 + 384 * j..], b, 64 * half + 32 * (part % 2), part / 2);
                for v in 0..2 {
                    let at = 128 + 32 * half + 16 * v;
                    let two = |r: usize, t: usize| ((word(b[r], at + 4 * t) >> (2 * part)) & 0x0303_0303) << (2 * t);
                    let vector = &mut dst[320 + 384 * j + 256 + 64 * v..];
                    quads(vector, |r| two(r, 0) | two(r, 1) | two(r, 2) | two(r, 3));
                }
            }
        }),
        _ => return false,
    }
    true
}

/// Calls `f` with each block of `N` bytes, its number in its group, and the group's part of the panel.
#[inline(always)]
fn each_block<const N: usize>(
    dtype: DType,
    rows: &Rows<'_>,
    panel: &mut [u8],
    f: impl Fn(&Blocks<'_, N>, usize, &mut [u8]),
) {
    let (blocks, group_bytes) = group(dtype).expect("only integer types come here");
    let blocks = (32 * blocks / dtype.block_len()).max(1);
    for i in 0..rows.row_bytes / N {
        f(&rows.blocks(i), i % blocks, &mut panel[i / blocks * group_bytes..][..group_bytes]);
    }
}

#[inline(always)]
fn word<const N: usize>(block: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// One vector: four bytes of each row.
#[inline(always)]
fn quads(dst: &mut [u8], of: impl Fn(usize) -> u32) {
    let dst: &mut [u8; 64] = (&mut dst[..64]).try_into().expect("64 bytes");
    for r in 0..PANEL_ROWS {
        dst[4 * r..4 * r + 4].copy_from_slice(&of(r).to_le_bytes());
    }
}

/// One byte of each row.
#[inline(always)]
fn each_row(dst: &mut [u8], of: impl Fn(usize) -> u8) {
    for (r, byte) in dst[..PANEL_ROWS].iter_mut().enumerate() {
        *byte = of(r);
    }
}

/// The two bytes at `at` of each row's block.
#[inline(always)]
fn halves<const N: usize>(dst: &mut [u8], b: &Blocks<'_, N>, at: usize) {
    for (half, block) in dst[..2 * PANEL_ROWS].chunks_exact_mut(2).zip(b) {
        half.copy_from_slice(&block[at..at + 2]);
    }
}

/// Sixteen bytes that are in the order of the panel already.
#[inline(always)]
fn file_nibbles<const N: usize>(dst: &mut [u8], b: &Blocks<'_, N>, at: usize) {
    for v in 0..4 {
        quads(&mut dst[64 * v..], |r| word(b[r], at + 4 * v));
    }
}

/// The low (0) or high (1) halves of 32 bytes: weights 0–15 become the low halves of 16 bytes, 16–31 the high ones.
#[inline(always)]
fn nibbles<const N: usize>(dst: &mut [u8], b: &Blocks<'_, N>, at: usize, half: usize) {
    const LOW: u32 = 0x0f0f_0f0f;
    for v in 0..4 {
        quads(&mut dst[64 * v..], |r| {
            let (first, second) = (word(b[r], at + 4 * v), word(b[r], at + 16 + 4 * v));
            if half == 0 { (first & LOW) | (second & LOW) << 4 } else { ((first >> 4) & LOW) | (second & !LOW) }
        });
    }
}

/// d, −dmin, and the scales and minimums of Q4_K and Q5_K.
#[inline(always)]
fn scales<const N: usize>(b: &Blocks<'_, N>, dst: &mut [u8]) {
    halves(dst, b, 0);
    for (half, block) in dst[32..64].chunks_exact_mut(2).zip(b) {
        half.copy_from_slice(&[block[2], block[3] ^ 0x80]);
    }
    for j in 0..8 {
        let at = |r: usize, i: usize| b[r][4 + i];
        each_row(&mut dst[64 + 32 * j..], |r| match j {
            0..4 => at(r, j) & 63,
            _ => (at(r, j + 4) & 15) | (at(r, j - 4) >> 6) << 4,
        });
        each_row(&mut dst[80 + 32 * j..], |r| match j {
            0..4 => at(r, j + 4) & 63,
            _ => (at(r, j + 4) >> 4) | (at(r, j) >> 6) << 4,
        });
    }
}

/// Bit `4·quad + c` becomes bit `quad` of byte `c`.
#[inline(always)]
fn fifth(bits: u32) -> u32 {
    let byte = |c: u32| {
        let x = (bits >> c) & 0x1111_1111;
        let x = (x | x >> 3) & 0x0303_0303;
        let x = (x | x >> 6) & 0x000f_000f;
        (x | x >> 12) & 0xff
    };
    byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24
}

/// Elements of four bytes.
fn words(rows: &Rows<'_>, n: usize, panel: &mut [u8]) {
    for (i, dst) in panel.chunks_exact_mut(64).take(n).enumerate() {
        let b = rows.blocks::<4>(i);
        quads(dst, |r| u32::from_le_bytes(*b[r]));
    }
}

fn bf16(rows: &Rows<'_>, k: usize, panel: &mut [u8]) {
    words(rows, k / 2, panel);
    if k % 2 == 1 {
        let last = |r: usize| u16::from_le_bytes(*rows.blocks::<2>(k - 1)[r]);
        quads(&mut panel[k / 2 * 64..], |r| last(r).into());
    }
}

fn f16(rows: &Rows<'_>, k: usize, panel: &mut [u8]) {
    for (i, dst) in panel.chunks_exact_mut(64).take(k / 2).enumerate() {
        let b = rows.blocks::<4>(i);
        let (first, second) = dst.split_at_mut(32);
        for (r, (first, second)) in first.chunks_exact_mut(2).zip(second.chunks_exact_mut(2)).enumerate() {
            first.copy_from_slice(&b[r][..2]);
            second.copy_from_slice(&b[r][2..]);
        }
    }
    if k % 2 == 1 {
        halves(&mut panel[k / 2 * 64..], &rows.blocks::<2>(k - 1), 0);
    }
}
