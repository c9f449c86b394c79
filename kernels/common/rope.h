// Rotation of a pair of elements by position · frequency / factor, exact in the angle's reduction.
//
// A frequency is given in turns per position, as the sum of two floats. It becomes a fraction of a turn in 64 bits of fixed point, whose
// product with the position modulo 2^64 is the angle modulo a turn without rounding, at any position. The eighths of a turn next to an
// axis leave |x| ≤ π/4 for the polynomials (Cephes' sinf and cosf).
#pragma once
#include "portable.h"

#define ROPE_MOST_PAIRS 128

// Turns per position, hi[i] + lo[i] for pair i.
struct RopeTable {
    float hi[ROPE_MOST_PAIRS];
    float lo[ROPE_MOST_PAIRS];
};
struct Rotation {
    float sin, cos;
};

// x modulo 1 in units of 2^-64.
DEVICE u64 fraction(float x) {
    float a = abs_f32(x);
    u64 f = (u64)((a - floor_f32(a)) * 18446744073709551616.0f);
    return x < 0.0f ? 0 - f : f;
}

// (hi + lo) / factor turns, in units of 2^-64 of a turn: `hi + lo` divided in two floats.
DEVICE u64 turns_of(float hi, float lo, float factor) {
    float q = hi / factor;
    float rest = (fma_f32(-q, factor, hi) + lo) / factor;
    return fraction(q) + fraction(rest);
}
// The rotation at a position, of so much a position.
DEVICE Rotation rotation_of(int position, u64 turns) {
    u64 turn = (u64)(i64)position * turns;
    u32 t = (u32)(turn >> 32);
    u32 quarter = (t + 0x20000000u) >> 30;
    float x = (float)(int)(t - (quarter << 30)) * 1.4629180792671596e-9f; // 2π / 2^32
    float z = x * x;
    float s = x + x * z * (-1.6666654611e-1f + z * (8.3321608736e-3f + z * -1.9515295891e-4f));
    float c = 1.0f - 0.5f * z + z * z * (4.166664568298827e-2f + z * (-1.388731625493765e-3f + z * 2.443315711809948e-5f));
    Rotation r = (quarter & 1u) ? Rotation{c, -s} : Rotation{s, c};
    return (quarter & 2u) ? Rotation{-r.sin, -r.cos} : r;
}

// Elements a and b of a head are rotated, or copied where there is no rotation; b may be beyond the head.
struct RopePair {
    int a, b;
    bool rotated;
};
// Pair p of a head whose first n_dims elements rotate.
DEVICE RopePair rope_pair(int p, int n_dims, int neox) {
    int half = n_dims / 2;
    if (p < half) return neox ? RopePair{p, p + half, true} : RopePair{2 * p, 2 * p + 1, true};
    return RopePair{2 * p, 2 * p + 1, false};
}
DEVICE Rotation rope_rotation(int position, int pair, const RopeTable& table, const float* factors, float scale) {
    Rotation r = rotation_of(position, turns_of(table.hi[pair], table.lo[pair], factors ? factors[pair] : 1.0f));
    return Rotation{r.sin * scale, r.cos * scale};
}
DEVICE f32x2 rotate(f32x2 v, Rotation r) { return f32x2{v.x * r.cos - v.y * r.sin, v.x * r.sin + v.y * r.cos}; }
