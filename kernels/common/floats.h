// Rows of plain floats, four elements at a time, by neighbouring lanes.
#pragma once
#include "portable.h"

struct bf16_t {
    u16 bits;
};
DEVICE float to_float(float v) { return v; }
DEVICE float to_float(half_t v) { return half_to_float(v); }
DEVICE float to_float(bf16_t v) { return bf16_to_float(v.bits); }

DEVICE float half_from_bits(u16 bits) {
    half_t h;
    __builtin_memcpy(&h, &bits, 2);
    return half_to_float(h);
}

// Four elements at a multiple of their size.
DEVICE f32x4 float_quad_at(const float* p) { return *(const f32x4*)p; }
DEVICE f32x4 float_quad_at(const half_t* p) {
    u32x2 v = *(const u32x2*)p;
    return f32x4{half_from_bits((u16)v.x), half_from_bits((u16)(v.x >> 16)), half_from_bits((u16)v.y), half_from_bits((u16)(v.y >> 16))};
}
DEVICE f32x4 float_quad_at(const bf16_t* p) {
    u32x2 v = *(const u32x2*)p;
    return f32x4{bits_to_float(v.x << 16), bits_to_float(v.x & 0xffff0000u), bits_to_float(v.y << 16), bits_to_float(v.y & 0xffff0000u)};
}

// Whether all groups of four of a row lie so.
template <class Float> DEVICE bool has_aligned_quads(const Float* row, int k) { return k % 4 == 0 && (u64)row % (4 * sizeof(Float)) == 0; }

// Elements i … i + 3 of a row of k, 0 behind its end. `aligned`: what has_aligned_quads says of the row.
template <class Float> DEVICE f32x4 load_float_quad(const Float* row, int i, int k, bool aligned) {
    if (aligned) {
        if (i >= k) return f32x4{0.0f, 0.0f, 0.0f, 0.0f};
        return float_quad_at(row + i);
    }
    return f32x4{i < k ? to_float(row[i]) : 0.0f, i + 1 < k ? to_float(row[i + 1]) : 0.0f, i + 2 < k ? to_float(row[i + 2]) : 0.0f,
                 i + 3 < k ? to_float(row[i + 3]) : 0.0f};
}
