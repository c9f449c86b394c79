// attention of few tokens: out[:, h, t] = Σ_j softmax_j(cap(scale · q[:, h, t] · k[:, j, g])) v[:, j, g], over a cache of 16-byte rows, of
// q8_0 in planes (common/cache.h).
//
// Grid (splits, kv_heads · parts, tokens), 256 threads. A block takes the query heads of one kv head (at most HEADS; `parts` blocks share
// more) and one run of positions, so K and V are read once. How many splits have work follows from kv_slot, in device memory: the others
// leave. Where `early` says that no kernel of the step writes them, the tables and all but the last positions are read before the kernels
// before this one have ended (mma only). Each block writes its (max, sum, Σ p v) to scratch; the one that arrives last joins them in the
// order of splits. With one split nothing is joined. Softmax in f32. LDS at most 34 KiB. Bound by the memory that K and V come from.
//
// attention_decode_…: groups of LANES lanes take a position each, a lane 8 of its elements.
// attention_decode_mma_… (NVIDIA): Q Kᵀ and P V by matrix instructions that read K and V from global memory in the order in which they lie:
// any order of k is right if both factors have it. The query heads are rows 0–7 of the 16; rows 8–15 hold what rounding Q and P to 16 bits
// lost, so that products are as exact as f32's.
// attention_decode_mma_q8_0_… (NVIDIA): the products transposed, so that four query heads and what their rounding lost are all eight columns;
// a lane's codes are neighbours in memory (cache.h), and become halves by one permutation of bytes for two.
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
    constexpr int AHEAD = HEADS > 4 || sizeof(T) == 4 ? 2 : 4;  // positions of a lane group that are loaded together
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
    const LaneRows<T> keys(a.k, a.k_scales, w.kv_head, a.d, k_at), values(a.v, a.v_scales, w.kv_head, a.d_v, v_at);
    int last = max_of(w.end - 1, w.begin);

    Eight<T> k[AHEAD], v[AHEAD];
#pragma unroll
    for (int p = 0; p < AHEAD; p++) keys.load(k[p], min_of(w.begin + p * GROUPS + group, last));
    float q[HEADS][8];
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        const char* query = a.q.ptr + (w.head + min_of(h, w.count - 1)) * a.q.nb[1] + w.token * a.q.nb[2];
        float factor = at < a.d && h < w.count ? query_scale(a) : 0.0f;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            f32x4 x = *(const f32x4*)(query + LaneRows<T>::element(k_at, a.d, i) * 4);
            q[h][4 * i] = x.x * factor, q[h][4 * i + 1] = x.y * factor, q[h][4 * i + 2] = x.z * factor, q[h][4 * i + 3] = x.w * factor;
        }
    }
    float acc[HEADS][8] = {}, max[HEADS], sum[HEADS] = {};
