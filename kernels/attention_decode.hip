// attention of few tokens: out[:, h, t] = Σ_j softmax_j(cap(scale · q[:, h, t] · k[:, j, g])) v[:, j, g], over a cache of 16-byte rows or of
// blocks of q8_0.
//
// Grid (splits, kv_heads · parts, tokens), 256 threads. A block takes the query heads of one kv head (at most HEADS; `parts` blocks share
// more) and one run of positions, so K and V are read once. How many splits have work follows from kv_slot, in device memory: the others
// leave. Where `early` says that no kernel of the step writes them, the tables and all but the last positions are read before the kernels
// before this one have ended (mma only). Each block writes its (max, sum, Σ p v) to scratch; the one that arrives last joins them in the
// order of splits. With one split nothing is joined. Softmax in f32. LDS at most 34 KiB, of …_mma_q8_0_… 86 KiB. Bound by the memory that K
// and V come from.
//
// attention_decode_…: groups of LANES lanes take a position each, a lane 8 of its elements.
// attention_decode_mma_… (NVIDIA): Q Kᵀ and P V by matrix instructions that read K and V from global memory in the order in which they lie:
// any order of k is right if both factors have it. The query heads are rows 0–7 of the 16; rows 8–15 hold what rounding Q and P to 16 bits
// lost, so that products are as exact as f32's.
// attention_decode_mma_q8_0_… (NVIDIA): the same over blocks, which come through LDS.
#include "common/attention.h"
#include "common/mma.h"

constexpr int DECODE_THREADS = 256;
constexpr int DECODE_WAVES = DECODE_THREADS / WAVE;
// Statistics of a split have places for this many heads.
constexpr int DECODE_HEADS = 8;
// A split has at least so many positions; a token that sees no more than SINGLE_SPLIT has one.
constexpr int SPLIT_POSITIONS = 128;
constexpr int SINGLE_SPLIT = 256;
// Splits there are at most.
constexpr int MAX_SPLITS = 256;

// ---- who does what --------------------------------------------------------------------------------------------------------------

// What a block works on.
struct Work {
    int split, splits;  // this one, and those that have work
    int begin, end;     // positions
    int seen_end;       // of all splits
    int token, kv_head;
    int head, count;  // the query heads
    int unit;         // (token, kv head, part)
};

// False where this block has nothing to do.
DEVICE bool work_of(const AttentionArgs& a, Work& w) {
    int group = a.heads / a.kv_heads, each = div_up(group, a.parts), part = block_y() % a.parts;
    w.token = block_z();
    w.kv_head = block_y() / a.parts;
    w.head = w.kv_head * group + part * each;
    w.count = min_of(each, group - part * each);
    w.unit = w.token * a.kv_heads * a.parts + block_y();
    w.split = block_x();
    Visible seen = visible(a, w.token);
    int n = seen.end - seen.first, length = n;
    if (n > SINGLE_SPLIT) length = max_of(SPLIT_POSITIONS, div_up(div_up(n, a.splits), 32) * 32);
    w.seen_end = seen.end;
    w.splits = n > length ? div_up(n, length) : 1;
    w.begin = seen.first + w.split * length;
    w.end = min_of(w.begin + length, seen.end);
    return w.split < w.splits && w.count > 0;
}

// A split's partial results in scratch: tickets, then (max, sum) of each split's heads, then Σ p v of them.
DEVICE u32* ticket_of(const AttentionArgs& a, const Work& w) { return (u32*)a.scratch + w.unit; }
DEVICE i64 units_of(const AttentionArgs& a) { return (i64)a.tokens * a.kv_heads * a.parts; }
DEVICE f32x2* stats_of(const AttentionArgs& a, const Work& w, int split) {
    i64 tickets = (units_of(a) * 4 + 255) / 256 * 256;
    return (f32x2*)(a.scratch + tickets) + ((i64)w.unit * a.splits + split) * DECODE_HEADS;
}
DEVICE f32x4* sums_of(const AttentionArgs& a, const Work& w, int split) {
    float* first = (float*)(stats_of(a, w, 0) + (units_of(a) - w.unit) * a.splits * DECODE_HEADS);
    int each = div_up(a.heads / a.kv_heads, a.parts);
    return (f32x4*)(first + ((i64)w.unit * a.splits + split) * each * a.d_v);
}

// ---- joining --------------------------------------------------------------------------------------------------------------------

// One wave's or one split's share of a head: its maximum m, Σ exp2(s − m), and elsewhere Σ exp2(s − m) v.
DEVICE void add_scaled(f32x4& sum, float factor, const f32x4& x) {
    sum.x = fma_f32(factor, x.x, sum.x);
    sum.y = fma_f32(factor, x.y, sum.y);
    sum.z = fma_f32(factor, x.z, sum.z);
    sum.w = fma_f32(factor, x.w, sum.w);
}

