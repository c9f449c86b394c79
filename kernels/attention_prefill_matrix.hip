// attention of many tokens on AMD's matrix units (NVIDIA's have attention_prefill.hip; devices without any attention_decode.hip):
//   out[:, h, t] = Σ_j softmax_j(cap(scale · q[:, h, t] · k[:, j, g])) v[:, j, g] over the positions that token t sees; a cache of f16, d = d_v.
//
// Grid (kv_heads, ⌈tokens · group / 64⌉), four waves. Rows are (token, query head of one kv head), tokens slow, so that heads share K and V;
// a wave makes 16 rows over all the positions that one of the block's rows sees, BLOCK at a time (FlashAttention-2; Dao 2023), transposed:
//   Sᵀ[position][row] = K Qᵀ,  Pᵀ = 2^(Sᵀ − maximum of the column so far),  Oᵀ[d][row] = Oᵀ · 2^(maximum before − now) + Vᵀ Pᵀ.
// A lane then has one row, whose maximum, sum and factor are one register each, and Pᵀ becomes the fragment B of the second product without
// a way through memory (FragB::take). Q (times scale and log₂ e) and P are rounded to f16, sums are f32. The tiles of tokens that see most
// come first; positions that no row of the block sees are not read, those that no row of the wave sees not multiplied.
//
// LDS: K as [BLOCK][d + 8] and V transposed as [d][BLOCK + 8] halves, 19 KiB for d = 128; the next positions' are in registers meanwhile. At
// d = 256 BLOCK is 16; waves of 32 lanes, half of whose registers O takes, then keep Q in LDS and load nothing ahead: 54 KiB (21 KiB with
// waves of 64).
//
// A wave's iteration at d = 128 is 32 matrix instructions of 16×16×16 (1024 clocks of a SIMD on gfx11 and gfx90a, 512 on gfx12 and gfx942),
// as many fragments of 512 bytes from LDS, 512 scores of softmax and 2048 products of O with a factor. RDNA's SIMDs issue one after the other:
// bound by both together. On CDNA they overlap: bound by the matrix units on gfx90a, and by them, LDS and the other instructions about alike on gfx942.
#include "common/attention.h"
#include "common/matrix.h"

