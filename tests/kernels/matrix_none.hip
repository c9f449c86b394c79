// The layout of devices without matrix instructions.
#include "common/portable.h"
#if WAVE == 32
#define MATRIX_NONE 1
#include "matrix_product.h"

MATRIX_PRODUCT(matrix_product)
#endif
