// Two tensors one after the other along `dim`: out[…, i, …] = a[…, i, …] where i < n_a, else b[…, i − n_a, …].
// f32, any strides; one element a thread, 256 threads a block, no LDS. Bound by memory.
#include "common/portable.h"
#include "common/elementwise.h"

KERNEL(concat_f32, ELEMENTWISE_THREADS, (View a, View b, View out, u32 items, int dim)) {
    pdl_trigger();
    pdl_wait();
    u32 i = item();
    if (i >= items) return;
    u32 r = i / (u32)out.ne[0];
    u32 q = r / (u32)out.ne[1];
    Place p;
    p.i0 = (int)(i - r * (u32)out.ne[0]);
    p.i1 = (int)(r - q * (u32)out.ne[1]);
    p.i3 = (int)(q / (u32)out.ne[2]);
    p.i2 = (int)(q - (u32)p.i3 * (u32)out.ne[2]);
    int along = dim == 0 ? p.i0 : dim == 1 ? p.i1 : dim == 2 ? p.i2 : p.i3;
    int first = dim == 0 ? a.ne[0] : dim == 1 ? a.ne[1] : dim == 2 ? a.ne[2] : a.ne[3];
    i64 step = dim == 0 ? b.nb[0] : dim == 1 ? b.nb[1] : dim == 2 ? b.nb[2] : b.nb[3];
    float v = along < first ? load1(a, p) : *(const float*)(at(b, p) - first * step);
    store1(out, p, v);
}