#if !defined(MATRIX_MMA) && !defined(MATRIX_NONE)
namespace {

constexpr int PREFILL_THREADS = 4 * WAVE;
constexpr int PREFILL_ROWS = 64;

// A value that all lanes of the wave have, for the scalar unit.
DEVICE int uniform(int v) {
#if defined(GPU_AMD)
    return __builtin_amdgcn_readfirstlane(v);
#else
    return v;
#endif
}
// The larger of two numbers.
DEVICE float larger(float a, float b) { return __builtin_fmaxf(a, b); }

// K and V of BLOCK positions on their way into LDS: a thread's pieces of 16 bytes. Of V a piece is of two neighbouring positions, so that
// words of the transposed tile are whole.
template <int DIM, int BLOCK> struct CacheTile {
    static constexpr int PIECES = DIM / 8, PAIRS = BLOCK / 2, K_ALL = BLOCK * PIECES, V_ALL = PAIRS * PIECES;
    static constexpr int K_COUNT = (K_ALL + PREFILL_THREADS - 1) / PREFILL_THREADS, V_COUNT = (V_ALL + PREFILL_THREADS - 1) / PREFILL_THREADS;
    static constexpr int K_PITCH = DIM + 8, V_PITCH = BLOCK + 8, K_HALVES = BLOCK * K_PITCH, V_HALVES = DIM * V_PITCH;
    u32x4 k[K_COUNT], v[V_COUNT][2];

    METHOD static bool is_k(int piece) { return K_ALL % PREFILL_THREADS == 0 || piece < K_ALL; }
    METHOD static bool is_v(int piece) { return V_ALL % PREFILL_THREADS == 0 || piece < V_ALL; }
    // Positions after `last` are `last`: what the cache has there may not be numbers.
    METHOD void load(const char* keys, i64 k_pitch, const char* values, i64 v_pitch, int position, int last) {
#pragma unroll
        for (int i = 0; i < K_COUNT; i++) {
            const int piece = thread_id() + i * PREFILL_THREADS;
            if (is_k(piece)) k[i] = *(const u32x4*)(keys + min_of(position + piece / PIECES, last) * k_pitch + piece % PIECES * 16);
        }
#pragma unroll
        for (int i = 0; i < V_COUNT; i++) {
            const int piece = thread_id() + i * PREFILL_THREADS;
            if (!is_v(piece)) continue;
#pragma unroll
            for (int n = 0; n < 2; n++)
                v[i][n] = *(const u32x4*)(values + min_of(position + piece % PAIRS * 2 + n, last) * v_pitch + piece / PAIRS * 16);
        }
    }
    METHOD void store(half_t* k_tile, half_t* v_tile) const {
#pragma unroll
        for (int i = 0; i < K_COUNT; i++) {
            const int piece = thread_id() + i * PREFILL_THREADS;
            if (is_k(piece)) *(u32x4*)(k_tile + piece / PIECES * K_PITCH + piece % PIECES * 8) = {k[i].x, k[i].y, k[i].z, k[i].w};
        }
#pragma unroll
        for (int i = 0; i < V_COUNT; i++) {
            const int piece = thread_id() + i * PREFILL_THREADS;
            if (!is_v(piece)) continue;
            u32* to = (u32*)(v_tile + piece / PAIRS * 8 * V_PITCH) + piece % PAIRS;
            const u32 first[4] = {v[i][0].x, v[i][0].y, v[i][0].z, v[i][0].w};
            const u32 second[4] = {v[i][1].x, v[i][1].y, v[i][1].z, v[i][1].w};
#pragma unroll
            for (int e = 0; e < 8; e++) to[e * (V_PITCH / 2)] = byte_permute(first[e / 2], second[e / 2], e % 2 ? 0x07060302u : 0x05040100u);
        }
    }
};

// QUERY_LDS: registers are scarce. Q lies in LDS, and the next positions are not loaded while these are multiplied.
template <int DIM, int BLOCK, bool QUERY_LDS> DEVICE void attention_prefill_matrix(const AttentionArgs& a) {
    typedef CacheTile<DIM, BLOCK> Tile;
    constexpr int STEPS = DIM / 16, SIXTEENS = BLOCK / 16, PITCH = DIM + 8;
    LDS(u32x4, tiles, (Tile::K_HALVES + Tile::V_HALVES + (QUERY_LDS ? PREFILL_ROWS * PITCH : 0)) / 8);
    LDS(int, firsts, 4);
    LDS(int, ends, 4);
    half_t* const k_tile = (half_t*)tiles;
    half_t* const v_tile = k_tile + Tile::K_HALVES;
    const int wave = uniform(thread_id() / WAVE);
    half_t* const q_rows = v_tile + Tile::V_HALVES + wave * 16 * PITCH;
    const int group = a.heads / a.kv_heads, rows = a.tokens * group, kv_head = block_x();
    const int tile = div_up(rows, PREFILL_ROWS) - 1 - block_y();

    // This lane's row: what it sees, and its query.
    const int row = tile * PREFILL_ROWS + wave * 16 + lane_id() % 16;
    const int token = min_of(row, rows - 1) / group, head = kv_head * group + min_of(row, rows - 1) % group;
    const Visible seen = visible(a, token);
    const float* query = (const float*)(a.q.ptr + head * a.q.nb[1] + token * a.q.nb[2]);
    const float factor = query_scale(a);
    FragB q[QUERY_LDS ? 1 : STEPS];
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        FragB& x = q[QUERY_LDS ? 0 : step];
#pragma unroll
        for (int i = 0; i < FragB::WORDS; i++) {
            const f32x2 pair = *(const f32x2*)(query + step * 16 + FragB::k(i));
            x.word(i, pair.x * factor, pair.y * factor);
            if (QUERY_LDS) *(u32*)(q_rows + lane_id() % 16 * PITCH + step * 16 + FragB::k(i)) = x.r[i];
        }
    }
    // What the rows of this wave and of the block see together, and what each of the wave's rows sees.
    int begin = seen.first < seen.end ? seen.first : 0x7fffffff, until = seen.first < seen.end ? seen.end : 0;
    int all_first = seen.first, all_end = seen.end;
#pragma unroll
    for (int m = 1; m < 16; m <<= 1) {
        begin = min_of(begin, shfl_xor(begin, m)), until = max_of(until, shfl_xor(until, m));
        all_first = max_of(all_first, shfl_xor(all_first, m)), all_end = min_of(all_end, shfl_xor(all_end, m));
    }
    all_first = uniform(all_first), all_end = uniform(all_end);
    const int wave_begin = uniform(begin), wave_until = uniform(until);
    if (lane_id() == 0) firsts[wave] = begin, ends[wave] = until;
    sync_threads();
#pragma unroll
    for (int i = 0; i < 4; i++) begin = min_of(begin, firsts[i]), until = max_of(until, ends[i]);
    begin = uniform(begin), until = uniform(until);

    const char* keys = a.k.ptr + kv_head * a.k.nb[2];
    const char* values = a.v.ptr + kv_head * a.v.nb[2];
    Tile next;
    if (!QUERY_LDS && begin < until) next.load(keys, a.k.nb[1], values, a.v.nb[1], begin, until - 1);

