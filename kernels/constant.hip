// A tensor of one value: out = value.
// f32, any strides; one item (an element, or four of a row) a thread, 256 threads a block, no LDS. Bound by memory.
#include "common/portable.h"
#include "common/elementwise.h"

KERNEL(constant_f32, ELEMENTWISE_THREADS, (View out, u32 items, float value)) {
    pdl_trigger();
    pdl_wait();
    u32 i = item();
    if (i >= items) return;
    store1(out, place_of<1>(out, i), value);
}

KERNEL(constant_f32x4, ELEMENTWISE_THREADS, (View out, u32 items, float value)) {
    pdl_trigger();
    pdl_wait();
    u32 i = item();
    if (i >= items) return;
    store4(out, place_of<4>(out, i), f32x4{value, value, value, value});
}
