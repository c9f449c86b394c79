// Weights as the device keeps them: the parts of a block format in planes of their own, row after row, so that the lanes of a wave read
// neighbouring 16-byte words. A block is 32 elements of a row; block b of row r is entry r * blocks + b of each plane.
//
// quants  4-bit parts: 16 bytes, byte j holds element j (low nibble) and element j + 16 (high nibble); Q4_0 stores q ^ 8, so that the
//         nibble is the signed value q - 8. Q8_0: 32 bytes. F16, BF16, F32: the elements, row after row.
// high    the fifth bits (Q5_*): u32, byte i, bit w: element 4w + i, bit 4 + w: element 16 + 4w + i; inverted for Q5_0 (q ^ 16).
//         the upper two bits (Q6_K): two u32, for elements 0–15 and 16–31; byte i, bits 2w and 2w + 1: element 4w + i (16 + 4w + i),
//         of q ^ 32.
// scales  a block's: Q4_0, Q5_0, Q8_0, IQ4_NL: half d. Q4_1, Q5_1: half d, half m. MXFP4: u8 exponent.
//         Q4_K, Q5_K: u8 scale, u8 minimum. Q6_K: two i8, for elements 0–15 and 16–31. IQ4_XS: i8.
// supers  of 256 elements, entry r * (k / 256) + b / 8: Q4_K, Q5_K: half d, half dmin. Q6_K, IQ4_XS: half d.
#pragma once
#include "portable.h"

#define FORMAT_F32 0
#define FORMAT_F16 1
#define FORMAT_BF16 2
#define FORMAT_Q8_0 3
#define FORMAT_Q4_0 4
#define FORMAT_Q4_1 5
#define FORMAT_Q5_0 6
#define FORMAT_Q5_1 7
#define FORMAT_Q4_K 8
#define FORMAT_Q5_K 9
#define FORMAT_Q6_K 10
#define FORMAT_IQ4_NL 11
#define FORMAT_IQ4_XS 12
#define FORMAT_MXFP4 13

struct Planes {
    const u8* quants;
    const u8* high;
    const u8* scales;
    const u8* supers;
    int format;
    int rows;
    int k;
    int blocks;
};

template <int F> struct FormatOf {
    static constexpr bool plain = F == FORMAT_F32 || F == FORMAT_F16 || F == FORMAT_BF16;
    static constexpr bool bytes = F == FORMAT_Q8_0;
    static constexpr bool fifth = F == FORMAT_Q5_0 || F == FORMAT_Q5_1 || F == FORMAT_Q5_K;
    static constexpr bool table = F == FORMAT_IQ4_NL || F == FORMAT_IQ4_XS || F == FORMAT_MXFP4;
    static constexpr bool super_block = F == FORMAT_Q4_K || F == FORMAT_Q5_K || F == FORMAT_Q6_K || F == FORMAT_IQ4_XS;
    // Values are d·q − m with a minimum m.
    static constexpr bool minimum = F == FORMAT_Q4_1 || F == FORMAT_Q5_1 || F == FORMAT_Q4_K || F == FORMAT_Q5_K;
};

DEVICE float half_bits_to_float(u32 bits) {
    union {
        u16 u;
        half_t h;
    } x;
    x.u = (u16)bits;
    return half_to_float(x.h);
}
// 2^(e - 128): half the scale of an E8M0 exponent, as MXFP4's table holds doubled values.
DEVICE float e8m0_half_to_float(u32 e) { return bits_to_float(e < 2u ? 0x00200000u << e : (e - 1u) << 23); }

// The sixteen values of IQ4_NL (and IQ4_XS), and of MXFP4 (doubled E2M1), four to a word.
#define IQ4_TABLE 0xbfcfdf81u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u
template <int F> DEVICE u32 table_word(int i) {
    if (F == FORMAT_MXFP4) return i == 0 ? 0x03020100u : i == 1 ? 0x0c080604u : i == 2 ? 0xfdfeff00u : 0xf4f8fafcu;
    return i == 0 ? 0xbfad9881u : i == 1 ? 0xf6eaddcfu : i == 2 ? 0x26190d01u : 0x71594535u;
}
// The table's values for the four low nibbles of q (lo) and for its four high nibbles (hi).
template <int F> DEVICE void lookup16(u32 q, u32& lo, u32& hi) {
    const u32 t0 = table_word<F>(0), t1 = table_word<F>(1), t2 = table_word<F>(2), t3 = table_word<F>(3);
#if defined(GPU_NVIDIA)
    // __byte_perm takes its selectors from nibbles, which is how they lie: elements 0, 16, 1, 17 and 2, 18, 3, 19.
    u32 s = q & 0x77777777u, b = (q & 0x88888888u) >> 1;
    u32 r0 = __byte_perm(__byte_perm(t0, t1, s), __byte_perm(t2, t3, s), 0x3210u + (b & 0xffffu));
    u32 r1 = __byte_perm(__byte_perm(t0, t1, s >> 16), __byte_perm(t2, t3, s >> 16), 0x3210u + (b >> 16));
    lo = __byte_perm(r0, r1, 0x6420u);
    hi = __byte_perm(r0, r1, 0x7531u);
#else
    u32 l = q & 0x07070707u, h = (q >> 4) & 0x07070707u;
    u32 ml = ((q >> 3) & 0x01010101u) * 0xffu, mh = ((q >> 7) & 0x01010101u) * 0xffu;
    lo = (byte_permute(t0, t1, l) & ~ml) | (byte_permute(t2, t3, l) & ml);
    hi = (byte_permute(t0, t1, h) & ~mh) | (byte_permute(t2, t3, h) & mh);
#endif
}