    FragC out[STEPS];
#pragma unroll
    for (int n = 0; n < STEPS; n++) out[n].fill(0.0f);
    // The maximum is the row's; the sum is of this lane's positions.
    float max = NO_SCORE, sum = 0.0f;
    for (int from = begin; from < until; from += BLOCK) {
        if (QUERY_LDS) next.load(keys, a.k.nb[1], values, a.v.nb[1], from, until - 1);
        sync_threads();
        next.store(k_tile, v_tile);
        sync_threads();
        if (!QUERY_LDS && from + BLOCK < until) next.load(keys, a.k.nb[1], values, a.v.nb[1], from + BLOCK, until - 1);
        if (from >= wave_until || from + BLOCK <= wave_begin) continue;

        FragC s[SIXTEENS];
#pragma unroll
        for (int n = 0; n < SIXTEENS; n++) s[n].fill(0.0f);
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            FragB& x = q[QUERY_LDS ? 0 : step];
            if (QUERY_LDS) x.load_lds(q_rows + step * 16, PITCH);
#pragma unroll
            for (int n = 0; n < SIXTEENS; n++) {
                FragA k;
                k.load_lds(k_tile + n * 16 * PITCH + step * 16, PITCH);
                mma(s[n], k, x);
            }
        }
        if (a.softcap > 0.0f) {
#pragma unroll
            for (int n = 0; n < SIXTEENS; n++) s[n].for_each([&](int, int, float& x) { x = capped(a, x); });
        }
        if (from < all_first || from + BLOCK > all_end) {
#pragma unroll
            for (int n = 0; n < SIXTEENS; n++)
                s[n].for_each([&](int position, int, float& x) {
                    const int j = from + n * 16 + position;
                    if (j < seen.first || j >= seen.end) x = NEG_INFINITY;
                });
        }
        float above = max;
#pragma unroll
        for (int n = 0; n < SIXTEENS; n++) s[n].for_each([&](int, int, float& x) { above = larger(above, x); });
#pragma unroll
        for (int m = 16; m < WAVE; m <<= 1) above = larger(above, shfl_xor(above, m));
        const float rescale = exp2_f32(max - above);
        max = above;
        sum *= rescale;
        FragB p[SIXTEENS];
#pragma unroll
        for (int n = 0; n < SIXTEENS; n++) {
            s[n].for_each([&](int, int, float& x) {
                x = exp2_f32(x - above);
                sum += x;
            });
            p[n].take(s[n]);
        }
#pragma unroll
        for (int n = 0; n < STEPS; n++) out[n].for_each([&](int, int, float& x) { x *= rescale; });
#pragma unroll
        for (int step = 0; step < SIXTEENS; step++)
#pragma unroll
            for (int n = 0; n < STEPS; n++) {
                FragA v;
                v.load_lds(v_tile + n * 16 * Tile::V_PITCH + step * 16, Tile::V_PITCH);
                mma(out[n], v, p[step]);
            }
    }
#pragma unroll
    for (int m = 16; m < WAVE; m <<= 1) sum += shfl_xor(sum, m);
    const float scale = sum > 0.0f ? 1.0f / sum : 0.0f;
    if (row < rows) {
        float* to = (float*)(a.out.ptr + head * a.out.nb[1] + token * a.out.nb[2]);
#pragma unroll
        for (int n = 0; n < STEPS; n++) out[n].for_each([&](int element, int, float& x) { to[n * 16 + element] = x * scale; });
    }
}

}  // namespace

#if defined(GPU_AMD) && WAVE == 64
// With two waves on a SIMD a wave has 256 registers: MFMA's operands are then not moved to accumulation registers and back.
#define PREFILL_WAVES(name) extern "C" __attribute__((global, amdgpu_waves_per_eu(2))) void name(AttentionArgs a);
#else
#define PREFILL_WAVES(name)
#endif
#define PREFILL_MATRIX(suffix, DIM, BLOCK, QUERY_LDS)        \
    PREFILL_WAVES(attention_prefill_matrix_##suffix)         \
    KERNEL(attention_prefill_matrix_##suffix, PREFILL_THREADS, (AttentionArgs a)) { attention_prefill_matrix<DIM, BLOCK, QUERY_LDS>(a); }
PREFILL_MATRIX(f16_64, 64, 32, false)
PREFILL_MATRIX(f16_80, 80, 32, false)
PREFILL_MATRIX(f16_96, 96, 32, false)
PREFILL_MATRIX(f16_128, 128, 32, false)
PREFILL_MATRIX(f16_256, 256, 16, WAVE == 32)

#endif
