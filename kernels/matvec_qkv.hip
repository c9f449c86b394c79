// qkv_rope_append for a few tokens: Q, K and V are products of three matrices with x (which may be normalised first, see
// common/matvec.h), Q and K are rotated by the token's position, and K and V go into their caches:
// q = rope(wq · x + bq), k_state[:, slot[t], h] = rope(wk · x + bk)[:, h], v_state[:, slot[t], h] = (wv · x + bv)[:, h].
//
// A wave takes two rows at a time, the elements of a head that rotate together; a head of odd length ends in a row of its own.
// Grid: (a multiple of the compute units, tokens). The groups are dealt to the blocks first, then to their waves, so that all units have
// as many. LDS: the activations as in matvec.hip, and sin and cos for the token, which the block computes while its first weights are on
// their way. Bound by memory.
//
// matvec_qkv_blocks_…: a cache of q8_0 takes blocks of 32 elements, whose products many waves of many blocks have. They leave them in scratch memory, a head of K
// or V in a row, and count; the wave that brings the last pair of a head rounds and stores it. That is when it has no more rows.
#include "common/cache.h"
#include "common/matvec.h"
#include "common/rope.h"

// What follows the products. Heads and states are of Q (without a state), K and V.
struct RopeAppend {
    View state[2];  // of q8_0 the codes
    View to[2];     // where elements go: the caches, or of those of q8_0 rows of scratch memory for each token
    const int* positions;
    const int* slots;
    const float* factors;  // 0: none
    Fault* fault;
    char* scales[2];  // of caches of q8_0
    u32* arrived;     // of each token, for its heads of K and V, how many pairs are in those rows; zero between steps
    RopeTable table;
    float scale;
    int n_dims;
    int neox;
    int head[3];  // elements of a head
    int end[3];   // pairs of Q; of Q and K; of all: a pair has a number among all
    int type[2];  // CACHE_…, of `to`
    int step;
};

// What a block knows of its token.
struct Token {
    f32x2 rotation[ROPE_MOST_PAIRS];  // sin, cos
    int slot;                         // -1: the token is not kept
    int place[2];                     // in `to`; likewise
};

// The token's slot, sin and cos, and the activations, as prepare_activations. All threads take part; the last of them have the least to do
// with activations.
template <bool PLAIN> DEVICE float prepare_token(const Matvec& a, const RopeAppend& s, const Activations& x, Token* token, float* shared) {
    const int i = MATVEC_THREADS - 1 - thread_id();
    const bool rotates = i < s.n_dims / 2;
    u64 turns = 0;
    if (rotates) turns = turns_of(s.table.hi[i], s.table.lo[i], s.factors ? s.factors[i] : 1.0f);
    pdl_wait();
    if (rotates) {
        const Rotation r = rotation_of(s.positions[block_y()], turns);
        token->rotation[i] = f32x2{r.sin * s.scale, r.cos * s.scale};
    }
    if (thread_id() == 0) {
        const int slot = s.slots[block_y()];
        const bool kept = slot >= 0 && slot < s.state[0].ne[1] && slot < s.state[1].ne[1];
        if (!kept && block_x() == 0) note_fault(s.fault, s.step, slot);
        token->slot = kept ? slot : -1;
#pragma unroll
        for (int c = 0; c < 2; c++) token->place[c] = !kept ? -1 : s.scales[c] ? block_y() : slot;
    }
    return prepare_activations<PLAIN>(a, x, shared);
}

// The pairs `pair < end`: the first, the one `stride` further and so on, as `Rows`.
struct Pairs {
    static constexpr int count = 2;
    typedef int Place;
    const Matvec& a;
    const RopeAppend& s;
    Token* token;
    int here, end, stride;

