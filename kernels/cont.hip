// A copy: out = x, whatever the strides of either; elements of 1, 2, 4, 8 or 16 bytes.
// One element a thread, 256 threads a block, no LDS. Contiguous copies go as elements of 16 bytes. Bound by memory; a transposed
// source is read in parts of cache lines, which the neighbouring blocks find in the cache.
#include "common/portable.h"
#include "common/elementwise.h"

#define CONT_KERNEL(name, type)                                            \
    KERNEL(name, ELEMENTWISE_THREADS, (View x, View out, u32 items)) {     \
        pdl_trigger();                                                     \
        pdl_wait();                                                        \
        u32 i = item();                                                    \
        if (i >= items) return;                                            \
        Place p = place_of<1>(out, i);                                     \
        *(type*)at(out, p) = *(const type*)at(x, p);                       \
    }

CONT_KERNEL(cont_1, u8)
CONT_KERNEL(cont_2, u16)
CONT_KERNEL(cont_4, u32)
CONT_KERNEL(cont_8, u64)
CONT_KERNEL(cont_16, u32x4)
