// The values of a weight in planes, row after row: f32, or half for products on matrix units.
//
// out: [rows, k], contiguous. A thread takes a block of 32 elements. Grid: x ⌈rows · ⌈k / 32⌉ / 128⌉. LDS: 18 KiB (f32), 10 KiB (half):
// see common/store_groups.h. Bound by the bytes written.
#include "common/planes.h"
#include "common/store_groups.h"

template <int F, class Out> DEVICE void dequantize_planes(const Planes& w, Out* out, u32* tile) {
    pdl_trigger();
    pdl_wait(); // the product before this one may still read `out`
    int groups = div_up(w.k, 32), total = w.rows * groups;
    int index = block_x() * STORE_THREADS + thread_id();
    int row = index / groups, group = index % groups;
    float values[32];
    if (index < total) planes_decode32<F>(w, row, group, values);
    if (w.k % 32 == 0) {
        store_groups(values, out, index, total, tile);
    } else if (index < total) {
        store_partial(values, out + (i64)row * w.k + group * 32, min_of(32, w.k - group * 32));
    }
}

#define DEQUANTIZE_PLANES(name, format)                                                      \
    KERNEL(dequantize_planes_##name##_f32, STORE_THREADS, (Planes w, float* out)) {          \
        LDS(u32, tile, STORE_TILE(32));                                                      \
        dequantize_planes<format>(w, out, tile);                                             \
    }                                                                                        \
    KERNEL(dequantize_planes_##name##_f16, STORE_THREADS, (Planes w, half_t* out)) {         \
        LDS(u32, tile, STORE_TILE(16));                                                      \
        dequantize_planes<format>(w, out, tile);                                             \
    }
DEQUANTIZE_PLANES(f32, FORMAT_F32)
DEQUANTIZE_PLANES(f16, FORMAT_F16)
DEQUANTIZE_PLANES(bf16, FORMAT_BF16)
DEQUANTIZE_PLANES(q8_0, FORMAT_Q8_0)
DEQUANTIZE_PLANES(q4_0, FORMAT_Q4_0)
DEQUANTIZE_PLANES(q4_1, FORMAT_Q4_1)
DEQUANTIZE_PLANES(q5_0, FORMAT_Q5_0)
DEQUANTIZE_PLANES(q5_1, FORMAT_Q5_1)
DEQUANTIZE_PLANES(q4_K, FORMAT_Q4_K)
DEQUANTIZE_PLANES(q5_K, FORMAT_Q5_K)
DEQUANTIZE_PLANES(q6_K, FORMAT_Q6_K)
DEQUANTIZE_PLANES(iq4_nl, FORMAT_IQ4_NL)
DEQUANTIZE_PLANES(iq4_xs, FORMAT_IQ4_XS)
DEQUANTIZE_PLANES(mxfp4, FORMAT_MXFP4)
