// Blocks of 32, 64 or 128 elements with scales of their own. Part of blocks.h.
#pragma once

DEVICE void dequantize_q4_0(const u8* block, int, float* out) {
    float d = load_half(block);
    u32 qs[4];
    load_words<2>(block + 2, qs);
#pragma unroll
    for (int j = 0; j < 16; j++) {
        int q = byte_of(qs, j);
        out[j] = (float)((q & 15) - 8) * d;
        out[j + 16] = (float)((q >> 4) - 8) * d;
    }
}

DEVICE void dequantize_q4_1(const u8* block, int, float* out) {
    float d = load_half(block), m = load_half(block + 2);
    u32 qs[4];
    load_words<4>(block + 4, qs);
#pragma unroll
    for (int j = 0; j < 16; j++) {
        int q = byte_of(qs, j);
        out[j] = mul_then_add((float)(q & 15), d, m);
        out[j + 16] = mul_then_add((float)(q >> 4), d, m);
    }
}

// The five-bit values j and j + 16 of q5_0 and q5_1.
DEVICE int low_of_q5(const u32 (&qs)[4], u32 qh, int j) { return (byte_of(qs, j) & 15) | (int)(qh >> j & 1u) << 4; }
DEVICE int high_of_q5(const u32 (&qs)[4], u32 qh, int j) { return byte_of(qs, j) >> 4 | (int)(qh >> (j + 16) & 1u) << 4; }

DEVICE void dequantize_q5_0(const u8* block, int, float* out) {
    float d = load_half(block);
    u32 qh = load_word<2>(block + 2), qs[4];
    load_words<2>(block + 6, qs);
#pragma unroll
    for (int j = 0; j < 16; j++) {
        out[j] = (float)(low_of_q5(qs, qh, j) - 16) * d;
        out[j + 16] = (float)(high_of_q5(qs, qh, j) - 16) * d;
    }
}

DEVICE void dequantize_q5_1(const u8* block, int, float* out) {
    float d = load_half(block), m = load_half(block + 2);
    u32 qh = load_word<4>(block + 4), qs[4];
    load_words<4>(block + 8, qs);
#pragma unroll
    for (int j = 0; j < 16; j++) {
        out[j] = mul_then_add((float)low_of_q5(qs, qh, j), d, m);
        out[j + 16] = mul_then_add((float)high_of_q5(qs, qh, j), d, m);
    }
}

DEVICE void dequantize_q8_0(const u8* block, int, float* out) {
    float d = load_half(block);
    u32 qs[8];
    load_words<2>(block + 2, qs);
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = (float)signed_byte_of(qs[i / 4], i % 4) * d;
}

// What the codes 0–15 of iq4_nl and iq4_xs stand for, four a word.
DEVICE float iq4_value(int code) {
    u32 low = code & 4 ? 0xf6eaddcfu : 0xbfad9881u;  // -49 -35 -22 -10 and -127 -104 -83 -65
    u32 high = code & 4 ? 0x71594535u : 0x26190d01u; // 53 69 89 113 and 1 13 25 38
    return (float)signed_byte_of(code & 8 ? high : low, code & 3);
}
template <int align> DEVICE void dequantize_iq4(float d, const u8* codes, float* out) {
    u32 qs[4];
    load_words<align>(codes, qs);
#pragma unroll
    for (int j = 0; j < 16; j++) {
        int q = byte_of(qs, j);
        out[j] = d * iq4_value(q & 15);
        out[j + 16] = d * iq4_value(q >> 4);
    }
}
DEVICE void dequantize_iq4_nl(const u8* block, int, float* out) { dequantize_iq4<2>(load_half(block), block + 2, out); }

// Twice the E2M1 value of a code: sign, two bits exponent, one bit fraction.
DEVICE float fp4_doubled(int code) {
    int exponent = code >> 1 & 3, fraction = code & 1;
    int magnitude = exponent == 0 ? fraction : (2 | fraction) << (exponent - 1);
    return (float)(code & 8 ? -magnitude : magnitude);
}
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
        int q = byte_of(qs, j);
        out[j] = fp4_doubled(q & 15) * d;
        out[j + 16] = fp4_doubled(q >> 4) * d;
    }
}

DEVICE void dequantize_nvfp4(const u8* block, int group, float* out) {
    float d[2] = {ue4m3_half(block[2 * group]), ue4m3_half(block[2 * group + 1])};
    u32 qs[4];
    load_words<4>(block + 4 + 16 * group, qs);
#pragma unroll
    for (int j = 0; j < 16; j++) {
        int q = byte_of(qs, j), first = j / 8 * 16 + j % 8;
        out[first] = fp4_doubled(q & 15) * d[j / 8];
        out[first + 8] = fp4_doubled(q >> 4) * d[j / 8];
    }
}

DEVICE void dequantize_q1_0(const u8* block, int group, float* out) {
    float d = load_half(block);
    u32 bits = load_word<2>(block + 2 + 4 * group);
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = bits >> i & 1u ? d : -d;
}

DEVICE void dequantize_q2_0(const u8* block, int group, float* out) {
    float d = load_half(block);
    u32 qs[2];
    load_words<2>(block + 2 + 8 * group, qs);
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = (float)((int)(qs[i / 16] >> (i % 16 * 2) & 3u) - 1) * d;
}

// The value of a 6-bit float: sign, exponent, fraction. Its magnitude is a whole number of the smallest steps.
template <int fraction_bits> DEVICE float fp6_value(u32 code) {
    u32 exponent = (code & 31u) >> fraction_bits, fraction = code & ((1u << fraction_bits) - 1u);
    u32 steps = exponent == 0 ? fraction : (fraction | 1u << fraction_bits) << (exponent - 1u);
    float magnitude = (float)(int)steps * (fraction_bits == 3 ? 0.125f : 0.0625f);
    return bits_to_float(float_to_bits(magnitude) | (code & 32u) << 26); // code 32 is -0
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
