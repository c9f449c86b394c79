// Weights as the device keeps them: the parts of a block format in planes of their own, row after row, so that the lanes of a wave read
// neighbouring 16-byte words. A block is 32 elements of a row; block b of row r is entry r * blocks + b of each plane.
//
// quants  4-bit formats: 16 bytes, byte j holds element j (low nibble) and element j + 16 (high nibble); Q4_0 stores q ^ 8, so that the
//         nibble is the signed value q - 8. Q8_0: 32 bytes. F16, BF16, F32: the elements, row after row.
// high    the fifth bits (Q5_*): u32, byte i, bit w: element 4w + i, bit 4 + w: element 16 + 4w + i.
//         the upper two bits (Q6_K): two u32, for elements 0–15 and 16–31; byte i, bits 2w and 2w + 1: element 4w + i (16 + 4w + i).
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
