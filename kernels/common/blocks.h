// Raw blocks: what the bytes of a GGUF row mean, for every type of weights. dequantize32<TYPE>(row, group, out) gives elements
// 32 group … 32 group + 31 of a row, with the bits that src/tensor/quant gives: products and sums are rounded one after the other.
//
// The bit pictures are in src/tensor/quant, one file a format. Blocks lie at multiples of the power of two in their size (q4_0: 2 bytes,
// q4_K: 16, mxfp4: 1), which is what a row's start must be aligned to, up to 4.
#pragma once
#include "floats.h"
#include "portable.h"

// Every type that a weight can have: name, number (GGUF's; from 1000 on those that GGUF has no number for), elements and bytes of a block.
// src/backends/hip/raw.rs has the numbers from DType; a test compares the lists.
#define FOR_EACH_FLOAT_TYPE(X) \
    X(f32, 0, 1, 4)            \
    X(f16, 1, 1, 2)            \
    X(bf16, 30, 1, 2)
// Small blocks: whole numbers times a scale (and a minimum), then codes that stand for values.
#define FOR_EACH_SIMPLE_TYPE(X) \
    X(q4_0, 2, 32, 18)          \
    X(q4_1, 3, 32, 20)          \
    X(q5_0, 6, 32, 22)          \
    X(q5_1, 7, 32, 24)          \
    X(q8_0, 8, 32, 34)          \
    X(q1_0, 41, 128, 18)        \
    X(q2_0, 42, 64, 18)
#define FOR_EACH_CODE_TYPE(X)   \
    X(iq4_nl, 20, 32, 18)       \
    X(mxfp4, 39, 32, 17)        \
    X(nvfp4, 40, 64, 36)        \
    X(mxfp6_e2m3, 1000, 32, 25) \
    X(mxfp6_e3m2, 1001, 32, 25)
// Super-blocks, without and with a codebook.
#define FOR_EACH_K_TYPE(X)   \
    X(q2_K, 10, 256, 84)     \
    X(q3_K, 11, 256, 110)    \
    X(q4_K, 12, 256, 144)    \
    X(q5_K, 13, 256, 176)    \
    X(q6_K, 14, 256, 210)    \
    X(iq4_xs, 23, 256, 136)  \
    X(tq1_0, 34, 256, 54)    \
    X(tq2_0, 35, 256, 66)
#define FOR_EACH_IQ_TYPE(X)  \
    X(iq2_xxs, 16, 256, 66)  \
    X(iq2_xs, 17, 256, 74)   \
    X(iq3_xxs, 18, 256, 98)  \
    X(iq1_s, 19, 256, 50)    \
    X(iq3_s, 21, 256, 110)   \
    X(iq2_s, 22, 256, 82)    \
    X(iq1_m, 29, 256, 56)

#define DECLARE_TYPE(name, id, len, bytes) constexpr int DTYPE_##name = id;
FOR_EACH_FLOAT_TYPE(DECLARE_TYPE)
FOR_EACH_SIMPLE_TYPE(DECLARE_TYPE)
FOR_EACH_CODE_TYPE(DECLARE_TYPE)
FOR_EACH_K_TYPE(DECLARE_TYPE)
FOR_EACH_IQ_TYPE(DECLARE_TYPE)
#undef DECLARE_TYPE

// A matrix of raw rows: row r begins at data + r * row_bytes and has k elements.
struct RawMatrix {
    const u8* data;
    i64 row_bytes;
    int rows;
    int k;
};
static_assert(sizeof(RawMatrix) == 24, "as in src/backends/hip/raw.rs");

// ---- loads ----------------------------------------------------------------------------------------------------------------------

// Little-endian words at a multiple of `align` bytes. AMD reads words anywhere; NVIDIA takes the aligned words around them.
template <int align, int count> DEVICE void load_words(const u8* p, u32 (&w)[count]) {
#if defined(GPU_AMD)
    typedef u32 __attribute__((aligned(1), may_alias)) any_u32;
#pragma unroll
    for (int i = 0; i < count; i++) w[i] = ((const any_u32*)p)[i];
#elif defined(GPU_NVIDIA)
    u32 shift = align >= 4 ? 0u : (u32)((u64)p & 3u) * 8u;
    const u32* words = (const u32*)(p - shift / 8u);
#pragma unroll
    for (int i = 0; i < count; i++) w[i] = words[i];
    if (align < 4) {
        u32 last = shift == 0u ? 0u : words[count]; // not behind the end of the rows
#pragma unroll
        for (int i = 0; i < count; i++) w[i] = __funnelshift_r(w[i], i + 1 < count ? w[i + 1] : last, shift);
    }
#else
    for (int i = 0; i < count; i++) w[i] = (u32)p[4 * i] | (u32)p[4 * i + 1] << 8 | (u32)p[4 * i + 2] << 16 | (u32)p[4 * i + 3] << 24;
#endif
}
template <int align> DEVICE u32 load_word(const u8* p) {
    u32 w[1];
    load_words<align>(p, w);
    return w[0];
}
// Two bytes at an even address.
DEVICE u16 load_half_word(const u8* p) {
#if defined(HOST_DEVICE)
    return (u16)(p[0] | p[1] << 8);
#else
    return *(const u16*)p;
#endif
}
DEVICE int byte_of(u32 word, int i) { return (int)(word >> (8 * i) & 255u); }
DEVICE int signed_byte_of(u32 word, int i) { return (int)(i8)(word >> (8 * i)); }
// Byte i of words that were loaded together.
template <int count> DEVICE int byte_of(const u32 (&w)[count], int i) { return byte_of(w[i / 4], i % 4); }

