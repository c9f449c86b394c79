// qmatmul, qmatmul_group and glu_qmatmul on raw blocks: floats, and whole numbers times a scale. See common/matvec_raw.h.
#include "common/matvec_raw.h"

FOR_EACH_FLOAT_TYPE(MATVEC_RAW)
FOR_EACH_SIMPLE_TYPE(MATVEC_RAW)
