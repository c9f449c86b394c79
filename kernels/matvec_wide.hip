// qmatmul of a long row for one token, on NVIDIA: as matvec.hip, with one block of 1024 threads on a multiprocessor instead of two, so that the
// row is read and rounded once there, not twice. For rows of more than 8192 elements that are not normalised; shorter ones, and those of
// other devices, gain nothing by it.
//
// Grid and LDS as in matvec.hip.
#define MATVEC_WIDE 1
#include "common/matvec.h"

#if defined(GPU_NVIDIA)
#define MATVEC(format, name)                                                                                               \
    KERNEL_OCCUPANCY(matvec_wide_##name, MATVEC_THREADS, MATVEC_BLOCKS, (Matvec a, int blocks)) {                          \
        DYNAMIC_LDS(lds);                                                                                                  \
        LDS(float, shared, MATVEC_THREADS / WAVE);                                                                         \
        matvec<format, false>(a, blocks, lds, shared);                                                                     \
    }

MATVEC(FORMAT_Q8_0, q8_0)
MATVEC(FORMAT_Q4_0, q4_0)
MATVEC(FORMAT_Q4_1, q4_1)
MATVEC(FORMAT_Q5_0, q5_0)
MATVEC(FORMAT_Q5_1, q5_1)
MATVEC(FORMAT_Q4_K, q4_k)
MATVEC(FORMAT_Q5_K, q5_k)
MATVEC(FORMAT_Q6_K, q6_k)
MATVEC(FORMAT_IQ4_NL, iq4_nl)
MATVEC(FORMAT_IQ4_XS, iq4_xs)
MATVEC(FORMAT_MXFP4, mxfp4)
#endif
