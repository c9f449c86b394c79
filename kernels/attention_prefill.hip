// attention of many tokens: out[:, h, t] = Σ_j softmax_j(cap(scale · q[:, h, t] · k[:, j, g])) v[:, j, g] over the positions that token t sees.
//
// Grid (kv_heads, ⌈tokens · group / 64⌉), 128 threads. Rows are (token, query head of one kv head), tokens slow, so that heads share K and V;
// a block makes 64 rows over all the positions that one of them sees, BLOCK at a time (FlashAttention-2; Dao 2023): S = Q Kᵀ, running maximum
// and sum of each row in f32, O += P V. Q and P are rounded to the cache's type (f16 for q8_0). The tiles of tokens that see most come first. Bound by the
// matrix units, at short contexts by latency.
//
// attention_prefill_mma_… (NVIDIA): a wave makes 16 rows, its Q, S and O in registers; the sums of S are the factor P in place. K and V come
// through LDS by asynchronous copies: K of the next positions while O is made, V while S is made. LDS at most 34 KiB. Codes of q8_0 and their
// scales come a tile earlier, to a place of their own (at most 24 KiB), and become a tile of f16 from there: V after S, K before O.
#include "common/attention.h"
#include "common/mma.h"

constexpr int PREFILL_THREADS = 128;
constexpr int PREFILL_ROWS = 64;

#if defined(HAVE_MMA)

// Rows of LDS are 16 bytes longer than they need be: eight rows then lie in different banks.
template <int DIM> constexpr int PITCH = 2 * DIM + 16;

// `count` rows of `DIM` elements from position `from` on; positions after `last` are `last`.
template <int DIM, int count> DEVICE void copy_rows(char* to, const char* from, i64 pitch, int position, int last) {
    constexpr int PIECES = DIM / 8;
#pragma unroll(DIM > 128 ? 1 : 16)  // few registers are left there
    for (int i = 0; i < (count * PIECES + PREFILL_THREADS - 1) / PREFILL_THREADS; i++) {
        int piece = thread_id() + i * PREFILL_THREADS, row = piece / PIECES, at = piece % PIECES;
        if (count * PIECES % PREFILL_THREADS != 0 && row >= count) break;
        copy_async(to + row * PITCH<DIM> + at * 16, from + min_of(position + row, last) * pitch + at * 16);
    }
}

// The rows of a head from a cache of T to tiles of T.
template <class T, int DIM, int BLOCK> struct Rows {
    static constexpr bool STAGED = false;
    const char* first;
    i64 pitch;
    DEVICE_MEMBER Rows(const Strided& x, const char*, int head, u8*) : first(x.ptr + head * x.nb[2]), pitch(x.nb[1]) {}
    DEVICE_MEMBER void copy(char* to, int position, int last) const { copy_rows<DIM, BLOCK>(to, first, pitch, position, last); }
    // Which element is at place i of a row of a tile.
    static DEVICE_MEMBER int element(int i) { return i; }
};

