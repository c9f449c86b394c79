// out[t][n] = Σ_k w[n][k] · x[t][k] (+ bias[n]) (+ residual[t][n]) on matrix units, for many t: the body of the kernels in gemm.hip.
//
// A block makes a tile of results, its waves a rectangle of 16×16 fragments each (GemmShape); x and w lie in LDS as f16 tiles of K columns.
// Quantized weights are expanded on their way into LDS: a thread loads the blocks that it will store an iteration later, so that a tile's
// arithmetic hides the latency. NVIDIA copies f16 tiles with cp.async, STAGES - 1 tiles ahead; elsewhere they pass through registers and two
// stages do.
// A tile's results are rows t (A = x) and columns n (B = w), so that lanes store neighbouring n.
#pragma once
#include "activation.h"
#include "matrix.h"
#include "planes.h"

// ---- pairs of halves ------------------------------------------------------------------------------------------------------------

#if defined(GPU_AMD)
typedef _Float16 half_pair __attribute__((ext_vector_type(2)));
DEVICE u32 pair_fma(u32 a, u32 b, u32 c) {
    return __builtin_bit_cast(u32, __builtin_bit_cast(half_pair, a) * __builtin_bit_cast(half_pair, b) + __builtin_bit_cast(half_pair, c));
}
DEVICE u32 pair_mul(u32 a, u32 b) {
    return __builtin_bit_cast(u32, __builtin_bit_cast(half_pair, a) * __builtin_bit_cast(half_pair, b));
}
#elif defined(GPU_NVIDIA)
DEVICE u32 pair_fma(u32 a, u32 b, u32 c) {
    u32 d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
DEVICE u32 pair_mul(u32 a, u32 b) {
    u32 d;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}
#else
union HalfPair {
    u32 u;
    half_t h[2];
};
DEVICE u32 pair_fma(u32 a, u32 b, u32 c) {
    HalfPair x = {a}, y = {b}, z = {c};
    for (int i = 0; i < 2; i++) z.h[i] = float_to_half(half_to_float(x.h[i]) * half_to_float(y.h[i]) + half_to_float(z.h[i]));
    return z.u;
}
DEVICE u32 pair_mul(u32 a, u32 b) {
    HalfPair x = {a}, y = {b};
    for (int i = 0; i < 2; i++) x.h[i] = float_to_half(half_to_float(x.h[i]) * half_to_float(y.h[i]));
    return x.u;
}
#endif
// Both halves of a pair: x, kept within what f16 can hold.
DEVICE u32 pair_of(float x) {
    union {
        half_t h[2];
        u32 u;
    } p;
    p.h[0] = p.h[1] = float_to_half(min_of(max_of(x, -65504.0f), 65504.0f));
    return p.u;
}
// Bytes 2I and 2I + 1 of `bytes` as the halves 1024 + byte.
template <int I> DEVICE u32 pair_from_bytes(u32 bytes) {
#if defined(GPU_NVIDIA)
    return __byte_perm(bytes, 0x64646464u, I == 0 ? 0x4140u : 0x4342u);
#else
    return byte_permute(bytes, 0x64646464u, I == 0 ? 0x04010400u : 0x04030402u);
#endif
}

// ---- blocks as halves -----------------------------------------------------------------------------------------------------------

// Value = byte · scale + offset, as pairs, for the first (LAST false) or last 16 elements of a block.
template <int F> struct PairScale {
    u32 scale, offset;
    METHOD PairScale(const Block<F>& x, bool last) {
        float first, second, m;
        block_scales<F>(x, first, second, m);
        scale = pair_of((last ? second : first) * (1.0f / byte_factor<F>()));
        offset = FormatOf<F>::minimum ? pair_of(m) : 0u;
    }
};
// Four signed bytes, as block_words gives them, as two pairs.
template <int F> DEVICE void pairs_from_word(u32 bytes, const PairScale<F>& s, u32* out) {
    constexpr float factor = byte_factor<F>();
    // Bytes of formats with a minimum are not negative; the others become so by 128.
    constexpr float bias = FormatOf<F>::minimum ? 1024.0f : 1152.0f;
    if (!FormatOf<F>::minimum) bytes ^= 0x80808080u;
    const u32 f = pair_of(factor), b = pair_of(-bias * factor);
    u32 p[2] = {pair_fma(pair_from_bytes<0>(bytes), f, b), pair_fma(pair_from_bytes<1>(bytes), f, b)};
#pragma unroll
    for (int i = 0; i < 2; i++) out[i] = FormatOf<F>::minimum ? pair_fma(p[i], s.scale, s.offset) : pair_mul(p[i], s.scale);
}
// The 32 halves of a block, to LDS (16-byte aligned).
template <int F> DEVICE void store_block(const Block<F>& x, half_t* out) {
    u32 words[8], p[16];
    block_words<F>(x, words, words + 4);
    const PairScale<F> first(x, false), last(x, true);
#pragma unroll
    for (int n = 0; n < 8; n++) pairs_from_word<F>(words[n], n < 4 ? first : last, p + 2 * n);
#pragma unroll
    for (int i = 0; i < 4; i++) ((u32x4*)out)[i] = {p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]};
}

