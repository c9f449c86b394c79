// qmatmul, qmatmul_group and glu_qmatmul on raw blocks: super-blocks of 256. See common/matvec_raw.h.
#include "common/matvec_raw.h"

FOR_EACH_K_TYPE(MATVEC_RAW)
