// Writing what a thread has dequantized, 32 values, where the values of a block's threads lie side by side.
#pragma once
#include "portable.h"

#define STORE_THREADS 128
// Words of LDS that a block needs; `words` is how many words 32 values take: 32 of f32, 16 of half. Four more for each thread keep the
// lanes of a wave on different banks.
#define STORE_TILE(words) (STORE_THREADS * ((words) + 4))

DEVICE void pack(const float* values, u32 (&words)[32], const float*) {
#pragma unroll
    for (int i = 0; i < 32; i++) words[i] = float_to_bits(values[i]);
}
DEVICE u32 half_bits(float f) {
    half_t h = float_to_half(f);
    u16 bits;
    __builtin_memcpy(&bits, &h, 2);
    return bits;
}
DEVICE void pack(const float* values, u32 (&words)[16], const half_t*) {
#pragma unroll
    for (int i = 0; i < 16; i++) words[i] = half_bits(values[2 * i]) | half_bits(values[2 * i + 1]) << 16;
}

// Group `index` of `total` groups of 32 values that lie one after the other in `out`. All threads of the block take part, those with
// an index beyond the last too; indices rise with the thread.
template <class Out> DEVICE void store_groups(const float* values, Out* out, int index, int total, u32* tile) {
    constexpr int words = 32 * (int)sizeof(Out) / 4, stride = words + 4, quads = words / 4;
    u32 packed[words];
    pack(values, packed, out);
    int lane = lane_id(), first = index - lane;
    u32* wave_tile = tile + (thread_id() - lane) * stride;
#pragma unroll
    for (int i = 0; i < quads; i++) {
        *(u32x4*)(wave_tile + lane * stride + 4 * i) = u32x4{packed[4 * i], packed[4 * i + 1], packed[4 * i + 2], packed[4 * i + 3]};
    }
    sync_wave();
    u32x4* target = (u32x4*)(out + (i64)first * 32);
#pragma unroll
    for (int i = 0; i < quads; i++) {
        int quad = i * WAVE + lane, group = quad / quads;
        if (first + group < total) target[quad] = *(const u32x4*)(wave_tile + group * stride + quad % quads * 4);
    }
}

// Four values at a multiple of four elements.
DEVICE void store_quad(float* out, f32x4 v) { *(f32x4*)out = v; }
DEVICE void store_quad(half_t* out, f32x4 v) { *(u32x2*)out = u32x2{half_bits(v.x) | half_bits(v.y) << 16, half_bits(v.z) | half_bits(v.w) << 16}; }

DEVICE void store_value(float* out, float v) { *out = v; }
DEVICE void store_value(half_t* out, float v) { *out = float_to_half(v); }
// The first `count` of 32 values, one by one.
template <class Out> DEVICE void store_partial(const float* values, Out* out, int count) {
#pragma unroll
    for (int i = 0; i < 32; i++) {
        if (i < count) store_value(out + i, values[i]);
    }
}