// The memory of a block: the waves' shares, then the weights of splits, then sums to add.
template <int HEADS, int DIM> struct Shared {
    static constexpr int FLOATS = DECODE_WAVES * HEADS * DIM;
    static constexpr int QUADS = FLOATS / 4 > DECODE_THREADS ? FLOATS / 4 : DECODE_THREADS;
    static_assert(4 * QUADS >= MAX_SPLITS * HEADS, "the weights of splits");
};

DEVICE void store_out(const AttentionArgs& a, const Work& w, int h, int c, const f32x4& x) {
    *(f32x4*)(a.out.ptr + (w.head + h) * a.out.nb[1] + w.token * a.out.nb[2] + c * 16) = x;
}

// Joins the splits of a unit: the block that came last, all of its threads.
template <int HEADS> DEVICE void join_splits(const AttentionArgs& a, const Work& w, float* shared) {
    // A thread has four elements of a head and the splits first, first + stride, …
    constexpr int AHEAD = 8;
    int quads = a.d_v / 4, columns = w.count * quads;
    int stride = DECODE_THREADS / columns, first = thread_id() / columns, column = thread_id() % columns;
    int h = column / quads, c = column - h * quads;
    const f32x4* sums = sums_of(a, w, 0) + column;
    i64 pitch = sums_of(a, w, 1) - sums_of(a, w, 0);
    f32x4 x[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; i++) x[i] = sums[min_of(first + i * stride, w.splits - 1) * pitch];

    for (int i = thread_id() / WAVE; i < w.count; i += DECODE_WAVES) {
        float max = NO_SCORE, sum = 0.0f;
        for (int s = lane_id(); s < w.splits; s += WAVE) max = max_of(max, stats_of(a, w, s)[i].x);
        max = wave_max(max);
        for (int s = lane_id(); s < w.splits; s += WAVE) {
            f32x2 stats = stats_of(a, w, s)[i];
            float weight = exp2_f32(stats.x - max);
            sum += stats.y * weight;
            shared[s * HEADS + i] = weight;
        }
        sum = wave_sum(sum);
        float factor = sum > 0.0f ? 1.0f / sum : 0.0f;
        for (int s = lane_id(); s < w.splits; s += WAVE) shared[s * HEADS + i] *= factor;
    }
    sync_threads();
    f32x4 out = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < AHEAD; i++) {
        int s = first + i * stride;
        if (s < w.splits) add_scaled(out, shared[s * HEADS + h], x[i]);
    }
    for (int s = first + AHEAD * stride; s < w.splits; s += stride) add_scaled(out, shared[s * HEADS + h], sums[s * pitch]);
    if (stride > 1) {
        sync_threads();
        ((f32x4*)shared)[thread_id()] = out;
        sync_threads();
        if (first > 0) return;
        for (int i = 1; i < stride; i++) add_scaled(out, 1.0f, ((f32x4*)shared)[i * columns + column]);
    } else if (first > 0) {
        return;
    }
    store_out(a, w, h, c, out);
}

// Joins the shares that the waves have left in `shared` ([wave][HEADS][DIM]), `max` and `sum` ([wave][HEADS]); writes the result or the
// split's share of it.
template <int HEADS, int DIM> DEVICE void finish(const AttentionArgs& a, const Work& w, float* shared, const float* max, const float* sum) {
    sync_threads();
    int quads = a.d_v / 4, columns = w.count * quads, column = thread_id();
    if (column < columns) {
        int h = column / quads, c = column - h * quads;
        float above = NO_SCORE, total = 0.0f;
#pragma unroll
        for (int i = 0; i < DECODE_WAVES; i++) above = max_of(above, max[i * HEADS + h]);
        f32x4 x = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int i = 0; i < DECODE_WAVES; i++) {
            float weight = exp2_f32(max[i * HEADS + h] - above);
            total = fma_f32(weight, sum[i * HEADS + h], total);
            add_scaled(x, weight, ((const f32x4*)(shared + (i * HEADS + h) * DIM))[c]);
        }
        if (w.splits == 1) {
            f32x4 out = {0.0f, 0.0f, 0.0f, 0.0f};
            add_scaled(out, total > 0.0f ? 1.0f / total : 0.0f, x);
            store_out(a, w, h, c, out);
        } else {
            sums_of(a, w, w.split)[column] = x;
            if (c == 0) stats_of(a, w, w.split)[h] = {above, total};
        }
    }
    if (w.splits == 1) return;
    // Writes of this block's threads, then the ticket; the block with the last ticket reads the others' writes.
    LDS(int, last, 1);
