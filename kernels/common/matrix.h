// Matrix products of a wave: tiles of 16×16×16, f16 by f16 onto f32, with one interface for every target.
//
//   FragA a; a.load(p, stride);      rows of A:    A[i][k] = p[i * stride + k]
//   FragB b; b.load(p, stride);      columns of B: B[k][j] = p[j * stride + k]
//   FragC c; c.fill(0); mma(c, a, b);              C[i][j] += Σ_k A[i][k] · B[k][j]
//   c.for_each([&](int row, int col, float& v) { … });
//   b.take(c);                       the rows of C as halves: B[k][j] = C[k][j]; with b.word(i, lo, hi), B[k(i)][j] = lo, B[k(i) + 1][j] = hi for
//                                    this lane's column j, a way around memory (not in sm_80's layout, where C's columns lie across lanes)
//
// All lanes of a wave call these together, with the same p and stride. `p` and `stride` are multiples of 8 halves (16 bytes); rows 80 or 144
// bytes apart do not collide in LDS banks. `load` reads any memory, `load_lds` only LDS (ldmatrix on NVIDIA). A fragment is a value: the
// memory may change after `load`. C's elements are v[0 … COUNT - 1] of row(i), col(i); col is the one that neighbouring lanes share out.
//
// Layouts (a lane's elements; every permutation of k would do as long as A and B agree):
//            A (B likewise, with its columns)                  C
//   sm_80    rows l/4, 8 + l/4; k = 2(l%4) + {0,1}, 8 + …      rows l/4, 8 + l/4; columns 2(l%4) + {0,1}, and 8 more
//   gfx11    row l%16, every k; lanes 16–31 as lanes 0–15      rows 2i + l/16, column l%16
//   gfx12    row l%16, k = 8(l/16) + i                         rows 8(l/16) + i, column l%16
//   CDNA     row l%16, k = 4(l/16) + i                         rows 4(l/16) + i, column l%16
//   others   A: row 8(l/16) + l%8, k = 8(l%16/8) + i; B: column l%16, every k; C as gfx12. Dot products, A by row_share.
// The host does what gfx12 (wave 32) or CDNA (wave 64) do, or another by -DMATRIX_WMMA11, -DMATRIX_MMA, -DMATRIX_NONE, and carries
// the instruction out as the manuals describe it (matrix_host.h).
#pragma once
#include "portable.h"

#if defined(GPU_AMD)
#define METHOD __attribute__((device, always_inline)) inline
#elif defined(GPU_NVIDIA)
#define METHOD __device__ __forceinline__
#else
#define METHOD inline
#endif

#if !defined(GPU_AMD) && !defined(GPU_NVIDIA)
#if !defined(MATRIX_WMMA11) && !defined(MATRIX_WMMA12) && !defined(MATRIX_MFMA) && !defined(MATRIX_MMA) && !defined(MATRIX_NONE)
#if WAVE == 64
#define MATRIX_MFMA 1
#else
#define MATRIX_WMMA12 1
#endif
#endif
#include "matrix_host.h"
// Files may choose different layouts.
namespace {
#endif

// The elements of C that a lane holds.
template <class Frag, int N> struct FragValues {
    static constexpr int COUNT = N;
    float v[N];
    METHOD void fill(float x) {
#pragma unroll
        for (int i = 0; i < N; i++) v[i] = x;
    }
    // f(row, col, float& value) for each element that this lane holds.
    template <class F> METHOD void for_each(F f) {
#pragma unroll
        for (int i = 0; i < N; i++) f(Frag::row(i), Frag::col(i), v[i]);
    }
};

// Two floats as halves, the lower one first.
DEVICE u32 pair_of_floats(float lo, float hi) {
    union {
        half_t h[2];
        u32 u;
    } p;
    p.h[0] = float_to_half(lo);
    p.h[1] = float_to_half(hi);
    return p.u;
}
// What lane_id() ^ 16 has.
DEVICE u32 other_row(u32 v) {
#if defined(GPU_AMD) && WAVE == 32
    return (u32)__builtin_amdgcn_permlanex16(v, v, 0x76543210u, 0xfedcba98u, false, false);
#else
    return (u32)shfl_xor((int)v, 16);
#endif
}

// ---- what lies where ------------------------------------------------------------------------------------------------------------

#if defined(MATRIX_MMA)

// A: the four 8×8 quarters (rows 0–7, 8–15 of k 0–7, then of k 8–15) in the order of mma.sync's a0–a3.
// B: the same quarters of its columns; columns 0–7 take words 0 and 2, columns 8–15 words 1 and 3.
struct Frag {
    u32 r[4];
    METHOD void load(const half_t* p, int stride) {
        const int l = lane_id();
        const u32* q = (const u32*)(p + (l / 4) * stride) + l % 4;
        const u32* s = (const u32*)(p + (l / 4 + 8) * stride) + l % 4;
        r[0] = q[0];
        r[1] = s[0];
        r[2] = q[4];
        r[3] = s[4];
    }
    METHOD void load_lds(const half_t* p, int stride) {
#if defined(GPU_NVIDIA)
        const int l = lane_id();
        const u32 at = (u32)__cvta_generic_to_shared(p + (l % 16) * stride + (l / 16) * 8);
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(at)
                     : "memory");
#else
        load(p, stride);
#endif
    }
};
typedef Frag FragA;
typedef Frag FragB;
struct FragC : FragValues<FragC, 8> {
    METHOD static int row(int i) { return lane_id() / 4 + (i & 2) * 4; }
    METHOD static int col(int i) { return lane_id() % 4 * 2 + (i & 1) + (i & 4) * 2; }
};
// C (16×8) += A · (columns of B whose quarters are b0, b1).
DEVICE void mma_half(float* c, const u32* a, u32 b0, u32 b1) {
#if defined(GPU_NVIDIA)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    const u32 b[2] = {b0, b1};
    host_instruction<HostMma>(c, (const half_t*)a, (const half_t*)b);
#endif
}
DEVICE void mma(FragC& c, const FragA& a, const FragB& b) {
    mma_half(c.v, a.r, b.r[0], b.r[2]);
    mma_half(c.v + 4, a.r, b.r[1], b.r[3]);
}

