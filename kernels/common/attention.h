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
    Strided k;     // [d, positions, kv_heads]; of q8_0 the codes (cache.h), or blocks
    Strided v;     // [d_v, positions, kv_heads]
    Strided out;   // f32 [d_v, heads, T]
    Strided mask;  // f32 [positions, T], added to the scores; address 0: none
    const int* kv_start;
    const int* kv_slot;
    u8* scratch;
    const char *k_scales, *v_scales;  // of codes
    float scale, softcap;
    int heads, kv_heads, tokens, d, d_v;
    int causal, window;
    int positions;  // that the cache has; where not causal, that are seen
    int splits;     // decode: blocks that share a token's positions
    int parts;      // decode: blocks that share a kv head's query heads
    int early;      // one token, whose position alone this step's kernels write in caches: the last that it sees
    int unused;
};
static_assert(sizeof(AttentionArgs) == 256, "as in steps/attention.rs");

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

// Rows of q8_0: codes and their scales, or ggml's blocks of 34 bytes, a scale before its 32 elements.
struct q8_0_t {};
struct q8_0_block_t {};
DEVICE float half_bits_float(u16 bits) {
    half_t h;
    __builtin_memcpy(&h, &bits, 2);
    return half_to_float(h);
}

// The codes and the scales of a head of q8_0.
struct CodeRows {
    const char *codes, *scales;
    int pitch;  // at most 2^31 − 1: an address then is one instruction
    DEVICE_MEMBER CodeRows(const Strided& x, const char* scales, int head)
        : codes(x.ptr + head * x.nb[2]), scales(scales + head * (x.nb[2] / Q8_0_CODES_PER_SCALE_BYTE)), pitch((int)x.nb[1]) {}
    DEVICE_MEMBER const char* codes_of(int position) const { return codes + (i64)position * pitch; }
    DEVICE_MEMBER const char* scales_of(int position) const { return scales + (i64)position * (pitch / Q8_0_CODES_PER_SCALE_BYTE); }
};

// The rows of a head as elements.
template <class T> struct HeadRows {
    const char* first;
    i64 pitch, step;
    DEVICE_MEMBER HeadRows(const Strided& x, const char*, int head, int) : first(x.ptr + head * x.nb[2]), pitch(x.nb[1]), step(x.nb[0]) {}
    DEVICE_MEMBER float value(int position, int i) const { return to_float(*(const T*)(first + position * pitch + i * step)); }
};
template <> struct HeadRows<q8_0_block_t> {
    const char* first;
    i64 pitch, step;
    DEVICE_MEMBER HeadRows(const Strided& x, const char*, int head, int) : first(x.ptr + head * x.nb[2]), pitch(x.nb[1]), step(x.nb[0]) {}
    DEVICE_MEMBER float value(int position, int i) const {
        const char* block = first + position * pitch + i / Q8_0_LEN * step;
        return half_bits_float(*(const u16*)block) * (float)((const i8*)block)[2 + i % Q8_0_LEN];
    }
};
template <> struct HeadRows<q8_0_t> : CodeRows {
    int blocks;
    DEVICE_MEMBER HeadRows(const Strided& x, const char* scales, int head, int d) : CodeRows(x, scales, head), blocks(d / Q8_0_LEN) {}
    DEVICE_MEMBER float value(int position, int i) const {
        int code = ((const u8*)codes_of(position))[code_place(i, blocks)];
        return half_bits_float(((const u16*)scales_of(position))[i / Q8_0_LEN]) * (float)(code - 128);
    }
};

// Eight elements of a row, loaded by 16 bytes; of q8_0 two words of codes, and the scales of their blocks, by which what is computed with
// them is multiplied.
template <class T> struct Eight {
    u32x4 raw;
};
template <> struct Eight<float> {
    f32x4 lo, hi;
};
template <> struct Eight<q8_0_t> {
    u32x2 codes;
    u16 scale[2];
};

// The rows of a head for a lane that takes eight elements of each: those from `at` on, a multiple of eight; of q8_0 those whose codes are there.
template <class T> struct LaneRows {
    const char* mine;
    i64 pitch;
    DEVICE_MEMBER LaneRows(const Strided& x, const char*, int head, int, int at) : mine(x.ptr + head * x.nb[2] + at * (int)sizeof(T)), pitch(x.nb[1]) {}
    DEVICE_MEMBER void load(Eight<T>& e, int position) const { e.raw = *(const u32x4*)(mine + position * pitch); }
    // Where the first four (i = 0) and the last four of the lane's elements begin in a row of `d`.
    static DEVICE_MEMBER int element(int at, int, int i) { return at + 4 * i; }
};
template <> DEVICE_MEMBER void LaneRows<float>::load(Eight<float>& e, int position) const {
    e.lo = ((const f32x4*)(mine + position * pitch))[0];
    e.hi = ((const f32x4*)(mine + position * pitch))[1];
}
template <> struct LaneRows<q8_0_t> : CodeRows {
    int second;  // how much farther the scale of the second word is than that of the first
    DEVICE_MEMBER LaneRows(const Strided& x, const char* scales, int head, int d, int at) : CodeRows(x, scales, head) {
        int blocks = d / Q8_0_LEN, block = at / 4 % blocks;
        codes += at;
        this->scales += block * 2;
        second = ((block + 1) % blocks - block) * 2;
    }
    DEVICE_MEMBER void load(Eight<q8_0_t>& e, int position) const {
        const char* scale = scales_of(position);
        e.codes = *(const u32x2*)codes_of(position);
        e.scale[0] = *(const u16*)scale;
        e.scale[1] = *(const u16*)(scale + second);
    }
    static DEVICE_MEMBER int element(int at, int d, int i) { return word_element(at / 4 + i, d / Q8_0_LEN); }
};

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
// Not yet multiplied by their scales.
DEVICE void widen8(float* out, const Eight<q8_0_t>& e) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        u32 word = i < 4 ? e.codes.x : e.codes.y;
#if defined(GPU_NVIDIA)
        // 2^23 + code: conversions of bytes are slower there.
        out[i] = bits_to_float(__byte_perm(word, 0x4b000000u, 0x7650u + (u32)(i % 4))) - 8388736.0f;
#else
        out[i] = (float)(word >> 8 * (i % 4) & 255u) - 128.0f;
#endif
    }
}
// Their dot product with x, and what a factor for all of them becomes for the first four (i = 0) and the last four.
template <class T> DEVICE float dot8(const float* q, const float* x, const Eight<T>&) {
    float dot = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) dot = fma_f32(q[i], x[i], dot);
    return dot;
}
DEVICE float dot8(const float* q, const float* x, const Eight<q8_0_t>& e) {
    float dot[2] = {};
#pragma unroll
    for (int i = 0; i < 8; i++) dot[i / 4] = fma_f32(q[i], x[i], dot[i / 4]);
    return fma_f32(half_bits_float(e.scale[1]), dot[1], half_bits_float(e.scale[0]) * dot[0]);
}
template <class T> DEVICE float scaled(const Eight<T>&, float factor, int) { return factor; }
DEVICE float scaled(const Eight<q8_0_t>& e, float factor, int i) { return half_bits_float(e.scale[i]) * factor; }
