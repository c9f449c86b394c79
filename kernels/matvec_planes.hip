// Products with weights in planes, for whatever activations and however many tokens: out[n, t] = Σ_k w[n, k] x[k, t] (+ bias[n])
// (+ residual[n, t]), or act(out[n, t]) times that sum. In f32, without rounding. What the fast kernels do not serve comes here.
//
// Grid: (rows / waves of a block, tokens); a wave a row and token, its lanes own blocks of 32. Bound by decoding.
#include "common/matvec_raw.h"
#include "common/planes.h"

template <int F> DEVICE void matvec_planes(const Planes& w, const RawActivations& x, const RawResult& result) {
    pdl_trigger();
    pdl_wait();
    const int row = block_x() * (256 / WAVE) + thread_id() / WAVE, token = block_y();
    if (row >= w.rows) return;
    const u8* activations = (const u8*)x.data + token * x.row_bytes;
    float sum = 0.0f;
    for (int b = lane_id(); b < w.blocks; b += WAVE) {
        float v[32];
        planes_decode32<F>(w, row, b, v);
#pragma unroll
        for (int i = 0; i < 32; i++) sum = fma_f32(v[i], load_activation(x, activations, b * 32 + i), sum);
    }
    sum = wave_sum(sum);
    if (lane_id() != 0) return;
    if (result.bias) sum += result.bias[row];
    if (result.residual) sum += result.residual[token * result.residual_stride + row];
    float* out = result.out + token * result.out_stride + row;
    *out = result.act ? activate(result.act - 1, *out) * sum : sum;
}

#define MATVEC_PLANES(format, name) \
    KERNEL(matvec_planes_##name, 256, (Planes w, RawActivations x, RawResult result)) { matvec_planes<format>(w, x, result); }

MATVEC_PLANES(FORMAT_F16, f16)
MATVEC_PLANES(FORMAT_BF16, bf16)
MATVEC_PLANES(FORMAT_Q8_0, q8_0)
MATVEC_PLANES(FORMAT_Q4_0, q4_0)
MATVEC_PLANES(FORMAT_Q4_1, q4_1)
MATVEC_PLANES(FORMAT_Q5_0, q5_0)
MATVEC_PLANES(FORMAT_Q5_1, q5_1)
MATVEC_PLANES(FORMAT_Q4_K, q4_k)
MATVEC_PLANES(FORMAT_Q5_K, q5_k)
MATVEC_PLANES(FORMAT_Q6_K, q6_k)
MATVEC_PLANES(FORMAT_IQ4_NL, iq4_nl)
MATVEC_PLANES(FORMAT_IQ4_XS, iq4_xs)
MATVEC_PLANES(FORMAT_MXFP4, mxfp4)