// Those of a cache of q8_0 to tiles of f16, in two steps: a thread's pieces of 16 codes and their scales come by asynchronous copies to a place
// that no other thread reads, so that it need only wait for its own copies; from there they become halves d · q, rounded once. The
// elements keep the order of the codes.
template <int DIM, int BLOCK> struct Rows<q8_0_t, DIM, BLOCK> : CodeRows {
    static constexpr bool STAGED = true;
    static constexpr int BLOCKS = DIM / Q8_0_LEN, PIECES = DIM / 16, COUNT = BLOCK * PIECES / PREFILL_THREADS;
    static constexpr int BYTES = COUNT * PREFILL_THREADS * 24;  // half of staging_bytes in steps/attention.rs
    static_assert(BLOCK * PIECES % PREFILL_THREADS == 0, "all threads have as many pieces");
    char* stage;
    DEVICE_MEMBER Rows(const Strided& x, const char* scales, int head, u8* lds) : CodeRows(x, scales, head), stage((char*)lds) {}

    // Scales are at even addresses where a row has three; the words around them are taken then.
    DEVICE_MEMBER const char* scales_of_row(int position, int last) const { return scales_of(min_of(position, last)); }
    DEVICE_MEMBER void issue(int position, int last) const {
#pragma unroll(DIM > 128 ? 1 : 16)
        for (int i = 0; i < COUNT; i++) {
            const int n = thread_id() + i * PREFILL_THREADS, row = position + n / PIECES, piece = n % PIECES;
            const char* from = scales_of_row(row, last);
            char *to = codes_at(i), *scales_to = scales_at(i);
            copy_async(to, codes_of(min_of(row, last)) + piece * 16);
            if (BLOCKS == 2) {
                copy_async_few<4>(scales_to, from);
            } else if (BLOCKS % 4 == 0) {
                copy_async_few<8>(scales_to, from + piece * 4 % BLOCKS * 2);
            } else {
                const int odd = (int)((u64)from & 2);
                copy_async_few<4>(scales_to, from - odd);
                copy_async_few<4>(scales_to + 4, from - odd + 4, 2 + odd);
            }
        }
    }
    // What was issued last with the same positions; the thread's copies must be there.
    DEVICE_MEMBER void store(char* tile, int position, int last) const {
#pragma unroll(DIM > 128 ? 1 : 16)
        for (int i = 0; i < COUNT; i++) {
            const int n = thread_id() + i * PREFILL_THREADS, row = n / PIECES, piece = n % PIECES;
            const u32x4 x = *(const u32x4*)codes_at(i);
            const u16* scale = (const u16*)scales_at(i);
            const int odd = BLOCKS == 3 ? (int)((u64)scales_of_row(position + row, last) & 2) / 2 : 0;
            u32 halves[8];
#pragma unroll
            for (int w = 0; w < 4; w++) {
                const u32 d = scale[BLOCKS == 3 ? odd + (piece + w) % 3 : w % min_of(BLOCKS, 4)];
                halves[2 * w] = multiply_halves(code_halves<0>(word(x, w)), d | d << 16);
                halves[2 * w + 1] = multiply_halves(code_halves<1>(word(x, w)), d | d << 16);
            }
            u32x4* to = (u32x4*)(tile + row * PITCH<DIM> + piece * 32);
#pragma unroll
            for (int h = 0; h < 2; h++) to[h] = u32x4{halves[4 * h], halves[4 * h + 1], halves[4 * h + 2], halves[4 * h + 3]};
        }
    }
    static DEVICE_MEMBER int element(int i) { return word_element(i / 4, BLOCKS) + i % 4; }

   private:
    DEVICE_MEMBER char* codes_at(int i) const { return stage + (i * PREFILL_THREADS + thread_id()) * 16; }
    DEVICE_MEMBER char* scales_at(int i) const { return stage + COUNT * PREFILL_THREADS * 16 + (i * PREFILL_THREADS + thread_id()) * 8; }
};

// What Rows of a type take in LDS besides the tile.
template <class C, int DIM, int BLOCK> DEVICE constexpr int staging_bytes() {
    if constexpr (Rows<C, DIM, BLOCK>::STAGED) return Rows<C, DIM, BLOCK>::BYTES;
    return 0;
}

// Tiles of T from a cache of C.
template <class T, int DIM, int BLOCK, class C = T> DEVICE void attention_prefill_mma(const AttentionArgs& a, u8* lds = nullptr) {
    typedef Rows<C, DIM, BLOCK> Source;
    constexpr int STEPS = DIM / 16, EIGHTS = BLOCK / 8, SIXTEENS = BLOCK / 16;
    pdl_trigger();
    LDS(u32x4, k_tile, BLOCK * PITCH<DIM> / 16);
    LDS(u32x4, v_tile, BLOCK * PITCH<DIM> / 16);
    LDS(int, firsts, PREFILL_THREADS / 32);
    LDS(int, ends, PREFILL_THREADS / 32);
    int wave = thread_id() / WAVE, lane = lane_id(), r = lane / 4, c = lane % 4;
    int group = a.heads / a.kv_heads, rows = a.tokens * group, kv_head = block_x();
    int tile = div_up(rows, PREFILL_ROWS) - 1 - block_y();
    pdl_wait();

    // Rows r and r + 8 of this wave: what they see, and their query.
    int row = tile * PREFILL_ROWS + wave * 16 + r, first[2], end[2];
    u32 q[STEPS][4];
    float factor = query_scale(a);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int token = min_of(row + 8 * i, rows - 1) / group, head = kv_head * group + min_of(row + 8 * i, rows - 1) % group;
        Visible seen = visible(a, token);
        first[i] = seen.first, end[i] = seen.end;
        const char* query = a.q.ptr + head * a.q.nb[1] + token * a.q.nb[2];
#pragma unroll
        for (int step = 0; step < STEPS; step++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                f32x2 x = *(const f32x2*)(query + Source::element(step * 16 + half * 8 + 2 * c) * 4);
                q[step][half * 2 + i] = Pair<T>::pack(x.x * factor, x.y * factor);
            }
    }
    // What the rows of this wave and of the block see together, and what each of the wave's rows sees.
    int begin = first[0] < end[0] ? first[0] : 0x7fffffff, until = first[0] < end[0] ? end[0] : 0;
    if (first[1] < end[1]) begin = min_of(begin, first[1]), until = max_of(until, end[1]);
    int all_first = max_of(first[0], first[1]), all_end = min_of(end[0], end[1]);
