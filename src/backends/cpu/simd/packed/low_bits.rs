//! Panels of the types below four bits and of the codebook types. The words are those of the parent module; *pairs* are two
//! vectors of quads 0–3 and 4–7 with two bits a weight, and *plane* is one vector with bit `i` of a byte belonging to quad `i`.
//!
//! | type | group of | bytes of a group | of the file |
//! |---|---|---|---|
//! | q2_K | 256 | d h, −dmin h, 16 × 16 (scale, minimum) of four bits, 8 × pairs | 100 % |
//! | q3_K | 256 | d h, 32 unused, 16 × 16 scales, 8 × (pairs, plane of third bits) | 105 % |
//! | tq1_0, tq2_0 | 256 | −d h, 32 unused, 8 × pairs (3 − t) | 126 %, 103 % |
//! | q2_0 | 4 blocks | −scales 2h, 4 × pairs (3 − q) | 100 % |
//! | q1_0 | 8 blocks | scales 2h, 8 × plane | 100 % |
//! | nvfp4 | 2 blocks | 4 × 16 scales, 2 × nibbles | 100 % |
//! | iq2_xxs | 256 | d h, 4 × 16 pairs of scales, 8 × 64 entries, 8 × plane of signs | 106 % |
//! | iq2_xs | 256 | d h, 8 × 16 pairs of scales, 4 × 16 high bits, 8 × 64 entries, 8 × plane of signs | 105 % |
//! | iq2_s | 256 | d h, 8 × 16 pairs of scales, 8 × 16 high bits, 8 × 64 entries, 8 × plane of signs | 100 % |
//! | iq3_xxs | 256 | d h, 4 × 16 pairs of scales, 8 × 128 entries, 8 × plane of signs | 104 % |
//! | iq3_s | 256 | d h, 4 × 16 pairs of scales, 8 × 16 high bits, 8 × 128 entries, 8 × plane of signs | 100 % |
//! | iq1_s | 256 | d h, 8 × 16 low and 8 × 16 high bytes of qh, 8 × 64 entries | 100 % |
//! | iq1_m | 256 | d h, 8 × 16 pairs of scales, 8 × 16 words of qh, 8 × 64 entries | 104 % |
//!
//! Entries are the low eight bits of a row's codebook numbers of 32 weights beside each other, rows after one another. Signs
//! are written out (ggml stores seven of eight in some types): this is what the codebook types grow by. tq1_0 takes the
//! place of tq2_0: its digits to the base 3 cost ten operations a vector, pairs one.
//!
//! Why `3 − q`: weights `d·(q − 1)` with `q` in 0..=3 are `−d·((3 − q) − 2)`, and 2 is the zero of two bits.

use super::{put_fifth, put_half, put_nibbles};
use crate::tensor::DType;
use crate::tensor::quant::grids::SIGNS;
use crate::tensor::quant::{BlockIq1M, BlockIq1S, BlockIq2S, BlockIq2Xs, BlockIq2Xxs, BlockIq3S, BlockIq3Xxs};
use crate::tensor::quant::{BlockQ2K, BlockQ3K, BlockTq1_0, as_blocks};

/// Blocks of 32 in a group, and the group's bytes.
pub(super) const fn group(dtype: DType) -> Option<(usize, usize)> {
    Some(match dtype {
        DType::Q2K => (8, 64 + 256 + 8 * 128),
        DType::Q3K => (8, 64 + 256 + 8 * 192),
        DType::Tq1_0 | DType::Tq2_0 => (8, 64 + 8 * 128),
        DType::Q2_0 => (4, 64 + 4 * 128),
        DType::Q1_0 => (8, 64 + 8 * 64),
        DType::Nvfp4 => (2, 64 + 2 * 256),
        DType::Iq2Xxs => (8, 32 + 64 + 512 + 512),
        DType::Iq2Xs => (8, 32 + 128 + 64 + 512 + 512),
        DType::Iq2S => (8, 32 + 128 + 128 + 512 + 512),
        DType::Iq3Xxs => (8, 32 + 64 + 1024 + 512),
        DType::Iq3S => (8, 32 + 64 + 128 + 1024 + 512),
        DType::Iq1S => (8, 32 + 256 + 512),
        DType::Iq1M => (8, 32 + 128 + 256 + 512),
        _ => return None,
    })
}