// ---- tiles ----------------------------------------------------------------------------------------------------------------------

#if defined(GPU_NVIDIA)
#define GEMM_ASYNC 1
// 16 bytes into LDS, or zeros.
DEVICE void copy_async(half_t* to, const half_t* from, bool valid) {
    const u32 at = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(valid ? 16 : 0) : "memory");
}
DEVICE void commit_async() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> DEVICE void wait_async() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }
#endif

// A block's tile of results, TILE_N rows of w by TILE_T rows of x, made of steps of TILE_K; its waves, WAVES_N × WAVES_T; a wave's fragments;
// whether they load fragments a step AHEAD; and what lies in LDS: STAGES times the tiles of x and w, in rows that are 16 bytes longer so that they do not collide in banks.
template <int TILE_N, int TILE_T, int TILE_K, int STAGES_, int WAVES_N_, int WAVES_T_, int AHEAD_ = 0> struct GemmShape {
    static constexpr int TN = TILE_N, TT = TILE_T, K = TILE_K, STAGES = STAGES_, WAVES_N = WAVES_N_, WAVES_T = WAVES_T_, AHEAD = AHEAD_;
    static constexpr int THREADS = WAVES_N * WAVES_T * WAVE;
    static constexpr int N = TN / WAVES_N / 16, T = TT / WAVES_T / 16;
    static constexpr int STRIDE = K + 8, X = TT * STRIDE, STAGE = (TT + TN) * STRIDE, LDS_BYTES = STAGES * STAGE * 2;
};

// A tile of ROWS rows of an f16 matrix, in pieces of 16 bytes: what one thread moves of it.
template <class S, int ROWS> struct HalfTile {
    static constexpr int PER_ROW = S::K / 8, COUNT = ROWS * PER_ROW / S::THREADS, STEP = S::THREADS / PER_ROW;
    const half_t* base;
    int offset[COUNT];
    int column, k;
    u32 there;  // which pieces belong to a row
#if !defined(GEMM_ASYNC)
    u32x4 held[COUNT];
#endif
    // Rows from `first` of a matrix with `rows` rows of k halves, `stride` apart; what is behind the last row or column is zero. (Reading
    // the last row again instead costs a factor at few rows: every block asks the same place of the L2 cache.)
    METHOD HalfTile(const half_t* matrix, i64 stride, int first, int rows, int k_) {
        const int row = thread_id() / PER_ROW;
        column = thread_id() % PER_ROW * 8;
        k = k_;
        base = matrix + (i64)first * stride;
        there = 0;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const bool is = row + i * STEP < rows - first;
            offset[i] = is ? (int)((row + i * STEP) * stride) : 0;
            there |= (u32)is << i;
        }
    }
    METHOD bool has(int i, int c) const { return c < k && (there >> i & 1u); }
    METHOD static int place(int i) { return (thread_id() / PER_ROW + i * STEP) * S::STRIDE + thread_id() % PER_ROW * 8; }
