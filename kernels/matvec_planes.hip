// Products with weights in planes, for whatever activations and however many tokens, in f32: what the fast kernels do not serve comes
// here. Floats in planes are raw rows: see matvec_raw.hip. Everything else is in common/matvec_raw.h.
#include "common/matvec_raw.h"
#include "common/planes.h"

template <int F> struct PlaneRows {
    const Planes& w;

    DEVICE_MEMBER int rows() const { return w.rows; }
    DEVICE_MEMBER int k() const { return w.k; }
    DEVICE_MEMBER void dequantize(int row, int group, float* out) const { planes_decode32<F>(w, row, group, out); }
    template <int ROWS, int TOKENS>
    DEVICE_MEMBER void multiply(int row, int first, int count, int lane, const float* staged, int stride, float (&sums)[ROWS][TOKENS]) const {
        multiply_blocks(*this, row, first, count, lane, staged, stride, sums);
    }
};

#define MATVEC_PLANES(format, name)                                                                             \
    KERNEL(matvec_planes_##name##_1, MATVEC_THREADS, (Planes w, RawActivations x, RawResult result)) {          \
        DYNAMIC_LDS(staged);                                                                                    \
        matvec_raw<1, 1>(PlaneRows<format>{w}, x, result, (float*)staged);                                      \
    }                                                                                                           \
    KERNEL(matvec_planes_##name##_8, MATVEC_THREADS, (Planes w, RawActivations x, RawResult result)) {          \
        DYNAMIC_LDS(staged);                                                                                    \
        matvec_raw<8, 2>(PlaneRows<format>{w}, x, result, (float*)staged);                                      \
    }

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
