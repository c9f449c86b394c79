// Products with a matrix whose elements are dequantized as they come, for one token or for eight at a time:
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

// Σ w x over four elements, added to `sum`.
DEVICE float dot_quad(f32x4 w, f32x4 x, float sum) { return fma_f32(w.w, x.w, fma_f32(w.z, x.z, fma_f32(w.y, x.y, fma_f32(w.x, x.x, sum)))); }

// Elements i … i + 3 of a row of k, 0 behind its end.
DEVICE f32x4 load_activations(const RawActivations& x, const u8* row, int i, int k) {
    if (x.type == DTYPE_f32) return load_float_quad((const float*)row, i, k, has_aligned_quads((const float*)row, k));
    if (x.type == DTYPE_f16) return load_float_quad((const half_t*)row, i, k, has_aligned_quads((const half_t*)row, k));
    if (i >= k) return f32x4{0.0f, 0.0f, 0.0f, 0.0f};
    const u8* block = row + (i64)(i / 32) * 52;
    u32 q = load_word<4>(block + 20 + i % 32);
    float d = bits_to_float(load_word<4>(block));
    return f32x4{(float)signed_byte_of(q, 0) * d, (float)signed_byte_of(q, 1) * d, (float)signed_byte_of(q, 2) * d, (float)signed_byte_of(q, 3) * d};
}

DEVICE int magnitude_bits(float v) { return (int)(float_to_bits(v) & 0x7fffffffu); } // ordered as integers, with NaN above infinity
// The values after q8_a, by the rule of src/tensor/quant/q8_a.rs; eight neighbouring lanes hold a group.
DEVICE f32x4 rounded_to_q8_a(const f32x4& v) {
    int bits = max_of(max_of(magnitude_bits(v.x), magnitude_bits(v.y)), max_of(magnitude_bits(v.z), magnitude_bits(v.w)));
#pragma unroll
    for (int m = 4; m > 0; m >>= 1) bits = max_of(bits, shfl_xor(bits, m));
    float largest = bits_to_float((u32)bits), scale = 127.0f / largest, d = largest / 127.0f;
    if (bits >= 0x7f800000) d = bits_to_float(0x7fc00000u), scale = 0.0f;
    if (abs_f32(scale) > 3.4e38f) return f32x4{0.0f, 0.0f, 0.0f, 0.0f};
    return f32x4{round_even(v.x * scale) * d, round_even(v.y * scale) * d, round_even(v.z * scale) * d, round_even(v.w * scale) * d};
}

// For each of TOKENS rows from token0 on, what its values are multiplied by before `norm`.
template <int TOKENS> DEVICE void measure_activations(const RawActivations& x, int k, int token0, float* factors) {
    LDS(float, sums, MATVEC_THREADS / WAVE);
    for (int t = 0; t < TOKENS; t++) {
        const u8* row = x.data + (i64)(token0 + t) * x.row_bytes;
        float sum = 0.0f;
        for (int i = thread_id() * 4; token0 + t < x.tokens && i < k; i += MATVEC_THREADS * 4) {
            f32x4 v = load_activations(x, row, i, k);
            sum = dot_quad(v, v, sum);
        }
        sum = block_sum<MATVEC_THREADS>(sum, sums);
        if (thread_id() == 0) factors[t] = rsqrt_f32(sum / (float)k + x.eps);
    }
    sync_threads();
}

// A quad of activations on its way into LDS: `there` if it is one of a token, not what fills up.
DEVICE void finish_activations(const RawActivations& x, f32x4 v, int k, int e, bool there, const float* factor, float* to) {
    if (x.norm && there) {
        if (e < k) v.x *= *factor * x.norm[e];
        if (e + 1 < k) v.y *= *factor * x.norm[e + 1];
        if (e + 2 < k) v.z *= *factor * x.norm[e + 2];
        if (e + 3 < k) v.w *= *factor * x.norm[e + 3];
    }
    if (x.rounded) v = rounded_to_q8_a(v);
    if (to) *(f32x4*)to = v;
}

