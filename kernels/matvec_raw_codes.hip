// qmatmul, qmatmul_group and glu_qmatmul on raw blocks: small blocks of codes that stand for values. See common/matvec_raw.h.
#include "common/matvec_raw.h"

FOR_EACH_CODE_TYPE(MATVEC_RAW)
