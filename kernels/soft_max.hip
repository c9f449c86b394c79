// Softmax over rows: out = e^(x − max) / Σ e^(x − max); a row of −∞ gives zeros.
// f32 rows with any strides between them, in place or not. A block a row, 256 threads, the row read three times (from cache but for the
// first); LDS 128 bytes for maximum and sum. Bound by memory.
#include "common/portable.h"
#include "common/rows.h"

KERNEL(soft_max_f32, 256, (View x, View out)) {
    LDS(float, shared, 32);
    pdl_trigger();
    pdl_wait();
    const float* from = row_at(x, block_x());
    float* to = row_at(out, block_x());
    int n = out.ne[0];
    float max = minus_infinity();
    for (int i = thread_id(); i < n; i += 256) max = max_of(max, from[i]);
    max = block_max<256>(max, shared);
    bool hidden = max == minus_infinity();
    float sum = 0.0f;
    for (int i = thread_id(); i < n; i += 256) sum += hidden ? 0.0f : exp_f32(from[i] - max);
    sum = block_sum<256>(sum, shared);
    float factor = hidden ? 0.0f : 1.0f / sum;
    for (int i = thread_id(); i < n; i += 256) to[i] = hidden ? 0.0f : exp_f32(from[i] - max) * factor;
}
