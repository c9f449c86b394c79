// Products with a matrix of raw blocks, for one token or for eight at a time:
// out[n, t] = Σ_k w[n, k] x[k, t] (+ bias[n]) (+ residual[n, t]), or act(out[n, t]) times that sum (the second half of glu_qmatmul).
//
// Weights are dequantized to f32, sums are f32. Activations are f32, half or q8_a, or f32 that are rounded to q8_a on the way in.
// Block: 256 threads, 32 lanes for ROWS rows (a wave of 64 has two such teams); a lane takes every 32nd group of 32 elements.
// LDS: `chunk_groups` groups of each token's activations, 36 words a group (so that the lanes' 16-byte reads hit different banks).
// Grid: x any number of blocks, which take tiles of 8 ROWS rows in turn; y ⌈tokens / TOKENS⌉. Bound by unpacking, for most types.
#pragma once
#include "activation.h"
#include "blocks.h"

#define MATVEC_THREADS 256
#define MATVEC_TEAM 32
#define MATVEC_TEAMS (MATVEC_THREADS / MATVEC_TEAM)
#define MATVEC_GROUP_WORDS 36
// The number of the activation type, beside those of weights in blocks.h.
constexpr int DTYPE_q8_a = 1002;

// Activations: `tokens` rows of k elements of type DTYPE_f32, DTYPE_f16 or DTYPE_q8_a. Unless `norm` is null, a row is divided by
// √(its mean square + eps) and multiplied by `norm` first. `rounded`: what is multiplied goes through q8_a.
struct RawActivations {
    const u8* data;
    i64 row_bytes;
    const float* norm;
    float eps;
    int type;
    int rounded;
    int tokens;
    int chunk_groups;
    int unused;
};

// Where sums go: out[n, t] at out + t * out_stride + n. bias and residual may be null. act: 0, or 1 + a number of activation.h.
// blocks: the grid's size in x.
struct RawResult {
    float* out;
    i64 out_stride;
    const float* bias;
    const float* residual;
    i64 residual_stride;
    int act;
    int blocks;
};
static_assert(sizeof(RawActivations) == 48 && sizeof(RawResult) == 48, "as in src/backends/hip/steps/matvec_raw.rs");

DEVICE float load_activation(const RawActivations& x, const u8* row, int i) {
    if (x.type == DTYPE_f32) return load_f32(row, i);
    if (x.type == DTYPE_f16) return load_f16(row, i);
    const u8* block = row + (i64)(i / 32) * 52;
    return (float)(i8)block[20 + i % 32] * bits_to_float(load_word<4>(block));
}

// The value after q8_a of the 32 that a team holds, by the rule of src/tensor/quant/q8_a.rs.
DEVICE float rounded_to_q8_a(float v) {
    int bits = (int)(float_to_bits(v) & 0x7fffffffu); // magnitudes are ordered as integers, with NaN above infinity
#pragma unroll
    for (int m = MATVEC_TEAM / 2; m > 0; m >>= 1) bits = max_of(bits, shfl_xor(bits, m));
    if (bits >= 0x7f800000) return bits_to_float(0x7fc00000u);
    float largest = bits_to_float((u32)bits), scale = 127.0f / largest;
    if (abs_f32(scale) > 3.4e38f) return 0.0f;
    return round_even(v * scale) * (largest / 127.0f);
}

// For each of TOKENS rows from token0 on, what its values are multiplied by before `norm`.
template <int TOKENS> DEVICE void measure_activations(const RawActivations& x, int k, int token0, float* factors) {
    LDS(float, sums, MATVEC_THREADS / WAVE);
    for (int t = 0; t < TOKENS; t++) {
        const u8* row = x.data + (i64)(token0 + t) * x.row_bytes;
        float sum = 0.0f;
        for (int i = thread_id(); token0 + t < x.tokens && i < k; i += MATVEC_THREADS) {
            float v = load_activation(x, row, i);
            sum = fma_f32(v, v, sum);
        }
        sum = block_sum<MATVEC_THREADS>(sum, sums);
        if (thread_id() == 0) factors[t] = rsqrt_f32(sum / (float)k + x.eps);
    }
    sync_threads();
}