#pragma unroll
    for (int h = 0; h < HEADS; h++) max[h] = NO_SCORE;

    for (int from = w.begin; from < w.end; from += AHEAD * GROUPS) {
        float scores[AHEAD][HEADS];
#pragma unroll
        for (int p = 0; p < AHEAD; p++) values.load(v[p], min_of(from + p * GROUPS + group, last));
#pragma unroll
        for (int p = 0; p < AHEAD; p++) {
            float x[8];
            widen8(x, k[p]);
#pragma unroll
            for (int h = 0; h < HEADS; h++) scores[p][h] = dot8(q[h], x, k[p]);
        }
#pragma unroll
        for (int p = 0; p < AHEAD; p++) keys.load(k[p], min_of(from + (AHEAD + p) * GROUPS + group, last));
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
                float share[2] = {scaled(v[p], scores[p][h], 0), scaled(v[p], scores[p][h], 1)};
#pragma unroll
                for (int i = 0; i < 8; i++) acc[h][i] = fma_f32(share[i / 4], x[i], acc[h][i]);
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
            float* out = shared + (wave * HEADS + h) * DIM;
            if (at < a.d_v) {
#pragma unroll
                for (int i = 0; i < 2; i++)
                    *(f32x4*)(out + LaneRows<T>::element(at, a.d_v, i)) = {acc[h][4 * i], acc[h][4 * i + 1], acc[h][4 * i + 2], acc[h][4 * i + 3]};
            }
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

// ---- matrix instructions over q8_0 ----------------------------------------------------------------------------------------------

// DIM 64 or 128, both of d and d_v; HEADS 4 or 8. Positions are the rows of the products, S^T = K Q^T and O^T = V^T P^T; their eight columns are
// four query heads, each with what rounding Q and P to 16 bits lost. Codes are taken as the halves code · 2^-24, which have the same
// bits; what is too much, 128 for each code, S^T begins with and O^T gets subtracted.
//
// K is multiplied without its scales: a score sums d · (Q q) over the blocks of its row. P is multiplied by the scales of a block of V
// before. These are kept as multiples of the largest that the wave has met, lest products with small ones be too small for f16, as sums are
// kept relative to the largest score.

// One, two or four words from an address that is a multiple of their bytes.
template <int count> DEVICE void load_words(u32* out, const char* from) {
    if constexpr (count == 4) {
        u32x4 x = *(const u32x4*)from;
        out[0] = x.x, out[1] = x.y, out[2] = x.z, out[3] = x.w;
    } else if constexpr (count == 2) {
        u32x2 x = *(const u32x2*)from;
        out[0] = x.x, out[1] = x.y;
    } else {
        out[0] = *(const u32*)from;
    }
}

// A wave's positions of K and V, DIM · TILE = 2048, with r = lane / 4 and c = lane % 4. Row ρ of 16 is position 4 · (ρ % 2) + ρ % 8 / 2 + 8 · (ρ / 8),
// so that the rows that lanes with different c have of V lie side by side.
template <int DIM> struct Q8Tile {
    static constexpr int BLOCKS = DIM / 32, TILE = 2048 / DIM, SIXTEENS = TILE / 16, QUADS = DIM / 64;
    u32x4 k[SIXTEENS][2][QUADS];         // of rows r and r + 8: words c and c + 4 of each block, of 64 elements 2c and 2c + 1
    u32 v[SIXTEENS][4][BLOCKS];          // of rows 2c, 2c + 1, 2c + 8, 2c + 9: word r of each block
    u32 k_scales[SIXTEENS][2][QUADS];    // of rows r and r + 8: of neighbouring blocks
    u32 v_scales[SIXTEENS][2][QUADS];

    // The scale of a block of row r or r + 8.
    DEVICE_MEMBER float scale(const u32 (&scales)[SIXTEENS][2][QUADS], int s, int half, int block) const {
        f32x2 pair = Pair<half_t>::unpack(scales[s][half][block / 2]);
        return block % 2 ? pair.y : pair.x;
    }
    static DEVICE_MEMBER int place(int row) { return row % 2 * 4 + row % 8 / 2 + row / 8 * 8; }
    // Which word of its block a lane's word `step` of K is.
    static DEVICE_MEMBER int word_of_k(int step) { return DIM == 128 ? lane_id() % 4 + 4 * step : lane_id() % 4 * 2 + step; }
    DEVICE_MEMBER u32 key(int s, int half, int step, int block) const { return DIM == 128 ? word(k[s][half][step % QUADS], block) : word(k[s][half][0], 2 * step + block); }

    // The positions from `from` on; those after `last` are `last`.
    DEVICE_MEMBER void load_keys(const CodeRows& rows, int from, int last) {
        const int r = lane_id() / 4, c = lane_id() % 4;
#pragma unroll
        for (int s = 0; s < SIXTEENS; s++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int position = min_of(from + s * 16 + half * 8 + place(r), last);
#pragma unroll
                for (int i = 0; i < QUADS; i++) k[s][half][i] = *(const u32x4*)(rows.codes_of(position) + c * 16 + i * 64);
                load_words<QUADS>(k_scales[s][half], rows.scales_of(position));
            }
    }
    DEVICE_MEMBER void load_values(const CodeRows& rows, int from, int last) {
        const int r = lane_id() / 4, c = lane_id() % 4;
#pragma unroll
        for (int s = 0; s < SIXTEENS; s++) {
#pragma unroll
            for (int p = 0; p < 4; p++)
                load_words<BLOCKS>(v[s][p], rows.codes_of(min_of(from + s * 16 + 4 * p + c, last)) + r * (DIM / 8));
#pragma unroll
            for (int half = 0; half < 2; half++)
                load_words<QUADS>(v_scales[s][half], rows.scales_of(min_of(from + s * 16 + half * 8 + place(r), last)));
        }
    }
};

template <int DIM, int HEADS> DEVICE void attention_decode_mma_q8_0(const AttentionArgs& a) {
    typedef Q8Tile<DIM> Tile;
    constexpr int BLOCKS = Tile::BLOCKS, TILE = Tile::TILE, SIXTEENS = Tile::SIXTEENS, SETS = HEADS / 4;
    // Tiles of a wave that are on their way or in use: as many as its registers hold.
    constexpr int SLOTS = DIM * HEADS > 512 ? 1 : 2;
    constexpr int STRIDE = DECODE_WAVES * TILE;
    constexpr float CODE_UNIT = 5.9604644775390625e-8f, CODES = 1.0f / CODE_UNIT, BIAS = 128.0f;
    pdl_trigger();
    LDS(f32x4, quads, (Shared<HEADS, DIM>::QUADS));
    LDS(float, wave_maxima, DECODE_WAVES * HEADS);
    LDS(float, wave_sums, DECODE_WAVES * HEADS);
    float* shared = (float*)quads;
    // As in attention_decode_mma.
    if (!a.early) pdl_wait();
    Work w;
    if (!work_of(a, w)) return;
    const int wave = thread_id() / WAVE, r = lane_id() / 4, c = lane_id() % 4, last = max_of(w.end - 1, w.begin);
    const CodeRows keys(a.k, a.k_scales, w.kv_head), values(a.v, a.v_scales, w.kv_head);
    Tile tiles[SLOTS];
    int from = w.begin + wave * TILE;
    auto load = [&](int slot) {
        tiles[slot].load_keys(keys, from + slot * STRIDE, last);
        tiles[slot].load_values(values, from + slot * STRIDE, last);
    };
    auto ahead = [&](int slot) { return a.early && from + slot * STRIDE + TILE < w.seen_end; };
#pragma unroll
    for (int slot = 0; slot < SLOTS; slot++)
        if (ahead(slot)) load(slot);
    if (a.early) pdl_wait();
#pragma unroll
    for (int slot = 0; slot < SLOTS; slot++)
        if (!ahead(slot)) load(slot);

    // Column r of Q^T: head r / 2 of four, or what its rounding lost. `begin`: what the scores of head c begin with.
    u32 q[SETS][BLOCKS][2][2];
    float begin[SETS][BLOCKS];
#pragma unroll
    for (int set = 0; set < SETS; set++) {
        const char* query = a.q.ptr + (w.head + min_of(set * 4 + r / 2, w.count - 1)) * a.q.nb[1] + w.token * a.q.nb[2];
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
            float all = 0.0f;
#pragma unroll
            for (int step = 0; step < 2; step++) {
                f32x4 x = *(const f32x4*)(query + b * 128 + Tile::word_of_k(step) * 16);
                float v[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float x0 = v[2 * i] * query_scale(a), x1 = v[2 * i + 1] * query_scale(a);
                    u32 pair = Pair<half_t>::pack(x0, x1);
                    f32x2 rounded = Pair<half_t>::unpack(pair);
                    if (r % 2) {
                        pair = Pair<half_t>::pack(x0 - rounded.x, x1 - rounded.y);
                        rounded = Pair<half_t>::unpack(pair);
                    }
                    q[set][b][step][i] = pair;
                    all += rounded.x + rounded.y;
                }
            }
#pragma unroll
            for (int m = 1; m < 8; m <<= 1) all += shfl_xor(all, m);  // of both columns of a head
            begin[set][b] = shfl(all, 8 * c) * (-BIAS * CODE_UNIT);
        }
    }

    // O^T of elements 4r … 4r + 3 of a block, two in a product, for head c of four; what P is too much by in it, 128 · P; and the unit of both:
    // the largest scale of V so far. It begins with the least scale that there is.
    float acc[SETS][BLOCKS][2][4] = {}, extra[SETS][BLOCKS] = {}, max[SETS], sum[SETS] = {}, unit = CODE_UNIT;
#pragma unroll
    for (int set = 0; set < SETS; set++) max[set] = NO_SCORE;
    auto attend = [&](Tile& tile, int position) {
        float scores[SETS][SIXTEENS][2] = {};
#pragma unroll
        for (int s = 0; s < SIXTEENS; s++)
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
                u32 k[2][4];
#pragma unroll
                for (int step = 0; step < 2; step++)
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        u32 x = tile.key(s, half, step, b);
                        k[step][half] = byte_halves<0, 1>(x), k[step][half + 2] = byte_halves<2, 3>(x);
                    }
#pragma unroll
                for (int set = 0; set < SETS; set++) {
                    float x[4] = {begin[set][b], 0.0f, begin[set][b], 0.0f};
#pragma unroll
                    for (int step = 0; step < 2; step++) Pair<half_t>::mma(x, k[step], q[set][b][step][0], q[set][b][step][1]);
#pragma unroll
                    for (int half = 0; half < 2; half++)
                        scores[set][s][half] = fma_f32(tile.scale(tile.k_scales, s, half, b), x[2 * half] + x[2 * half + 1], scores[set][s][half]);
                }
            }
        if (position + SLOTS * STRIDE < w.end) tile.load_keys(keys, position + SLOTS * STRIDE, last);
        float above[SETS], largest = unit;