#if defined(GEMM_ASYNC)
    METHOD void copy(half_t* lds, int k0) const {
        const int c = k0 + column;
#pragma unroll
        for (int i = 0; i < COUNT; i++) copy_async(lds + place(i), base + offset[i] + (c < k ? c : 0), has(i, c));
    }
#else
    METHOD void load(int k0) {
        const int c = k0 + column;
#pragma unroll
        for (int i = 0; i < COUNT; i++) held[i] = has(i, c) ? *(const u32x4*)(base + offset[i] + c) : u32x4{0, 0, 0, 0};
    }
    METHOD void store(half_t* lds) const {
#pragma unroll
        for (int i = 0; i < COUNT; i++) *(u32x4*)(lds + place(i)) = held[i];
    }
#endif
};

// A tile of ROWS rows of a quantized matrix: the blocks of one thread.
template <int F, class S, int ROWS> struct BlockTile {
    static constexpr int PER_ROW = S::K / 32, ALL = ROWS * PER_ROW, COUNT = ALL < S::THREADS ? 1 : ALL / S::THREADS;
    Block<F> held[COUNT] = {};
    int row[COUNT];
    METHOD static bool works() { return ALL >= S::THREADS || thread_id() < ALL; }
    METHOD BlockTile(int first, int rows) {
#pragma unroll
        for (int i = 0; i < COUNT; i++) row[i] = min_of(first + (thread_id() + i * S::THREADS) / PER_ROW, rows - 1);
    }
    // Blocks behind the end are the last one again: x is zero there.
    METHOD void load(const Planes& w, int i, int k0) {
        if (works()) load_block<F>(held[i], w, (i64)row[i] * w.blocks + min_of(k0 / 32 + thread_id() % PER_ROW, w.blocks - 1));
    }
    METHOD void store(int i, half_t* lds) const {
        if (works()) store_block<F>(held[i], lds + (thread_id() + i * S::THREADS) / PER_ROW * S::STRIDE + thread_id() % PER_ROW * 32);
    }
};

// Fragments are not to be loaded steps ahead: there are no registers for them.
DEVICE void keep_order() {
#if defined(GPU_AMD)
    __builtin_amdgcn_sched_barrier(0);
#endif
}

// ---- the product ----------------------------------------------------------------------------------------------------------------

#define GEMM_PARTS 4
// One of the matrices that share x.
struct GemmPart {
    Planes w;
    const float* bias;      // [n] or null
    const float* residual;  // rows of `residual_stride` floats, or null
    float* out;             // rows of `out_stride` floats
    int first, n;           // the rows of w
    int out_stride, residual_stride;
    int tiles;  // of a block's rows of w
    int unused;
};
struct GemmParts {
    GemmPart part[GEMM_PARTS];
};