/// Row `r` of a group of which `src` is the row's part.
pub(super) fn pack(dtype: DType, src: &[u8], r: usize, dst: &mut [u8]) {
    match dtype {
        DType::Q2K => pack_q2_k(&as_blocks(src)[0], r, dst),
        DType::Q3K => pack_q3_k(&as_blocks(src)[0], r, dst),
        DType::Tq1_0 => {
            let block = &as_blocks::<BlockTq1_0>(src)[0];
            put_half(dst, r, &negative(block.d.0));
            let digits = block.digits().map(|t| 3 - t);
            for (j, q) in digits.as_chunks::<32>().0.iter().enumerate() {
                put_pairs(&mut dst[64 + 128 * j..], r, q);
            }
        }
        DType::Tq2_0 => {
            put_half(dst, r, &negative([src[64], src[65]]));
            for j in 0..8 {
                let q = two_bits_of_256(&src[..64], j).map(|t| 3 - t);
                put_pairs(&mut dst[64 + 128 * j..], r, &q);
            }
        }
        DType::Q2_0 => {
            for (i, b) in src.as_chunks::<18>().0.iter().enumerate() {
                put_half(&mut dst[32 * i..], r, &negative([b[0], b[1]]));
                for (j, qs) in b[2..].as_chunks::<8>().0.iter().enumerate() {
                    let q = std::array::from_fn(|i| 3 - (qs[i / 4] >> (i % 4 * 2) & 3));
                    put_pairs(&mut dst[64 + 128 * (2 * i + j)..], r, &q);
                }
            }
        }
        DType::Q1_0 => {
            for (i, b) in src.as_chunks::<18>().0.iter().enumerate() {
                put_half(&mut dst[32 * i..], r, &b[..2]);
                for (j, qs) in b[2..].as_chunks::<4>().0.iter().enumerate() {
                    put_fifth(&mut dst[64 + 64 * (4 * i + j)..], r, u32::from_le_bytes(*qs));
                }
            }
        }
        DType::Nvfp4 => {
            for (g, qs) in src[4..].as_chunks::<16>().0.iter().enumerate() {
                for half in 0..2 {
                    // The NaN code stands for zero, and bit 7 for nothing.
                    let scale = src[2 * g + half];
                    dst[16 * (2 * g + half) + r] = if scale == 0x7f { 0 } else { scale & 0x7f };
                }
                let q = std::array::from_fn(|i| qs[i / 16 * 8 + i % 8] >> (i / 8 % 2 * 4) & 15);
                put_nibbles(&mut dst[64 + 256 * g..], r, &q);
            }
        }
        _ => pack_codebook(dtype, src, r, dst),
    }
}

/// A half-precision number with the other sign.
fn negative(half: [u8; 2]) -> [u8; 2] {
    [half[0], half[1] ^ 0x80]
}

/// Weights `32·j ..` of the 256 two-bit numbers that q2_K, q3_K and tq2_0 store alike.
fn two_bits_of_256(qs: &[u8], j: usize) -> [u8; 32] {
    std::array::from_fn(|i| qs[32 * (j / 4) + i] >> (j % 4 * 2) & 3)
}

/// 32 weights of two bits.
fn put_pairs(dst: &mut [u8], r: usize, q: &[u8; 32]) {
    for v in 0..2 {
        for c in 0..4 {
            dst[64 * v + 4 * r + c] = (0..4).fold(0, |byte, i| byte | q[16 * v + 4 * i + c] << (2 * i));
        }
    }
}

fn pack_q2_k(block: &BlockQ2K, r: usize, dst: &mut [u8]) {
    put_half(dst, r, &block.d.0);
    put_half(&mut dst[32..], r, &negative(block.dmin.0));
    for (g, scale) in block.scales.into_iter().enumerate() {
        dst[64 + 16 * g + r] = scale;
    }
    for j in 0..8 {
        put_pairs(&mut dst[320 + 128 * j..], r, &two_bits_of_256(&block.qs, j));
    }
}

fn pack_q3_k(block: &BlockQ3K, r: usize, dst: &mut [u8]) {
    put_half(dst, r, &block.d.0);
    for g in 0..16 {
        dst[64 + 16 * g + r] = block.scale(g) as u8;
    }
    for j in 0..8 {
        let at = &mut dst[320 + 192 * j..][..192];
        put_pairs(at, r, &two_bits_of_256(&block.qs, j));
        let third = block.hmask.iter().enumerate().fold(0, |bits, (i, h)| bits | u32::from(h >> j & 1) << i);
        put_fifth(&mut at[128..], r, third);
    }
}

/// Eight signs from each of four fields of seven bits.
fn signs_of_word(word: u32) -> u32 {
    (0..4).fold(0, |bits, l| bits | u32::from(SIGNS[(word >> (7 * l) & 127) as usize]) << (8 * l))
}

