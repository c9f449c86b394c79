// Hides cache positions: out[j, t, h] = scores[j, t, h] where first ≤ j < end, −∞ elsewhere; first = max(kv_start[t], kv_slot[t] + 1 − window),
// end = kv_slot[t] + 1 if causal.
// f32 rows with any strides between them, in place or not. Grid (rows, row / 1024), 256 threads, no LDS. Bound by memory.
#include "common/portable.h"
#include "common/rows.h"

KERNEL(kv_mask_f32, 256, (View scores, const int* starts, const int* slots, View out, int causal, int window)) {
    pdl_trigger();
    pdl_wait();
    int row = block_x(), n = out.ne[0], t = row % out.ne[1];
    const float* from = row_at(scores, row);
    float* to = row_at(out, row);
    int slot = slots[t];
    int first = max_of(starts[t], 0);
    if (window > 0) first = max_of(first, max_of(slot, 0) + 1 - window);
    int end = causal ? slot + 1 : n;
    int last = min_of(n, (block_y() + 1) * 1024);
    for (int j = block_y() * 1024 + thread_id(); j < last; j += 256) {
        to[j] = j >= first && j < end ? from[j] : minus_infinity();
    }
}