#elif defined(MATRIX_WMMA11) || defined(MATRIX_WMMA12) || defined(MATRIX_MFMA)

#if defined(MATRIX_WMMA11)
#define MATRIX_K_LANE 16
#define MATRIX_ROWS_LANE 8
#elif defined(MATRIX_WMMA12)
#define MATRIX_K_LANE 8
#define MATRIX_ROWS_LANE 8
#else
#define MATRIX_K_LANE 4
#define MATRIX_ROWS_LANE 4
#endif

#if defined(GPU_AMD)
typedef _Float16 matrix_halves __attribute__((ext_vector_type(MATRIX_K_LANE)));
typedef float matrix_floats __attribute__((ext_vector_type(MATRIX_ROWS_LANE)));
#endif

struct Frag {
    u32 r[MATRIX_K_LANE / 2];
    METHOD void load(const half_t* p, int stride) {
        const int l = lane_id();
        const half_t* q = p + (l % 16) * stride + l / 16 * (MATRIX_K_LANE % 16);
#if MATRIX_K_LANE == 4
        const u32x2 x = *(const u32x2*)q;
        r[0] = x.x;
        r[1] = x.y;
#else
#pragma unroll
        for (int i = 0; i < MATRIX_K_LANE / 8; i++) {
            const u32x4 x = ((const u32x4*)q)[i];
            r[4 * i] = x.x;
            r[4 * i + 1] = x.y;
            r[4 * i + 2] = x.z;
            r[4 * i + 3] = x.w;
        }
#endif
    }
    METHOD void load_lds(const half_t* p, int stride) { load(p, stride); }
};
typedef Frag FragA;
struct FragC : FragValues<FragC, MATRIX_ROWS_LANE> {
    METHOD static int row(int i) {
#if defined(MATRIX_WMMA11)
        return 2 * i + lane_id() / 16;
#else
        return MATRIX_ROWS_LANE * (lane_id() / 16) + i;
#endif
    }
    METHOD static int col(int) { return lane_id() % 16; }
};
struct FragB : Frag {
    static constexpr int WORDS = MATRIX_K_LANE / 2;
    METHOD static int k(int i) { return lane_id() / 16 * (MATRIX_K_LANE % 16) + 2 * i; }
    METHOD void word(int i, float lo, float hi) { r[i] = pair_of_floats(lo, hi); }
    METHOD void take(const FragC& c) {
#if defined(MATRIX_WMMA11)
        // This half of the wave has the even rows, or the odd ones.
        const bool odd = lane_id() / 16 == 1;
        const u32 first = odd ? 0x01000504u : 0x05040100u, second = odd ? 0x03020706u : 0x07060302u;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const u32 own = pair_of_floats(c.v[2 * i], c.v[2 * i + 1]), other = other_row(own);
            r[2 * i] = byte_permute(own, other, first);
            r[2 * i + 1] = byte_permute(own, other, second);
        }
#else
#pragma unroll
        for (int i = 0; i < WORDS; i++) r[i] = pair_of_floats(c.v[2 * i], c.v[2 * i + 1]);
#endif
    }
};
DEVICE void mma(FragC& c, const FragA& a, const FragB& b) {
#if defined(GPU_AMD)
    const matrix_halves x = __builtin_bit_cast(matrix_halves, a), y = __builtin_bit_cast(matrix_halves, b);
    const matrix_floats z = __builtin_bit_cast(matrix_floats, c);
#if defined(MATRIX_WMMA11)
    c = __builtin_bit_cast(FragC, __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(x, y, z));
#elif defined(MATRIX_WMMA12)
    c = __builtin_bit_cast(FragC, __builtin_amdgcn_wmma_f32_16x16x16_f16_w32_gfx12(x, y, z));
#else
    c = __builtin_bit_cast(FragC, __builtin_amdgcn_mfma_f32_16x16x16f16(x, y, z, 0, 0, 0));
#endif
#elif defined(MATRIX_WMMA11)
    host_instruction<HostWmma11>(c.v, (const half_t*)a.r, (const half_t*)b.r);
#elif defined(MATRIX_WMMA12)
    host_instruction<HostWmma12>(c.v, (const half_t*)a.r, (const half_t*)b.r);
#else
    host_instruction<HostMfma>(c.v, (const half_t*)a.r, (const half_t*)b.r);
#endif
}