#pragma unroll
    for (int m = 4; m < 32; m <<= 1) {
        begin = min_of(begin, shfl_xor(begin, m)), until = max_of(until, shfl_xor(until, m));
        all_first = max_of(all_first, shfl_xor(all_first, m)), all_end = min_of(all_end, shfl_xor(all_end, m));
    }
    if (lane == 0) firsts[wave] = begin, ends[wave] = until;
    sync_threads();
    int wave_begin = begin, wave_until = until;
#pragma unroll
    for (int i = 0; i < PREFILL_THREADS / 32; i++) begin = min_of(begin, firsts[i]), until = max_of(until, ends[i]);

    const Source keys(a.k, a.k_scales, kv_head, lds), values(a.v, a.v_scales, kv_head, lds + staging_bytes<C, DIM, BLOCK>());
    const int last = until - 1;
    if constexpr (Source::STAGED) {
        if (begin < until) {
            keys.issue(begin, last);
            commit_copies();
            values.issue(begin, last);
            commit_copies();
            wait_copies<1>();
            keys.store((char*)k_tile, begin, last);
            if (begin + BLOCK < until) keys.issue(begin + BLOCK, last);
        }
    } else {
        if (begin < until) keys.copy((char*)k_tile, begin, last);
    }
    commit_copies();

    float out[DIM / 8][4] = {}, max[2] = {NO_SCORE, NO_SCORE}, sum[2] = {};
    // The rows of LDS whose addresses this lane gives to load_matrices: of K, 16 positions × 16 elements as (positions, elements) (0, 0), (0, 8),
    // (8, 0), (8, 8); of V as (0, 0), (8, 0), (0, 8), (8, 8).
    const char* k_row = (const char*)k_tile + (lane / 16 * 8 + lane % 8) * PITCH<DIM> + lane / 8 % 2 * 16;
    const char* v_row = (const char*)v_tile + (lane / 8 % 2 * 8 + lane % 8) * PITCH<DIM> + lane / 16 * 16;
    for (int from = begin; from < until; from += BLOCK) {
        if constexpr (!Source::STAGED) {
            values.copy((char*)v_tile, from, last);
            commit_copies();
            wait_copies<1>();
        }
        sync_threads();
        bool active = from < wave_until && from + BLOCK > wave_begin;
        float s[EIGHTS][4] = {};
        if (active) {
#pragma unroll
            for (int step = 0; step < STEPS; step++)
#pragma unroll
                for (int n = 0; n < SIXTEENS; n++) {
                    u32 k[4];
                    load_matrices<false>(k, k_row + n * 16 * PITCH<DIM> + step * 32);
                    Pair<T>::mma(s[2 * n], q[step], k[0], k[1]);
                    Pair<T>::mma(s[2 * n + 1], q[step], k[2], k[3]);
                }
        }
        if constexpr (Source::STAGED) {
            wait_copies<1>();
            values.store((char*)v_tile, from, last);
            if (from + BLOCK < until) values.issue(from + BLOCK, last);
        } else {
            sync_threads();
            if (from + BLOCK < until) keys.copy((char*)k_tile, from + BLOCK, last);
        }
        commit_copies();
        u32 p[SIXTEENS][4];
        if (active) {
            if (a.softcap > 0.0f) {
#pragma unroll
                for (int n = 0; n < EIGHTS; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) s[n][i] = capped(a, s[n][i]);
            }
            if (DIM > 128 || from < all_first || from + BLOCK > all_end) {
#pragma unroll
                for (int n = 0; n < EIGHTS; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        int j = from + n * 8 + 2 * c + i % 2;
                        if (j < first[i / 2] || j >= end[i / 2]) s[n][i] = NEG_INFINITY;
                    }
            }
            float rescale[2];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float above = max[i];
#pragma unroll
                for (int n = 0; n < EIGHTS; n++) above = max_of(above, max_of(s[n][2 * i], s[n][2 * i + 1]));
                above = max_of(above, shfl_xor(above, 1));
                above = max_of(above, shfl_xor(above, 2));
                rescale[i] = exp2_f32(max[i] - above);
                max[i] = above;
                sum[i] *= rescale[i];
#pragma unroll
                for (int n = 0; n < EIGHTS; n++) {
                    float p0 = exp2_f32(s[n][2 * i] - above), p1 = exp2_f32(s[n][2 * i + 1] - above);
                    sum[i] += p0 + p1;
                    p[n / 2][n % 2 * 2 + i] = Pair<T>::pack(p0, p1);
                }
            }
#pragma unroll
            for (int n = 0; n < DIM / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) out[n][i] *= rescale[i / 2];
        }
        if constexpr (!Source::STAGED) wait_copies<1>();
        sync_threads();
        if constexpr (Source::STAGED) {
            wait_copies<1>();
            if (from + BLOCK < until) keys.store((char*)k_tile, from + BLOCK, last);
            if (from + 2 * BLOCK < until) keys.issue(from + 2 * BLOCK, last);
            commit_copies();
        }
        if (active) {
#pragma unroll
            for (int n = 0; n < STEPS; n++)
#pragma unroll
                for (int step = 0; step < SIXTEENS; step++) {
                    u32 v[4];
                    load_matrices<true>(v, v_row + step * 16 * PITCH<DIM> + n * 32);
                    Pair<T>::mma(out[2 * n], p[step], v[0], v[1]);
                    Pair<T>::mma(out[2 * n + 1], p[step], v[2], v[3]);
                }
        }
        if constexpr (!Source::STAGED) sync_threads();
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        sum[i] += shfl_xor(sum[i], 1);
        sum[i] += shfl_xor(sum[i], 2);
        float scale = sum[i] > 0.0f ? 1.0f / sum[i] : 0.0f;
        if (row + 8 * i < rows) {
            int token = (row + 8 * i) / group, head = kv_head * group + (row + 8 * i) % group;
            char* to = a.out.ptr + head * a.out.nb[1] + token * a.out.nb[2];
#pragma unroll
            for (int n = 0; n < DIM / 8; n++)
                *(f32x2*)(to + Source::element(n * 8 + 2 * c) * 4) = {out[n][2 * i] * scale, out[n][2 * i + 1] * scale};
        }
    }
}

