// d = a · bᵀ for tiles of 16 × 16 in the layout that the including file chose: a, b rows of `k` halves, `a_stride` and `b_stride` apart.
#include "common/matrix.h"

#define MATRIX_PRODUCT(name)                                                                                           \
    KERNEL(name, WAVE, (const half_t* a, const half_t* b, float* d, int a_stride, int b_stride, int k)) {              \
        FragC c;                                                                                                       \
        c.fill(0.0f);                                                                                                  \
        for (int i = 0; i < k; i += 16) {                                                                              \
            FragA x;                                                                                                   \
            FragB y;                                                                                                   \
            x.load(a + i, a_stride);                                                                                   \
            y.load(b + i, b_stride);                                                                                   \
            mma(c, x, y);                                                                                              \
        }                                                                                                              \
        c.for_each([&](int row, int col, float& v) { d[row * 16 + col] = v; });                                        \
    }