#if defined(GPU_NVIDIA)
    // The barriers order the other threads' writes before thread 0's ticket, which releases them, and their reads behind it.
    sync_threads();
    if (thread_id() == 0) {
        u32* ticket = ticket_of(a, w);
        last[0] = atomic_add_ordered(ticket, 1u) + 1u == (u32)w.splits;
        if (last[0]) *ticket = 0;
    }
    sync_threads();
    if (!last[0]) return;
#else
    fence_device();
    sync_threads();
    if (thread_id() == 0) {
        fence_device();
        u32* ticket = ticket_of(a, w);
        last[0] = atomic_add(ticket, 1u) + 1u == (u32)w.splits;
        if (last[0]) *ticket = 0;
        fence_device();
    }
    sync_threads();
    if (!last[0]) return;
    fence_device();
#endif
    join_splits<HEADS>(a, w, shared);
}

// ---- a position a lane group ----------------------------------------------------------------------------------------------------

// Sum over `width` neighbouring lanes, the same bits in each.
template <int width> DEVICE float group_sum(float v) {
#if defined(GPU_AMD)
    // Neighbour, pair, then mirrored halves of 8 and of 16 lanes: operand modifiers, without LDS.
    if (width > 1) v += __builtin_bit_cast(float, __builtin_amdgcn_mov_dpp(__builtin_bit_cast(int, v), 0xb1, 0xf, 0xf, true));
    if (width > 2) v += __builtin_bit_cast(float, __builtin_amdgcn_mov_dpp(__builtin_bit_cast(int, v), 0x4e, 0xf, 0xf, true));
    if (width > 4) v += __builtin_bit_cast(float, __builtin_amdgcn_mov_dpp(__builtin_bit_cast(int, v), 0x141, 0xf, 0xf, true));
    if (width > 8) v += __builtin_bit_cast(float, __builtin_amdgcn_mov_dpp(__builtin_bit_cast(int, v), 0x140, 0xf, 0xf, true));
    if (width > 16) v += shfl_xor(v, 16);
    return v;
#else
    return wave_sum<width>(v);
#endif
}

template <class T, int LANES, int HEADS> DEVICE void attention_decode(const AttentionArgs& a) {
    constexpr int DIM = 8 * LANES, GROUPS = DECODE_THREADS / LANES;
    constexpr int AHEAD = HEADS > 4 || sizeof(T) == 4 ? 2 : HEADS == 1 && sizeof(T) == 1 ? 5 : 4;  // positions of a lane group that are loaded together
    pdl_trigger();
    LDS(f32x4, quads, (Shared<HEADS, DIM>::QUADS));
    LDS(float, wave_maxima, DECODE_WAVES * HEADS);
    LDS(float, wave_sums, DECODE_WAVES * HEADS);
    float* shared = (float*)quads;
    pdl_wait();
    Work w;
    if (!work_of(a, w)) return;
    int group = thread_id() / LANES, at = thread_id() % LANES * 8;
    int k_at = at < a.d ? at : 0, v_at = at < a.d_v ? at : 0;
    const char* keys = a.k.ptr + w.kv_head * a.k.nb[2] + Row<T>::place(k_at, a.k.nb[0]);
    const char* values = a.v.ptr + w.kv_head * a.v.nb[2] + Row<T>::place(v_at, a.v.nb[0]);
    int last = max_of(w.end - 1, w.begin);

    Eight<T> k[AHEAD], v[AHEAD];
#pragma unroll
    for (int p = 0; p < AHEAD; p++) load8(k[p], keys + min_of(w.begin + p * GROUPS + group, last) * a.k.nb[1], k_at);
    float q[HEADS][8];
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        const char* query = a.q.ptr + (w.head + min_of(h, w.count - 1)) * a.q.nb[1] + w.token * a.q.nb[2] + k_at * 4;
        Eight<float> x;
        load8(x, query, 0);
        widen8(q[h], x);
        float factor = at < a.d && h < w.count ? query_scale(a) : 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) q[h][i] *= factor;
    }
    float acc[HEADS][8] = {}, max[HEADS], sum[HEADS] = {};
#pragma unroll
    for (int h = 0; h < HEADS; h++) max[h] = NO_SCORE;

    for (int from = w.begin; from < w.end; from += AHEAD * GROUPS) {
        float scores[AHEAD][HEADS];
#pragma unroll
        for (int p = 0; p < AHEAD; p++) load8(v[p], values + min_of(from + p * GROUPS + group, last) * a.v.nb[1], v_at);
#pragma unroll
        for (int p = 0; p < AHEAD; p++) {
            float x[8];
            widen8(x, k[p]);
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                float dot = 0.0f;
#pragma unroll
                for (int i = 0; i < 8; i++) dot = fma_f32(q[h][i], x[i], dot);
                scores[p][h] = scaled(k[p], dot);
            }
        }
