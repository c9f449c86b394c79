// Choosing the next token on the device, so that a decode step needs no work of the host: decode_advance writes the inputs of a step
// from the state, the steps run, sample_greedy or sample_top choose from the logits and move the state on.
//
// decode_advance: one block. sample_bias: one block, adds to single logits. sample_greedy: any number of blocks, each takes the largest
// logit (the smallest id among equals) of every gridth chunk; the block that arrives last takes the largest of theirs. sample_top: one
// block; the top_k largest by radix selection, sorted in LDS, then top-p, min-p and a draw at the temperature. Bound by latency.
#include "common/portable.h"

#define SAMPLE_THREADS 256
#define SAMPLE_MOST 1024  // candidates of sample_top

// Kept in device memory from token to token.
struct DecodeState {
    u32 token;
    int position;
    u32 done;     // tokens chosen
    int failed;   // a logit was NaN or +inf, or all were -inf
    u32 arrived;  // blocks of sample_greedy
    u32 biases;   // entries of the list of biases
    u32 unused[2];
};

struct Bias {
    u32 id;
    float value;
};

struct Best {
    float value;
    u32 id;
};

KERNEL(decode_advance, 64, (const DecodeState* state, int* tokens, int* positions, int* slots, int* starts, int* rows)) {
    pdl_trigger();
    pdl_wait();
    if (thread_id() != 0) return;
    if (tokens) *tokens = (int)state->token;
    if (positions) *positions = state->position;
    if (slots) *slots = state->position;
    if (starts) *starts = 0;
    if (rows) *rows = 0;
}

KERNEL(sample_bias, 256, (const DecodeState* state, const Bias* list, float* logits, int n)) {
    pdl_trigger();
    pdl_wait();
    for (u32 i = (u32)thread_id(); i < state->biases; i += 256u) {
        if (list[i].id < (u32)n) logits[list[i].id] += list[i].value;
    }
}

DEVICE bool better(float a, u32 id_a, float b, u32 id_b) { return a > b || (a == b && id_a < id_b); }

// Moves the state on to the chosen token.
DEVICE void choose(DecodeState* state, u32* ids, u32 id, bool failed) {
    if (failed) state->failed = 1;
    ids[state->done] = failed ? 0xffffffffu : id;
    state->done += 1u;
    state->token = failed ? 0u : id;
    state->position += 1;
}

// The best of a block; all threads get it. `values` and `ids` have a place a wave.
DEVICE void block_best(float& value, u32& id, float* values, u32* ids) {
#pragma unroll
    for (int m = WAVE / 2; m > 0; m >>= 1) {
        const float v = shfl_xor(value, m);
        const u32 i = (u32)shfl_xor((int)id, m);
        if (better(v, i, value, id)) value = v, id = i;
    }
    if (lane_id() == 0) values[thread_id() / WAVE] = value, ids[thread_id() / WAVE] = id;
    sync_threads();
    value = values[0], id = ids[0];
    for (int w = 1; w < SAMPLE_THREADS / WAVE; w++) {
        if (better(values[w], ids[w], value, id)) value = values[w], id = ids[w];
    }
    sync_threads();
}

#define LEAST (-3.4028235e38f)

KERNEL(sample_greedy, SAMPLE_THREADS, (DecodeState* state, u32* chosen, Best* partial, const float* logits, int n, int blocks)) {
    LDS(float, values, SAMPLE_THREADS / WAVE);
    LDS(u32, ids, SAMPLE_THREADS / WAVE);
    LDS(u32, last, 1);
    pdl_trigger();
    pdl_wait();
    // A value that is not finite from above wins, so that it is seen; -inf never does.
    float value = LEAST;
    u32 id = 0xffffffffu;
    for (int i = block_x() * SAMPLE_THREADS + thread_id(); i < n; i += blocks * SAMPLE_THREADS) {
        float v = logits[i];
        if (!(v <= 3.4028235e38f)) v = bits_to_float(0x7f800000u);
        if (v >= LEAST && better(v, (u32)i, value, id)) value = v, id = (u32)i;
    }
    block_best(value, id, values, ids);
    if (thread_id() == 0) {
        partial[block_x()] = Best{value, id};
        fence_device();
        last[0] = atomic_add(&state->arrived, 1u) == (u32)blocks - 1u ? 1u : 0u;
    }
    sync_threads();
    if (last[0] == 0u) return;
    fence_device();
    value = LEAST, id = 0xffffffffu;
    for (int b = thread_id(); b < blocks; b += SAMPLE_THREADS) {
        const Best p = ((volatile Best*)partial)[b].id == 0xffffffffu ? Best{LEAST, 0xffffffffu} : partial[b];
        if (better(p.value, p.id, value, id)) value = p.value, id = p.id;
    }
    block_best(value, id, values, ids);
    if (thread_id() == 0) {
        state->arrived = 0u;
        choose(state, chosen, id, id == 0xffffffffu || value > 3.4028235e38f);
    }
}

struct Sampling {
    float temperature;
    int top_k;
    float top_p;
    float min_p;
};

// Floats as integers in the same order.
DEVICE u32 order_key(float v) {
    const u32 b = float_to_bits(v);
    return b & 0x80000000u ? ~b : b | 0x80000000u;
}