#pragma unroll
        for (int set = 0; set < SETS; set++) {
            above[set] = max[set];
#pragma unroll
            for (int s = 0; s < SIXTEENS; s++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    float score = capped(a, scores[set][s][half] * CODES);
                    scores[set][s][half] = position + s * 16 + half * 8 + Tile::place(r) < w.end ? score : NEG_INFINITY;
                    above[set] = max_of(above[set], scores[set][s][half]);
                }
        }
#pragma unroll
        for (int s = 0; s < SIXTEENS; s++)
#pragma unroll
            for (int half = 0; half < 2; half++)
#pragma unroll
                for (int b = 0; b < BLOCKS; b++) largest = max_of(largest, tile.scale(tile.v_scales, s, half, b));
#pragma unroll
        for (int m = 4; m < WAVE; m <<= 1) {
            largest = max_of(largest, shfl_xor(largest, m));
#pragma unroll
            for (int set = 0; set < SETS; set++) above[set] = max_of(above[set], shfl_xor(above[set], m));
        }
        bool grows = largest != unit;
#pragma unroll
        for (int set = 0; set < SETS; set++) grows |= above[set] != max[set];
        const float inverse = 1.0f / largest;
        // Seldom after the first tiles.
        if (wave_any(grows)) {
#pragma unroll
            for (int set = 0; set < SETS; set++) {
                float rescale = exp2_f32(max[set] - above[set]);
                max[set] = above[set];
                sum[set] *= rescale;
                rescale *= unit * inverse;
#pragma unroll
                for (int b = 0; b < BLOCKS; b++) {
                    extra[set][b] *= rescale;
#pragma unroll
                    for (int i = 0; i < 8; i++) acc[set][b][i / 4][i % 4] *= rescale;
                }
            }
            unit = largest;
        }
