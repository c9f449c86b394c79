// Rows of views, counted through the dimensions.
#pragma once
#include "portable.h"

// First element of row `row` in the order of the dimensions.
DEVICE float* row_at(const View& v, int row) {
    if (v.ne[2] == 1 && v.ne[3] == 1) return f32_at(v, 0, row, 0, 0);
    int r = row / v.ne[1], i1 = row - r * v.ne[1];
    int i3 = r / v.ne[2], i2 = r - i3 * v.ne[2];
    return f32_at(v, 0, i1, i2, i3);
}

DEVICE float minus_infinity() { return bits_to_float(0xff800000u); }
