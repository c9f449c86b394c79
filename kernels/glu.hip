// A gated activation: out = f(gate) · up, f by its number in common/activation.h.
// f32, any strides; one item (an element, or four of a row) a thread, 256 threads a block, no LDS. Bound by memory.
#include "common/portable.h"
#include "common/activation.h"
#include "common/elementwise.h"

KERNEL(glu_f32, ELEMENTWISE_THREADS, (View gate, View up, View out, u32 items, int kind)) {
    pdl_trigger();
    pdl_wait();
    u32 i = item();
    if (i >= items) return;
    Place p = place_of<1>(out, i);
    store1(out, p, activate(kind, load1(gate, p)) * load1(up, p));
}

KERNEL(glu_f32x4, ELEMENTWISE_THREADS, (View gate, View up, View out, u32 items, int kind)) {
    pdl_trigger();
    pdl_wait();
    u32 i = item();
    if (i >= items) return;
    Place p = place_of<4>(out, i);
    f32x4 g = activate(kind, load4(gate, p)), u = load4(up, p);
    store4(out, p, f32x4{g.x * u.x, g.y * u.y, g.z * u.z, g.w * u.w});
}
