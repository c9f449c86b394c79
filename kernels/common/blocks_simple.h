// Blocks of 32, 64 or 128 elements with scales of their own. Part of blocks.h.
#pragma once

// The low and the high nibbles of 16 bytes, elements 0–15 and 16–31 of most formats, a byte each.
DEVICE void split_nibbles(const u32 (&qs)[4], u32 (&q)[8]) {
#pragma unroll
    for (int n = 0; n < 4; n++) {
        q[n] = qs[n] & 0x0f0f0f0fu;
        q[n + 4] = qs[n] >> 4 & 0x0f0f0f0fu;
    }
}
// Adds the fifth bits, bit i of `high` that of element i.
DEVICE void add_fifth_bits(u32 (&q)[8], u32 high) {
#pragma unroll
    for (int n = 0; n < 8; n++) q[n] |= ((high >> (4 * n) & 15u) * 0x00204081u & 0x01010101u) << 4; // the product spreads four bits over the bytes
}

DEVICE void dequantize_q4_0(const u8* block, int, float* out) {
    float d = load_half(block);
    u32 qs[4], q[8];
    load_words<2>(block + 2, qs);
    split_nibbles(qs, q);
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = element_minus<8>(q, i) * d;
}

DEVICE void dequantize_q4_1(const u8* block, int, float* out) {
    float d = load_half(block), m = load_half(block + 2);
    u32 qs[4], q[8];
    load_words<4>(block + 4, qs);
    split_nibbles(qs, q);
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = mul_then_add(element_minus<0>(q, i), d, m);
}

DEVICE void dequantize_q5_0(const u8* block, int, float* out) {
    float d = load_half(block);
    u32 qs[4], q[8];
    load_words<2>(block + 6, qs);
    split_nibbles(qs, q);
    add_fifth_bits(q, load_word<2>(block + 2));
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = element_minus<16>(q, i) * d;
}

DEVICE void dequantize_q5_1(const u8* block, int, float* out) {
    float d = load_half(block), m = load_half(block + 2);
    u32 qs[4], q[8];
    load_words<4>(block + 8, qs);
    split_nibbles(qs, q);
    add_fifth_bits(q, load_word<4>(block + 4));
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = mul_then_add(element_minus<0>(q, i), d, m);
}

DEVICE void dequantize_q8_0(const u8* block, int, float* out) {
    float d = load_half(block);
    u32 qs[8];
    load_words<2>(block + 2, qs);
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = byte_minus<128>(qs[i / 4] ^ 0x80808080u, (u32)i % 4u) * d;
}

// What the codes 0–15 of iq4_nl and iq4_xs stand for, 128 more than that, four a word.
DEVICE float iq4_value(u32 code) {
    u32 low = code & 4u ? 0x766a5d4fu : 0x3f2d1801u;  // -49 -35 -22 -10 and -127 -104 -83 -65
    u32 high = code & 4u ? 0xf1d9c5b5u : 0xa6998d81u; // 53 69 89 113 and 1 13 25 38
    return byte_minus<128>(code & 8u ? high : low, code & 3u);
}
template <int align> DEVICE void dequantize_iq4(float d, const u8* codes, float* out) {
    u32 qs[4];
    load_words<align>(codes, qs);
#pragma unroll
    for (int j = 0; j < 16; j++) {
        u32 q = (u32)byte_of(qs, j);
        out[j] = d * iq4_value(q & 15u);
        out[j + 16] = d * iq4_value(q >> 4);
    }
}
DEVICE void dequantize_iq4_nl(const u8* block, int, float* out) { dequantize_iq4<2>(load_half(block), block + 2, out); }

