// Writing values into a KV cache: f32, f16 or bf16, rounded to nearest, ties to even, or blocks of q8_0.
//
// Devices keep a cache of q8_0 in two planes that together are as large as ggml's blocks (src/backends/hip/states.rs): the codes of all rows,
// then their scales, so that 16 bytes at a time can be read. A head's rows follow each other without gaps, so that waves read one run of bytes.
#pragma once
#include "portable.h"

#define CACHE_F32 0
#define CACHE_F16 1
#define CACHE_BF16 2
#define CACHE_Q8_0 3

// A row of q8_0 of `blocks` blocks of 32 elements, x = d · q, is 32 · blocks codes and `blocks` scales d of f16. A code is q + 128. Four
// neighbouring elements make a word; the words of the blocks take turns, so that eight lanes read the same words of all blocks at once:
//
// byte  0              4              8                4 · blocks
//       | block 0, 0–3 | block 1, 0–3 | …              | block 0, 4–7 | block 1, 4–7 | …
constexpr int Q8_0_LEN = 32;
// Codes of a row lie so many times as far from the first of the cache as its scales do.
constexpr int Q8_0_CODES_PER_SCALE_BYTE = 16;

// Where the code of element i lies in its row.
DEVICE int code_place(int i, int blocks) { return (i % Q8_0_LEN / 4 * blocks + i / Q8_0_LEN) * 4 + i % 4; }
// The first of the four elements whose codes are word `word` of their row.
DEVICE int word_element(int word, int blocks) { return word % blocks * Q8_0_LEN + word / blocks * 4; }

DEVICE void store_cached(char* row, int i, float v, int type) {
    if (type == CACHE_F16) {
        ((half_t*)row)[i] = float_to_half(v);
    } else if (type == CACHE_BF16) {
        ((u16*)row)[i] = float_to_bf16(v);
    } else {
        ((float*)row)[i] = v;
    }
}

// The scales of the row whose codes begin at `codes`, in a cache whose first codes and scales are at `first` and `scales`.
template <class Char> DEVICE Char* scales_of(Char* scales, const char* first, const char* codes) { return scales + (codes - first) / Q8_0_CODES_PER_SCALE_BYTE; }

// Element i of a row of q8_0, where 32 lanes, the first at a multiple of 32, have the 32 elements of a block. The rounding is that of ggml's
// reference: d = max |x| / 127, q = x / d to nearest, ties away from zero, by the inverse of d before that becomes f16. A NaN
// gives q = 0, and no scale.
DEVICE void store_block(char* codes, char* scales, int blocks, int i, float v) {
    const float size = abs_f32(v);
    const float d = wave_max<Q8_0_LEN>(size >= 0.0f ? size : 0.0f) / 127.0f;
    const float scaled = round_away(v * (d != 0.0f ? 1.0f / d : 0.0f));
    // Infinities, and elements whose inverse scale overflows, have no byte.
    const int q = abs_f32(scaled) <= 127.0f ? (int)scaled : 0;
    ((u8*)codes)[code_place(i, blocks)] = (u8)(q + 128);
    if (i % Q8_0_LEN == 0) ((half_t*)scales)[i / Q8_0_LEN] = float_to_half(d);
}
