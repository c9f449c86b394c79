// qkv_rope_append for a few tokens: Q, K and V are products of three matrices with x (which may be normalised first, see
// common/matvec.h), Q and K are rotated by the token's position, and K and V go into their caches:
// q = rope(wq · x + bq), k_state[:, slot[t], h] = rope(wk · x + bk)[:, h], v_state[:, slot[t], h] = (wv · x + bv)[:, h].
//
// A wave takes two rows at a time, the elements of a head that rotate together; a head of odd length ends in a row of its own.
// Grid: (a multiple of the compute units, tokens). The groups are dealt to the blocks first, then to their waves, so that all units have
// as many. LDS: the activations as in matvec.hip, and sin and cos for the token, which the block computes while its first weights are on
// their way. Bound by memory.
#include "common/cache.h"
#include "common/matvec.h"
#include "common/rope.h"

// What follows the products. Heads and states are of Q (without a state), K and V.
struct RopeAppend {
    View state[2];
    const int* positions;
    const int* slots;
    const float* factors;  // 0: none
    Fault* fault;
    RopeTable table;
    float scale;
    int n_dims;
    int neox;
    int head[3];  // elements of a head
    int end[3];   // pairs of Q; of Q and K; of all: a pair has a number among all
    int type[2];  // CACHE_…
    int step;
};

// What a block knows of its token.
struct Token {
    f32x2 rotation[ROPE_MOST_PAIRS];  // sin, cos
    int slot;                         // -1: the token is not kept
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
        } else if (token->slot >= 0) {
            const int c = at.p - 1;
            char* to = s.state[c].ptr + (i64)token->slot * s.state[c].nb[1] + (i64)at.head * s.state[c].nb[2];
            store_cached(to, rows.a, v.x, s.type[c]);
            if (two) store_cached(to, rows.b, v.y, s.type[c]);
        }
    }
};

// Pieces in flight of each row: the longer ends of pairs leave fewer registers than those of rows, which is too few for two Q5_K pieces.
template <int F> DEVICE constexpr int pair_turns() { return F == FORMAT_Q5_K || F == FORMAT_IQ4_XS ? 1 : Turns<F, true>::value; }

template <int F> DEVICE void matvec_qkv(const Matvec& a, const RopeAppend& s, int blocks, u8* lds, float* shared, Token* token) {
    pdl_trigger();
    const Activations x = activations_in<FormatOf<F>::plain>(lds, a.k);
    const Pairs pairs{a, s, token, thread_id() / WAVE * blocks + block_x(), s.end[2], blocks * (MATVEC_THREADS / WAVE)};
    float scale = 1.0f;
    matvec_rows<F, pair_turns<F>()>(a.k, pairs, x, shared, true, scale);
}

// The first `split` matrices have one format, the others another, as in matvec_two.
template <int F, int G>
DEVICE void matvec_qkv_two(const Matvec& a, const RopeAppend& s, int split, int blocks, u8* lds, float* shared, Token* token) {
    pdl_trigger();
    const Activations x = activations_in<false>(lds, a.k);
    const Pairs pairs{a, s, token, thread_id() / WAVE * blocks + block_x(), s.end[split - 1], blocks * (MATVEC_THREADS / WAVE)};
    float scale = 1.0f;
    Pairs rest = matvec_rows<F, pair_turns<F>()>(a.k, pairs, x, shared, true, scale);
    rest.end = s.end[2];
    matvec_rows<G, pair_turns<G>()>(a.k, rest, x, shared, false, scale);
}

#define MATVEC_QKV(format, name)                                                                                           \
    KERNEL_OCCUPANCY(matvec_qkv_##name, MATVEC_THREADS, MATVEC_BLOCKS, (Matvec a, RopeAppend s, int blocks)) {             \
        DYNAMIC_LDS(lds);                                                                                                  \
        LDS(float, shared, MATVEC_THREADS / WAVE);                                                                         \
        LDS(Token, token, 1);                                                                                              \
        matvec_qkv<format>(a, s, blocks, lds, shared, token);                                                              \
    }

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

#define MATVEC_QKV_TWO(first, second, name)                                                                                \
    KERNEL_OCCUPANCY(matvec_qkv_##name, MATVEC_THREADS, MATVEC_BLOCKS, (Matvec a, RopeAppend s, int split, int blocks)) {  \
        DYNAMIC_LDS(lds);                                                                                                  \
        LDS(float, shared, MATVEC_THREADS / WAVE);                                                                         \
        LDS(Token, token, 1);                                                                                              \
        matvec_qkv_two<first, second>(a, s, split, blocks, lds, shared, token);                                            \
    }

MATVEC_QKV_TWO(FORMAT_Q4_K, FORMAT_Q6_K, q4_k_q6_k)
MATVEC_QKV_TWO(FORMAT_Q5_K, FORMAT_Q6_K, q5_k_q6_k)
MATVEC_QKV_TWO(FORMAT_Q4_K, FORMAT_Q5_K, q4_k_q5_k)
MATVEC_QKV_TWO(FORMAT_Q5_0, FORMAT_Q8_0, q5_0_q8_0)
