// The matrix instructions on the host: registers of 16 rows of A and columns of B as the manuals give them to lanes, element (i, k) in
// element `a_index` of lane `a_lane`. The layouts are written from element to lane, the other way round than in matrix.h.
#pragma once
#include "portable.h"

// PTX ISA, mma.m16n8k16 with f16 operands.
struct HostMma {
    static constexpr int LANES = 32, COLS = 8, COUNT = 4;
    static int a_lane(int i, int k, int) { return i % 8 * 4 + k % 8 / 2; }
    static int a_index(int i, int k) { return k % 2 + i / 8 * 2 + k / 8 * 4; }
    static int b_lane(int k, int j, int) { return j * 4 + k % 8 / 2; }
    static int b_index(int k) { return k % 2 + k / 8 * 2; }
    static int c_lane(int i, int j) { return i % 8 * 4 + j / 2; }
    static int c_index(int i, int j) { return j % 2 + i / 8 * 2; }
};
// RDNA3 ISA, V_WMMA_F32_16X16X16_F16, wave 32: both halves of the wave have to hold A and B; each reads its own.
struct HostWmma11 {
    static constexpr int LANES = 32, COLS = 16, COUNT = 8;
    static int a_lane(int i, int, int lane) { return i + lane / 16 * 16; }
    static int a_index(int, int k) { return k; }
    static int b_lane(int, int j, int lane) { return j + lane / 16 * 16; }
    static int b_index(int k) { return k; }
    static int c_lane(int i, int j) { return j + i % 2 * 16; }
    static int c_index(int i, int) { return i / 2; }
};
// RDNA4 ISA, V_WMMA_F32_16X16X16_F16, wave 32.
struct HostWmma12 {
    static constexpr int LANES = 32, COLS = 16, COUNT = 8;
    static int a_lane(int i, int k, int) { return i + k / 8 * 16; }
    static int a_index(int, int k) { return k % 8; }
    static int b_lane(int k, int j, int) { return j + k / 8 * 16; }
    static int b_index(int k) { return k % 8; }
    static int c_lane(int i, int j) { return j + i / 8 * 16; }
    static int c_index(int i, int) { return i % 8; }
};
// CDNA ISA, V_MFMA_F32_16X16X16_F16.
struct HostMfma {
    static constexpr int LANES = 64, COLS = 16, COUNT = 4;
    static int a_lane(int i, int k, int) { return i + k / 4 * 16; }
    static int a_index(int, int k) { return k % 4; }
    static int b_lane(int k, int j, int) { return j + k / 4 * 16; }
    static int b_index(int k) { return k % 4; }
    static int c_lane(int i, int j) { return j + i / 4 * 16; }
    static int c_index(int i, int) { return i % 4; }
};

// A lane's registers.
struct HostOperands {
    float* c;
    const half_t* a;
    const half_t* b;
};

// C += A · B for the operands of a whole wave.
template <class Layout> inline void host_multiply(void* const* lanes) {
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < Layout::COLS; j++) {
            const int lane = Layout::c_lane(i, j);
            float sum = 0.0f;
            for (int k = 0; k < 16; k++) {
                const HostOperands& x = *(const HostOperands*)lanes[Layout::a_lane(i, k, lane)];
                const HostOperands& y = *(const HostOperands*)lanes[Layout::b_lane(k, j, lane)];
                sum += half_to_float(x.a[Layout::a_index(i, k)]) * half_to_float(y.b[Layout::b_index(k)]);
            }
            ((const HostOperands*)lanes[lane])->c[Layout::c_index(i, j)] += sum;
        }
    }
}
template <class Layout> inline void host_instruction(float* c, const half_t* a, const half_t* b) {
    static_assert(Layout::LANES == WAVE, "an instruction of this wave size");
    HostOperands own = {c, a, b};
    wave_together(&own, host_multiply<Layout>);
}

inline float host_dot2(u32 a, u32 b, float c) {
    union {
        u32 u;
        half_t h[2];
    } x, y;
    x.u = a;
    y.u = b;
    return c + half_to_float(x.h[0]) * half_to_float(y.h[0]) + half_to_float(x.h[1]) * half_to_float(y.h[1]);
}
