// Super-blocks of 256 elements: the K formats, iq4_xs and the ternary ones. Part of blocks.h.
#pragma once

// Where the 2-bit values of a group of 32 lie in q2_K, q3_K and tq2_0: 32 bytes for each half of the block, four groups side by side.
DEVICE int first_byte_of_2bit(int group) { return group / 4 * 32; }
DEVICE int shift_of_2bit(int group) { return group % 4 * 2; }

DEVICE void dequantize_q2_K(const u8* block, int group, float* out) {
    float d = load_half(block + 80), dmin = load_half(block + 82);
    u32 qs[8];
    load_words<4>(block + 16 + first_byte_of_2bit(group), qs);
#pragma unroll
    for (int n = 0; n < 8; n++) qs[n] = qs[n] >> shift_of_2bit(group) & 0x03030303u;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int s = block[2 * group + half];
        float scale = d * (float)(s & 15), min = dmin * (float)(s >> 4);
#pragma unroll
        for (int i = half * 16; i < half * 16 + 16; i++) out[i] = mul_then_sub(scale, element_minus<0>(qs, i), min);
    }
}

DEVICE void dequantize_q3_K(const u8* block, int group, float* out) {
    float d = load_half(block + 108);
    u32 high[8], qs[8];
    load_words<2>(block, high);
    load_words<2>(block + 32 + first_byte_of_2bit(group), qs);
#pragma unroll
    for (int n = 0; n < 8; n++) qs[n] = (qs[n] >> shift_of_2bit(group) & 0x03030303u) | (high[n] >> group & 0x01010101u) << 2;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int g = 2 * group + half;
        int low4 = block[96 + g % 8] >> (g / 8 * 4) & 15, high2 = block[104 + g % 4] >> (g / 4 * 2) & 3;
        float scale = d * (float)((low4 | high2 << 4) - 32);
#pragma unroll
        for (int i = half * 16; i < half * 16 + 16; i++) out[i] = scale * element_minus<4>(qs, i);
    }
}

// Scale and minimum of a group of q4_K and q5_K: six bits each in twelve bytes.
DEVICE void scale_min_k4(const u8* scales, int group, int* scale, int* min) {
    u32 w[3];
    load_words<4>(scales, w);
    int i = group % 4 * 8;
    if (group < 4) {
        *scale = (int)(w[0] >> i & 63u);
        *min = (int)(w[1] >> i & 63u);
    } else {
        *scale = (int)((w[2] >> i & 15u) | (w[0] >> i >> 6 & 3u) << 4);
        *min = (int)((w[2] >> i >> 4 & 15u) | (w[1] >> i >> 6 & 3u) << 4);
    }
}

DEVICE void dequantize_q4_K(const u8* block, int group, float* out) {
    float d = load_half(block), dmin = load_half(block + 2);
    int sc, m, shift = group % 2 * 4;
    scale_min_k4(block + 4, group, &sc, &m);
    float scale = d * (float)sc, min = dmin * (float)m;
    u32 qs[8];
    load_words<4>(block + 16 + group / 2 * 32, qs);
#pragma unroll
    for (int n = 0; n < 8; n++) qs[n] = qs[n] >> shift & 0x0f0f0f0fu;
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = mul_then_sub(scale, element_minus<0>(qs, i), min);
}

DEVICE void dequantize_q5_K(const u8* block, int group, float* out) {
    float d = load_half(block), dmin = load_half(block + 2);
    int sc, m, shift = group % 2 * 4;
    scale_min_k4(block + 4, group, &sc, &m);
    float scale = d * (float)sc, min = dmin * (float)m;
    u32 high[8], qs[8];
    load_words<4>(block + 16, high);
    load_words<4>(block + 48 + group / 2 * 32, qs);
#pragma unroll
    for (int n = 0; n < 8; n++) qs[n] = (qs[n] >> shift & 0x0f0f0f0fu) | (high[n] >> group & 0x01010101u) << 4;
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = mul_then_sub(scale, element_minus<0>(qs, i), min);
}

DEVICE void dequantize_q6_K(const u8* block, int group, float* out) {
    float d = load_half(block + 208);
    int half = group / 4, quarter = group % 4;
    float scales[2] = {d * (float)(i8)block[192 + 2 * group], d * (float)(i8)block[193 + 2 * group]};
    u32 low[8], high[8];
    load_words<2>(block + half * 64 + quarter % 2 * 32, low);
    load_words<2>(block + 128 + half * 32, high);
#pragma unroll
    for (int n = 0; n < 8; n++) low[n] = (low[n] >> (quarter / 2 * 4) & 0x0f0f0f0fu) | (high[n] >> (quarter * 2) & 0x03030303u) << 4;
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = scales[i / 16] * element_minus<32>(low, i);
}

DEVICE void dequantize_iq4_xs(const u8* block, int group, float* out) {
    int low = block[4 + group / 2] >> (group % 2 * 4) & 15, high = load_half_word(block + 2) >> (2 * group) & 3;
    dequantize_iq4<4>(load_half(block) * (float)((low | high << 4) - 32), block + 8 + 16 * group, out);
}

// Digit n, the first being 0, of the five base-3 digits in a byte: 0, 1 or 2; `power` is 3^n.
DEVICE u32 ternary_digit(int byte, int power) { return (u32)((byte * power & 255) * 3) >> 8; }
DEVICE int power_of_3(int n) { return n == 0 ? 1 : n == 1 ? 3 : n == 2 ? 9 : n == 3 ? 27 : 81; }

// Bytes 0–31 have a digit for each of groups 0–4; bytes 32–47 five runs of 16 from value 160 on; bytes 48–51 four of four from 240 on.
DEVICE void dequantize_tq1_0(const u8* block, int group, float* out) {
    float d = load_half(block + 52);
    if (group < 5) {
        u32 qs[8];
        load_words<2>(block, qs);
        int power = power_of_3(group);
#pragma unroll
        for (int i = 0; i < 32; i++) out[i] = small_minus<1>(ternary_digit(byte_of(qs, i), power)) * d;
        return;
    }
    u32 qs[5];
    load_words<2>(block + 32, qs);
    int run = 2 * (group - 5), power0 = power_of_3(run), power1 = power_of_3(run + 1);
#pragma unroll
    for (int i = 0; i < 16; i++) {
        u32 in_run = ternary_digit(byte_of(qs, i), power1);
        u32 at_end = ternary_digit(byte_of(qs[4], i % 4), power_of_3(i / 4));
        out[i] = small_minus<1>(ternary_digit(byte_of(qs, i), power0)) * d;
        out[i + 16] = small_minus<1>(group < 7 ? in_run : at_end) * d;
    }
}

DEVICE void dequantize_tq2_0(const u8* block, int group, float* out) {
    float d = load_half(block + 64);
    u32 qs[8];
    load_words<2>(block + first_byte_of_2bit(group), qs);
#pragma unroll
    for (int n = 0; n < 8; n++) qs[n] = qs[n] >> shift_of_2bit(group) & 0x03030303u;
#pragma unroll
    for (int i = 0; i < 32; i++) out[i] = element_minus<1>(qs, i) * d;
}
