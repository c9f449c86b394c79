//! Reads memory as fast as the machine can, with prefetches where the kernels use them: the probe for the limit that decoding is measured against.

use super::isa::Level;
#[cfg(target_arch = "x86_64")]
use super::isa::prefetch_distance;

/// XOR of all whole 64-bit words: reads every byte and does little else.
pub fn checksum(level: Level, bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    match level.or_best() {
        // SAFETY: the level is available.
        Level::Avx512 | Level::Avx512Bf16 => return unsafe { checksum_avx512(bytes) },
        // SAFETY: the level is available.
        Level::Avx2 => return unsafe { checksum_avx2(bytes) },
        _ => {}
    }
    // The compiler vectorises this for what every processor of the target has: on AArch64 that is NEON.
    let _ = level;
    words(bytes)
}

fn words(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(8).fold(0, |sum, w| sum ^ u64::from_ne_bytes([w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]]))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn checksum_avx512(bytes: &[u8]) -> u64 {
    use std::arch::x86_64::{
        _MM_HINT_T1, _mm_prefetch, _mm512_loadu_si512, _mm512_reduce_add_epi64, _mm512_setzero_si512, _mm512_xor_si512,
    };
    let mut sums = [_mm512_setzero_si512(); 8];
    let chunks = bytes.chunks_exact(512);
    let rest = words(chunks.remainder());
    let ahead = prefetch_distance();
    for chunk in chunks {
        if ahead > 0 {
            for line in (0..512).step_by(64) {
                _mm_prefetch::<_MM_HINT_T1>(chunk.as_ptr().wrapping_add(ahead + line).cast());
            }
        }
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: 64 bytes at 64·i of a chunk of 512.
            *sum = _mm512_xor_si512(*sum, unsafe { _mm512_loadu_si512(chunk.as_ptr().add(64 * i).cast()) });
        }
    }
    let all = sums.iter().fold(_mm512_setzero_si512(), |a, &b| _mm512_xor_si512(a, b));
    _mm512_reduce_add_epi64(all) as u64 ^ rest
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn checksum_avx2(bytes: &[u8]) -> u64 {
    use std::arch::x86_64::{
        _MM_HINT_T1, _mm_prefetch, _mm256_extract_epi64, _mm256_loadu_si256, _mm256_setzero_si256, _mm256_xor_si256,
    };
    let mut sums = [_mm256_setzero_si256(); 8];
    let chunks = bytes.chunks_exact(256);
    let rest = words(chunks.remainder());
    let ahead = prefetch_distance();
    for chunk in chunks {
        if ahead > 0 {
            for line in (0..256).step_by(64) {
                _mm_prefetch::<_MM_HINT_T1>(chunk.as_ptr().wrapping_add(ahead + line).cast());
            }
        }
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: 32 bytes at 32·i of a chunk of 256.
            *sum = _mm256_xor_si256(*sum, unsafe { _mm256_loadu_si256(chunk.as_ptr().add(32 * i).cast()) });
        }
    }
    let all = sums.iter().fold(_mm256_setzero_si256(), |a, &b| _mm256_xor_si256(a, b));
    (_mm256_extract_epi64::<0>(all) ^ _mm256_extract_epi64::<1>(all) ^ _mm256_extract_epi64::<2>(all)) as u64
        ^ _mm256_extract_epi64::<3>(all) as u64
        ^ rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts_on_every_level() {
        let bytes: Vec<u8> = (0..2048 + 24).map(|i| (i * 37 % 251) as u8).collect();
        for level in Level::available() {
            let whole = checksum(level, &bytes);
            for flipped in (0..bytes.len()).step_by(7) {
                let mut other = bytes.clone();
                other[flipped] ^= 1;
                assert_ne!(checksum(level, &other), whole, "byte {flipped} at {level}");
            }
        }
    }
}
