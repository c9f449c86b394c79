//! Packing 16 rows at once: the same bytes as row after row, written from the first to the last, sixteen of a row at a time.

use super::{PANEL_ROWS, group};
use crate::tensor::DType;
use crate::tensor::quant::{fifth_bits_by_four, scales_mins_k4};

/// Sixteen rows as the file has them.
struct Rows<'a>([&'a [u8]; PANEL_ROWS]);

/// The same block of 16 rows.
type Blocks<'a, const N: usize> = [&'a [u8; N]; PANEL_ROWS];

impl<'a> Rows<'a> {
    /// The rows as blocks of `N` bytes, without a rest.
    #[inline(always)]
    fn blocks<const N: usize>(&self) -> [&'a [[u8; N]]; PANEL_ROWS] {
        self.0.map(|row| row.as_chunks().0)
    }
}

/// Whether [`pack`] writes all of a panel of rows of `k` weights that kernels read; what it leaves must else be zero before.
pub(super) fn fills(dtype: DType, k: usize) -> bool {
    match dtype {
        DType::F32 | DType::Bf16 => true,
        DType::F16 => k.is_multiple_of(2),
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K | DType::Iq4Xs | DType::Q6K => true,
        DType::Q8_0 | DType::Q4_0 | DType::Iq4Nl | DType::Q5_0 | DType::Mxfp4 => {
            group(dtype).is_some_and(|(blocks, _)| (k / 32).is_multiple_of(blocks))
        }
        _ => false,
    }
}