// A block of 32 quantized elements in registers.
template <int F> struct Block {
    u32x4 q;  // nibbles, or the first 16 bytes
    u32x4 p;  // Q8_0: the last 16 bytes
    u32x2 h;  // high bits
    u32 scale;
    u32 super;
};

// Loads a block whose parts lie at these addresses.
template <int F> DEVICE void load_block_at(Block<F>& x, const u8* quants, const u8* high, const u8* scales, const u8* supers) {
    typedef FormatOf<F> Is;
    x.q = load_once((const u32x4*)quants);
    if (Is::bytes) x.p = load_once((const u32x4*)(quants + 16));
    if (Is::fifth) x.h.x = load_once((const u32*)high);
    if (F == FORMAT_Q6_K) x.h = load_once((const u32x2*)high);
    if (F == FORMAT_Q4_1 || F == FORMAT_Q5_1) x.scale = load_once((const u32*)scales);
    else if (F == FORMAT_MXFP4 || F == FORMAT_IQ4_XS) x.scale = load_once(scales);
    else x.scale = load_once((const u16*)scales);
    if (Is::super_block) {
        if (Is::minimum) x.super = *(const u32*)supers;
        else x.super = *(const u16*)supers;
    }
}
// Loads block i of the matrix.
template <int F> DEVICE void load_block(Block<F>& x, const Planes& w, i64 i) {
    typedef FormatOf<F> Is;
    const int quant_bytes = Is::bytes ? 32 : 16, high_bytes = F == FORMAT_Q6_K ? 8 : 4;
    const int scale_bytes = F == FORMAT_Q4_1 || F == FORMAT_Q5_1 ? 4 : F == FORMAT_MXFP4 || F == FORMAT_IQ4_XS ? 1 : 2;
    // Rows are whole super-blocks.
    load_block_at<F>(x, w.quants + i * quant_bytes, w.high + i * high_bytes, w.scales + i * scale_bytes, w.supers + i / 8 * (Is::minimum ? 4 : 2));
}

