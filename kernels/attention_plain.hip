// attention, any layout: out[:, h, t] = Σ_j softmax_j(cap(scale · q[:, h, t] · k[:, j, g]) + mask[j, t]) v[:, j, g] over the positions
// that token t sees.
//
// Grid (heads, tokens), 128 threads: a block makes one head of one token. Positions are taken 128 at a time, one a thread for the
// scores, then one output element a thread, with a running maximum. LDS 2.6 KiB. Bound by L1: every block reads its whole cache.
#include "common/attention.h"

constexpr int PLAIN_THREADS = 128;
constexpr int PLAIN_MAX_DIM = 256;

template <class T> DEVICE void attention_plain(const AttentionArgs& a) {
    pdl_trigger();
    LDS(float, query, PLAIN_MAX_DIM);
    LDS(float, powers, PLAIN_THREADS);
    LDS(float, waves, PLAIN_THREADS / 32);
    int tid = thread_id(), h = block_x(), t = block_y(), g = h / (a.heads / a.kv_heads);
    pdl_wait();
    Visible seen = visible(a, t);
    const char* q = a.q.ptr + h * a.q.nb[1] + t * a.q.nb[2];
    const HeadRows<T> keys(a.k, a.k_scales, g, a.d), values(a.v, a.v_scales, g, a.d_v);
    for (int i = tid; i < a.d; i += PLAIN_THREADS) query[i] = *(const float*)(q + i * a.q.nb[0]) * query_scale(a);
    sync_threads();

    float max = NEG_INFINITY, sum = 0.0f;
    float acc[PLAIN_MAX_DIM / PLAIN_THREADS] = {};
    for (int from = seen.first; from < seen.end; from += PLAIN_THREADS) {
        int count = min_of(PLAIN_THREADS, seen.end - from);
        float score = NEG_INFINITY;
        if (tid < count) {
            float dot = 0.0f;
            for (int i = 0; i < a.d; i++) dot = fma_f32(query[i], keys.value(from + tid, i), dot);
            score = capped(a, dot);
            if (a.mask.ptr) score += LOG2E * *(const float*)(a.mask.ptr + (i64)(from + tid) * a.mask.nb[0] + t * a.mask.nb[1]);
        }
        float above = max_of(max, block_max<PLAIN_THREADS>(score, waves));
        if (above == NEG_INFINITY) continue;  // the same for all threads
        float rescale = exp2_f32(max - above), power = exp2_f32(score - above);
        max = above;
        powers[tid] = power;
        sum = sum * rescale + block_sum<PLAIN_THREADS>(power, waves);
#pragma unroll
        for (int n = 0; n < PLAIN_MAX_DIM / PLAIN_THREADS; n++) {
            int i = tid + n * PLAIN_THREADS;
            if (i >= a.d_v) break;
            acc[n] *= rescale;
            for (int j = 0; j < count; j++) acc[n] = fma_f32(powers[j], values.value(from + j, i), acc[n]);
        }
        sync_threads();
    }
    char* out = a.out.ptr + h * a.out.nb[1] + t * a.out.nb[2];
#pragma unroll
    for (int n = 0; n < PLAIN_MAX_DIM / PLAIN_THREADS; n++) {
        int i = tid + n * PLAIN_THREADS;
        if (i < a.d_v) *(float*)(out + i * a.out.nb[0]) = sum > 0.0f ? acc[n] / sum : 0.0f;
    }
}

KERNEL(attention_plain_f32, PLAIN_THREADS, (AttentionArgs a)) { attention_plain<float>(a); }
KERNEL(attention_plain_f16, PLAIN_THREADS, (AttentionArgs a)) { attention_plain<half_t>(a); }
KERNEL(attention_plain_bf16, PLAIN_THREADS, (AttentionArgs a)) { attention_plain<bf16_t>(a); }
KERNEL(attention_plain_q8_0, PLAIN_THREADS, (AttentionArgs a)) { attention_plain<q8_0_t>(a); }
KERNEL(attention_plain_q8_0_blocks, PLAIN_THREADS, (AttentionArgs a)) { attention_plain<q8_0_block_t>(a); }
