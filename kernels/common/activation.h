// The activation functions of `unary` and `glu`, by number.
#pragma once
#include "portable.h"

#define ACTIVATION_SILU 0
#define ACTIVATION_GELU 1
#define ACTIVATION_RELU 2
#define ACTIVATION_TANH 3
#define ACTIVATION_SIGMOID 4
#define ACTIVATION_EXP 5
#define ACTIVATION_NEG 6
#define ACTIVATION_SQR 7
#define ACTIVATION_SQRT 8

DEVICE float activate(int kind, float x) {
    switch (kind) {
        case ACTIVATION_SILU: return silu(x);
        case ACTIVATION_GELU: return gelu(x);
        case ACTIVATION_RELU: return max_of(0.0f, x);
        case ACTIVATION_TANH: return tanh_f32(x);
        case ACTIVATION_SIGMOID: return sigmoid(x);
        case ACTIVATION_EXP: return exp_f32(x);
        case ACTIVATION_NEG: return -x;
        case ACTIVATION_SQR: return x * x;
        default: return sqrt_f32(x);
    }
}
DEVICE f32x4 activate(int kind, f32x4 x) {
    return f32x4{activate(kind, x.x), activate(kind, x.y), activate(kind, x.z), activate(kind, x.w)};
}
