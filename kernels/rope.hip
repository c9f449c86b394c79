// Rotary position embedding of [d, heads, T]: (x_a, x_b) of each pair turned by position[t] · frequency; what is beyond n_dims is copied.
// f32 heads with any strides between them, in place or not. Grid (T, pairs of a token / 256), 256 threads, one pair a thread, no LDS.
// Bound by memory, one token by latency.
#include "common/portable.h"
#include "common/rope.h"

KERNEL(rope_f32, 256,
       (View x, View out, const int* positions, const float* factors, RopeTable table, float scale, int n_dims, int neox)) {
    pdl_trigger();
    pdl_wait();
    int d = x.ne[0], pairs = div_up(d, 2);
    int i = block_y() * 256 + thread_id(), t = block_x();
    if (i >= pairs * x.ne[1]) return;
    int head = i / pairs, p = i - head * pairs;
    RopePair pair = rope_pair(p, n_dims, neox);
    const float* from = f32_at(x, 0, head, t, 0);
    float* to = f32_at(out, 0, head, t, 0);
    f32x2 v = {from[pair.a], pair.b < d ? from[pair.b] : 0.0f};
    if (pair.rotated) v = rotate(v, rope_rotation(positions[t], p, table, factors, scale));
    to[pair.a] = v.x;
    if (pair.b < d) to[pair.b] = v.y;
}