// The signed bytes of word `n` (elements 4n to 4n + 3) of a block, times `BlockScale<F>::unit`.
template <int F> DEVICE u32 word(const u32x4& v, int n) { return n == 0 ? v.x : n == 1 ? v.y : n == 2 ? v.z : v.w; }
// How many times too large the bytes of `block_words` are.
template <int F> DEVICE constexpr float byte_factor() {
    return F == FORMAT_Q4_0 ? 1.0f / 16.0f : F == FORMAT_Q5_0 ? 1.0f / 8.0f : F == FORMAT_Q6_K ? 1.0f / 4.0f : 1.0f;
}
// All 32 elements as signed bytes: lo[n] is elements 4n…, hi[n] elements 16 + 4n….
template <int F> DEVICE void block_words(const Block<F>& x, u32* lo, u32* hi) {
#pragma unroll
    for (int n = 0; n < 4; n++) {
        const u32 q = word<F>(x.q, n);
        if (F == FORMAT_Q8_0) {
            lo[n] = q;
            hi[n] = word<F>(x.p, n);
        } else if (F == FORMAT_Q4_0) {
            lo[n] = (q << 4) & 0xf0f0f0f0u;
            hi[n] = q & 0xf0f0f0f0u;
        } else if (F == FORMAT_Q5_0) {
            lo[n] = ((q << 3) & 0x78787878u) | ((x.h.x << (7 - n)) & 0x80808080u);
            hi[n] = ((q >> 1) & 0x78787878u) | ((x.h.x << (3 - n)) & 0x80808080u);
        } else if (F == FORMAT_Q5_1 || F == FORMAT_Q5_K) {
            lo[n] = (q & 0x0f0f0f0fu) | ((x.h.x << (4 - n)) & 0x10101010u);
            hi[n] = ((q >> 4) & 0x0f0f0f0fu) | ((x.h.x >> n) & 0x10101010u);
        } else if (F == FORMAT_Q6_K) {
            lo[n] = ((q << 2) & 0x3c3c3c3cu) | ((x.h.x << (6 - 2 * n)) & 0xc0c0c0c0u);
            hi[n] = ((q >> 2) & 0x3c3c3c3cu) | ((x.h.y << (6 - 2 * n)) & 0xc0c0c0c0u);
        } else if (FormatOf<F>::table) {
            lookup16<F>(q, lo[n], hi[n]);
        } else {
            lo[n] = q & 0x0f0f0f0fu;
            hi[n] = (q >> 4) & 0x0f0f0f0fu;
        }
    }
}
// value = scale · byte + offset, for the first and the last 16 elements (they differ for Q6_K only).
template <int F> DEVICE void block_scales(const Block<F>& x, float& first, float& last, float& offset) {
    offset = 0.0f;
    if (F == FORMAT_Q4_1 || F == FORMAT_Q5_1) {
        first = last = half_bits_to_float(x.scale & 0xffffu);
        offset = half_bits_to_float(x.scale >> 16);
    } else if (F == FORMAT_Q4_K || F == FORMAT_Q5_K) {
        first = last = half_bits_to_float(x.super & 0xffffu) * (float)(x.scale & 0xffu);
        offset = -half_bits_to_float(x.super >> 16) * (float)(x.scale >> 8);
    } else if (F == FORMAT_Q6_K) {
        const float d = half_bits_to_float(x.super) * byte_factor<F>();
        first = d * (float)(i8)(x.scale & 0xffu);
        last = d * (float)(i8)(x.scale >> 8);
    } else if (F == FORMAT_IQ4_XS) {
        first = last = half_bits_to_float(x.super) * (float)(i8)x.scale;
    } else if (F == FORMAT_MXFP4) {
        first = last = e8m0_half_to_float(x.scale);
    } else {
        first = last = half_bits_to_float(x.scale) * byte_factor<F>();
    }
}

// Σ w·x over a block for activations x = d · (signed bytes), where ds = d · Σ bytes.
template <int F>
DEVICE float dot_block(const Block<F>& w, const u32x4& x_lo, const u32x4& x_hi, float d, float ds) {
    u32 lo[4], hi[4];
    block_words<F>(w, lo, hi);
    int a = 0, b = 0;
#pragma unroll
    for (int n = 0; n < 4; n++) a = dot4((int)lo[n], (int)word<F>(x_lo, n), a);
#pragma unroll
    for (int n = 0; n < 4; n++) b = dot4((int)hi[n], (int)word<F>(x_hi, n), b);
    if (F == FORMAT_Q6_K) {
        const int sum = (int)(i8)(w.scale & 0xffu) * a + (int)(i8)(w.scale >> 8) * b;
        return half_bits_to_float(w.super) * byte_factor<F>() * d * (float)sum;
    }
    if (F == FORMAT_Q4_K || F == FORMAT_Q5_K) {
        const float s = half_bits_to_float(w.super & 0xffffu), m = half_bits_to_float(w.super >> 16);
        return s * d * (float)((a + b) * (int)(w.scale & 0xffu)) - m * ds * (float)(w.scale >> 8);
    }
    float scale, unused, offset;
    block_scales<F>(w, scale, unused, offset);
    return scale * d * (float)(a + b) + (FormatOf<F>::minimum ? offset * ds : 0.0f);
}

// The 32 elements of block `block` of row `row` as floats.
template <int F> DEVICE void planes_decode32(const Planes& w, int row, int block, float* out) {
    if (FormatOf<F>::plain) {
        const i64 first = (i64)row * w.k + block * 32;
        const int n = min_of(32, w.k - block * 32);
        for (int i = 0; i < 32; i++) {
            if (i >= n) out[i] = 0.0f;
            else if (F == FORMAT_F32) out[i] = ((const float*)w.quants)[first + i];
            else if (F == FORMAT_F16) out[i] = half_to_float(((const half_t*)w.quants)[first + i]);
            else out[i] = bf16_to_float(((const u16*)w.quants)[first + i]);
        }
        return;
    }
    Block<F> x;
    load_block<F>(x, w, (i64)row * w.blocks + block);
    u32 lo[4], hi[4];
    block_words<F>(x, lo, hi);
    float first, last, offset;
    block_scales<F>(x, first, last, offset);
#pragma unroll
    for (int i = 0; i < 16; i++) {
        out[i] = (float)(i8)(lo[i / 4] >> (8 * (i % 4))) * first + offset;
        out[i + 16] = (float)(i8)(hi[i / 4] >> (8 * (i % 4))) * last + offset;
    }
}