#pragma unroll
        for (int p = 0; p < AHEAD; p++)
            load8(k[p], keys + min_of(from + (AHEAD + p) * GROUPS + group, last) * a.k.nb[1], k_at);
#pragma unroll
        for (int p = 0; p < AHEAD; p++)
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                float score = capped(a, group_sum<LANES>(scores[p][h]));
                scores[p][h] = from + p * GROUPS + group < w.end ? score : NEG_INFINITY;
            }
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            float above = max[h];
#pragma unroll
            for (int p = 0; p < AHEAD; p++) above = max_of(above, scores[p][h]);
            float rescale = exp2_f32(max[h] - above);
            max[h] = above;
            sum[h] *= rescale;
#pragma unroll
            for (int i = 0; i < 8; i++) acc[h][i] *= rescale;
#pragma unroll
            for (int p = 0; p < AHEAD; p++) sum[h] += scores[p][h] = exp2_f32(scores[p][h] - above);
        }
#pragma unroll
        for (int p = 0; p < AHEAD; p++) {
            float x[8];
            widen8(x, v[p]);
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                float share = scaled(v[p], scores[p][h]);
#pragma unroll
                for (int i = 0; i < 8; i++) acc[h][i] = fma_f32(share, x[i], acc[h][i]);
            }
        }
    }

    // The lane groups of a wave, then its share to LDS.
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        float above = max[h];
#pragma unroll
        for (int m = LANES; m < WAVE; m <<= 1) above = max_of(above, shfl_xor(above, m));
        float rescale = exp2_f32(max[h] - above);
        max[h] = above;
        sum[h] *= rescale;
#pragma unroll
        for (int m = LANES; m < WAVE; m <<= 1) sum[h] += shfl_xor(sum[h], m);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            acc[h][i] *= rescale;
#pragma unroll
            for (int m = LANES; m < WAVE; m <<= 1) acc[h][i] += shfl_xor(acc[h][i], m);
        }
    }
    int wave = thread_id() / WAVE;
    if (lane_id() < LANES) {
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            f32x4* out = (f32x4*)(shared + (wave * HEADS + h) * DIM + at);
            out[0] = {acc[h][0], acc[h][1], acc[h][2], acc[h][3]};
            out[1] = {acc[h][4], acc[h][5], acc[h][6], acc[h][7]};
            wave_maxima[wave * HEADS + h] = max[h];
            wave_sums[wave * HEADS + h] = sum[h];
        }
    }
    finish<HEADS, DIM>(a, w, shared, wave_maxima, wave_sums);
}