// Groups first … first + count of the activations of TOKENS rows from token0 on, as f32; what lies behind k or the last token is 0.
template <int TOKENS> DEVICE void stage_activations(const RawActivations& x, int k, int token0, int first, int count, const float* factors, float* staged) {
    // Rows of f32 as they nearly always are: a thread loads several quads before it looks at the first.
    bool usual = x.type == DTYPE_f32 && x.row_bytes % 16 == 0 && has_aligned_quads((const float*)x.data, k);
    constexpr int AHEAD = 4;
    int quads = count * 8, total = TOKENS * quads, step = usual ? AHEAD * MATVEC_THREADS : MATVEC_THREADS;
#pragma unroll 1
    for (int start = thread_id(); start - thread_id() < total; start += step) {
        f32x4 v[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            int i = start + a * MATVEC_THREADS, t = i / quads, e = first * 32 + i % quads * 4;
            v[a] = f32x4{0.0f, 0.0f, 0.0f, 0.0f};
            if (usual && i < total && token0 + t < x.tokens && e < k) v[a] = float_quad_at((const float*)(x.data + (i64)(token0 + t) * x.row_bytes) + e);
        }
        if (!usual) {
            int t = start / quads, e = first * 32 + start % quads * 4;
            if (start < total && token0 + t < x.tokens) v[0] = load_activations(x, x.data + (i64)(token0 + t) * x.row_bytes, e, k);
        }
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            if (a > 0 && !usual) break;
            int i = start + a * MATVEC_THREADS, t = i / quads, q = i % quads;
            float* to = i < total ? staged + (t * x.chunk_groups + q / 8) * MATVEC_GROUP_WORDS + q % 8 * 4 : nullptr;
            finish_activations(x, v[a], k, first * 32 + q * 4, to && token0 + t < x.tokens, factors + t, to);
        }
    }
}

// A lane's part of ROWS products with the staged groups first … first + count of TOKENS tokens: every 32nd group.
// Rows behind the last are the last one; what is made of those is not stored.
template <class Matrix, int ROWS, int TOKENS>
DEVICE void multiply_blocks(const Matrix& w, int row, int first, int count, int lane, const float* staged, int stride, float (&sums)[ROWS][TOKENS]) {
#pragma unroll 1
    for (int g = lane; g < count; g += MATVEC_TEAM) {
        float values[ROWS][32];
#pragma unroll
        for (int r = 0; r < ROWS; r++) w.dequantize(min_of(row + r, w.rows() - 1), first + g, values[r]);
#pragma unroll
        for (int t = 0; t < TOKENS; t++) {
            const float* group = staged + t * stride + g * MATVEC_GROUP_WORDS;
#pragma unroll
            for (int i = 0; i < 32; i += 4) {
                f32x4 x = *(const f32x4*)(group + i);
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    const float* v = values[r] + i;
                    f32x4 q = {v[0], v[1], v[2], v[3]};
                    // One token has nothing but this sum to wait for: short chains.
                    sums[r][t] = TOKENS == 1 ? sums[r][t] + dot_quad(q, x, 0.0f) : dot_quad(q, x, sums[r][t]);
                }
            }
        }
    }
}

// The same for rows of floats: neighbouring lanes take neighbouring quads.
template <class Float, int ROWS, int TOKENS>
DEVICE void multiply_floats(const RawMatrix& m, int row, int first, int count, int lane, const float* staged, int stride, float (&sums)[ROWS][TOKENS]) {
    constexpr int AHEAD = TOKENS == 1 ? 8 : 2;
    bool aligned = (u64)m.data % (4 * sizeof(Float)) == 0 && m.row_bytes % (4 * sizeof(Float)) == 0 && m.k % 4 == 0;
    int end = min_of(m.k, (first + count) * 32);
#pragma unroll 1
    for (int start = lane; start < count * 8; start += AHEAD * MATVEC_TEAM) {
        f32x4 w[ROWS][AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                const u8* bytes = m.data + (i64)min_of(row + r, m.rows - 1) * m.row_bytes;
                w[r][a] = load_float_quad((const Float*)bytes, first * 32 + (start + a * MATVEC_TEAM) * 4, end, aligned);
            }
        }
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            int q = min_of(start + a * MATVEC_TEAM, count * 8 - 1); // weights behind the end are 0
#pragma unroll
            for (int t = 0; t < TOKENS; t++) {
                f32x4 x = *(const f32x4*)(staged + t * stride + q / 8 * MATVEC_GROUP_WORDS + q % 8 * 4);
#pragma unroll
                for (int r = 0; r < ROWS; r++) sums[r][t] = TOKENS == 1 ? sums[r][t] + dot_quad(w[r][a], x, 0.0f) : dot_quad(w[r][a], x, sums[r][t]);
            }
        }
    }
}