/// Fills the panel of 16 rows; `false` for types that are packed row by row.
pub(super) fn pack(dtype: DType, k: usize, bytes: &[u8], panel: &mut [u8]) -> bool {
    let row_bytes = bytes.len() / PANEL_ROWS;
    let rows = Rows(std::array::from_fn(|r| &bytes[r * row_bytes..][..row_bytes]));
    match dtype {
        DType::F32 => words(&rows, panel),
        DType::F16 => f16(&rows, k, panel),
        DType::Bf16 => bf16(&rows, k, panel),
        DType::Q8_0 => each_block::<34>(dtype, &rows, panel, |b, j, dst| {
            halves(&mut dst[32 * j..], b, 0);
            for half in 0..2 {
                let quads = &mut dst[64 + 512 * j + 256 * half..];
                four_quads(quads, |r| four_words(b[r], 2 + 16 * half).map(|w| w ^ 0x8080_8080));
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
            for (j, pair) in dst[320..].chunks_exact_mut(512).enumerate() {
                nibbles::<144, 0>(pair, b, 16 + 32 * j);
                nibbles::<144, 1>(&mut pair[256..], b, 16 + 32 * j);
            }
        }),
        DType::Q5K => each_block::<176>(dtype, &rows, panel, |b, _, dst| {
            scales(b, dst);
            for j in 0..8 {
                match j % 2 {
                    0 => nibbles::<176, 0>(&mut dst[320 + 320 * j..], b, 48 + 32 * (j / 2)),
                    _ => nibbles::<176, 1>(&mut dst[320 + 320 * j..], b, 48 + 32 * (j / 2)),
                }
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
            let scales = b.map(|block| *block[192..].first_chunk().expect("sixteen scales"));
            dst[64..320].copy_from_slice(transpose_bytes(scales).as_flattened());
            for j in 0..8 {
                let (half, part) = (j / 4, j % 4);
                let low = 64 * half + 32 * (part % 2);
                match part / 2 {
                    0 => nibbles::<210, 0>(&mut dst[320 + 384 * j..], b, low),
                    _ => nibbles::<210, 1>(&mut dst[320 + 384 * j..], b, low),
                }
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
    let rows = rows.blocks::<N>();
    let n = rows.map(<[_]>::len).into_iter().min().unwrap_or(0);
    for (i, panel) in (0..n).step_by(blocks).zip(panel.chunks_exact_mut(group_bytes)) {
        for j in 0..blocks.min(n - i) {
            f(&rows.map(|row| &row[i + j]), j, panel);
        }
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

/// The four words at `at` of a block.
#[inline(always)]
fn four_words<const N: usize>(block: &[u8; N], at: usize) -> [u32; 4] {
    let bytes: [u8; 16] = *block[at..].first_chunk().expect("a block has these bytes");
    bytemuck::cast::<[u8; 16], [u32; 4]>(bytes).map(u32::from_le)
}

/// Word `v` of row `r` becomes word `r` of column `v`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose(rows: [[u32; 4]; 4]) -> [[u8; 16]; 4] {
    use std::arch::x86_64::{__m128i, _mm_unpackhi_epi32, _mm_unpackhi_epi64, _mm_unpacklo_epi32, _mm_unpacklo_epi64};
    let [a, b, c, d] = rows.map(bytemuck::cast::<[u32; 4], __m128i>);
    // SAFETY: every x86-64 processor has SSE2.
    let columns = unsafe {
        let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
        [
            _mm_unpacklo_epi64(ab, cd),
            _mm_unpackhi_epi64(ab, cd),
            _mm_unpacklo_epi64(ab_high, cd_high),
            _mm_unpackhi_epi64(ab_high, cd_high),
        ]
    };
    columns.map(bytemuck::cast::<__m128i, [u8; 16]>)
}

/// Word `v` of row `r` becomes word `r` of column `v`.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn transpose(rows: [[u32; 4]; 4]) -> [[u8; 16]; 4] {
    std::array::from_fn(|v| bytemuck::cast(rows.map(|row| row[v].to_le_bytes())))
}

/// Byte `v` of row `r` becomes byte `r` of column `v`.
#[cfg(target_arch = "x86_64")]
fn transpose_bytes(rows: [[u8; 16]; PANEL_ROWS]) -> [[u8; PANEL_ROWS]; 16] {
    use std::arch::x86_64::{__m128i, _mm_unpackhi_epi8, _mm_unpacklo_epi8};
    let mut v = rows.map(bytemuck::cast::<[u8; 16], __m128i>);
    // Each round moves a bit of the row's number to the bottom of the byte's.
    for _ in 0..4 {
        // SAFETY: every x86-64 processor has SSE2.
        v = std::array::from_fn(|i| unsafe {
            let (a, b) = (v[i / 2], v[i / 2 + 8]);
            if i % 2 == 0 { _mm_unpacklo_epi8(a, b) } else { _mm_unpackhi_epi8(a, b) }
        });
    }
    v.map(bytemuck::cast::<__m128i, [u8; 16]>)
}

/// Byte `v` of row `r` becomes byte `r` of column `v`.
#[cfg(not(target_arch = "x86_64"))]
fn transpose_bytes(rows: [[u8; 16]; PANEL_ROWS]) -> [[u8; PANEL_ROWS]; 16] {
    std::array::from_fn(|v| rows.map(|row| row[v]))
}

/// The lower and the upper halves of four words.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn split(words: [u8; 16]) -> [[u8; 8]; 2] {
    use std::arch::x86_64::{__m128i, _mm_shuffle_epi32, _mm_shufflehi_epi16, _mm_shufflelo_epi16};
    const EVEN_ODD: i32 = 0b11_01_10_00;
    // SAFETY: every x86-64 processor has SSE2.
    let halves: __m128i = unsafe {
        let pairs = _mm_shufflehi_epi16::<EVEN_ODD>(_mm_shufflelo_epi16::<EVEN_ODD>(bytemuck::cast(words)));
        _mm_shuffle_epi32::<EVEN_ODD>(pairs)
    };
    bytemuck::cast(halves)
}

/// The lower and the upper halves of four words.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn split(words: [u8; 16]) -> [[u8; 8]; 2] {
    std::array::from_fn(|half| std::array::from_fn(|i| words[i / 2 * 4 + 2 * half + i % 2]))
}

/// Four vectors: sixteen bytes of each row, four rows at a time.
#[inline(always)]
fn four_quads(dst: &mut [u8], of: impl Fn(usize) -> [u32; 4]) {
    let (dst, _) = dst[..256].as_chunks_mut::<64>();
    for r in (0..PANEL_ROWS).step_by(4) {
        let rows: [[u32; 4]; 4] = std::array::from_fn(|i| of(r + i));
        for (dst, column) in dst.iter_mut().zip(transpose(rows)) {
            dst[4 * r..4 * r + 16].copy_from_slice(&column);
        }
    }
}

/// Sixteen bytes that are in the order of the panel already.
#[inline(always)]
fn file_nibbles<const N: usize>(dst: &mut [u8], b: &Blocks<'_, N>, at: usize) {
    four_quads(dst, |r| four_words(b[r], at));
}

/// The low (0) or high (1) halves of 32 bytes: weights 0–15 become the low halves of 16 bytes, 16–31 the high ones.
#[inline(always)]
fn nibbles<const N: usize, const HALF: usize>(dst: &mut [u8], b: &Blocks<'_, N>, at: usize) {
    const LOW: u32 = 0x0f0f_0f0f;
    four_quads(dst, |r| {
        let (first, second) = (four_words(b[r], at), four_words(b[r], at + 16));
        std::array::from_fn(|i| match HALF {
            0 => (first[i] & LOW) | (second[i] & LOW) << 4,
            _ => ((first[i] >> 4) & LOW) | (second[i] & !LOW),
        })
    });
}

/// d, −dmin, and the scales and minimums of Q4_K and Q5_K.
#[inline(always)]
fn scales<const N: usize>(b: &Blocks<'_, N>, dst: &mut [u8]) {
    halves(dst, b, 0);
    for (half, block) in dst[32..64].chunks_exact_mut(2).zip(b) {
        half.copy_from_slice(&[block[2], block[3] ^ 0x80]);
    }
    let scales =
        b.map(|block| bytemuck::cast(scales_mins_k4(block[4..].first_chunk().expect("twelve bytes of scales"))));
    let columns = transpose_bytes(scales);
    for (j, dst) in dst[64..320].chunks_exact_mut(32).enumerate() {
        dst[..16].copy_from_slice(&columns[j]);
        dst[16..].copy_from_slice(&columns[8 + j]);
    }
}

/// The fifth bits of a block in the order of its quads.
#[inline(always)]
fn fifth(bits: u32) -> u32 {
    u32::from_le_bytes(fifth_bits_by_four(bits))
}

/// Columns of four bytes, four at a time.
#[inline(always)]
fn words(rows: &Rows<'_>, panel: &mut [u8]) {
    let (four, single) = (rows.blocks::<16>(), rows.blocks::<4>());
    let n = single.map(<[_]>::len).into_iter().min().unwrap_or(0);
    for (i, dst) in panel.chunks_exact_mut(256).take(n / 4).enumerate() {
        four_quads(dst, |r| four_words(&four[r][i], 0));
    }
    for (i, dst) in panel.chunks_exact_mut(64).enumerate().take(n).skip(n / 4 * 4) {
        quads(dst, |r| word(&single[r][i], 0));
    }
}

/// The last two bytes of each row.
fn last(rows: &Rows<'_>) -> [[u8; 2]; PANEL_ROWS] {
    rows.0.map(|row| *row.last_chunk().expect("a row has an element"))
}

fn bf16(rows: &Rows<'_>, k: usize, panel: &mut [u8]) {
    words(rows, panel);
    if k % 2 == 1 {
        let last = last(rows);
        quads(&mut panel[k / 2 * 64..], |r| u16::from_le_bytes(last[r]).into());
    }
}

fn f16(rows: &Rows<'_>, k: usize, panel: &mut [u8]) {
    // Pairs of a row become halves of two vectors.
    let store = |dst: &mut [u8], r: usize, pairs: [u8; 16]| {
        let [first, second] = split(pairs);
        dst[2 * r..2 * r + 8].copy_from_slice(&first);
        dst[32 + 2 * r..40 + 2 * r].copy_from_slice(&second);
    };
    let (four, single) = (rows.blocks::<16>(), rows.blocks::<4>());
    for (i, dst) in panel.chunks_exact_mut(256).take(k / 8).enumerate() {
        for r in (0..PANEL_ROWS).step_by(4) {
            let columns = transpose(std::array::from_fn(|j| four_words(&four[r + j][i], 0)));
            dst.chunks_exact_mut(64).zip(columns).for_each(|(dst, column)| store(dst, r, column));
        }
    }
    for (i, dst) in panel.chunks_exact_mut(64).enumerate().take(k / 2).skip(k / 8 * 4) {
        for r in (0..PANEL_ROWS).step_by(4) {
            store(dst, r, bytemuck::cast(std::array::from_fn::<_, 4, _>(|j| single[r + j][i])));
        }
    }
    if k % 2 == 1 {
        panel[k / 2 * 64..][..32].copy_from_slice(last(rows).as_flattened());
    }
}