#define DECODE(suffix, T, LANES, HEADS) \
    KERNEL(attention_decode_##suffix, DECODE_THREADS, (AttentionArgs a)) { attention_decode<T, LANES, HEADS>(a); }
#define DECODE_TYPE(type, T)        \
    DECODE(type##_64_1, T, 8, 1)    \
    DECODE(type##_64_4, T, 8, 4)    \
    DECODE(type##_64_8, T, 8, 8)    \
    DECODE(type##_128_1, T, 16, 1)  \
    DECODE(type##_128_4, T, 16, 4)  \
    DECODE(type##_128_8, T, 16, 8)  \
    DECODE(type##_256_1, T, 32, 1)  \
    DECODE(type##_256_4, T, 32, 4)
DECODE_TYPE(f16, half_t)
DECODE_TYPE(bf16, bf16_t)
DECODE_TYPE(f32, float)
DECODE_TYPE(q8_0, q8_0_t)

// ---- matrix instructions --------------------------------------------------------------------------------------------------------

#if defined(HAVE_MMA)

// DIM 64 or 128, both of d and d_v.
template <class T, int DIM> DEVICE void attention_decode_mma(const AttentionArgs& a) {
    constexpr int TILE = 2048 / DIM;  // positions that a wave takes at once: 4 KiB of K and of V
    constexpr int RUNS = DIM / 32, HALVES = DIM / 64, EIGHTS = TILE / 8, STEPS = TILE / 16;
    pdl_trigger();
    LDS(f32x4, quads, (Shared<DECODE_HEADS, DIM>::QUADS));
    LDS(float, wave_maxima, DECODE_WAVES * DECODE_HEADS);
    LDS(float, wave_sums, DECODE_WAVES * DECODE_HEADS);
    float* shared = (float*)quads;
    // The tables are the run's inputs, and what lies in the caches before this token's position is from runs before: neither needs a wait.
    if (!a.early) pdl_wait();
    Work w;
    if (!work_of(a, w)) return;
    int wave = thread_id() / WAVE, r = lane_id() / 4, c = lane_id() % 4;
    const char* keys = a.k.ptr + w.kv_head * a.k.nb[2] + c * 16;
    const char* values = a.v.ptr + w.kv_head * a.v.nb[2] + r * 16;
    int last = max_of(w.end - 1, w.begin);

    // A lane's K: position r of each eight, in runs of 32 elements those from 8c on. Its V: positions 2c, 2c + 1, 2c + 8, 2c + 9 of each
    // 16, in runs of 64 elements those from 8r on.
    u32x4 k[EIGHTS][RUNS], v[STEPS][4][HALVES];
    auto load_k = [&](int from) {
#pragma unroll
        for (int e = 0; e < EIGHTS; e++) {
            const char* key = keys + min_of(from + e * 8 + r, last) * a.k.nb[1];
#pragma unroll
            for (int run = 0; run < RUNS; run++) k[e][run] = *(const u32x4*)(key + run * 64);
        }
    };
    auto load_v = [&](int from) {
#pragma unroll
        for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int p = 0; p < 4; p++) {
                const char* value = values + min_of(from + s * 16 + 2 * c + p % 2 + p / 2 * 8, last) * a.v.nb[1];
#pragma unroll
                for (int half = 0; half < HALVES; half++) v[s][p][half] = *(const u32x4*)(value + half * 128);
            }
    };
    int from = w.begin + wave * TILE;
    const bool ahead = a.early && from + TILE < w.seen_end;
    if (ahead) {
        load_k(from);
        load_v(from);
    }
    if (a.early) pdl_wait();
    if (!ahead && from < w.end) {
        load_k(from);
        load_v(from);
    }
    // Rows of Q: head r, and what its rounding lost; in each run of 32 elements k 2c… of the first product are elements 8c, 8c + 1, …
    u32 q[RUNS][2][4];
    const char* query = a.q.ptr + (w.head + min_of(r, w.count - 1)) * a.q.nb[1] + w.token * a.q.nb[2] + c * 32;
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
        f32x4 x[2] = {((const f32x4*)(query + run * 128))[0], ((const f32x4*)(query + run * 128))[1]};
        float factor = query_scale(a);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float x0 = x[i].x * factor, x1 = x[i].y * factor, x2 = x[i].z * factor, x3 = x[i].w * factor;
            u32 lo = Pair<T>::pack(x0, x1), hi = Pair<T>::pack(x2, x3);
            f32x2 lo_f = Pair<T>::unpack(lo), hi_f = Pair<T>::unpack(hi);
            q[run][i][0] = lo;
            q[run][i][1] = Pair<T>::pack(x0 - lo_f.x, x1 - lo_f.y);
            q[run][i][2] = hi;
            q[run][i][3] = Pair<T>::pack(x2 - hi_f.x, x3 - hi_f.y);
        }
    }
    float acc[HALVES][8][4] = {}, max = NO_SCORE, sum = 0.0f;
    for (; from < w.end; from += DECODE_WAVES * TILE) {
        float scores[EIGHTS][2];
        float above = max;
#pragma unroll
        for (int e = 0; e < EIGHTS; e++) {
            float s[4] = {};
#pragma unroll
            for (int run = 0; run < RUNS; run++) {
                Pair<T>::mma(s, q[run][0], k[e][run].x, k[e][run].y);
                Pair<T>::mma(s, q[run][1], k[e][run].z, k[e][run].w);
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float score = capped(a, s[i] + s[i + 2]);
                scores[e][i] = from + e * 8 + 2 * c + i < w.end ? score : NEG_INFINITY;
                above = max_of(above, scores[e][i]);
            }
        }
        if (from + DECODE_WAVES * TILE < w.end) load_k(from + DECODE_WAVES * TILE);
        above = max_of(above, shfl_xor(above, 1));
        above = max_of(above, shfl_xor(above, 2));
        float rescale = exp2_f32(max - above);
        max = above;
        sum *= rescale;
#pragma unroll
        for (int half = 0; half < HALVES; half++)
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int i = 0; i < 4; i++) acc[half][j][i] *= rescale;
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            u32 p[4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float p0 = exp2_f32(scores[2 * s + i][0] - above), p1 = exp2_f32(scores[2 * s + i][1] - above);
                sum += p0 + p1;
                p[2 * i] = Pair<T>::pack(p0, p1);
                f32x2 rounded = Pair<T>::unpack(p[2 * i]);
                p[2 * i + 1] = Pair<T>::pack(p0 - rounded.x, p1 - rounded.y);
            }
#pragma unroll
            for (int half = 0; half < HALVES; half++)
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    // Column r of the factor is element 8r + j of V.
                    u32 x[4];
#pragma unroll
                    for (int i = 0; i < 4; i++) x[i] = word(v[s][i][half], j / 2);
                    u32 b0 = j % 2 ? high_halves(x[0], x[1]) : low_halves(x[0], x[1]);
                    u32 b1 = j % 2 ? high_halves(x[2], x[3]) : low_halves(x[2], x[3]);
                    Pair<T>::mma(acc[half][j], p, b0, b1);
                }
        }
        if (from + DECODE_WAVES * TILE < w.end) load_v(from + DECODE_WAVES * TILE);
    }
    sum += shfl_xor(sum, 1);
    sum += shfl_xor(sum, 2);
    if (r < w.count) {
#pragma unroll
        for (int half = 0; half < HALVES; half++) {
            // Columns 2c and 2c + 1 of the eight products: elements 16c … 16c + 15 of a run of 64.
            f32x4* out = (f32x4*)(shared + (wave * DECODE_HEADS + r) * DIM + half * 64 + c * 16);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                auto x = [&](int j) { return acc[half][i % 2 * 4 + j][i / 2] + acc[half][i % 2 * 4 + j][i / 2 + 2]; };
                out[i] = {x(0), x(1), x(2), x(3)};
            }
        }
        wave_maxima[wave * DECODE_HEADS + r] = max;
        wave_sums[wave * DECODE_HEADS + r] = sum;
    }
    finish<DECODE_HEADS, DIM>(a, w, shared, wave_maxima, wave_sums);
}

#define DECODE_MMA(suffix, T, DIM) \
    KERNEL(attention_decode_mma_##suffix, DECODE_THREADS, (AttentionArgs a)) { attention_decode_mma<T, DIM>(a); }
DECODE_MMA(f16_64, half_t, 64)
DECODE_MMA(f16_128, half_t, 128)
DECODE_MMA(bf16_64, bf16_t, 64)
DECODE_MMA(bf16_128, bf16_t, 128)

// ---- matrix instructions over blocks of q8_0 --------------------------------------------------------------------------------------

// Bytes are exact in f16, so that K and V are multiplied without their scales: a score sums d · (Q q) over the blocks of its row, and P is
// multiplied by the scales of a block of V before. These are kept as multiples of the largest that the wave has met, lest products with
// small ones be too small for f16, as sums are kept relative to the largest score.
//
// Rows of 68 or 136 bytes are neither at multiples of 16 nor in the order of the lanes, so a tile of positions, one run of bytes, goes to LDS
// by asynchronous copies of the 16-byte words that it touches. Each wave has a ring of such tiles, K and V in turn.
struct Q8Ring {
    static constexpr int TILE_BYTES = 2176;  // 16 rows of 128 elements, 32 of 64
    static constexpr int SLOT_BYTES = TILE_BYTES + 16;
    // As many as fit in the 99 KiB that a block may take on the smaller devices; a host has 64 KiB.
#if defined(GPU_NVIDIA)
    static constexpr int SLOTS = 5;
#else
    static constexpr int SLOTS = 3;
#endif
    static constexpr int BYTES = DECODE_WAVES * SLOTS * SLOT_BYTES;  // RING_BYTES in steps/attention.rs
};

// Elements 4c … 4c + 3 of a block, each plus 128. Rows begin at words, so that blocks of odd number begin between two.
template <bool odd> DEVICE u32 block_word(const char* block, int c) {
    if (odd) return ((const u32*)(block + 2))[c] ^ 0x80808080u;
    const u32* words = (const u32*)block + c;
    return funnel_right(words[0], words[1], 16) ^ 0x80808080u;
}

// DIM 64 or 128, both of d and d_v. The layout of lanes is that of attention_decode_mma; a lane has of each block of K the elements 4c … 4c + 3
// and 16 + 4c …, of each block of V the elements 4r … 4r + 3.
template <int DIM> DEVICE void attention_decode_mma_q8_0(const AttentionArgs& a, char* lds, float* wave_maxima, float* wave_sums) {
    constexpr int TILE = 2048 / DIM, BLOCKS = DIM / 32, ROW = BLOCKS * Q8_0_BYTES, EIGHTS = TILE / 8, STEPS = TILE / 16;
    constexpr int SLOTS = Q8Ring::SLOTS, SLOT = Q8Ring::SLOT_BYTES;
    static_assert(TILE * ROW == Q8Ring::TILE_BYTES, "a tile");
    static_assert(Q8Ring::BYTES >= 16 * Shared<DECODE_HEADS, DIM>::QUADS, "the waves' shares lie in the ring's place");
    pdl_trigger();
    bool waited = !a.early;
    if (waited) pdl_wait();
    Work w;
    if (!work_of(a, w)) return;
    const int wave = thread_id() / WAVE, lane = lane_id(), r = lane / 4, c = lane % 4;
    const char* keys = a.k.ptr + w.kv_head * a.k.nb[2];
    const char* values = a.v.ptr + w.kv_head * a.v.nb[2];
    char* ring = lds + wave * SLOTS * SLOT;
    const int first = w.begin + wave * TILE;

    // Item 2t is the wave's tile t of K, 2t + 1 that of V. Nothing behind the cache's last position is read; what is before a head belongs to
    // another or to nobody.
    auto issue = [&](int item, int slot) {
        int from = first + item / 2 * (DECODE_WAVES * TILE);
        if (from < w.end) {
            if (!waited && from + TILE >= w.seen_end) {
                pdl_wait();
                waited = true;
            }
            const char* head = item % 2 ? values : keys;
            const char* begin = head + (i64)from * ROW;
            const int before = (int)((u64)begin & 15);
            const i64 left = head + (i64)a.positions * ROW - begin + before;
#pragma unroll
            for (int i = 0; i < (SLOT / 16 + WAVE - 1) / WAVE; i++) {
                int at = (i * WAVE + lane) * 16;
                if (at >= Q8Ring::TILE_BYTES + before || at >= left) break;
                copy_async_part(ring + slot * SLOT + at, begin - before + at, left - at < 16 ? (int)(left - at) : 16);
            }
        }
        commit_copies();
    };
    // A slot's rows.
    auto rows_of = [&](int slot, const char* head, int from) { return ring + slot * SLOT + (int)((u64)(head + (i64)from * ROW) & 15); };
#pragma unroll
    for (int i = 0; i < SLOTS; i++) issue(i, i);
    if (!waited) pdl_wait();
    waited = true;

    // Rows of Q: head r, and what its rounding lost.
    u32 q[BLOCKS][2][4];
    const char* query = a.q.ptr + (w.head + min_of(r, w.count - 1)) * a.q.nb[1] + w.token * a.q.nb[2] + c * 16;
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
        float factor = query_scale(a);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            f32x4 x = *(const f32x4*)(query + b * 128 + i * 64);
            float x0 = x.x * factor, x1 = x.y * factor, x2 = x.z * factor, x3 = x.w * factor;
            u32 lo = Pair<half_t>::pack(x0, x1), hi = Pair<half_t>::pack(x2, x3);
            f32x2 lo_f = Pair<half_t>::unpack(lo), hi_f = Pair<half_t>::unpack(hi);
            q[b][i][0] = lo;
            q[b][i][1] = Pair<half_t>::pack(x0 - lo_f.x, x1 - lo_f.y);
            q[b][i][2] = hi;
            q[b][i][3] = Pair<half_t>::pack(x2 - hi_f.x, x3 - hi_f.y);
        }
    }
    // The unit of `acc`: the largest scale of V so far. It begins with the least scale that there is.
    float acc[BLOCKS][4][4] = {}, max = NO_SCORE, sum = 0.0f, unit = 5.9604645e-8f;
    int item = 0, slot = 0;
    auto next = [&](int slot) { return slot + 1 < SLOTS ? slot + 1 : 0; };
    for (int from = first; from < w.end; from += DECODE_WAVES * TILE) {
        wait_copies<SLOTS - 1>();
        sync_wave();
        float scores[EIGHTS][2] = {};
        const char* rows = rows_of(slot, keys, from);
#pragma unroll
        for (int e = 0; e < EIGHTS; e++) {
            const char* mine = rows + (e * 8 + r) * ROW;
            const char* columns = rows + (e * 8 + 2 * c) * ROW;
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
                float s[4] = {};
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    u32 x = b % 2 ? block_word<true>(mine + b * Q8_0_BYTES, c + 4 * i) : block_word<false>(mine + b * Q8_0_BYTES, c + 4 * i);
                    Pair<half_t>::mma(s, q[b][i], halves_of_bytes<0>(x), halves_of_bytes<1>(x));
                }
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float d = half_bits_float(*(const u16*)(columns + i * ROW + b * Q8_0_BYTES));
                    scores[e][i] = fma_f32(d, s[i] + s[i + 2], scores[e][i]);
                }
            }
        }
        sync_wave();
        issue(item + SLOTS, slot);
        slot = next(slot);
        float above = max;
