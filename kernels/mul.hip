// Product: out = a · b, where b repeats along dimensions in which it has one element.
// f32, any strides; one item (an element, or four of a row) a thread, 256 threads a block, no LDS. Bound by memory.
#include "common/portable.h"
#include "common/elementwise.h"

BINARY_KERNELS(mul, x * y)
