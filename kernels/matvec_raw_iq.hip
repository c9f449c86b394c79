// qmatmul, qmatmul_group and glu_qmatmul on raw blocks: codebook formats. See common/matvec_raw.h.
#include "common/matvec_raw.h"

FOR_EACH_IQ_TYPE(MATVEC_RAW)