// A matrix of raw rows of a type, as the product takes matrices: rows(), k(), multiply(…).
template <int TYPE> struct RawRows {
    const RawMatrix& w;

    DEVICE_MEMBER int rows() const { return w.rows; }
    DEVICE_MEMBER int k() const { return w.k; }
    DEVICE_MEMBER void dequantize(int row, int group, float* out) const { dequantize32<TYPE>(w.data + (i64)row * w.row_bytes, group, out); }
    template <int ROWS, int TOKENS>
    DEVICE_MEMBER void multiply(int row, int first, int count, int lane, const float* staged, int stride, float (&sums)[ROWS][TOKENS]) const {
        if constexpr (BlockFormat<TYPE>::elements == 1) {
            multiply_floats<typename FloatOf<TYPE>::type>(w, row, first, count, lane, staged, stride, sums);
        } else {
            multiply_blocks(*this, row, first, count, lane, staged, stride, sums);
        }
    }
};

DEVICE void store_sum(const RawResult& result, int row, int token, float sum) {
    float* out = result.out + token * result.out_stride + row;
    if (result.bias) sum += result.bias[row];
    if (result.residual) sum += result.residual[token * result.residual_stride + row];
    *out = result.act ? activate(result.act - 1, *out) * sum : sum;
}

template <int TOKENS, int ROWS, class Matrix> DEVICE void matvec_raw(const Matrix& w, const RawActivations& x, const RawResult& result, float* staged) {
    pdl_trigger();
    pdl_wait();
    int lane = thread_id() % MATVEC_TEAM, team = thread_id() / MATVEC_TEAM;
    int groups = div_up(w.k(), 32), token0 = block_y() * TOKENS, tokens = min_of(TOKENS, x.tokens - token0);
    LDS(float, factors, TOKENS);
    if (x.norm) measure_activations<TOKENS>(x, w.k(), token0, factors);
    bool staging = true;
    for (int row0 = block_x() * (MATVEC_TEAMS * ROWS); row0 < w.rows(); row0 += result.blocks * (MATVEC_TEAMS * ROWS)) {
        int row = row0 + team * ROWS;
        float sums[ROWS][TOKENS] = {};
        for (int chunk = 0; chunk < groups; chunk += x.chunk_groups) {
            int count = min_of(x.chunk_groups, groups - chunk);
            if (staging) {
                sync_threads();
                stage_activations<TOKENS>(x, w.k(), token0, chunk, count, factors, staged);
                sync_threads();
                staging = groups > x.chunk_groups; // else they stay for the rows that follow
            }
            w.multiply(row, chunk, count, lane, staged, x.chunk_groups * MATVEC_GROUP_WORDS, sums);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int t = 0; t < TOKENS; t++) {
                float sum = wave_sum<MATVEC_TEAM>(sums[r][t]);
                if (lane == r * TOKENS + t && t < tokens && row + r < w.rows()) store_sum(result, row + r, token0 + t, sum);
            }
        }
    }
}

#define MATVEC_RAW(name, id, len, bytes)                                                                                \
    KERNEL(matvec_raw_##name##_1, MATVEC_THREADS, (RawMatrix w, RawActivations x, RawResult result)) {                  \
        DYNAMIC_LDS(staged);                                                                                            \
        matvec_raw<1, 1>(RawRows<id>{w}, x, result, (float*)staged);                                                             \
    }                                                                                                                   \
    KERNEL(matvec_raw_##name##_8, MATVEC_THREADS, (RawMatrix w, RawActivations x, RawResult result)) {                  \
        DYNAMIC_LDS(staged);                                                                                            \
        matvec_raw<8, 2>(RawRows<id>{w}, x, result, (float*)staged);                                                             \
    }
