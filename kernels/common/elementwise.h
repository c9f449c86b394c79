// What the element-wise kernels share: one item a thread, its place by the sizes of the result, strides of each view.
//
// The host joins dimensions that lie side by side in every view and drops those of one element, so ne[i] = 1 says the same of all after i;
// an operand that repeats along a dimension has stride 0 there. `…x4` kernels take four neighbours of a row at once: rows are multiples
// of four elements, elements lie side by side and every row is aligned to four.
#pragma once
#include "portable.h"

#define ELEMENTWISE_THREADS 256

struct Place {
    int i0, i1, i2, i3;
};

// Item i of `unit` elements each.
template <int unit> DEVICE Place place_of(const View& out, u32 i) {
    Place p = {(int)(i * unit), 0, 0, 0};
    if (out.ne[1] > 1) {
        u32 row = (u32)out.ne[0] / unit;
        u32 r = i / row;
        p.i0 = (int)((i - r * row) * unit);
        p.i1 = (int)r;
        if (out.ne[2] > 1) {
            u32 q = r / (u32)out.ne[1];
            p.i1 = (int)(r - q * (u32)out.ne[1]);
            p.i2 = (int)q;
            if (out.ne[3] > 1) {
                p.i3 = (int)(q / (u32)out.ne[2]);
                p.i2 = (int)(q - (u32)p.i3 * (u32)out.ne[2]);
            }
        }
    }
    return p;
}

DEVICE u32 item() { return (u32)block_x() * ELEMENTWISE_THREADS + (u32)thread_id(); }
DEVICE char* at(const View& v, const Place& p) { return at(v, p.i0, p.i1, p.i2, p.i3); }
DEVICE float load1(const View& v, const Place& p) { return *(const float*)at(v, p); }
DEVICE void store1(const View& v, const Place& p, float x) { *(float*)at(v, p) = x; }
DEVICE f32x4 load4(const View& v, const Place& p) { return *(const f32x4*)at(v, p); }
DEVICE void store4(const View& v, const Place& p, f32x4 x) { *(f32x4*)at(v, p) = x; }
// Four neighbours, or four times the one that repeats along the row.
DEVICE f32x4 load4_or_one(const View& v, const Place& p) {
    if (v.nb[0] != 0) return load4(v, p);
    float x = load1(v, p);
    return f32x4{x, x, x, x};
}

// name_f32 and name_f32x4: out = f(a, b), an expression in x and y.
#define BINARY_KERNELS(name, f)                                                                          \
    DEVICE float name##_of(float x, float y) { return f; }                                               \
    KERNEL(name##_f32, ELEMENTWISE_THREADS, (View a, View b, View out, u32 items)) {                     \
        pdl_trigger();                                                                                   \
        pdl_wait();                                                                                      \
        u32 i = item();                                                                                  \
        if (i >= items) return;                                                                          \
        Place p = place_of<1>(out, i);                                                                   \
        store1(out, p, name##_of(load1(a, p), load1(b, p)));                                             \
    }                                                                                                    \
    KERNEL(name##_f32x4, ELEMENTWISE_THREADS, (View a, View b, View out, u32 items)) {                   \
        pdl_trigger();                                                                                   \
        pdl_wait();                                                                                      \
        u32 i = item();                                                                                  \
        if (i >= items) return;                                                                          \
        Place p = place_of<4>(out, i);                                                                   \
        f32x4 x = load4(a, p), y = load4_or_one(b, p);                                                   \
        store4(out, p, f32x4{name##_of(x.x, y.x), name##_of(x.y, y.y), name##_of(x.z, y.z), name##_of(x.w, y.w)}); \
    }
