// dequantize: out = the f32 values of a tensor of raw blocks; to half for products on matrix units.
//
// x: [k, rows…] of any type and strides; out: contiguous, f32 or half, of the same shape. A thread takes 32 elements.
// Grid: x ⌈rows · ⌈k / 32⌉ / 128⌉. LDS: 18 KiB (f32), 10 KiB (half): each wave turns its values round there, so that its lanes write
// neighbouring 16-byte words. Bound by the bytes written.
#include "common/blocks.h"
#include "common/cache.h"
#include "common/store_groups.h"

// Rows of floats whose length is a multiple of 4: neighbouring lanes take neighbouring quads.
template <class Float, class Out> DEVICE void convert_floats(const Float*, const View& x, Out* out) {
    int k = x.ne[0], quads = k / 4, total = quads * x.ne[1] * x.ne[2] * x.ne[3];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int q = (block_x() * 8 + i) * STORE_THREADS + thread_id(), row = q / quads;
        if (q >= total) continue;
        const Float* source = (const Float*)at(x, 0, row % x.ne[1], row / x.ne[1] % x.ne[2], row / x.ne[1] / x.ne[2]);
        store_quad(out + 4 * (i64)q, load_float_quad(source, q % quads * 4, k, has_aligned_quads(source, k)));
    }
}

template <int TYPE, class Out> DEVICE void dequantize(const View& x, Out* out, u32* tile) {
    pdl_trigger();
    pdl_wait();
    int k = x.ne[0], groups = div_up(k, 32), total = groups * x.ne[1] * x.ne[2] * x.ne[3];
    if constexpr (BlockFormat<TYPE>::elements == 1) {
        if (k % 4 == 0) return convert_floats((const typename FloatOf<TYPE>::type*)nullptr, x, out);
    }
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

// The values of a cache of q8_0 (common/cache.h): `codes` is its view, `scales` are those of its first row; out as above.
KERNEL(dequantize_cache_q8_0, STORE_THREADS, (View codes, const char* scales, float* out)) {
    LDS(u32, tile, STORE_TILE(32));
    pdl_trigger();
    pdl_wait();
    int blocks = codes.ne[0] / Q8_0_LEN, total = blocks * codes.ne[1] * codes.ne[2] * codes.ne[3];
    int index = block_x() * STORE_THREADS + thread_id(), row = index / blocks, block = index % blocks;
    float values[32];
    if (index < total) {
        const char* source = at(codes, 0, row % codes.ne[1], row / codes.ne[1] % codes.ne[2], row / codes.ne[1] / codes.ne[2]);
        float d = half_to_float(((const half_t*)scales_of(scales, codes.ptr, source))[block]);
#pragma unroll
        for (int w = 0; w < 8; w++) {
            u32 word = ((const u32*)source)[w * blocks + block];
#pragma unroll
            for (int i = 0; i < 4; i++) values[4 * w + i] = d * (float)((int)(word >> 8 * i & 255u) - 128);
        }
    }
    store_groups(values, out, index, total, tile);
}