// Twice the E2M1 value of a code: sign, two bits exponent, one bit fraction. The bits are those of a (subnormal) f32 but for its bias;
// code 8 is 0, not -0.
DEVICE float fp4_doubled(u32 code) { return fma_f32(bits_to_float((code & 7u) << 22 | (code & 8u) << 28), bits_to_float(254u << 23), 0.0f); }
// Half of the E8M0 scale e: 2^(e - 128).
DEVICE float e8m0_half(int e) { return bits_to_float(e < 2 ? 0x00200000u << e : (u32)(e - 1) << 23); }
// Half of the UE4M3 scale x; the NaN code 0x7f gives 0.
DEVICE float ue4m3_half(int x) {
    int exponent = x >> 3 & 15, fraction = x & 7;
    if (x == 0x7f) return 0.0f;
    if (exponent == 0) return (float)fraction * (1.0f / 1024.0f);
    return bits_to_float((u32)(exponent + 119) << 23 | (u32)fraction << 20);
}

DEVICE void dequantize_mxfp4(const u8* block, int, float* out) {
    float d = e8m0_half(block[0]);
    u32 qs[4];
    load_words<1>(block + 1, qs);
#pragma unroll
    for (int j = 0; j < 16; j++) {
        u32 q = (u32)byte_of(qs, j);
        out[j] = fp4_doubled(q & 15u) * d;
        out[j + 16] = fp4_doubled(q >> 4) * d;
    }
}

DEVICE void dequantize_nvfp4(const u8* block, int group, float* out) {
    float d[2] = {ue4m3_half(block[2 * group]), ue4m3_half(block[2 * group + 1])};
    u32 qs[4];
    load_words<4>(block + 4 + 16 * group, qs);
#pragma unroll
    for (int j = 0; j < 16; j++) {
        u32 q = (u32)byte_of(qs, j);
        int first = j / 8 * 16 + j % 8;
        out[first] = fp4_doubled(q & 15u) * d[j / 8];
        out[first + 8] = fp4_doubled(q >> 4) * d[j / 8];
    }
}

DEVICE void dequantize_q1_0(const u8* block, int group, float* out) {
    float d = load_half(block);
    u32 bits = load_word<2>(block + 2 + 4 * group);
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = bits_to_float(float_to_bits(d) ^ (~bits >> i & 1u) << 31);
}

DEVICE void dequantize_q2_0(const u8* block, int group, float* out) {
    float d = load_half(block);
    u32 qs[2];
    load_words<2>(block + 2 + 8 * group, qs);
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = small_minus<1>(qs[i / 16] >> (i % 16 * 2) & 3u) * d;
}

// The value of a 6-bit float: sign, exponent, fraction. The bits are those of a (subnormal) f32 but for its bias.
template <int fraction_bits> DEVICE float fp6_value(u32 code) {
    constexpr u32 bias = fraction_bits == 3 ? 1 : 3;
    return bits_to_float((code & 31u) << (23 - fraction_bits) | (code & 32u) << 26) * bits_to_float((254u - bias) << 23);
}
// The E8M0 scale e as OCP defines it: 2^(e - 127), and NaN for 255.
DEVICE float e8m0(int e) { return bits_to_float(e == 0 ? 0x00400000u : e == 255 ? 0x7fc00000u : (u32)e << 23); }
template <int fraction_bits> DEVICE void dequantize_mxfp6(const u8* block, float* out) {
    float d = e8m0(block[0]);
    u32 qs[6];
    load_words<1>(block + 1, qs);
#pragma unroll
    for (int i = 0; i < 32; i++) {
        int bit = 6 * i, word = bit / 32, shift = bit % 32;
        u32 code = qs[word] >> shift;
        if (shift > 26) code |= qs[(word + 1) % 6] << (32 - shift); // the last code ends with its word
        out[i] = fp6_value<fraction_bits>(code & 63u) * d;
    }
}
DEVICE void dequantize_mxfp6_e2m3(const u8* block, int, float* out) { dequantize_mxfp6<3>(block, out); }
DEVICE void dequantize_mxfp6_e3m2(const u8* block, int, float* out) { dequantize_mxfp6<2>(block, out); }
