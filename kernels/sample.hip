// Choosing the next token on the device, so that a decode step needs no work of the host: decode_advance writes the inputs of a step
// from the state, the steps run, sample_greedy or a draw choose from the logits and move the state on.
//
// decode_advance: one block. sample_bias: one block, adds to single logits. sample_greedy: any number of blocks, each takes the largest
// logit (the smallest id among equals) of every gridth chunk; the block that arrives last takes the largest of theirs.
//
// A draw: of the candidates in their order (larger logits first, of equal ones the smaller id; −inf is none) top-k keeps the first k;
// top-p of those the first with at least the share top_p of their sum of e^logit; min-p those whose logit is at least the largest plus
// ln(min_p); then the first is chosen with which the sum of e^(logit / temperature) exceeds the share `draw` of that of all that are
// kept. Nothing is sorted. For a top-k of at most 1024: sample_peaks (the largest of 4096 parts of the logits; the k-th largest of these
// is no more than the k-th largest logit), sample_draw (lists the logits that are not less; the last block searches the list, digit by
// digit of the places). Else: sample_peaks (the largest), sample_masses (a histogram of the logits by their distance to the largest:
// counts and sums at both temperatures), and sample_draw once for each of top-k, top-p and the draw, which lists the candidates of the
// buckets in which a sum is reached; mostly one launch has them all and the others find the token chosen. Where a list has no room the
// last block searches the logits: right, and slow.
//
// Guaranteed: the id depends on the logits, the draw and the options only, not on the device or the number of blocks (candidates.h), and
// is that of the sampler on the host (engine/sampler.rs), except where a share is reached within 2^-27 of the sum (of at most 2^18
// logits): there it may be the candidate before or after.
//
// LDS: sample_peaks 39 KiB, sample_masses 46 KiB, sample_draw 38 KiB. Grids: sample_peaks a block for 32 parts, the others any number.
// Bound by latency: 600 KB of logits from the L2 cache, and the chain of barriers of the last block.
#include "common/candidates.h"

#define SAMPLE_PEAKS 4096        // parts of the logits
#define SAMPLE_PEAKS_BLOCK 32    // of a block
#define SAMPLE_LISTED 4096       // candidates in a list
#define CHOSEN 3                 // behind BY_HOT_MASS

// By the buckets of bucket_of.
struct Histogram {
    u32 counts[SAMPLE_BUCKETS];
    u64 masses[2][SAMPLE_BUCKETS];
};

// How far the choice of a token is.
struct Search {
    u64 cut;        // the place of the last candidate that is kept; 0 if nothing was cut
    u64 target;     // the sum to reach; 0 if it is not known yet
    u64 before[3];  // sums of the buckets before `from`
    float top;      // the largest logit
    u32 least;      // the least order_key to list
    int from, to;   // buckets to list
    int by;         // what is summed: top-k, top-p and the draw follow each other
    u32 unused;
};