    // Matrix, head, pair of the head.
    struct At {
        int p, head, pair;
    };
    DEVICE_MEMBER At find(int pair) const {
        const int p = pair < s.end[0] ? 0 : pair < s.end[1] ? 1 : 2;
        if (p > 0) pair -= s.end[p - 1];
        const int pairs = div_up(s.head[p], 2), head = pair / pairs;
        return At{p, head, pair - head * pairs};
    }
    template <bool PLAIN> DEVICE_MEMBER float prepare(const Activations& x, float* shared) const {
        return prepare_token<PLAIN>(a, s, x, token, shared);
    }
    DEVICE_MEMBER bool more() const { return here < end; }
    DEVICE_MEMBER RopePair rows_of(const At& at) const { return rope_pair(at.pair, at.p == 2 ? 0 : s.n_dims, s.neox); }
    template <class C> DEVICE_MEMBER void start(C* cursor, int pieces) const {
        const At at = find(here);
        const RopePair rows = rows_of(at);
        const int d = s.head[at.p], first = at.head * d;
        cursor[0].start(a.w[at.p], first + rows.a, pieces);
        cursor[1].start(a.w[at.p], first + (rows.b < d ? rows.b : rows.a), pieces);
    }
    DEVICE_MEMBER void next() { here += stride; }
    DEVICE_MEMBER void store(Place done, const float* sum) const {
        const At at = find(done);
        const int d = s.head[at.p];
        const RopePair rows = rows_of(at);
        const bool two = rows.b < d;
        f32x2 v = {sum[0], sum[1]};
        if (a.bias[at.p]) {
            const float* bias = a.bias[at.p] + at.head * d;
            v.x += bias[rows.a];
            if (two) v.y += bias[rows.b];
        }
        if (rows.rotated) {
            const f32x2 r = token->rotation[at.pair];
            v = rotate(v, Rotation{r.x, r.y});
        }
        if (at.p == 0) {
            float* to = a.out[0] + (i64)block_y() * a.w[0].rows + at.head * d;
            to[rows.a] = v.x;
            if (two) to[rows.b] = v.y;
        } else if (token->place[at.p - 1] >= 0) {
            const int c = at.p - 1;
            char* to = s.to[c].ptr + (i64)token->place[c] * s.to[c].nb[1] + (i64)at.head * s.to[c].nb[2];
            store_cached(to, rows.a, v.x, s.type[c]);
            if (two) store_cached(to, rows.b, v.y, s.type[c]);
        }
    }
    // Rounds and stores the heads for caches of q8_0 of which this wave has brought the last pair: all lanes, when it has no more pairs.
    DEVICE_MEMBER void finish(int blocks) const {
        if (token->slot < 0) return;
        const int k_heads = a.w[1].rows / s.head[1], heads = k_heads + a.w[2].rows / s.head[2];
        const int thread = thread_id_again(), lane = thread % WAVE;
        for (int pair = thread / WAVE * blocks + block_x(); pair < s.end[2]; pair += blocks * (MATVEC_THREADS / WAVE)) {
            const At at = find(pair);
            if (at.p == 0 || !s.scales[at.p - 1]) continue;
            const View &state = s.state[at.p - 1], &to = s.to[at.p - 1];
            const int d = s.head[at.p], pairs = d / 2;
            u32* arrived = s.arrived + block_y() * heads + (at.p == 2 ? k_heads : 0) + at.head;
            int before = 0;
#if defined(GPU_NVIDIA)
            if (lane == 0) before = (int)atomic_add_ordered(arrived, 1u);
            sync_wave();
#else
            if (lane == 0) {
                fence_device();
                before = (int)atomic_add(arrived, 1u);
            }
            fence_device();
#endif
            if (shfl(before, 0) + 1 < pairs) continue;
            const float* row = (const float*)(to.ptr + block_y() * to.nb[1] + at.head * to.nb[2]);
            char* codes = state.ptr + token->slot * state.nb[1] + at.head * state.nb[2];
            char* scales = scales_of(s.scales[at.p - 1], state.ptr, codes);
            for (int i = lane; i < div_up(d, WAVE) * WAVE; i += WAVE) {
                // Lanes beyond the head store the elements of its first block once more.
                const int element = i < d ? i : i - d;
                store_block(codes, scales, d / Q8_0_LEN, element, row[element]);
            }
            if (lane == 0) *arrived = 0;
        }
    }
};

// Pieces in flight of each row: the longer ends of pairs leave fewer registers than those of rows, which is too few for two Q5_K pieces.
template <int F> DEVICE constexpr int pair_turns() { return F == FORMAT_Q5_K || F == FORMAT_IQ4_XS ? 1 : Turns<F, true>::value; }