// Four neighbouring results of a row. `act` is 0, or -1 - the number of a function of the product and bias, or 1 + that of a function of what
// `out` holds, which then multiplies the product.
DEVICE f32x4 gemm_results(f32x4 v, const GemmPart& p, int act, const float* out, int t, int n) {
    if (p.bias) v = {v.x + p.bias[n], v.y + p.bias[n + 1], v.z + p.bias[n + 2], v.w + p.bias[n + 3]};
    if (act < 0) v = activate(-1 - act, v);
    if (p.residual) {
        const float* r = p.residual + (i64)t * p.residual_stride + n;
        v = {v.x + r[0], v.y + r[1], v.z + r[2], v.w + r[3]};
    }
    if (act > 0) {
        const f32x4 gate = activate(act - 1, *(const f32x4*)out);
        v = {v.x * gate.x, v.y * gate.y, v.z * gate.z, v.w * gate.w};
    }
    return v;
}
DEVICE float gemm_result(float v, const GemmPart& p, int act, float out, int t, int n) {
    if (p.bias) v += p.bias[n];
    if (act < 0) v = activate(-1 - act, v);
    if (p.residual) v += p.residual[(i64)t * p.residual_stride + n];
    return act > 0 ? activate(act - 1, out) * v : v;
}
// Stores 16 rows of a wave's results. They pass through 16 rows of LDS, so that lanes store 16 neighbouring bytes.
template <class S> DEVICE void gemm_store(FragC* c, const GemmPart& p, int act, int t0, int n0, int t, float* lds) {
    constexpr int WIDTH = S::N * 16, STRIDE = WIDTH + 4;
    sync_wave();
#pragma unroll
    for (int j = 0; j < S::N; j++) c[j].for_each([&](int row, int col, float& v) { lds[row * STRIDE + j * 16 + col] = v; });
    sync_wave();
    const bool aligned = p.out_stride % 4 == 0 && ((u64)p.out & 15) == 0;
#pragma unroll 1
    for (int i = lane_id(); i < 16 * WIDTH / 4; i += WAVE) {
        const int row = i / (WIDTH / 4), col = i % (WIDTH / 4) * 4, n = n0 + col;
        if (t0 + row >= t || n >= p.n) continue;
        const float* from = lds + row * STRIDE + col;
        float* out = p.out + (i64)(t0 + row) * p.out_stride + n;
        if (aligned && n + 3 < p.n) {
            *(f32x4*)out = gemm_results(*(const f32x4*)from, p, act, out, t0 + row, n);
        } else {
#pragma unroll 1
            for (int e = 0; e < 4 && n + e < p.n; e++) out[e] = gemm_result(from[e], p, act, out[e], t0 + row, n + e);
        }
    }
}

// The tiles of quantized weights. `advance` does one of STEPS shares of an iteration's work: the tile that is held into LDS, tile `next` on its way.
template <int F, class S> struct GemmWeights {
    static constexpr int STEPS = S::K / 16;
    typedef BlockTile<F, S, S::TN> Tile;
    const Planes& w;
    Tile tile;
    METHOD GemmWeights(const Planes& w_, int first, int rows) : w(w_), tile(first, rows) {}
    METHOD void load(int kt) {
#pragma unroll
        for (int i = 0; i < Tile::COUNT; i++) tile.load(w, i, kt * S::K);
    }
    METHOD void store(half_t* lds) const {
#pragma unroll
        for (int i = 0; i < Tile::COUNT; i++) tile.store(i, lds);
    }
    METHOD void advance(int step, half_t* lds, int next) {
#pragma unroll
        for (int i = 0; i < Tile::COUNT; i++) {
            if (i * STEPS / Tile::COUNT != step) continue;
            tile.store(i, lds);
            tile.load(w, i, next * S::K);
        }
    }
};

