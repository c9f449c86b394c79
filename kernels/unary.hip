// An activation function: out = f(x), f by its number in common/activation.h.
// f32, any strides; one item (an element, or four of a row) a thread, 256 threads a block, no LDS. Bound by memory.
#include "common/portable.h"
#include "common/activation.h"
#include "common/elementwise.h"

KERNEL(unary_f32, ELEMENTWISE_THREADS, (View x, View out, u32 items, int kind)) {
    pdl_trigger();
    pdl_wait();
    u32 i = item();
    if (i >= items) return;
    Place p = place_of<1>(out, i);
    store1(out, p, activate(kind, load1(x, p)));
}

KERNEL(unary_f32x4, ELEMENTWISE_THREADS, (View x, View out, u32 items, int kind)) {
    pdl_trigger();
    pdl_wait();
    u32 i = item();
    if (i >= items) return;
    Place p = place_of<4>(out, i);
    store4(out, p, activate(kind, load4(x, p)));
}
