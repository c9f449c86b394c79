// What a product by the BLAS library needs around it.
//
// gemm_dequantize: rows of planes as f16, row after row. 256 threads a block, a thread writes 8 of the 32 elements of a block (16 bytes,
// neighbours side by side). k is a multiple of 32. Bound by the bytes written.
// gemm_finish: what `gemm` does with its sums, here sums[t][n]; they may be out. Grid (n / 1024, t), 256 threads,
// four elements each. Bound by memory.
#include "common/gemm.h"

template <int F> DEVICE void dequantize_quarter(const Planes& w, half_t* out, int first, int rows) {
    const int i = block_x() * 256 + thread_id(), quarter = i % 4, block = i / 4;
    pdl_trigger();
    pdl_wait();
    if (block >= rows * w.blocks) return;
    const int row = block / w.blocks, column = block % w.blocks;
    u32 p[4];
    if (FormatOf<F>::plain) {
        const i64 at = (i64)(first + row) * w.k + column * 32 + quarter * 8;
#pragma unroll
        for (int n = 0; n < 4; n++) {
            union {
                half_t h[2];
                u32 u;
            } pair;
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const i64 j = at + 2 * n + e;
                const float v = F == FORMAT_F32 ? ((const float*)w.quants)[j] : bf16_to_float(((const u16*)w.quants)[j]);
                pair.h[e] = float_to_half(min_of(max_of(v, -65504.0f), 65504.0f));
            }
            p[n] = pair.u;
        }
    } else {
        Block<FormatOf<F>::plain ? FORMAT_Q8_0 : F> x;
        load_block(x, w, (i64)(first + row) * w.blocks + column);
        u32 words[8];
        block_words(x, words, words + 4);
        const PairScale<FormatOf<F>::plain ? FORMAT_Q8_0 : F> scale(x, quarter >= 2);
        // Two of the eight words, chosen without an index that the compiler does not know.
        const bool last = quarter >= 2, odd = quarter % 2;
        const u32 a = last ? (odd ? words[6] : words[4]) : (odd ? words[2] : words[0]);
        const u32 b = last ? (odd ? words[7] : words[5]) : (odd ? words[3] : words[1]);
        pairs_from_word(a, scale, p);
        pairs_from_word(b, scale, p + 2);
    }
    ((u32x4*)out)[i] = {p[0], p[1], p[2], p[3]};
}

#define DEQUANTIZE(name, format)                                                                       \
    KERNEL(gemm_dequantize_##name, 256, (Planes w, half_t* out, int first, int rows)) { dequantize_quarter<format>(w, out, first, rows); }

DEQUANTIZE(f32, FORMAT_F32)
DEQUANTIZE(bf16, FORMAT_BF16)
DEQUANTIZE(q8_0, FORMAT_Q8_0)
DEQUANTIZE(q4_0, FORMAT_Q4_0)
DEQUANTIZE(q4_1, FORMAT_Q4_1)
DEQUANTIZE(q5_0, FORMAT_Q5_0)
DEQUANTIZE(q5_1, FORMAT_Q5_1)
DEQUANTIZE(q4_k, FORMAT_Q4_K)
DEQUANTIZE(q5_k, FORMAT_Q5_K)
DEQUANTIZE(q6_k, FORMAT_Q6_K)
DEQUANTIZE(iq4_nl, FORMAT_IQ4_NL)
DEQUANTIZE(iq4_xs, FORMAT_IQ4_XS)
DEQUANTIZE(mxfp4, FORMAT_MXFP4)

KERNEL(gemm_finish, 256, (GemmPart p, const float* sums, int sums_stride, int act)) {
    const int t = block_y(), n = (block_x() * 256 + thread_id()) * 4;
    pdl_trigger();
    pdl_wait();
    const float* from = sums + (i64)t * sums_stride + n;
    float* out = p.out + (i64)t * p.out_stride + n;
    for (int e = 0; e < 4 && n + e < p.n; e++) out[e] = gemm_result(from[e], p, act, out[e], t, n + e);
}
