// Rows into a KV cache: state[:, slot[t], h] = x[:, h, t], rounded to the cache's type (f32, f16, bf16, or q8_0 where 32 divides d).
// x f32 [d, heads, T] with any strides between heads; `scales` are those of a cache of q8_0. Grid (T, elements of a token / 256), 256 threads, no LDS. Bound by memory.
#include "common/portable.h"
#include "common/cache.h"

KERNEL(kv_append, 256, (View state, char* scales, View x, const int* slots, int type, Fault* fault, int step)) {
    pdl_trigger();
    pdl_wait();
    int t = block_x(), i = block_y() * 256 + thread_id();
    int d = x.ne[0];
    if (i >= d * x.ne[1]) return;
    int slot = slots[t];
    if (slot < 0 || slot >= state.ne[1]) {
        if (i == 0) note_fault(fault, step, slot);
        return;
    }
    int head = i / d, j = i - head * d;
    char* to = at(state, 0, slot, head, 0);
    float value = *f32_at(x, j, head, t, 0);
    if (type == CACHE_Q8_0) {
        store_block(to, scales_of(scales, state.ptr, to), d / Q8_0_LEN, j, value);
    } else {
        store_cached(to, j, value, type);
    }
}
