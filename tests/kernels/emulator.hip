// Kernels that try the emulator (tests/hip_emulator.rs): what it must run, and what it must refuse.
#include "common/portable.h"

// y[block] = the sum of row `block` of x [n, blocks].
KERNEL(row_sums, 256, (const float* x, float* y, int n)) {
    LDS(float, shared, 256 / WAVE);
    pdl_wait();
    float s = 0.0f;
    for (int i = thread_id(); i < n; i += 256) s += x[(i64)block_x() * n + i];
    s = block_sum<256>(s, shared);
    if (thread_id() == 0) y[block_x()] = s;
}

// Where each thread is, and what it gets from the next lane, from lane 3 and from the lane WAVE / 2 away. y: four ints a thread.
KERNEL(lanes, 128, (int* y, View view)) {
    int t = thread_id();
    int* out = y + ((i64)block_x() * 128 + t) * 4;
    out[0] = lane_id() + 1000 * block_y();
    out[1] = shfl(t, (lane_id() + 1) % WAVE);
    out[2] = (int)shfl((float)t, 3);
    out[3] = shfl_xor(t, WAVE / 2) + view.ne[3];
}

// Reverses 256 numbers through dynamic LDS.
KERNEL(reverse, 256, (const int* x, int* y)) {
    DYNAMIC_LDS(bytes);
    int* shared = (int*)bytes;
    shared[thread_id()] = x[thread_id()];
    sync_threads();
    y[thread_id()] = shared[255 - thread_id()];
}

// Threads from n on return before the barrier, which is allowed: y[i] = x[i + 1] for i < n - 1.
KERNEL(early_exit, 128, (const int* x, int* y, int n)) {
    LDS(int, shared, 128);
    int t = thread_id();
    if (t >= n) return;
    shared[t] = x[t];
    sync_threads();
    if (t + 1 < n) y[t] = shared[t + 1];
}

// C = A B, 16 x 16 each, one element a thread of a wave at a time, as matrix instructions are emulated.
struct Tile {
    const float *a, *b;
    float* c;
};
static void multiply(void* const* lanes) {
    for (int i = 0; i < 256; i++) {
        const Tile& t = *(const Tile*)lanes[i % WAVE];
        float s = 0.0f;
        for (int k = 0; k < 16; k++) s += t.a[i / 16 * 16 + k] * t.b[k * 16 + i % 16];
        t.c[i] = s;
    }
}
KERNEL(matrix, WAVE, (const float* a, const float* b, float* c)) {
    Tile mine = {a, b, c};
    wave_together(&mine, multiply);
    *(volatile int*)(wave_exchange() + 4 * lane_id()) = lane_id();
    sync_wave();
    if (*(volatile int*)(wave_exchange() + 4 * (WAVE - 1 - lane_id())) != WAVE - 1 - lane_id()) c[0] = -1.0f;
}

KERNEL(dialect, WAVE, (float* y, u32* counts)) {
    atomic_add(&counts[0], 2u);
    atomic_cas(&counts[1], 0u, 7u);
    if (lane_id() > 0) return;
    y[0] = (float)dot4(0x01ff807f, 0x02037f02, 100);
    y[1] = (float)(byte_permute(0x33221100u, 0x77665544u, 0x07040300u) >> 24);
    y[2] = exp_f32(1.0f);
    y[3] = half_to_float(float_to_half(1.0f / 3.0f));
    y[4] = bf16_to_float(float_to_bf16(1.0f / 3.0f));
    y[5] = round_even(2.5f) + round_away(2.5f);
    y[6] = tanh_f32(0.5f);
}

// ---- what must be refused ---------------------------------------------------------------------------------------------------------

KERNEL(half_a_barrier, 64, (int* y)) {
    if (thread_id() < 40) sync_threads();
    else y[0] = shfl(1, 0);
}
KERNEL(other_barrier, 64, (int* y)) {
    if (thread_id() < 32) sync_threads();
    else
        sync_threads();
    y[0] = 1;
}
KERNEL(half_a_shuffle, 64, (int* y)) {
    if (lane_id() < 16) y[thread_id()] = shfl_xor(thread_id(), 1);
    sync_threads();
}
KERNEL(shuffle_from_nobody, 64, (int* y)) {
    if (lane_id() >= 16) return;
    y[thread_id()] = shfl_xor(thread_id(), 16);
}
KERNEL(past_the_end, 64, (int* y, int n)) { y[block_x() * 64 + thread_id() + n] = 1; }
KERNEL(past_the_lds, 64, (int* y)) {
    LDS(int, shared, 64);
    shared[thread_id() + 1] = 1;
    sync_threads();
    y[thread_id()] = shared[thread_id()];
}
KERNEL(endless_stack, 64, (int* y, int n)) {
    struct Recursion {
        static int down(int n, int* y) {
            volatile int big[4096];
            big[n % 4096] = n;
            return n == 0 ? y[0] : down(n - 1, y) + big[(n + 1) % 4096];
        }
    };
    y[1] = Recursion::down(n, y);
}