fn pack_codebook(dtype: DType, src: &[u8], r: usize, dst: &mut [u8]) {
    match dtype {
        DType::Iq2Xxs => {
            let block = &as_blocks::<BlockIq2Xxs>(src)[0];
            put_half(dst, r, &block.d.0);
            for (j, &[e0, e1, e2, e3, w0, w1, w2, w3]) in block.qs.iter().enumerate() {
                let word = u32::from_le_bytes([w0, w1, w2, w3]);
                dst[32 + 16 * (j / 2) + r] |= ((word >> 28) as u8) << (j % 2 * 4);
                put_entries(&mut dst[96 + 64 * j..], r, &[e0, e1, e2, e3]);
                put_fifth(&mut dst[608 + 64 * j..], r, signs_of_word(word));
            }
        }
        DType::Iq2Xs => {
            let block = &as_blocks::<BlockIq2Xs>(src)[0];
            put_half(dst, r, &block.d.0);
            for (j, qs) in block.qs.as_chunks::<4>().0.iter().enumerate() {
                let q = qs.map(u16::from_le_bytes);
                dst[32 + 16 * j + r] = block.scales[j];
                let high = (0..4).fold(0, |bits, e| bits | ((q[e] >> 8 & 1) as u8) << e);
                dst[160 + 16 * (j / 2) + r] |= high << (j % 2 * 4);
                put_entries(&mut dst[224 + 64 * j..], r, &q.map(|q| q as u8));
                let signs = q.map(|q| SIGNS[usize::from(q >> 9)]);
                put_fifth(&mut dst[736 + 64 * j..], r, u32::from_le_bytes(signs));
            }
        }
        DType::Iq2S => {
            let block = &as_blocks::<BlockIq2S>(src)[0];
            put_half(dst, r, &block.d.0);
            for (j, (qs, signs)) in block.qs.as_chunks::<4>().0.iter().zip(block.signs.as_chunks().0).enumerate() {
                dst[32 + 16 * j + r] = block.scales[j];
                dst[160 + 16 * j + r] = block.qh[j];
                put_entries(&mut dst[288 + 64 * j..], r, qs);
                put_fifth(&mut dst[800 + 64 * j..], r, u32::from_le_bytes(*signs));
            }
        }
        DType::Iq3Xxs => {
            let block = &as_blocks::<BlockIq3Xxs>(src)[0];
            put_half(dst, r, &block.d.0);
            for (j, (qs, word)) in block.qs.as_chunks::<8>().0.iter().zip(block.words).enumerate() {
                let word = u32::from_le_bytes(word);
                dst[32 + 16 * (j / 2) + r] |= ((word >> 28) as u8) << (j % 2 * 4);
                put_entries(&mut dst[96 + 128 * j..], r, qs);
                put_fifth(&mut dst[1120 + 64 * j..], r, signs_of_word(word));
            }
        }
        DType::Iq3S => {
            let block = &as_blocks::<BlockIq3S>(src)[0];
            put_half(dst, r, &block.d.0);
            for (j, (qs, signs)) in block.qs.as_chunks::<8>().0.iter().zip(block.signs.as_chunks().0).enumerate() {
                dst[32 + 16 * (j / 2) + r] |= (block.scales[j / 2] >> (j % 2 * 4) & 15) << (j % 2 * 4);
                dst[96 + 16 * j + r] = block.qh[j];
                put_entries(&mut dst[224 + 128 * j..], r, qs);
                put_fifth(&mut dst[1248 + 64 * j..], r, u32::from_le_bytes(*signs));
            }
        }
        DType::Iq1S => {
            let block = &as_blocks::<BlockIq1S>(src)[0];
            put_half(dst, r, &block.d.0);
            for (j, (qs, qh)) in block.qs.as_chunks::<4>().0.iter().zip(block.qh).enumerate() {
                dst[32 + 16 * j + r] = qh[0];
                dst[160 + 16 * j + r] = qh[1];
                put_entries(&mut dst[288 + 64 * j..], r, qs);
            }
        }
        DType::Iq1M => {
            let block = &as_blocks::<BlockIq1M>(src)[0];
            put_half(dst, r, &block.d().0);
            for (j, (qs, qh)) in block.qs.as_chunks::<4>().0.iter().zip(block.qh.as_chunks::<2>().0).enumerate() {
                dst[32 + 16 * j + r] = block.scale(2 * j) | block.scale(2 * j + 1) << 4;
                put_half(&mut dst[160 + 32 * j..], r, qh);
                put_entries(&mut dst[416 + 64 * j..], r, qs);
            }
        }
        _ => unreachable!("`group` has just these types"),
    }
}

/// Row `r`'s codebook numbers of 32 weights.
fn put_entries<const N: usize>(dst: &mut [u8], r: usize, entries: &[u8; N]) {
    dst[N * r..][..N].copy_from_slice(entries);
}