#define PREFILL_MMA(suffix, T, DIM, BLOCK) \
    KERNEL(attention_prefill_mma_##suffix, PREFILL_THREADS, (AttentionArgs a)) { attention_prefill_mma<T, DIM, BLOCK>(a); }
PREFILL_MMA(f16_64, half_t, 64, 64)
PREFILL_MMA(f16_80, half_t, 80, 64)
PREFILL_MMA(f16_96, half_t, 96, 64)
PREFILL_MMA(f16_128, half_t, 128, 64)
PREFILL_MMA(f16_256, half_t, 256, 16)
#define PREFILL_MMA_Q8_0(DIM, BLOCK)                                                  \
    KERNEL(attention_prefill_mma_q8_0_##DIM, PREFILL_THREADS, (AttentionArgs a)) {    \
        DYNAMIC_LDS(lds);                                                             \
        attention_prefill_mma<half_t, DIM, BLOCK, q8_0_t>(a, lds);                    \
    }
PREFILL_MMA_Q8_0(64, 64)
PREFILL_MMA_Q8_0(96, 64)
PREFILL_MMA_Q8_0(128, 64)
PREFILL_MMA_Q8_0(256, 16)
PREFILL_MMA(bf16_64, bf16_t, 64, 64)
PREFILL_MMA(bf16_128, bf16_t, 128, 64)
PREFILL_MMA(bf16_256, bf16_t, 256, 16)

#endif
