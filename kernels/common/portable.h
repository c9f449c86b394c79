// What every kernel includes: one dialect for AMD (clang, no HIP headers), NVIDIA (nvcc) and the host (the emulator of host.h).
//
// KERNEL(name, threads, (params)) { … } declares a kernel whose blocks have exactly `threads` threads in one dimension.
// WAVE is the number of lanes that run together: 32 on RDNA and NVIDIA, 64 on CDNA, either on the host.
#pragma once

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#if defined(HOST_DEVICE)
#include "host.h"
#elif defined(__CUDACC__) || defined(__CUDA__)
#include "nvidia.h"
#else
#include "amd.h"
#endif

// ---- plain data -----------------------------------------------------------------------------------------------------------------

struct alignas(16) u32x4 {
    u32 x, y, z, w;
};
struct alignas(8) u32x2 {
    u32 x, y;
};
struct alignas(16) f32x4 {
    float x, y, z, w;
};
struct alignas(8) f32x2 {
    float x, y;
};

// A tensor as a step sees it: `ne` elements and `nb` bytes between neighbours in four dimensions (nb[0] between blocks for quantized types).
struct View {
    char* ptr;
    int ne[4];
    i64 nb[4];
};

DEVICE char* at(const View& v, int i0, int i1, int i2, int i3) {
    return v.ptr + (i64)i0 * v.nb[0] + (i64)i1 * v.nb[1] + (i64)i2 * v.nb[2] + (i64)i3 * v.nb[3];
}
DEVICE float* f32_at(const View& v, int i0, int i1, int i2, int i3) { return (float*)at(v, i0, i1, i2, i3); }

// The first index that was out of range: {step + 1, index}. The host looks at it after a run.
struct Fault {
    u32 step;
    int index;
};
DEVICE void note_fault(Fault* fault, int step, int index) {
    if (atomic_cas(&fault->step, 0u, (u32)step + 1u) == 0u) fault->index = index;
}

// ---- bits and conversions -------------------------------------------------------------------------------------------------------

DEVICE float bits_to_float(u32 b) {
    union {
        u32 u;
        float f;
    } x;
    x.u = b;
    return x.f;
}
DEVICE u32 float_to_bits(float f) {
    union {
        float f;
        u32 u;
    } x;
    x.f = f;
    return x.u;
}
DEVICE float bf16_to_float(u16 b) { return bits_to_float((u32)b << 16); }
// To nearest, ties to even; NaN stays NaN.
DEVICE u16 float_to_bf16(float f) {
    u32 b = float_to_bits(f);
    if ((b & 0x7fffffffu) > 0x7f800000u) return (u16)((b >> 16) | 0x40u);
    return (u16)((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
}

template <class T> DEVICE T min_of(T a, T b) { return b < a ? b : a; }
template <class T> DEVICE T max_of(T a, T b) { return a < b ? b : a; }
DEVICE int div_up(int a, int b) { return (a + b - 1) / b; }

// ---- waves and blocks -----------------------------------------------------------------------------------------------------------

// Sum over `width` neighbouring lanes (a power of two); every lane has it afterwards, the same bits in each.
template <int width = WAVE> DEVICE float wave_sum(float v) {
#pragma unroll
    for (int m = width / 2; m > 0; m >>= 1) v += shfl_xor(v, m);
    return v;
}
template <int width = WAVE> DEVICE int wave_sum(int v) {
#pragma unroll
    for (int m = width / 2; m > 0; m >>= 1) v += shfl_xor(v, m);
    return v;
}
template <int width = WAVE> DEVICE float wave_max(float v) {
#pragma unroll
    for (int m = width / 2; m > 0; m >>= 1) v = max_of(v, shfl_xor(v, m));
    return v;
}
// Sum and maximum over a block of `threads` threads; `shared` has threads / WAVE elements. All threads take part. Ends with a barrier.
template <int threads> DEVICE float block_sum(float v, float* shared) {
    v = wave_sum(v);
    if (threads > WAVE) {
        if (lane_id() == 0) shared[thread_id() / WAVE] = v;
        sync_threads();
        v = shared[0];
#pragma unroll
        for (int i = 1; i < threads / WAVE; i++) v += shared[i];
        sync_threads();
    }
    return v;
}
template <int threads> DEVICE float block_max(float v, float* shared) {
    v = wave_max(v);
    if (threads > WAVE) {
        if (lane_id() == 0) shared[thread_id() / WAVE] = v;
        sync_threads();
        v = shared[0];
#pragma unroll
        for (int i = 1; i < threads / WAVE; i++) v = max_of(v, shared[i]);
        sync_threads();
    }
    return v;
}

// ---- mathematics ----------------------------------------------------------------------------------------------------------------

// 1 / (1 + e^-x), saturating.
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp_f32(-x)); }
DEVICE float silu(float x) { return x / (1.0f + exp_f32(-x)); }
// tanh by e^-2|x|; small x by its series, where the difference would cancel.
DEVICE float tanh_f32(float x) {
    float a = abs_f32(x);
    float r;
    if (a < 0.25f) {
        float s = x * x;
        return x * (1.0f + s * (-0.33333334f + s * (0.13333334f + s * (-0.053968254f + s * (0.021869488f + s * -0.008863236f)))));
    }
    float e = exp_f32(-2.0f * a);
    r = (1.0f - e) / (1.0f + e);
    return x < 0.0f ? -r : r;
}
// 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), the form that ggml and PyTorch call gelu (tanh).
DEVICE float gelu(float x) { return 0.5f * x * (1.0f + tanh_f32(0.79788456f * x * (1.0f + 0.044715f * x * x))); }
