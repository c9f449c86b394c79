// Root-mean-square normalisation: out = x / √(mean(x²) + eps) over each row.
// f32 rows with any strides between them. A block a row (`wave`: a wave a row, 256 threads a block), the row in registers of 256 or 1024
// threads and read once; LDS 128 bytes for the sum. Bound by memory; one row by its latency.
#include "common/portable.h"
#include "common/norm.h"

#define RMS_NORM(suffix, threads, group, vectors, row, live)                      \
    KERNEL(rms_norm_##suffix, threads, (View x, View out, int rows, float eps)) { \
        LDS(float, shared, 32);                                                   \
        pdl_trigger();                                                            \
        pdl_wait();                                                               \
        if (!(live)) return;                                                      \
        Row<group, vectors> v;                                                    \
        load_row(v, row_at(x, row), out.ne[0]);                                   \
        float factor = rms_factor(sum_of_squares(v, shared), out.ne[0], eps);     \
        scale_row(v, factor);                                                     \
        store_row(v, row_at(out, row), out.ne[0]);                                \
    }

NORM_VARIANTS(RMS_NORM)

KERNEL(rms_norm_any, 256, (View x, View out, int, float eps)) {
    LDS(float, shared, 32);
    pdl_trigger();
    pdl_wait();
    const float* from = row_at(x, block_x());
    float* to = row_at(out, block_x());
    float s = 0.0f;
    for (int i = thread_id(); i < out.ne[0]; i += 256) s += from[i] * from[i];
    float factor = rms_factor(block_sum<256>(s, shared), out.ne[0], eps);
    for (int i = thread_id(); i < out.ne[0]; i += 256) to[i] = from[i] * factor;
}