// Groups first … first + count of the activations of TOKENS rows from token0 on, as f32; what lies behind k or the last token is 0.
template <int TOKENS> DEVICE void stage_activations(const RawActivations& x, int k, int token0, int first, int count, const float* factors, float* staged) {
    for (int t = 0; t < TOKENS; t++) {
        const u8* row = x.data + (i64)(token0 + t) * x.row_bytes;
        float* target = staged + t * x.chunk_groups * MATVEC_GROUP_WORDS;
        for (int start = 0; start < count * 32; start += MATVEC_THREADS) {
            int i = start + thread_id(), e = first * 32 + i;
            float v = i < count * 32 && e < k && token0 + t < x.tokens ? load_activation(x, row, e) : 0.0f;
            if (x.norm && e < k) v *= factors[t] * x.norm[e];
            if (x.rounded) v = rounded_to_q8_a(v);
            if (i < count * 32) target[i / 32 * MATVEC_GROUP_WORDS + i % 32] = v;
        }
    }
}

// Σ w x over a group, added to `sum`.
template <bool short_chain> DEVICE float dot32(const float (&w)[32], const float* x, float sum) {
#pragma unroll
    for (int i = 0; i < 32; i += 4) {
        f32x4 v = *(const f32x4*)(x + i);
        float s = fma_f32(w[i], v.x, short_chain ? 0.0f : sum);
        s = fma_f32(w[i + 3], v.w, fma_f32(w[i + 2], v.z, fma_f32(w[i + 1], v.y, s)));
        sum = short_chain ? sum + s : s;
    }
    return sum;
}

DEVICE void store_sum(const RawResult& result, int row, int token, float sum) {
    float* out = result.out + token * result.out_stride + row;
    if (result.bias) sum += result.bias[row];
    if (result.residual) sum += result.residual[token * result.residual_stride + row];
    *out = result.act ? activate(result.act - 1, *out) * sum : sum;
}

template <int TYPE, int TOKENS, int ROWS> DEVICE void matvec_raw(const RawMatrix& w, const RawActivations& x, const RawResult& result, float* staged) {
    pdl_trigger();
    pdl_wait();
    int lane = thread_id() % MATVEC_TEAM, team = thread_id() / MATVEC_TEAM;
    int groups = div_up(w.k, 32), token0 = block_y() * TOKENS, tokens = min_of(TOKENS, x.tokens - token0);
    LDS(float, factors, TOKENS);
    if (x.norm) measure_activations<TOKENS>(x, w.k, token0, factors);
    bool whole = groups <= x.chunk_groups;
    if (whole) {
        stage_activations<TOKENS>(x, w.k, token0, 0, groups, factors, staged);
        sync_threads();
    }
    for (int row0 = block_x() * (MATVEC_TEAMS * ROWS); row0 < w.rows; row0 += result.blocks * (MATVEC_TEAMS * ROWS)) {
        int row = row0 + team * ROWS;
        float sums[ROWS][TOKENS] = {};
        for (int chunk = 0; chunk < groups; chunk += x.chunk_groups) {
            int count = min_of(x.chunk_groups, groups - chunk);
            if (!whole) {
                sync_threads();
                stage_activations<TOKENS>(x, w.k, token0, chunk, count, factors, staged);
                sync_threads();
            }
            for (int g = lane; g < count; g += MATVEC_TEAM) {
                float values[ROWS][32];
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    const u8* bytes = w.data + (i64)min_of(row + r, w.rows - 1) * w.row_bytes;
                    dequantize32_of<TYPE>(bytes, chunk + g, w.k, values[r]);
                }
#pragma unroll
                for (int t = 0; t < TOKENS; t++) {
                    const float* group = staged + (t * x.chunk_groups + g) * MATVEC_GROUP_WORDS;
#pragma unroll
                    for (int r = 0; r < ROWS; r++) sums[r][t] = dot32<TOKENS == 1>(values[r], group, sums[r][t]);
                }
            }
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int t = 0; t < TOKENS; t++) {
                float sum = wave_sum<MATVEC_TEAM>(sums[r][t]);
                if (lane == r * TOKENS + t && t < tokens && row + r < w.rows) store_sum(result, row + r, token0 + t, sum);
            }
        }
    }
}

#define MATVEC_RAW(name, id, len, bytes)                                                                                \
    KERNEL(matvec_raw_##name##_1, MATVEC_THREADS, (RawMatrix w, RawActivations x, RawResult result)) {                  \
        DYNAMIC_LDS(staged);                                                                                            \
        matvec_raw<id, 1, 1>(w, x, result, (float*)staged);                                                             \
    }                                                                                                                   \
    KERNEL(matvec_raw_##name##_8, MATVEC_THREADS, (RawMatrix w, RawActivations x, RawResult result)) {                  \
        DYNAMIC_LDS(staged);                                                                                            \
        matvec_raw<id, 8, 2>(w, x, result, (float*)staged);                                                             \
    }