#pragma unroll
        for (int e = 0; e < EIGHTS; e++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                scores[e][i] = from + e * 8 + 2 * c + i < w.end ? capped(a, scores[e][i]) : NEG_INFINITY;
                above = max_of(above, scores[e][i]);
            }
        above = max_of(above, shfl_xor(above, 1));
        above = max_of(above, shfl_xor(above, 2));
        float rescale = exp2_f32(max - above);
        max = above;
        sum *= rescale;

        wait_copies<SLOTS - 1>();
        sync_wave();
        rows = rows_of(slot, values, from);
        // Scales of this lane's positions of each 16: 2c, 2c + 1, 2c + 8, 2c + 9; of those that are not seen, 0.
        float d[STEPS][4][BLOCKS], largest = unit;
#pragma unroll
        for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int p = 0; p < 4; p++) {
                int j = s * 16 + 2 * c + p % 2 + p / 2 * 8;
#pragma unroll
                for (int b = 0; b < BLOCKS; b++) {
                    float scale = half_bits_float(*(const u16*)(rows + j * ROW + b * Q8_0_BYTES));
                    d[s][p][b] = from + j < w.end ? scale : 0.0f;
                    largest = max_of(largest, d[s][p][b]);
                }
            }
        largest = max_of(largest, shfl_xor(largest, 1));
        largest = max_of(largest, shfl_xor(largest, 2));
        float inverse = 1.0f / largest;
        rescale *= unit * inverse;
        unit = largest;
