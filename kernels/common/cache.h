// Writing values into a KV cache: f32, f16 or bf16, rounded to nearest, ties to even, or blocks of q8_0.
//
// A row of a q8_0 cache is that of ggml's blocks, on devices as on the CPU: what reads states, or a graph without fusion that dequantizes
// them, need not know where they were written. A head's rows follow each other without gaps, so that waves read one run of bytes.
#pragma once
#include "portable.h"

#define CACHE_F32 0
#define CACHE_F16 1
#define CACHE_BF16 2
#define CACHE_Q8_0 3

// A block of q8_0: x = d · q; at any even address.
//
// byte  0    2                                         34
//       | d  | qs: 32 signed bytes                      |
constexpr int Q8_0_LEN = 32;
constexpr int Q8_0_BYTES = 34;

DEVICE void store_cached(char* row, int i, float v, int type) {
    if (type == CACHE_F16) {
        ((half_t*)row)[i] = float_to_half(v);
    } else if (type == CACHE_BF16) {
        ((u16*)row)[i] = float_to_bf16(v);
    } else {
        ((float*)row)[i] = v;
    }
}

// Element i of a row of q8_0, where 32 lanes, the first at a multiple of 32, have the 32 elements of a block. The rounding is that of ggml's
// reference: d = max |x| / 127, q = x / d to nearest, ties away from zero, by the inverse of d before that becomes f16. A NaN
// gives q = 0, and no scale.
DEVICE void store_block(char* row, int i, float v) {
    const float size = abs_f32(v);
    const float d = wave_max<Q8_0_LEN>(size >= 0.0f ? size : 0.0f) / 127.0f;
    const float scaled = round_away(v * (d != 0.0f ? 1.0f / d : 0.0f));
    // Infinities, and elements whose inverse scale overflows, have no byte.
    const int q = abs_f32(scaled) <= 127.0f ? (int)scaled : 0;
    char* block = row + i / Q8_0_LEN * Q8_0_BYTES;
    block[2 + i % Q8_0_LEN] = (char)q;
    if (i % Q8_0_LEN == 0) *(half_t*)block = float_to_half(d);
}
