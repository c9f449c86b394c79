// Q rotated, K rotated into its cache, V copied into its cache: q' = rope(q); k_state[:, slot[t], h] = rope(k)[:, h, t], v_state likewise.
// Q, K, V are f32 [d, heads, T] with any strides between heads, Q in place or not; the caches f32, f16 or bf16.
// Grid (T, pairs of a token / 256), 256 threads, one pair of Q, K or V a thread, no LDS. Bound by memory, one token by latency.
//
// rope_kv_append_blocks, for two caches of q8_0: one pair of Q, one element of K or V a thread, so that neighbouring
// lanes have the 32 elements of a block; a rotated element of K is computed with its partner, which another thread stores.
// Grid (T, (pairs of Q to a multiple of 32 + elements of K and V) / 256).
#include "common/portable.h"
#include "common/cache.h"
#include "common/rope.h"

KERNEL(rope_kv_append, 256,
       (View q, View k, View v, View out, View k_state, View v_state, const int* positions, const int* slots, const float* factors,
        RopeTable table, float scale, int n_dims, int neox, int k_type, int v_type, Fault* fault, int step)) {
    pdl_trigger();
    pdl_wait();
    int t = block_x(), i = block_y() * 256 + thread_id();
    int pairs = div_up(q.ne[0], 2), v_pairs = div_up(v.ne[0], 2);
    int of_q = pairs * q.ne[1], of_k = pairs * k.ne[1], of_v = v_pairs * v.ne[1];
    if (i >= of_q + of_k + of_v) return;
    int slot = slots[t];
    bool stored = slot >= 0 && slot < k_state.ne[1] && slot < v_state.ne[1];
    if (!stored && i == 0) note_fault(fault, step, slot);

    if (i >= of_q + of_k) {
        i -= of_q + of_k;
        int head = i / v_pairs, a = 2 * (i - head * v_pairs);
        const float* from = f32_at(v, 0, head, t, 0);
        if (!stored) return;
        char* to = at(v_state, 0, slot, head, 0);
        store_cached(to, a, from[a], v_type);
        if (a + 1 < v.ne[0]) store_cached(to, a + 1, from[a + 1], v_type);
        return;
    }
    bool is_k = i >= of_q;
    if (is_k) i -= of_q;
    int head = i / pairs, p = i - head * pairs, d = q.ne[0];
    RopePair pair = rope_pair(p, n_dims, neox);
    const float* from = is_k ? f32_at(k, 0, head, t, 0) : f32_at(q, 0, head, t, 0);
    f32x2 x = {from[pair.a], pair.b < d ? from[pair.b] : 0.0f};
    if (pair.rotated) x = rotate(x, rope_rotation(positions[t], p, table, factors, scale));
    if (!is_k) {
        float* to = f32_at(out, 0, head, t, 0);
        to[pair.a] = x.x;
        if (pair.b < d) to[pair.b] = x.y;
    } else if (stored) {
        char* to = at(k_state, 0, slot, head, 0);
        store_cached(to, pair.a, x.x, k_type);
        if (pair.b < d) store_cached(to, pair.b, x.y, k_type);
    }
}

KERNEL(rope_kv_append_blocks, 256,
       (View q, View k, View v, View out, View k_state, View v_state, char* k_scales, char* v_scales, const int* positions, const int* slots,
        const float* factors, RopeTable table, float scale, int n_dims, int neox, Fault* fault, int step)) {
    pdl_trigger();
    pdl_wait();
    int t = block_x(), i = block_y() * 256 + thread_id();
    int d = q.ne[0], d_v = v.ne[0], pairs = div_up(d, 2), of_q = pairs * q.ne[1];
    int slot = slots[t];
    bool stored = slot >= 0 && slot < k_state.ne[1] && slot < v_state.ne[1];
    if (!stored && i == 0) note_fault(fault, step, slot);
    if (i < of_q) {
        int head = i / pairs, p = i - head * pairs;
        RopePair pair = rope_pair(p, n_dims, neox);
        const float* from = f32_at(q, 0, head, t, 0);
        f32x2 x = {from[pair.a], pair.b < d ? from[pair.b] : 0.0f};
        if (pair.rotated) x = rotate(x, rope_rotation(positions[t], p, table, factors, scale));
        float* to = f32_at(out, 0, head, t, 0);
        to[pair.a] = x.x;
        if (pair.b < d) to[pair.b] = x.y;
    }
    // The threads between Q and K have nothing to do.
    i -= div_up(of_q, 32) * 32;
    if (i < 0 || i >= d * k.ne[1] + d_v * v.ne[1] || !stored) return;
    char *to, *scales;
    int e, blocks;
    float value;
    if (i < d * k.ne[1]) {
        int head = i / d;
        e = i - head * d;
        to = at(k_state, 0, slot, head, 0), scales = scales_of(k_scales, k_state.ptr, to), blocks = d / Q8_0_LEN;
        const float* from = f32_at(k, 0, head, t, 0);
        value = from[e];
        if (e < n_dims) {
            int half = n_dims / 2, p = neox ? e % half : e / 2;
            RopePair pair = rope_pair(p, n_dims, neox);
            f32x2 x = rotate(f32x2{from[pair.a], from[pair.b]}, rope_rotation(positions[t], p, table, factors, scale));
            value = e == pair.a ? x.x : x.y;
        }
    } else {
        i -= d * k.ne[1];
        int head = i / d_v;
        e = i - head * d_v;
        to = at(v_state, 0, slot, head, 0), scales = scales_of(v_scales, v_state.ptr, to), blocks = d_v / Q8_0_LEN;
        value = *f32_at(v, e, head, t, 0);
    }
    store_block(to, scales, blocks, e, value);
}