#else  // no matrix instructions: wave 32
#if !defined(MATRIX_NONE)
#define MATRIX_NONE 1
#endif

struct FragA {
    u32 r[4];
    METHOD void load(const half_t* p, int stride) {
        const int l = lane_id();
        const u32x4 x = *(const u32x4*)(p + (l / 16 * 8 + l % 8) * stride + l % 16 / 8 * 8);
        r[0] = x.x;
        r[1] = x.y;
        r[2] = x.z;
        r[3] = x.w;
    }
    METHOD void load_lds(const half_t* p, int stride) { load(p, stride); }
};
struct FragB {
    u32 r[8];
    METHOD void load(const half_t* p, int stride) {
        const u32x4* q = (const u32x4*)(p + lane_id() % 16 * stride);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            r[4 * i] = q[i].x;
            r[4 * i + 1] = q[i].y;
            r[4 * i + 2] = q[i].z;
            r[4 * i + 3] = q[i].w;
        }
    }
    METHOD void load_lds(const half_t* p, int stride) { load(p, stride); }
};
struct FragC : FragValues<FragC, 8> {
    METHOD static int row(int i) { return lane_id() / 16 * 8 + i; }
    METHOD static int col(int) { return lane_id() % 16; }
};
// The value that lane N of each 16 lanes has.
template <int N> DEVICE u32 row_share(u32 v) {
#if defined(GPU_AMD)
    return (u32)__builtin_amdgcn_update_dpp(0, (int)v, 0x150 + N, 0xf, 0xf, true);
#else
    return (u32)shfl((int)v, lane_id() / 16 * 16 + N);
#endif
}
// Two products of halves, summed onto c.
DEVICE float dot2(u32 a, u32 b, float c) {
#if defined(GPU_AMD)
    typedef _Float16 half2 __attribute__((ext_vector_type(2)));
    return __builtin_amdgcn_fdot2(__builtin_bit_cast(half2, a), __builtin_bit_cast(half2, b), c, false);
#else
    return host_dot2(a, b, c);
#endif
}
// Rows N and above of a lane's eight.
template <int N> DEVICE void mma_rows(FragC& c, const FragA& a, const FragB& b) {
    if constexpr (N < 8) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            c.v[N] = dot2(row_share<N>(a.r[i]), b.r[i], c.v[N]);
            c.v[N] = dot2(row_share<N + 8>(a.r[i]), b.r[i + 4], c.v[N]);
        }
        mma_rows<N + 1>(c, a, b);
    }
}
DEVICE void mma(FragC& c, const FragA& a, const FragB& b) { mma_rows<0>(c, a, b); }

#endif

#if !defined(GPU_AMD) && !defined(GPU_NVIDIA)
}  // namespace
#endif
