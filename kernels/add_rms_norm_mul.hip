// Residual, normalisation and scale: sum = x + residual; out = weight · sum / √(mean(sum²) + eps) over each row.
// f32 rows with any strides between them; sum may stand where x or residual stood. A block a row (`wave`: a wave a row, 256 threads a
// block), the row in registers of 256 or 1024 threads and read once; LDS 128 bytes for the sum. Bound by memory; one row by its latency.
// `constant`: nothing in the plan writes the weight, so that it is read while the kernels before this one still run.
#include "common/portable.h"
#include "common/norm.h"

#define ADD_RMS_NORM_MUL(suffix, threads, group, vectors, row, live)                                              \
    KERNEL(add_rms_norm_mul_##suffix, threads,                                                                    \
           (View x, View residual, const float* weight, View sum, View out, int rows, float eps, int constant)) { \
        LDS(float, shared, 32);                                                                                   \
        pdl_trigger();                                                                                            \
        Row<group, vectors> w, v, r;                                                                              \
        if (!constant) pdl_wait();                                                                                \
        load_row(w, weight, out.ne[0]);                                                                           \
        if (constant) pdl_wait();                                                                                 \
        if (!(live)) return;                                                                                      \
        load_row(v, row_at(x, row), out.ne[0]);                                                                   \
        load_row(r, row_at(residual, row), out.ne[0]);                                                            \
        add_row(v, r);                                                                                            \
        store_row(v, row_at(sum, row), out.ne[0]);                                                                \
        float factor = rms_factor(sum_of_squares(v, shared), out.ne[0], eps);                                     \
        scale_row(v, factor);                                                                                     \
        mul_row(v, w);                                                                                            \
        store_row(v, row_at(out, row), out.ne[0]);                                                                \
    }

NORM_VARIANTS(ADD_RMS_NORM_MUL)

KERNEL(add_rms_norm_mul_any, 256,
       (View x, View residual, const float* weight, View sum, View out, int, float eps, int)) {
    LDS(float, shared, 32);
    pdl_trigger();
    pdl_wait();
    const float* a = row_at(x, block_x());
    const float* b = row_at(residual, block_x());
    float* total = row_at(sum, block_x());
    float* to = row_at(out, block_x());
    float s = 0.0f;
    for (int i = thread_id(); i < out.ne[0]; i += 256) {
        float v = a[i] + b[i];
        total[i] = v;
        s += v * v;
    }
    float factor = rms_factor(block_sum<256>(s, shared), out.ne[0], eps);
    for (int i = thread_id(); i < out.ne[0]; i += 256) to[i] = total[i] * factor * weight[i]; // what this thread wrote
}
