// dequantize: out = the f32 values of a tensor of raw blocks; to half for products on matrix units.
//
// x: [k, rows…] of any type and strides; out: contiguous, f32 or half, of the same shape. A thread takes 32 elements of a row.
// Grid: x ⌈rows · ⌈k / 32⌉ / 128⌉. LDS: 18 KiB (f32), 10 KiB (half): each wave turns its values round there, so that its lanes write
// neighbouring 16-byte words. Bound by the bytes written.
#include "common/blocks.h"
#include "common/store_groups.h"

template <int TYPE, class Out> DEVICE void dequantize(const View& x, Out* out, u32* tile) {
    pdl_trigger();
    pdl_wait();
    int k = x.ne[0], groups = div_up(k, 32), total = groups * x.ne[1] * x.ne[2] * x.ne[3];
    int index = block_x() * STORE_THREADS + thread_id();
    int row = index / groups, group = index % groups;
    float values[32];
    if (index < total) {
        const char* source = at(x, 0, row % x.ne[1], row / x.ne[1] % x.ne[2], row / x.ne[1] / x.ne[2]);
        dequantize32_of<TYPE>((const u8*)source, group, k, values);
    }
    if (k % 32 == 0) {
        store_groups(values, out, index, total, tile);
    } else if (index < total) {
        store_partial(values, out + (i64)row * k + group * 32, min_of(32, k - group * 32));
    }
}

#define DEQUANTIZE(name, id, len, bytes)                                                \
    KERNEL(dequantize_##name##_f32, STORE_THREADS, (View x, float* out)) {              \
        LDS(u32, tile, STORE_TILE(32));                                                 \
        dequantize<id>(x, out, tile);                                                   \
    }                                                                                   \
    KERNEL(dequantize_##name##_f16, STORE_THREADS, (View x, half_t* out)) {             \
        LDS(u32, tile, STORE_TILE(16));                                                 \
        dequantize<id>(x, out, tile);                                                   \
    }
FOR_EACH_FLOAT_TYPE(DEQUANTIZE)
FOR_EACH_SIMPLE_TYPE(DEQUANTIZE)
FOR_EACH_CODE_TYPE(DEQUANTIZE)
FOR_EACH_K_TYPE(DEQUANTIZE)
FOR_EACH_IQ_TYPE(DEQUANTIZE)
