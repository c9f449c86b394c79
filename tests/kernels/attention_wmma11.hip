// Attention of many tokens in the layout of gfx11.
#include "common/portable.h"
#if WAVE == 32
#define MATRIX_WMMA11 1
#include "attention_prefill_matrix.hip"
#endif
