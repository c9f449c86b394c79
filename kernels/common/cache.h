// Writing a value into a KV cache: f32, f16 or bf16, rounded to nearest, ties to even.
#pragma once
#include "portable.h"

#define CACHE_F32 0
#define CACHE_F16 1
#define CACHE_BF16 2

DEVICE void store_cached(char* row, int i, float v, int type) {
    if (type == CACHE_F16) {
        ((half_t*)row)[i] = float_to_half(v);
    } else if (type == CACHE_BF16) {
        ((u16*)row)[i] = float_to_bf16(v);
    } else {
        ((float*)row)[i] = v;
    }
}