KERNEL(sample_top, SAMPLE_THREADS, (DecodeState* state, u32* chosen, const float* draws, const float* logits, int n, Sampling how)) {
    LDS(u32, counts, 256);
    LDS(float, values, SAMPLE_MOST);
    LDS(u32, ids, SAMPLE_MOST);
    LDS(u32, shared, 4);
    LDS(u32, ranks, SAMPLE_THREADS);
    pdl_trigger();
    pdl_wait();
    const int t = thread_id();
    if (t < 4) shared[t] = 0u;
    sync_threads();
    // Every thread has a range of ids of its own, so that equal logits have an order.
    const int each = div_up(n, SAMPLE_THREADS), from = min_of(t * each, n), to = min_of(from + each, n);
    int bad = 0;
    for (int i = t; i < n; i += SAMPLE_THREADS) bad |= !(logits[i] <= 3.4028235e38f) ? 1 : 0;
    if (bad) shared[3] = 1u;
    // The key of the k-th largest logit, byte by byte from the top; `left` of those equal to it are wanted.
    const u32 k = (u32)min_of(how.top_k, n);
    u32 prefix = 0u, left = k;
    for (int shift = 24; shift >= 0; shift -= 8) {
        counts[t] = 0u;
        sync_threads();
        const u32 mask = shift == 24 ? 0u : 0xffffffffu << (shift + 8);
        for (int i = t; i < n; i += SAMPLE_THREADS) {
            const u32 key = order_key(logits[i]);
            if ((key & mask) == prefix) atomic_add(&counts[(key >> shift) & 255u], 1u);
        }
        sync_threads();
        if (t == 0) {
            u32 sum = 0u;
            int digit = 255;
            for (; digit > 0; digit--) {
                if (sum + counts[digit] >= left) break;
                sum += counts[digit];
            }
            shared[0] = prefix | ((u32)digit << shift);
            shared[1] = left - sum;
        }
        sync_threads();
        prefix = shared[0], left = shared[1];
        sync_threads();
    }
    u32 above = 0u, equal = 0u;
    for (int i = from; i < to; i++) {
        const u32 key = order_key(logits[i]);
        above += key > prefix ? 1u : 0u;
        equal += key == prefix ? 1u : 0u;
    }
    // Where this thread's candidates go: those above first, then those equal, each in the order of ids.
    ranks[t] = above;
    sync_threads();
    u32 at = 0u;
    for (int i = 0; i < t; i++) at += ranks[i];
    sync_threads();
    ranks[t] = equal;
    sync_threads();
    u32 rank = 0u;
    for (int i = 0; i < t; i++) rank += ranks[i];
    const u32 first_equal = k - left;
    for (int i = from; i < to; i++) {
        const u32 key = order_key(logits[i]);
        if (key > prefix) values[at] = logits[i], ids[at++] = (u32)i;
        if (key == prefix && rank < left) values[first_equal + rank] = logits[i], ids[first_equal + rank++] = (u32)i;
    }
    // Up to a power of two, then a bitonic sort: descending logits, ascending ids.
    u32 size = 1u;
    while (size < k) size *= 2u;
    for (u32 i = k + (u32)t; i < size; i += SAMPLE_THREADS) values[i] = bits_to_float(0xff800000u), ids[i] = 0xffffffffu;
    sync_threads();
    for (u32 span = 2u; span <= size; span *= 2u) {
        for (u32 step = span / 2u; step > 0u; step /= 2u) {
            for (u32 i = (u32)t; i < size; i += SAMPLE_THREADS) {
                const u32 j = i ^ step;
                if (j > i) {
                    const bool down = (i & span) == 0u;
                    if (better(values[j], ids[j], values[i], ids[i]) == down) {
                        const float v = values[i];
                        const u32 id = ids[i];
                        values[i] = values[j], ids[i] = ids[j];
                        values[j] = v, ids[j] = id;
                    }
                }
            }
            sync_threads();
        }
    }
    if (t != 0) return;
    const float top = values[0];
    if (shared[3] != 0u || !(top >= LEAST)) {
        choose(state, chosen, 0u, true);
        return;
    }
    // Sums over at most 1024 candidates, in their order.
    u32 kept = k;
    while (kept > 1u && !(values[kept - 1u] >= LEAST)) kept--;
    if (how.top_p < 1.0f) {
        float total = 0.0f, sum = 0.0f;
        for (u32 i = 0u; i < kept; i++) total += exp_f32(values[i] - top);
        for (u32 i = 0u; i < kept; i++) {
            sum += exp_f32(values[i] - top);
            if (sum >= how.top_p * total) {
                kept = i + 1u;
                break;
            }
        }
    }
    if (how.min_p > 0.0f) {
        const float least = top + log_f32(how.min_p);
        while (kept > 1u && values[kept - 1u] < least) kept--;
    }
    float total = 0.0f, sum = 0.0f;
    for (u32 i = 0u; i < kept; i++) total += exp_f32((values[i] - top) / how.temperature);
    const float draw = draws[state->done] * total;
    u32 pick = kept - 1u;
    for (u32 i = 0u; i < kept; i++) {
        sum += exp_f32((values[i] - top) / how.temperature);
        if (sum > draw) {
            pick = i;
            break;
        }
    }
    choose(state, chosen, ids[pick], false);
}
