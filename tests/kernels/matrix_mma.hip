// The layout of sm_80.
#include "common/portable.h"
#if WAVE == 32
#define MATRIX_MMA 1
#include "matrix_product.h"

MATRIX_PRODUCT(matrix_product)
#endif
