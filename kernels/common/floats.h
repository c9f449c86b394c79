// Rows of plain floats, four elements at a time, by neighbouring lanes.
#pragma once
#include "portable.h"

struct bf16_t {
    u16 bits;
};
DEVICE float to_float(float v) { return v; }
DEVICE float to_float(half_t v) { return half_to_float(v); }
DEVICE float to_float(bf16_t v) { return bf16_to_float(v.bits); }

template <class Float> struct alignas(4 * sizeof(Float)) FloatQuad {
    Float x, y, z, w;
};

// Whether groups of four lie at a multiple of their size.
template <class Float> DEVICE bool has_aligned_quads(const Float* row, int k) { return k % 4 == 0 && (u64)row % sizeof(FloatQuad<Float>) == 0; }

// Elements i … i + 3 of a row of k, 0 behind its end. `aligned`: what has_aligned_quads says of the row.
template <class Float> DEVICE f32x4 load_float_quad(const Float* row, int i, int k, bool aligned) {
    if (aligned) {
        if (i >= k) return f32x4{0.0f, 0.0f, 0.0f, 0.0f};
        FloatQuad<Float> v = *(const FloatQuad<Float>*)(row + i);
        return f32x4{to_float(v.x), to_float(v.y), to_float(v.z), to_float(v.w)};
    }
    return f32x4{i < k ? to_float(row[i]) : 0.0f, i + 1 < k ? to_float(row[i + 1]) : 0.0f, i + 2 < k ? to_float(row[i + 2]) : 0.0f,
                 i + 3 < k ? to_float(row[i + 3]) : 0.0f};
}
