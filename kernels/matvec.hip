// qmatmul, qmatmul_group and glu_qmatmul for one token: see common/matvec.h for the formula and the layout.
//
// Grid: (a multiple of the compute units, tokens); LDS: k + k/4 bytes of rounded activations (4k for plain formats). Every kernel exists for
// each format, and for the pairs of formats that groups of the usual mixes have.
#include "common/matvec.h"

#define MATVEC(format, name)                                                                                               \
    KERNEL_OCCUPANCY(matvec_##name, MATVEC_THREADS, MATVEC_BLOCKS, (Matvec a, int blocks)) {                               \
        DYNAMIC_LDS(lds);                                                                                                  \
        LDS(float, shared, MATVEC_THREADS / WAVE);                                                                         \
        matvec<format, false>(a, blocks, lds, shared);                                                                     \
    }                                                                                                                      \
    KERNEL_OCCUPANCY(matvec_glu_##name, MATVEC_THREADS, MATVEC_BLOCKS, (Matvec a, int blocks)) {                           \
        DYNAMIC_LDS(lds);                                                                                                  \
        LDS(float, shared, MATVEC_THREADS / WAVE);                                                                         \
        matvec<format, true>(a, blocks, lds, shared);                                                                      \
    }

MATVEC(FORMAT_F16, f16)
MATVEC(FORMAT_BF16, bf16)
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

// Groups whose matrices have two formats, as the usual mixes have them.
#define MATVEC_TWO(first, second, name)                                                                                    \
    KERNEL_OCCUPANCY(matvec_##name, MATVEC_THREADS, MATVEC_BLOCKS, (Matvec a, int split, int blocks)) {                    \
        DYNAMIC_LDS(lds);                                                                                                  \
        LDS(float, shared, MATVEC_THREADS / WAVE);                                                                         \
        matvec_two<first, second>(a, split, blocks, lds, shared);                                                          \
    }

MATVEC_TWO(FORMAT_Q4_K, FORMAT_Q6_K, q4_k_q6_k)
MATVEC_TWO(FORMAT_Q5_K, FORMAT_Q6_K, q5_k_q6_k)
MATVEC_TWO(FORMAT_Q4_K, FORMAT_Q5_K, q4_k_q5_k)
MATVEC_TWO(FORMAT_Q5_0, FORMAT_Q8_0, q5_0_q8_0)