template <int F, bool BLOCKS> DEVICE void matvec_qkv(const Matvec& a, const RopeAppend& s, int blocks, u8* lds, float* shared, Token* token) {
    pdl_trigger();
    const Activations x = activations_in<FormatOf<F>::plain>(lds, a.k);
    const Pairs pairs{a, s, token, thread_id() / WAVE * blocks + block_x(), s.end[2], blocks * (MATVEC_THREADS / WAVE)};
    float scale = 1.0f;
    matvec_rows<F, pair_turns<F>()>(a.k, pairs, x, shared, true, scale);
    if (BLOCKS) pairs.finish(blocks);
}

// The first `split` matrices have one format, the others another, as in matvec_two.
template <int F, int G, bool BLOCKS>
DEVICE void matvec_qkv_two(const Matvec& a, const RopeAppend& s, int split, int blocks, u8* lds, float* shared, Token* token) {
    pdl_trigger();
    const Activations x = activations_in<false>(lds, a.k);
    const Pairs pairs{a, s, token, thread_id() / WAVE * blocks + block_x(), s.end[split - 1], blocks * (MATVEC_THREADS / WAVE)};
    float scale = 1.0f;
    Pairs rest = matvec_rows<F, pair_turns<F>()>(a.k, pairs, x, shared, true, scale);
    rest.end = s.end[2];
    matvec_rows<G, pair_turns<G>()>(a.k, rest, x, shared, false, scale);
    if (BLOCKS) pairs.finish(blocks);
}

#define MATVEC_QKV_KERNEL(format, blocks_in_cache, name)                                                                   \
    KERNEL_OCCUPANCY(matvec_qkv_##name, MATVEC_THREADS, MATVEC_BLOCKS, (Matvec a, RopeAppend s, int blocks)) {             \
        DYNAMIC_LDS(lds);                                                                                                  \
        LDS(float, shared, MATVEC_THREADS / WAVE);                                                                         \
        LDS(Token, token, 1);                                                                                              \
        matvec_qkv<format, blocks_in_cache>(a, s, blocks, lds, shared, token);                                             \
    }
#define MATVEC_QKV(format, name)            \
    MATVEC_QKV_KERNEL(format, false, name)  \
    MATVEC_QKV_KERNEL(format, true, blocks_##name)

MATVEC_QKV(FORMAT_F16, f16)
MATVEC_QKV(FORMAT_BF16, bf16)
MATVEC_QKV(FORMAT_Q8_0, q8_0)
MATVEC_QKV(FORMAT_Q4_0, q4_0)
MATVEC_QKV(FORMAT_Q4_1, q4_1)
MATVEC_QKV(FORMAT_Q5_0, q5_0)
MATVEC_QKV(FORMAT_Q5_1, q5_1)
MATVEC_QKV(FORMAT_Q4_K, q4_k)
MATVEC_QKV(FORMAT_Q5_K, q5_k)
MATVEC_QKV(FORMAT_Q6_K, q6_k)
MATVEC_QKV(FORMAT_IQ4_NL, iq4_nl)
MATVEC_QKV(FORMAT_IQ4_XS, iq4_xs)
MATVEC_QKV(FORMAT_MXFP4, mxfp4)

#define MATVEC_QKV_TWO_KERNEL(first, second, blocks_in_cache, name)                                                        \
    KERNEL_OCCUPANCY(matvec_qkv_##name, MATVEC_THREADS, MATVEC_BLOCKS, (Matvec a, RopeAppend s, int split, int blocks)) {  \
        DYNAMIC_LDS(lds);                                                                                                  \
        LDS(float, shared, MATVEC_THREADS / WAVE);                                                                         \
        LDS(Token, token, 1);                                                                                              \
        matvec_qkv_two<first, second, blocks_in_cache>(a, s, split, blocks, lds, shared, token);                           \
    }
#define MATVEC_QKV_TWO(first, second, name)            \
    MATVEC_QKV_TWO_KERNEL(first, second, false, name)  \
    MATVEC_QKV_TWO_KERNEL(first, second, true, blocks_##name)

MATVEC_QKV_TWO(FORMAT_Q4_K, FORMAT_Q6_K, q4_k_q6_k)
MATVEC_QKV_TWO(FORMAT_Q5_K, FORMAT_Q6_K, q5_k_q6_k)
MATVEC_QKV_TWO(FORMAT_Q4_K, FORMAT_Q5_K, q4_k_q5_k)
MATVEC_QKV_TWO(FORMAT_Q5_0, FORMAT_Q8_0, q5_0_q8_0)
