// Product with a number: out = factor · x.
// f32, any strides; one item (an element, or four of a row) a thread, 256 threads a block, no LDS. Bound by memory.
#include "common/portable.h"
#include "common/elementwise.h"

KERNEL(scale_f32, ELEMENTWISE_THREADS, (View x, View out, u32 items, float factor)) {
    pdl_trigger();
    pdl_wait();
    u32 i = item();
    if (i >= items) return;
    Place p = place_of<1>(out, i);
    store1(out, p, factor * load1(x, p));
}

KERNEL(scale_f32x4, ELEMENTWISE_THREADS, (View x, View out, u32 items, float factor)) {
    pdl_trigger();
    pdl_wait();
    u32 i = item();
    if (i >= items) return;
    Place p = place_of<4>(out, i);
    f32x4 v = load4(x, p);
    store4(out, p, f32x4{factor * v.x, factor * v.y, factor * v.z, factor * v.w});
}
