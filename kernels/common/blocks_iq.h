// Super-blocks of 256 elements whose values are entries of a codebook. Part of blocks.h.
#pragma once
#include "codebooks.h"

// What the levels of codebook entries stand for.
DEVICE float iq2_magnitude(u32 level) { return byte_minus<0>(0x2b1908u, level); }                       // 8, 25, 43
DEVICE float iq3_xxs_magnitude(u32 level) { return small_minus<0>(level == 7u ? 62u : 4u + 8u * level); }      // 4, 12, … 52, 62
DEVICE float iq3_s_magnitude(u32 level) { return small_minus<0>(2u * level + 1u); }                            // 1, 3, … 15

// Eight signs from seven stored bits: the eighth makes the number of minus signs even.
DEVICE u32 signs_with_parity(u32 stored) {
    u32 p = stored ^ stored >> 4;
    p ^= p >> 2;
    p ^= p >> 1;
    return stored | (p & 1u) << 7;
}
// x, negative where bit i of `signs` is set.
DEVICE float with_sign(float x, u32 signs, int i) { return bits_to_float(float_to_bits(x) ^ (signs >> i & 1u) << 31); }

// Eight values of a 2-bit entry.
DEVICE void write_iq2(float* out, float scale, u32 entry, u32 signs) {
#pragma unroll
    for (int i = 0; i < 8; i++) out[i] = with_sign(scale * iq2_magnitude(entry >> (2 * i) & 3u), signs, i);
}
DEVICE float iq2_scale(float d, u32 s) { return d * (0.5f + (float)(int)s) * 0.25f; }

DEVICE void dequantize_iq2_xxs(const u8* block, int group, float* out) {
    u32 w[2];
    load_words<2>(block + 2 + 8 * group, w);
    float scale = iq2_scale(load_half(block), w[1] >> 28);
#pragma unroll
    for (int l = 0; l < 4; l++) {
        write_iq2(out + 8 * l, scale, IQ2_XXS_GRID[byte_of(w[0], l)], signs_with_parity(w[1] >> (7 * l) & 127u));
    }
}

DEVICE void dequantize_iq2_xs(const u8* block, int group, float* out) {
    float d = load_half(block);
    u32 qs[2], s = block[66 + group];
    load_words<2>(block + 2 + 8 * group, qs);
#pragma unroll
    for (int l = 0; l < 4; l++) {
        u32 q = qs[l / 2] >> (l % 2 * 16) & 0xffffu;
        write_iq2(out + 8 * l, iq2_scale(d, s >> (l / 2 * 4) & 15u), IQ2_XS_GRID[q & 511u], signs_with_parity(q >> 9));
    }
}

DEVICE void dequantize_iq2_s(const u8* block, int group, float* out) {
    float d = load_half(block);
    u32 qs = load_word<2>(block + 2 + 4 * group), signs = load_word<2>(block + 34 + 4 * group);
    u32 high = block[66 + group], s = block[74 + group];
#pragma unroll
    for (int l = 0; l < 4; l++) {
        u32 entry = (u32)byte_of(qs, l) | (high >> (2 * l) & 3u) << 8;
        write_iq2(out + 8 * l, iq2_scale(d, s >> (l / 2 * 4) & 15u), IQ2_S_GRID[entry], signs >> (8 * l));
    }
}

DEVICE void dequantize_iq3_xxs(const u8* block, int group, float* out) {
    u32 qs[2], word = load_word<2>(block + 66 + 4 * group);
    load_words<2>(block + 2 + 8 * group, qs);
    float scale = load_half(block) * (0.5f + (float)(int)(word >> 28)) * 0.5f;
#pragma unroll
    for (int e = 0; e < 8; e++) {
        u32 entry = IQ3_XXS_GRID[byte_of(qs, e)], signs = signs_with_parity(word >> (7 * (e / 2)) & 127u);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            out[4 * e + i] = with_sign(scale * iq3_xxs_magnitude(entry >> (3 * i) & 7u), signs, e % 2 * 4 + i);
        }
    }
}

DEVICE void dequantize_iq3_s(const u8* block, int group, float* out) {
    u32 qs[2], high = block[66 + group], signs = load_word<2>(block + 74 + 4 * group);
    load_words<2>(block + 2 + 8 * group, qs);
    int s = block[106 + group / 2] >> (group % 2 * 4) & 15;
    float scale = load_half(block) * (float)(1 + 2 * s);
#pragma unroll
    for (int e = 0; e < 8; e++) {
        u32 entry = IQ3_S_GRID[(u32)byte_of(qs, e) | (high >> e & 1u) << 8];
#pragma unroll
        for (int i = 0; i < 4; i++) out[4 * e + i] = with_sign(scale * iq3_s_magnitude(entry >> (3 * i) & 7u), signs, 4 * e + i);
    }
}

// Eight values of a ternary entry, moved up or down by an eighth.
DEVICE void write_iq1(float* out, float scale, u32 entry, bool minus) {
    u32 grid = IQ1_S_GRID[entry];
#pragma unroll
    for (int i = 0; i < 8; i++) out[i] = scale * (small_minus<1>(grid >> (2 * i) & 3u) + (minus ? -0.125f : 0.125f));
}

DEVICE void dequantize_iq1_s(const u8* block, int group, float* out) {
    u32 qs = load_word<2>(block + 2 + 4 * group), qh = load_half_word(block + 34 + 2 * group);
    float scale = load_half(block) * (float)(int)(2u * (qh >> 12 & 7u) + 1u);
#pragma unroll
    for (int l = 0; l < 4; l++) {
        write_iq1(out + 8 * l, scale, (u32)byte_of(qs, l) | (qh >> (3 * l) & 7u) << 8, qh >> 15 != 0);
    }
}

DEVICE void dequantize_iq1_m(const u8* block, int group, float* out) {
    u32 w[2], qs = load_word<4>(block + 4 * group), qh = load_half_word(block + 32 + 2 * group);
    load_words<4>(block + 48, w);
    // The f16 scale is in the upper four bits of the four scale words.
    u32 d_bits = (w[0] >> 12 & 15u) | (w[0] >> 28) << 4 | (w[1] >> 12 & 15u) << 8 | (w[1] >> 28) << 12;
    float d = half_from_bits((u16)d_bits);
    u32 scales = (group < 4 ? w[0] : w[1]) >> (group % 4 / 2 * 16) >> (group % 2 * 6);
#pragma unroll
    for (int l = 0; l < 4; l++) {
        float scale = d * (float)(int)(2u * (scales >> (l / 2 * 3) & 7u) + 1u);
        u32 high = qh >> (4 * l) & 15u;
        write_iq1(out + 8 * l, scale, (u32)byte_of(qs, l) | (high & 7u) << 8, high >> 3 != 0);
    }
}
