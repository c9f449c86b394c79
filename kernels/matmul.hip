// Matrix product of activations: out[n, m, i2, i3] = Σ_k a[k, n, i2 / r2, i3 / r3] · b[k, m, i2, i3], r the repeats of a's slices.
// a and b f32, f16 or bf16 with any strides, out f32, sums in f32 in the order of k. Grid (n / 32, m / 32, slices), 256 threads with four
// results each, LDS 8.4 KB: tiles of 32 rows by 32 elements of k. For graphs whose attention is not fused; bound by LDS.
#include "common/portable.h"

#define TILE 32
#define OPERAND_F32 0
#define OPERAND_F16 1
#define OPERAND_BF16 2

DEVICE float load_as_float(const char* p, int type) {
    if (type == OPERAND_F16) return half_to_float(*(const half_t*)p);
    if (type == OPERAND_BF16) return bf16_to_float(*(const u16*)p);
    return *(const float*)p;
}

// Rows row0 … row0 + 31 of a slice, elements k0 … k0 + 31, as tile[k][row]; zeros beyond the slice.
DEVICE void load_tile(float (*tile)[TILE + 1], const View& v, const char* slice, int type, int row0, int k0) {
    // Neighbouring threads read what lies closer together.
    bool along_k = v.nb[0] <= v.nb[1];
#pragma unroll
    for (int j = 0; j < TILE * TILE / 256; j++) {
        int fast = thread_id() % TILE, slow = thread_id() / TILE + j * (256 / TILE);
        int k = along_k ? fast : slow, row = along_k ? slow : fast;
        float x = 0.0f;
        if (k0 + k < v.ne[0] && row0 + row < v.ne[1]) {
            x = load_as_float(slice + (i64)(k0 + k) * v.nb[0] + (i64)(row0 + row) * v.nb[1], type);
        }
        tile[k][row] = x;
    }
}

KERNEL(matmul_float, 256, (View a, View b, View out, int a_type, int b_type)) {
    LDS(float, a_tile, TILE * (TILE + 1));
    LDS(float, b_tile, TILE * (TILE + 1));
    float(*at_k)[TILE + 1] = (float(*)[TILE + 1])a_tile;
    float(*bt_k)[TILE + 1] = (float(*)[TILE + 1])b_tile;
    pdl_trigger();
    pdl_wait();
    int n0 = block_x() * TILE, m0 = block_y() * TILE;
    int i3 = block_z() / b.ne[2], i2 = block_z() - i3 * b.ne[2];
    const char* a_slice = at(a, 0, 0, i2 / (b.ne[2] / a.ne[2]), i3 / (b.ne[3] / a.ne[3]));
    const char* b_slice = at(b, 0, 0, i2, i3);
    int n = thread_id() % 16, m = thread_id() / 16;
    float sum[2][2] = {};
    for (int k0 = 0; k0 < a.ne[0]; k0 += TILE) {
        load_tile(at_k, a, a_slice, a_type, n0, k0);
        load_tile(bt_k, b, b_slice, b_type, m0, k0);
        sync_threads();
#pragma unroll 8
        for (int k = 0; k < TILE; k++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) sum[j][i] = fma_f32(at_k[k][n + 16 * i], bt_k[k][m + 16 * j], sum[j][i]);
            }
        }
        sync_threads();
    }
#pragma unroll
    for (int j = 0; j < 2; j++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int column = n0 + n + 16 * i, row = m0 + m + 16 * j;
            if (column < out.ne[0] && row < out.ne[1]) *f32_at(out, column, row, i2, i3) = sum[j][i];
        }
    }
}