#pragma unroll
        for (int s = 0; s < SIXTEENS; s++) {
            float p[SETS][2];
#pragma unroll
            for (int set = 0; set < SETS; set++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    p[set][half] = exp2_f32(scores[set][s][half] - max[set]);
                    sum[set] += p[set][half];
                    p[set][half] *= inverse;
                }
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
                // Elements 4r, 4r + 1 are the rows of the first product, 4r + 2, 4r + 3 those of the second.
                u32 v[2][4];
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    u32 x = tile.v[s][2 * half][b], y = tile.v[s][2 * half + 1][b];
                    u32 lower = pick_bytes<0x5410u>(x, y), upper = pick_bytes<0x7632u>(x, y);
                    v[0][2 * half] = byte_halves<0, 2>(lower), v[0][2 * half + 1] = byte_halves<1, 3>(lower);
                    v[1][2 * half] = byte_halves<0, 2>(upper), v[1][2 * half + 1] = byte_halves<1, 3>(upper);
                }
#pragma unroll
                for (int set = 0; set < SETS; set++) {
                    // P and what its rounding loses, columns 2c and 2c + 1 of row r, become rows 2c and 2c + 1 of column r.
                    u32 factor[2];
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        float x = p[set][half] * tile.scale(tile.v_scales, s, half, b);
                        extra[set][b] += x;
                        factor[half] = transposed(Pair<half_t>::pack(x, x - Pair<half_t>::unpack(Pair<half_t>::pack(x, x)).x));
                    }
#pragma unroll
                    for (int i = 0; i < 2; i++) Pair<half_t>::mma(acc[set][b][i], v[i], factor[0], factor[1]);
                }
            }
        }
        if (position + SLOTS * STRIDE < w.end) tile.load_values(values, position + SLOTS * STRIDE, last);
    };
    for (; from < w.end; from += SLOTS * STRIDE) {
#pragma unroll
        for (int slot = 0; slot < SLOTS; slot++) {
            if (from + slot * STRIDE < w.end) attend(tiles[slot], from + slot * STRIDE);
        }
    }
#pragma unroll
    for (int set = 0; set < SETS; set++) {
        const int head = set * 4 + c;
#pragma unroll
        for (int m = 4; m < WAVE; m <<= 1) sum[set] += shfl_xor(sum[set], m);
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
#pragma unroll
            for (int m = 4; m < WAVE; m <<= 1) extra[set][b] += shfl_xor(extra[set][b], m);
            auto out = [&](int j) { return fma_f32(acc[set][b][j / 2][j % 2 * 2] + acc[set][b][j / 2][j % 2 * 2 + 1], CODES, -BIAS * extra[set][b]) * unit; };
            if (head < w.count) *(f32x4*)(shared + (wave * HEADS + head) * DIM + b * 32 + r * 4) = {out(0), out(1), out(2), out(3)};
        }
        if (head < w.count && r == 0) {
            wave_maxima[wave * HEADS + head] = max[set];
            wave_sums[wave * HEADS + head] = sum[set];
        }
    }
    finish<HEADS, DIM>(a, w, shared, wave_maxima, wave_sums);
}

#define DECODE_MMA_Q8_0(DIM, HEADS) \
    KERNEL(attention_decode_mma_q8_0_##DIM##_##HEADS, DECODE_THREADS, (AttentionArgs a)) { attention_decode_mma_q8_0<DIM, HEADS>(a); }
DECODE_MMA_Q8_0(64, 4)
DECODE_MMA_Q8_0(64, 8)
DECODE_MMA_Q8_0(128, 4)
DECODE_MMA_Q8_0(128, 8)

#endif