// Kept in device memory from token to token.
struct DecodeState {
    u32 token;
    int position;
    u32 done;     // tokens chosen
    int failed;   // a logit was NaN or +inf, or all were -inf
    u32 arrived;  // blocks of a kernel that have ended
    u32 biases;   // entries of the list of biases
    u32 listed;   // candidates in the list
    u32 unused;
    Search search;
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

KERNEL(sample_greedy, SAMPLE_THREADS, (DecodeState* state, u32* chosen, Best* partial, const float* logits, int n, int blocks)) {
    LDS(float, values, SAMPLE_THREADS / WAVE);
    LDS(u32, ids, SAMPLE_THREADS / WAVE);
    LDS(u32, last, 1);
    pdl_trigger();
    pdl_wait();
    // A value that is not finite from above wins, so that it is seen; -inf never does.
    float value = SAMPLE_LEAST;
    u32 id = 0xffffffffu;
    for (int i = block_x() * SAMPLE_THREADS + thread_id(); i < n; i += blocks * SAMPLE_THREADS) {
        float v = logits[i];
        if (!(v <= SAMPLE_LARGEST)) v = bits_to_float(0x7f800000u);
        if (v >= SAMPLE_LEAST && better(v, (u32)i, value, id)) value = v, id = (u32)i;
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
    value = SAMPLE_LEAST, id = 0xffffffffu;
    for (int b = thread_id(); b < blocks; b += SAMPLE_THREADS) {
        const Best p = ((volatile Best*)partial)[b].id == 0xffffffffu ? Best{SAMPLE_LEAST, 0xffffffffu} : partial[b];
        if (better(p.value, p.id, value, id)) value = p.value, id = p.id;
    }
    block_best(value, id, values, ids);
    if (thread_id() == 0) {
        state->arrived = 0u;
        choose(state, chosen, id, id == 0xffffffffu || value > SAMPLE_LARGEST);
    }
}

// ---- a draw ---------------------------------------------------------------------------------------------------------------------

// The block that gets here last goes on; all writes of the others are visible to it. `last` is in LDS.
DEVICE bool arrives_last(DecodeState* state, int blocks, u32* last) {
    fence_device();
    sync_threads();
    if (thread_id() == 0) last[0] = atomic_add(&state->arrived, 1u) == (u32)blocks - 1u ? 1u : 0u;
    sync_threads();
    if (last[0] == 0u) return false;
    fence_device();
    if (thread_id() == 0) state->arrived = 0u;
    return true;
}

// Logits i, i + stride, …: -inf behind the end.
#define SAMPLE_AHEAD 4
DEVICE void load_ahead(float (&v)[SAMPLE_AHEAD], const float* logits, int i, int n, int stride) {
#pragma unroll
    for (int j = 0; j < SAMPLE_AHEAD; j++) v[j] = i + j * stride < n ? logits[i + j * stride] : bits_to_float(0xff800000u);
}

KERNEL(sample_peaks, SAMPLE_THREADS, (DecodeState* state, u32* chosen, Histogram* histogram, u32* peaks, const float* logits, int n, int blocks, Sampling how)) {
    LDS(u64, places, SAMPLE_PEAKS);
    LDS(u32, rows, SAMPLE_THREADS);
    LDS(u32, last, 1);
    SAMPLE_SUMS(sums);
    pdl_trigger();
    pdl_wait();
    const int t = thread_id(), count = blocks * SAMPLE_PEAKS_BLOCK;
    // 32 peaks a block: peak p is of the logits p, p + count, p + 2 count, …; a block has eight rows of them at a time.
    u32 peak = 0u;
    const int step = SAMPLE_THREADS / SAMPLE_PEAKS_BLOCK * count;
    for (int i = block_x() * SAMPLE_PEAKS_BLOCK + t % SAMPLE_PEAKS_BLOCK + t / SAMPLE_PEAKS_BLOCK * count; i < n; i += 8 * step) {
        float v[8];
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] = i + j * step < n ? logits[i + j * step] : bits_to_float(0xff800000u);
        // What is not finite from above has the key of +inf, so that it is seen.
#pragma unroll
        for (int j = 0; j < 8; j++) peak = max_of(peak, v[j] <= SAMPLE_LARGEST ? order_key(v[j]) : 0xff800000u);
    }
    rows[t] = peak;
    if (histogram) {
        u32* const words = (u32*)histogram;
        for (int i = block_x() * SAMPLE_THREADS + t; i < (int)(sizeof(Histogram) / 4); i += blocks * SAMPLE_THREADS) words[i] = 0u;
    }
    sync_threads();
    if (t < SAMPLE_PEAKS_BLOCK) {
        for (int i = t; i < SAMPLE_THREADS; i += SAMPLE_PEAKS_BLOCK) peak = max_of(peak, rows[i]);
        peaks[block_x() * SAMPLE_PEAKS_BLOCK + t] = peak;
    }
    if (!arrives_last(state, blocks, last)) return;

    peak = 0u;
    for (int i = t; i < count; i += SAMPLE_THREADS) {
        const u32 p = peaks[i];
        places[i] = (u64)p << 32 | (u64)(~(u32)i);
        peak = max_of(peak, p);
    }
    rows[t] = peak;
    sync_threads();
    if (t < SAMPLE_PEAKS_BLOCK) {
        for (int i = t; i < SAMPLE_THREADS; i += SAMPLE_PEAKS_BLOCK) peak = max_of(peak, rows[i]);
        rows[t] = peak;
    }
    sync_threads();
    for (int i = 0; i < SAMPLE_PEAKS_BLOCK; i++) peak = max_of(peak, rows[i]);
    // At least as many candidates as are wanted are no less than as many peaks are.
    u32 least = order_key(SAMPLE_LEAST);
    if (!histogram && how.top_k <= (u32)count) {
        const Candidates all = {places, logits, count, 0.0f, 0u, 0, 0};
        least = max_of(least, (u32)(search(all, BY_COUNT, 0u, how.top_k, 64, how.top_k / 8u + 16u, how, sums) >> 32));
    }
    if (t != 0) return;
    const bool failed = peak > order_key(SAMPLE_LARGEST) || peak < order_key(SAMPLE_LEAST);
    state->search = Search{0u, 0u, {0u, 0u, 0u}, logit_of((u64)peak << 32), least, 0, SAMPLE_BUCKETS - 1, failed ? CHOSEN : BY_COUNT, 0u};
    if (failed) choose(state, chosen, 0u, true);
}

DEVICE u64 of_bucket(const Histogram* h, int by, int bucket) { return by == BY_COUNT ? (u64)h->counts[bucket] : h->masses[by - 1][bucket]; }

// The sum of what `by` says over the buckets before `end`, and the first bucket with which it reaches `target`: `end` if none before it.
// A thread has eight buckets.
struct Located {
    int bucket;
    u64 before;  // the sum of the buckets before
    u64 total;
};
DEVICE Located locate(const Histogram* h, int by, int end, u64 target, const Sums& s) {
    const int each = SAMPLE_BUCKETS / SAMPLE_THREADS;
    u64 mine = 0u;
    for (int b = thread_id() * each; b < min_of(thread_id() * each + each, end); b++) mine += of_bucket(h, by, b);
    const Scan sums = scan(mine, s);
    const Crossing found = crossing(sums, target, s);
    if (sums.total < target) return Located{end, sums.total, sums.total};
    u64 before = found.before;
    int bucket = found.thread * each;
    for (; bucket < SAMPLE_BUCKETS - 1; bucket++) {
        const u64 next = before + of_bucket(h, by, bucket);
        if (next >= target) break;
        before = next;
    }
    return Located{bucket, before, sums.total};
}

// Lets the next launch list the candidates of a bucket, and of as many buckets before it as the list has room for.
DEVICE void list_up_to(Search& search, const Histogram* h, int bucket, const Sums& s) {
    const Located here = locate(h, BY_COUNT, bucket + 1, ~0ull, s);
    search.to = bucket, search.from = 0;
    search.before[BY_COUNT] = search.before[BY_MASS] = search.before[BY_HOT_MASS] = 0u;
    if (here.total <= SAMPLE_LISTED) return;
    // After the first bucket with which so many are left out that the rest has room.
    search.from = min_of(locate(h, BY_COUNT, bucket, here.total - SAMPLE_LISTED, s).bucket + 1, bucket);
#pragma unroll
    for (int by = BY_COUNT; by <= BY_HOT_MASS; by++) search.before[by] = locate(h, by, search.from, ~0ull, s).total;
}

// The least sum that is not below the share top_p, and the least that is above the share `draw`.
DEVICE u64 top_p_target(u64 sum, u64 top_p) { return max_of(mul_high(sum, top_p) + (sum * top_p != 0u ? 1u : 0u), (u64)1u); }
DEVICE u64 draw_target(u64 sum, u64 draw) { return mul_high(sum, draw) + 1u; }

// Goes through what is left of top-k, top-p and the draw: as far as the candidates that are listed (`c`, if any) reach. All threads.
DEVICE void narrow(DecodeState* state, u32* chosen, const u64* draws, const Histogram* h, const Candidates* c, Search now, const Sampling& how, const Sums& s) {
    while (now.by != CHOSEN) {
        const int by = now.by;
        const u64 before = by == BY_COUNT ? now.before[BY_COUNT] : by == BY_MASS ? now.before[BY_MASS] : now.before[BY_HOT_MASS];
        if (now.target == 0u) {
            const bool skip = by == BY_COUNT ? how.top_k == 0u : by == BY_MASS && how.top_p == ~0ull;
            const u64 sum = skip ? 0u : c ? before + sum_of(*c, by, now.cut, how, s) : locate(h, by, SAMPLE_BUCKETS, ~0ull, s).total;
            if (skip || (by == BY_COUNT && sum <= how.top_k)) {
                now.by++;
                continue;
            }
            if (by == BY_COUNT) now.target = how.top_k;
            if (by == BY_MASS) now.target = top_p_target(sum, how.top_p);
            if (by == BY_HOT_MASS) now.target = draw_target(sum, draws[state->done]);
            if (h) {
                const int end = now.cut ? bucket_of(logit_of(now.cut), now.top) : SAMPLE_BUCKETS - 1;
                const int bucket = locate(h, by, end, now.target, s).bucket;
                if (!c || bucket < now.from || bucket > now.to) {
                    list_up_to(now, h, bucket, s);
                    break;
                }
            }
        }
        // Without a histogram all candidates have the bits that the largest and the least possible one share.
        int open = 64;
        if (!h) {
            for (u64 bits = place_of(now.top, 0u) ^ (u64)now.least << 32; open > 32 && bits >> (open - 1) == 0u;) open--;
        }
        const u64 place = search(*c, by, now.cut, now.target - before, open, 0u, how, s);
        now.cut = place, now.target = 0u, now.by++;
        if (now.by == CHOSEN && thread_id() == 0) choose(state, chosen, id_of(place), false);
    }
    if (thread_id() == 0) state->search = now;
}

// The same where the list has all candidates down to the one that is looked for, at most one a thread: sorted, they are summed once.
DEVICE void narrow_few(DecodeState* state, u32* chosen, const u64* draws, const Candidates& c, u64* sorted, Search now, const Sampling& how, const Sums& s) {
    const int t = thread_id();
    if (t < c.n) {
        int rank = 0;
        for (int i = 0; i < c.n; i++) rank += c.list[i] > c.list[t] ? 1 : 0;
        sorted[rank] = c.list[t];
    }
    sync_threads();
    const u64 place = t < c.n ? sorted[t] : 0u;
    int kept = c.n;
    if (now.by == BY_COUNT) {
        if (how.top_k != 0u && how.top_k < (u32)kept) kept = (int)how.top_k;
        now.by++, now.target = 0u;
    }
    if (now.by == BY_MASS && how.top_p != ~0ull) {
        const Scan sums = scan(t < kept ? measure(logit_of(place), c.top, BY_MASS, how) : 0u, s);
        kept = crossing(sums, now.target ? now.target : top_p_target(sums.total, how.top_p), s).thread + 1;
    }
    if (now.by == BY_MASS) now.by++, now.target = 0u;
    const Scan sums = scan(t < kept ? measure(logit_of(place), c.top, BY_HOT_MASS, how) : 0u, s);
    const int pick = crossing(sums, now.target ? now.target : draw_target(sums.total, draws[state->done]), s).thread;
    if (t != 0) return;
    choose(state, chosen, id_of(sorted[pick]), false);
    state->search.by = CHOSEN;
}

KERNEL(sample_masses, SAMPLE_THREADS, (DecodeState* state, u32* chosen, const u64* draws, Histogram* histogram, const float* logits, int n, int blocks, Sampling how)) {
    LDS(u32, local, 5 * SAMPLE_BUCKETS);
    LDS(u32, last, 1);
    SAMPLE_SUMS(sums);
    pdl_trigger();
    pdl_wait();
    const Search now = state->search;
    if (now.by == CHOSEN) return;
    const int t = thread_id();
    for (int i = t; i < 5 * SAMPLE_BUCKETS; i += SAMPLE_THREADS) local[i] = 0u;
    sync_threads();
    u32* const low = local + SAMPLE_BUCKETS;
    u32* const high = local + 3 * SAMPLE_BUCKETS;
    for (int i = block_x() * SAMPLE_THREADS + t; i < n; i += SAMPLE_AHEAD * blocks * SAMPLE_THREADS) {
        float ahead[SAMPLE_AHEAD];
        load_ahead(ahead, logits, i, n, blocks * SAMPLE_THREADS);
#pragma unroll
        for (int j = 0; j < SAMPLE_AHEAD; j++) {
            const float v = ahead[j];
            if (!(v >= SAMPLE_LEAST)) continue;
            const int bucket = bucket_of(v, now.top), hot = SAMPLE_BUCKETS + bucket;
            atomic_add(&local[bucket], 1u);
            if (how.top_p != ~0ull) add_halves(&low[bucket], &high[bucket], measure(v, now.top, BY_MASS, how));
            add_halves(&low[hot], &high[hot], measure(v, now.top, BY_HOT_MASS, how));
        }
    }
    sync_threads();
    for (int i = t; i < SAMPLE_BUCKETS; i += SAMPLE_THREADS) {
        if (local[i] == 0u) continue;
        atomic_add(&histogram->counts[i], local[i]);
        for (int m = 0; m < 2; m++) {
            const u64 mass = (u64)high[m * SAMPLE_BUCKETS + i] << 32 | low[m * SAMPLE_BUCKETS + i];
            if (mass != 0u) atomic_add(&histogram->masses[m][i], mass);
        }
    }
    if (arrives_last(state, blocks, last)) narrow(state, chosen, draws, histogram, nullptr, now, how, sums);
}

KERNEL(sample_draw, SAMPLE_THREADS, (DecodeState* state, u32* chosen, const u64* draws, const Histogram* histogram, u64* list, const float* logits, int n, int blocks, Sampling how)) {
    LDS(u64, places, SAMPLE_LISTED);
    LDS(u32, last, 1);
    SAMPLE_SUMS(sums);
    pdl_trigger();
    pdl_wait();
    const Search now = state->search;
    if (now.by == CHOSEN) return;
    Candidates c = {nullptr, logits, n, now.top, now.least, now.from, now.to};
    for (int i = block_x() * SAMPLE_THREADS + thread_id(); i < n; i += SAMPLE_AHEAD * blocks * SAMPLE_THREADS) {
        float ahead[SAMPLE_AHEAD];
        load_ahead(ahead, logits, i, n, blocks * SAMPLE_THREADS);
#pragma unroll
        for (int j = 0; j < SAMPLE_AHEAD; j++) {
            const u64 place = c.of_logit(ahead[j], i + j * blocks * SAMPLE_THREADS);
            if (place == 0u) continue;
            const u32 to = atomic_add(&state->listed, 1u);
            if (to < SAMPLE_LISTED) list[to] = place;
        }
    }
    if (!arrives_last(state, blocks, last)) return;
    const u32 listed = state->listed;
    sync_threads();
    if (thread_id() == 0) state->listed = 0u;
    // A list that has no room for all is not used.
    if (listed <= SAMPLE_LISTED) {
        for (u32 i = (u32)thread_id(); i < listed; i += SAMPLE_THREADS) places[i] = list[i];
        c.list = places, c.n = (int)listed;
        sync_threads();
    }
    if (listed <= SAMPLE_THREADS && now.from == 0 && now.cut == 0u) {
        narrow_few(state, chosen, draws, c, places + SAMPLE_THREADS, now, how, sums);
        return;
    }
    narrow(state, chosen, draws, histogram, &c, now, how, sums);
}
