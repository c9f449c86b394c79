// Conversions between f32 and the 16-bit floats: out = x rounded to nearest, ties to even (to f16 or bf16), or exactly x (to f32).
// Any strides; one item (an element, or four of a row) a thread, 256 threads a block, no LDS. Bound by memory.
#include "common/portable.h"
#include "common/elementwise.h"

DEVICE u16 half_bits(float f) {
    union {
        half_t h;
        u16 b;
    } x{float_to_half(f)};
    return x.b;
}
DEVICE float float_of_half_bits(u16 b) {
    union {
        u16 b;
        half_t h;
    } x{b};
    return half_to_float(x.h);
}

#define CONVERT_KERNELS(to, round, widen)                                                             \
    KERNEL(quantize_##to, ELEMENTWISE_THREADS, (View x, View out, u32 items)) {                        \
        pdl_trigger();                                                                                 \
        pdl_wait();                                                                                    \
        u32 i = item();                                                                                \
        if (i >= items) return;                                                                        \
        Place p = place_of<1>(out, i);                                                                 \
        *(u16*)at(out, p) = round(load1(x, p));                                                        \
    }                                                                                                  \
    KERNEL(quantize_##to##x4, ELEMENTWISE_THREADS, (View x, View out, u32 items)) {                    \
        pdl_trigger();                                                                                 \
        pdl_wait();                                                                                    \
        u32 i = item();                                                                                \
        if (i >= items) return;                                                                        \
        Place p = place_of<4>(out, i);                                                                 \
        f32x4 v = load4(x, p);                                                                         \
        *(u32x2*)at(out, p) = u32x2{round(v.x) | (u32)round(v.y) << 16, round(v.z) | (u32)round(v.w) << 16}; \
    }                                                                                                  \
    KERNEL(dequantize_##to, ELEMENTWISE_THREADS, (View x, View out, u32 items)) {                      \
        pdl_trigger();                                                                                 \
        pdl_wait();                                                                                    \
        u32 i = item();                                                                                \
        if (i >= items) return;                                                                        \
        Place p = place_of<1>(out, i);                                                                 \
        store1(out, p, widen(*(const u16*)at(x, p)));                                                  \
    }                                                                                                  \
    KERNEL(dequantize_##to##x4, ELEMENTWISE_THREADS, (View x, View out, u32 items)) {                  \
        pdl_trigger();                                                                                 \
        pdl_wait();                                                                                    \
        u32 i = item();                                                                                \
        if (i >= items) return;                                                                        \
        Place p = place_of<4>(out, i);                                                                 \
        u32x2 v = *(const u32x2*)at(x, p);                                                             \
        store4(out, p, f32x4{widen((u16)v.x), widen((u16)(v.x >> 16)), widen((u16)v.y), widen((u16)(v.y >> 16))}); \
    }

CONVERT_KERNELS(f16, half_bits, float_of_half_bits)
CONVERT_KERNELS(bf16, float_to_bf16, bf16_to_float)
