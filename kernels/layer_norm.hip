// Normalisation to mean 0 and variance 1: out = (x − mean) / √(variance + eps) over each row.
// f32 rows with any strides between them. A block a row (`wave`: a wave a row, 256 threads a block), the row in registers of 256 or 1024
// threads and read once; LDS 128 bytes for the sums. Bound by memory; one row by its latency.
#include "common/portable.h"
#include "common/norm.h"

#define LAYER_NORM(suffix, threads, group, vectors, row, live)                      \
    KERNEL(layer_norm_##suffix, threads, (View x, View out, int rows, float eps)) { \
        LDS(float, shared, 32);                                                     \
        pdl_trigger();                                                              \
        pdl_wait();                                                                 \
        if (!(live)) return;                                                        \
        int k = out.ne[0];                                                          \
        Row<group, vectors> v;                                                      \
        load_row(v, row_at(x, row), k);                                             \
        centre_row(v, sum_of(v, shared) / (float)k, k);                             \
        scale_row(v, rms_factor(sum_of_squares(v, shared), k, eps));                \
        store_row(v, row_at(out, row), k);                                          \
    }

NORM_VARIANTS(LAYER_NORM)

KERNEL(layer_norm_any, 256, (View x, View out, int, float eps)) {
    LDS(float, shared, 32);
    pdl_trigger();
    pdl_wait();
    int k = out.ne[0];
    const float* from = row_at(x, block_x());
    float* to = row_at(out, block_x());
    float s = 0.0f;
    for (int i = thread_id(); i < k; i += 256) s += from[i];
    float mean = block_sum<256>(s, shared) / (float)k;
    s = 0.0f;
    for (int i = thread_id(); i < k; i += 256) s += (from[i] - mean) * (from[i] - mean);
    float factor = rms_factor(block_sum<256>(s, shared), k, eps);
    for (int i = thread_id(); i < k; i += 256) to[i] = (from[i] - mean) * factor;
}
