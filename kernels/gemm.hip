// gemm: out[t][n] f32 = f(Σ_k w[n][k] · x[t][k] (+ bias)) (+ residual), or f(out) times it; x f16, w f16 or planes.
//
// Shapes: x [t][k] with k a multiple of 32 and rows 16 bytes aligned; `act` as in gemm_results; up to GEMM_PARTS matrices w [n][k] of one format share x and a launch.
// Grid: (tiles of t, tiles of n of all parts); blocks of four waves. Dynamic LDS: LDS_BYTES of the shape, 40 or 20 KiB, 108 or 54 KiB on NVIDIA.
// Bound by the matrix units for t in the hundreds, by the weights' bytes for t of a few tens.
#include "common/gemm.h"

// A wave makes 64 × 64 or 32 × 32 results.
#if defined(GPU_NVIDIA)
typedef GemmShape<128, 128, 64, 3, 2, 2> Large;
typedef GemmShape<64, 64, 64, 3, 2, 2> Small;
#elif defined(MATRIX_NONE)
typedef GemmShape<64, 64, 32, 2, 2, 2> Large;
typedef GemmShape<64, 64, 32, 2, 2, 2> Small;
#else
typedef GemmShape<128, 128, 32, 2, 2, 2> Large;
typedef GemmShape<64, 64, 32, 2, 2, 2> Small;
#endif

#define GEMM(name, format, shape)                                                                                                     \
    KERNEL_OCCUPANCY(name, shape::THREADS, 2, (GemmParts parts, const half_t* x, i64 x_stride, int t, int act)) {                 \
        DYNAMIC_LDS(lds);                                                                                                             \
        gemm<format, shape>(parts, x, x_stride, t, act, (half_t*)lds);                                                            \
    }
#define GEMM_FORMAT(name, format)             \
    GEMM(gemm_##name##_large, format, Large)  \
    GEMM(gemm_##name##_small, format, Small)

GEMM_FORMAT(f16, FORMAT_F16)
GEMM_FORMAT(q8_0, FORMAT_Q8_0)
GEMM_FORMAT(q4_0, FORMAT_Q4_0)
GEMM_FORMAT(q4_1, FORMAT_Q4_1)
GEMM_FORMAT(q5_0, FORMAT_Q5_0)
GEMM_FORMAT(q5_1, FORMAT_Q5_1)
GEMM_FORMAT(q4_k, FORMAT_Q4_K)
GEMM_FORMAT(q5_k, FORMAT_Q5_K)
GEMM_FORMAT(q6_k, FORMAT_Q6_K)
GEMM_FORMAT(iq4_nl, FORMAT_IQ4_NL)
GEMM_FORMAT(iq4_xs, FORMAT_IQ4_XS)
GEMM_FORMAT(mxfp4, FORMAT_MXFP4)
