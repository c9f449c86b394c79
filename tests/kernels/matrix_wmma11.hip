// The layout of gfx11.
#include "common/portable.h"
#if WAVE == 32
#define MATRIX_WMMA11 1
#include "matrix_product.h"

MATRIX_PRODUCT(matrix_product)
#endif
