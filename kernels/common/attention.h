// What the attention kernels share: their arguments, the positions that a token sees, the scaling of scores, cache elements.
// Softmax is in base 2: scores are scaled by log2 e, so that e^(s − max) is one exp2.
#pragma once
#include "cache.h"

// A tensor of three dimensions without its sizes: a captured graph must not know how long the cache is now.
struct Strided {
    char* ptr;
    i64 nb[3];
};

// Arguments of every attention kernel (`AttentionArgs` in steps/attention.rs).
struct AttentionArgs {
    Strided q;     // f32 [d, heads, T]
    Strided k;     // [d, positions, kv_heads]
    Strided v;     // [d_v, positions, kv_heads]
    Strided out;   // f32 [d_v, heads, T]
    Strided mask;  // f32 [positions, T], added to the scores; address 0: none
    const int* kv_start;
    const int* kv_slot;
    u8* scratch;
    float scale, softcap;
    int heads, kv_heads, tokens, d, d_v;
    int causal, window;
    int positions;  // that the cache has; where not causal, that are seen
    int splits;     // decode: blocks that share a token's positions
    int parts;      // decode: blocks that share a kv head's query heads
    int early;      // one token, whose position alone this step's kernels write in caches: the last that it sees
    int unused;
};
static_assert(sizeof(AttentionArgs) == 240, "as in steps/attention.rs");

constexpr float LOG2E = 1.4426950408889634f;
constexpr float NEG_INFINITY = -__builtin_huge_valf();
// Below every score, and finite: the difference of two of them is 0, not NaN.
constexpr float NO_SCORE = -1e30f;

// The positions [first, end) that token t sees.
struct Visible {
    int first, end;
};
DEVICE Visible visible(const AttentionArgs& a, int t) {
    Visible v;
    if (!a.kv_slot) {
        // Without tables every token sees all.
        v.first = 0;
        v.end = a.positions;
        return v;
    }
    int slot = a.kv_slot[t];
    v.first = max_of(a.kv_start[t], 0);
    if (a.window > 0) v.first = max_of(v.first, max_of(slot, 0) + 1 - a.window);
    v.end = a.causal ? max_of(slot, -1) + 1 : a.positions;
    v.end = max_of(min_of(v.end, a.positions), v.first);
    return v;
}

// Query elements are multiplied by this; what a dot product then lacks, `capped` does.
DEVICE float query_scale(const AttentionArgs& a) { return a.softcap > 0.0f ? a.scale / a.softcap : a.scale * LOG2E; }
DEVICE float capped(const AttentionArgs& a, float x) { return a.softcap > 0.0f ? a.softcap * LOG2E * tanh_f32(x) : x; }

// ---- elements of a cache --------------------------------------------------------------------------------------------------------

struct bf16_t {
    u16 bits;
};
DEVICE float to_float(float x) { return x; }
DEVICE float to_float(half_t x) { return half_to_float(x); }
DEVICE float to_float(bf16_t x) { return bf16_to_float(x.bits); }

// Rows of blocks of q8_0.
struct q8_0_t {};
DEVICE float half_bits_float(u16 bits) {
    half_t h;
    __builtin_memcpy(&h, &bits, 2);
    return half_to_float(h);
}

// How far element i is from the start of its row, if `step` bytes are between neighbours (between blocks), and its value there.
template <class T> struct Row {
    static DEVICE_MEMBER i64 place(int i, i64 step) { return i * step; }
    static DEVICE_MEMBER float value(const char* p, int) { return to_float(*(const T*)p); }
};
template <> struct Row<q8_0_t> {
    static DEVICE_MEMBER i64 place(int i, i64 step) { return i / Q8_0_LEN * step + 2 + i % Q8_0_LEN; }
    static DEVICE_MEMBER float value(const char* p, int i) { return half_bits_float(*(const u16*)(p - 2 - i % Q8_0_LEN)) * (float)*(const i8*)p; }
};

// Eight neighbouring elements, the first `at` (a multiple of eight) of a row, loaded by 16 bytes; of q8_0 their bytes and their block's scale,
// by which what is computed with them is multiplied.
template <class T> struct Eight {
    u32x4 raw;
};
template <> struct Eight<float> {
    f32x4 lo, hi;
};
template <> struct Eight<q8_0_t> {
    u32x2 bytes;
    u16 scale;
};
template <class T> DEVICE void load8(Eight<T>& e, const char* p, int) { e.raw = *(const u32x4*)p; }
// The bytes are at any even address.
DEVICE void load8(Eight<q8_0_t>& e, const char* p, int at) {
    e.scale = *(const u16*)(p - 2 - at % Q8_0_LEN);
#if defined(GPU_NVIDIA)
    // Whole words, shifted together; the third is the second again where the first begins with the bytes.
    const int odd = (int)((u64)p & 2);
    const u32* first = (const u32*)(p - odd);
    u32 x = first[0], y = first[1], z = *(const u32*)(p - odd + 4 + 2 * odd);
    e.bytes = u32x2{funnel_right(x, y, odd * 8), funnel_right(y, z, odd * 8)};
#else
    __builtin_memcpy(&e.bytes, p, 8);
#endif
}
DEVICE void load8(Eight<float>& e, const char* p, int) {
    e.lo = ((const f32x4*)p)[0];
    e.hi = ((const f32x4*)p)[1];
}
template <class T> DEVICE void widen8(float* out, const Eight<T>& e) {
    union {
        u32x4 raw;
        T x[8];
    } u;
    u.raw = e.raw;
#pragma unroll
    for (int i = 0; i < 8; i++) out[i] = to_float(u.x[i]);
}
DEVICE void widen8(float* out, const Eight<float>& e) {
    out[0] = e.lo.x, out[1] = e.lo.y, out[2] = e.lo.z, out[3] = e.lo.w;
    out[4] = e.hi.x, out[5] = e.hi.y, out[6] = e.hi.z, out[7] = e.hi.w;
}
// Not yet multiplied by their scale.
DEVICE void widen8(float* out, const Eight<q8_0_t>& e) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        u32 word = i < 4 ? e.bytes.x : e.bytes.y;
#if defined(GPU_NVIDIA)
        // 2^23 + 128 + q: conversions of bytes are slower there.
        out[i] = bits_to_float(__byte_perm(word ^ 0x80808080u, 0x4b000000u, 0x7650u + (u32)(i % 4))) - 8388736.0f;
#else
        out[i] = (float)(i8)(word >> 8 * (i % 4));
#endif
    }
}
// What scores and probabilities are multiplied by for them.
template <class T> DEVICE float scaled(const Eight<T>&, float x) { return x; }
DEVICE float scaled(const Eight<q8_0_t>& e, float x) { return half_bits_float(e.scale) * x; }