// Byte i of a word as a float, less `offset`; a number below 2^23 likewise. Exact. NVIDIA's conversions are slow: there the number becomes
// the fraction of 2^23.
template <int offset> DEVICE float byte_minus(u32 word, u32 i) {
#if defined(GPU_NVIDIA)
    return bits_to_float(__byte_perm(word, 0x4b000000u, 0x7640u + i)) - (float)((1 << 23) + offset);
#else
    return (float)(int)(word >> (8u * i) & 255u) - (float)offset;
#endif
}
template <int offset> DEVICE float small_minus(u32 number) {
#if defined(GPU_NVIDIA)
    return bits_to_float(number | 0x4b000000u) - (float)((1 << 23) + offset);
#else
    return (float)(int)number - (float)offset;
#endif
}
// Element i of numbers of a byte each.
template <int offset, int count> DEVICE float element_minus(const u32 (&w)[count], int i) { return byte_minus<offset>(w[i / 4], (u32)i % 4u); }

DEVICE float load_half(const u8* p) { return half_from_bits(load_half_word(p)); }

// ---- arithmetic that is rounded after each operation ----------------------------------------------------------------------------

// a b + c and a b - c, where a compiler would make one fused operation of it.
DEVICE float mul_then_add(float a, float b, float c) {
#if defined(GPU_NVIDIA)
    return __fadd_rn(__fmul_rn(a, b), c);
#else
#if defined(__clang__)
#pragma clang fp contract(off)
#endif
    float product = a * b; // g++ does not contract under -std=c++…
    return product + c;
#endif
}
DEVICE float mul_then_sub(float a, float b, float c) { return mul_then_add(a, b, -c); }

// ---- floats ---------------------------------------------------------------------------------------------------------------------

DEVICE float load_f32(const u8* row, int i) { return bits_to_float(load_word<4>(row + 4 * (i64)i)); }
DEVICE float load_f16(const u8* row, int i) { return load_half(row + 2 * (i64)i); }
DEVICE float load_bf16(const u8* row, int i) { return bf16_to_float(load_half_word(row + 2 * (i64)i)); }

DEVICE void dequantize_f32(const u8* block, int, float* out) {
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = load_f32(block, i);
}
DEVICE void dequantize_f16(const u8* block, int, float* out) {
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = load_f16(block, i);
}
DEVICE void dequantize_bf16(const u8* block, int, float* out) {
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = load_bf16(block, i);
}
// The type behind the number of a plain type, whose rows kernels read by quads where they can.
template <int TYPE> struct FloatOf;
template <> struct FloatOf<DTYPE_f32> {
    typedef float type;
};
template <> struct FloatOf<DTYPE_f16> {
    typedef half_t type;
};
template <> struct FloatOf<DTYPE_bf16> {
    typedef bf16_t type;
};

#include "blocks_simple.h"
#include "blocks_k.h"
#include "blocks_iq.h"

// ---- rows -----------------------------------------------------------------------------------------------------------------------

template <int TYPE> struct BlockFormat;
#define DECLARE_FORMAT(name, id, len, bytes)                                                                                     \
    template <> struct BlockFormat<id> {                                                                                         \
        static constexpr int elements = len;                                                                                     \
        static constexpr int groups = len > 32 ? len / 32 : 1;                                                                   \
        static constexpr int group_bytes = len == 1 ? 32 * bytes : bytes; /* of `groups` groups */                               \
        DEVICE void dequantize(const u8* block, int group, float* out) { dequantize_##name(block, group, out); }                 \
    };
FOR_EACH_FLOAT_TYPE(DECLARE_FORMAT)
FOR_EACH_SIMPLE_TYPE(DECLARE_FORMAT)
FOR_EACH_CODE_TYPE(DECLARE_FORMAT)
FOR_EACH_K_TYPE(DECLARE_FORMAT)
FOR_EACH_IQ_TYPE(DECLARE_FORMAT)
#undef DECLARE_FORMAT

// Elements 32 group … 32 group + 31 of a row. All of them exist.
template <int TYPE> DEVICE void dequantize32(const u8* row, int group, float* out) {
    typedef BlockFormat<TYPE> Format;
    const u8* block = row + (i64)(group / Format::groups) * Format::group_bytes;
    Format::dequantize(block, group % Format::groups, out);
}

// The same for a row of k elements; those behind its end are 0. Only plain floats have such rows.
template <int TYPE> DEVICE void dequantize32_of(const u8* row, int group, int k, float* out) {
    if constexpr (BlockFormat<TYPE>::elements > 1) {
        dequantize32<TYPE>(row, group, out);
    } else {
#pragma unroll
        for (int i = 0; i < 32; i++) {
            int e = group * 32 + i;
            out[i] = e >= k ? 0.0f : TYPE == DTYPE_f32 ? load_f32(row, e) : TYPE == DTYPE_f16 ? load_f16(row, e) : load_bf16(row, e);
        }
    }
}