#pragma unroll
        for (int b = 0; b < BLOCKS; b++)
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int i = 0; i < 4; i++) acc[b][j][i] *= rescale;
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            float p[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                p[i] = exp2_f32(scores[2 * s + i / 2][i % 2] - above);
                sum += p[i];
                p[i] *= inverse;
            }
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
                u32 factor[4];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float p0 = p[2 * i] * d[s][2 * i][b], p1 = p[2 * i + 1] * d[s][2 * i + 1][b];
                    factor[2 * i] = Pair<half_t>::pack(p0, p1);
                    f32x2 rounded = Pair<half_t>::unpack(factor[2 * i]);
                    factor[2 * i + 1] = Pair<half_t>::pack(p0 - rounded.x, p1 - rounded.y);
                }
                u32 x[4];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const char* block = rows + (s * 16 + 2 * c + i % 2 + i / 2 * 8) * ROW + b * Q8_0_BYTES;
                    x[i] = b % 2 ? block_word<true>(block, r) : block_word<false>(block, r);
                }
                // Column r of product j is element 4r + j.
                u32 lo[2] = {interleave<0>(x[0], x[1]), interleave<0>(x[2], x[3])};
                u32 hi[2] = {interleave<1>(x[0], x[1]), interleave<1>(x[2], x[3])};
                Pair<half_t>::mma(acc[b][0], factor, halves_of_bytes<0>(lo[0]), halves_of_bytes<0>(lo[1]));
                Pair<half_t>::mma(acc[b][1], factor, halves_of_bytes<1>(lo[0]), halves_of_bytes<1>(lo[1]));
                Pair<half_t>::mma(acc[b][2], factor, halves_of_bytes<0>(hi[0]), halves_of_bytes<0>(hi[1]));
                Pair<half_t>::mma(acc[b][3], factor, halves_of_bytes<1>(hi[0]), halves_of_bytes<1>(hi[1]));
            }
        }
        sync_wave();
        issue(item + 1 + SLOTS, slot);
        slot = next(slot);
        item += 2;
    }
    sum += shfl_xor(sum, 1);
    sum += shfl_xor(sum, 2);
    // The ring is free when all waves are here.
    wait_copies<0>();
    sync_threads();
    float* shared = (float*)lds;
    if (r < w.count) {
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
            // Columns 2c and 2c + 1 of the four products: elements 8c … 8c + 7 of a block.
            f32x4* out = (f32x4*)(shared + (wave * DECODE_HEADS + r) * DIM + b * 32 + c * 8);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                auto x = [&](int j) { return (acc[b][j][i] + acc[b][j][i + 2]) * unit; };
                out[i] = {x(0), x(1), x(2), x(3)};
            }
        }
        wave_maxima[wave * DECODE_HEADS + r] = max;
        wave_sums[wave * DECODE_HEADS + r] = sum;
    }
    finish<DECODE_HEADS, DIM>(a, w, shared, wave_maxima, wave_sums);
}

#define DECODE_MMA_Q8_0(DIM)                                                                   \
    KERNEL(attention_decode_mma_q8_0_##DIM, DECODE_THREADS, (AttentionArgs a)) {               \
        DYNAMIC_LDS(lds);                                                                      \
        LDS(float, wave_maxima, DECODE_WAVES * DECODE_HEADS);                                  \
        LDS(float, wave_sums, DECODE_WAVES * DECODE_HEADS);                                    \
        attention_decode_mma_q8_0<DIM>(a, (char*)lds, wave_maxima, wave_sums);                 \
    }
DECODE_MMA_Q8_0(64)
DECODE_MMA_Q8_0(128)

#endif
