// What the attention kernels share: their arguments, the positions that a token sees, the scaling of scores, cache elements.
// Softmax is in base 2: scores are scaled by log2 e, so that e^(s − max) is one exp2.
#pragma once
#include "portable.h"

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

// Eight neighbouring elements, loaded by 16 bytes.
template <class T> struct Eight {
    u32x4 raw;
};
template <> struct Eight<float> {
    f32x4 lo, hi;
};
template <class T> DEVICE void load8(Eight<T>& e, const char* p) { e.raw = *(const u32x4*)p; }
DEVICE void load8(Eight<float>& e, const char* p) {
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
