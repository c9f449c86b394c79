// The layout of the host: gfx12 or, with waves of 64, CDNA.
#include "matrix_product.h"

MATRIX_PRODUCT(matrix_product)