template <int F, class S>
DEVICE void gemm(const GemmParts& parts, const half_t* x, i64 x_stride, int t, int act, half_t* lds) {
    int tile = block_y(), which = 0;
    while (which < GEMM_PARTS - 1 && tile >= parts.part[which].tiles) tile -= parts.part[which++].tiles;
    const GemmPart& p = parts.part[which];
    const int k = p.w.k, n0 = tile * S::TN, t0 = block_x() * S::TT, tiles = div_up(k, S::K);
    const int wave = thread_id() / WAVE, wave_t = wave % S::WAVES_T * (S::T * 16), wave_n = wave / S::WAVES_T * (S::N * 16);
    pdl_trigger();

    constexpr bool halves = F == FORMAT_F16;
    HalfTile<S, S::TT> xs(x, x_stride, t0, t, k);
    // One of these two is used; the other is never touched and costs nothing.
    HalfTile<S, S::TN> ws((const half_t*)p.w.quants + (i64)p.first * k, k, n0, p.n, k);
    GemmWeights<halves ? FORMAT_Q8_0 : F, S> blocks(p.w, p.first + n0, p.first + p.n);
    if (!halves) blocks.load(0);
    pdl_wait();

#if defined(GEMM_ASYNC)
#pragma unroll
    for (int s = 0; s < S::STAGES - 1; s++) {
        xs.copy(lds + s * S::STAGE, s * S::K);
        if (halves) ws.copy(lds + s * S::STAGE + S::X, s * S::K);
        commit_async();
    }
#else
    xs.load(0);
    xs.store(lds);
    xs.load(S::K);
    if (halves) {
        ws.load(0);
        ws.store(lds + S::X);
        ws.load(S::K);
    }
#endif
    if (!halves) {
        blocks.store(lds + S::X);
        blocks.load(1);
    }

    FragC c[S::T][S::N];
#pragma unroll
    for (int i = 0; i < S::T; i++)
#pragma unroll
        for (int j = 0; j < S::N; j++) c[i][j].fill(0.0f);

    int stage = 0;
    for (int kt = 0; kt < tiles; kt++) {
        const int next = stage + 1 == S::STAGES ? 0 : stage + 1;
        half_t* const fill = lds + next * S::STAGE;
#if defined(GEMM_ASYNC)
        wait_async<S::STAGES - 2>();
        sync_threads();
        // The stage that was read an iteration ago.
        half_t* const last = lds + (stage == 0 ? S::STAGES - 1 : stage - 1) * S::STAGE;
        xs.copy(last, (kt + S::STAGES - 1) * S::K);
        if (halves) ws.copy(last + S::X, (kt + S::STAGES - 1) * S::K);
        commit_async();
#else
        sync_threads();
        xs.store(fill);
        xs.load((kt + 2) * S::K);
        if (halves) {
            ws.store(fill + S::X);
            ws.load((kt + 2) * S::K);
        }
#endif
        const half_t* const now = lds + stage * S::STAGE;
        FragA a[1 + S::AHEAD][S::T];
        FragB b[1 + S::AHEAD][S::AHEAD ? S::N : 1];
        auto load_fragments = [&](int to, int step) {
#pragma unroll
            for (int i = 0; i < S::T; i++) a[to][i].load_lds(now + (wave_t + i * 16) * S::STRIDE + step * 16, S::STRIDE);
#pragma unroll
            for (int j = 0; j < (S::AHEAD ? S::N : 0); j++) b[to][j].load_lds(now + S::X + (wave_n + j * 16) * S::STRIDE + step * 16, S::STRIDE);
        };
#pragma unroll
        for (int step = 0; step < S::K / 16; step++) {
            if (!halves) blocks.advance(step, fill + S::X, kt + 2);
            if constexpr (S::AHEAD) {
                if (step == 0) load_fragments(0, 0);
                if (step + 1 < S::K / 16) load_fragments((step + 1) % 2, step + 1);
#pragma unroll
                for (int j = 0; j < S::N; j++)
#pragma unroll
                    for (int i = 0; i < S::T; i++) mma(c[i][j], a[step % 2][i], b[step % 2][j]);
            } else {
#pragma unroll
                for (int i = 0; i < S::T; i++) a[0][i].load_lds(now + (wave_t + i * 16) * S::STRIDE + step * 16, S::STRIDE);
#pragma unroll
                for (int j = 0; j < S::N; j++) {
                    b[0][0].load_lds(now + S::X + (wave_n + j * 16) * S::STRIDE + step * 16, S::STRIDE);
#pragma unroll
                    for (int i = 0; i < S::T; i++) mma(c[i][j], a[0][i], b[0][0]);
                }
            }
            keep_order();
        }
        stage = next;
    }
#if defined(GEMM_ASYNC)
    wait_async<0>();
#endif
    sync_threads();
    float* const rows = (float*)lds + wave * 16 * (S::N * 16 + 4);
    static_assert(S::WAVES_N * S::WAVES_T * 16 * (S::N * 16 + 4) * 4 <= S::LDS_BYTES, "the results of 16 rows a wave fit into LDS");
#pragma unroll
    for (int i = 0; i < S::T; i++) gemm_store<S>(c[i], p, act, t0 + wave_t + i * 16, n0 + wave_n, t, rows);
}
