// AMD: clang's builtins only.
#pragma once
#ifndef __global__
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#endif
#define GPU_AMD 1
#define DEVICE static inline __attribute__((device, always_inline))
#define DEVICE_CONSTANT static __attribute__((device)) const
#define LDS(type, name, count) __attribute__((shared)) type name[count]
// Dynamic LDS, aligned to 16 bytes.
#define DYNAMIC_LDS(name) extern __attribute__((shared, aligned(16))) u8 name[]
#define KERNEL(name, threads, params) extern "C" __attribute__((global, amdgpu_flat_work_group_size(threads, threads))) void name params
// As KERNEL; `blocks` blocks should fit on a compute unit at once.
#define KERNEL_OCCUPANCY(name, threads, blocks, params) KERNEL(name, threads, params)
#define RESTRICT __restrict__
#define DEVICE_MEMBER inline __attribute__((device, always_inline))

#if defined(__GFX9__)
#define WAVE 64
#else
#define WAVE 32
#endif
// gfx11 and gfx12 have WMMA, CDNA has MFMA.
#if defined(__GFX11__)
#define MATRIX_WMMA11 1
#elif defined(__GFX12__)
#define MATRIX_WMMA12 1
#elif defined(__gfx90a__) || defined(__gfx942__) || defined(__gfx950__) || defined(__gfx908__) || defined(__gfx9_4_generic__)
#define MATRIX_MFMA 1
#endif

typedef _Float16 half_t;
DEVICE float half_to_float(half_t h) { return (float)h; }
DEVICE half_t float_to_half(float f) { return (half_t)f; }

DEVICE int thread_id() { return (int)__builtin_amdgcn_workitem_id_x(); }
DEVICE int block_x() { return (int)__builtin_amdgcn_workgroup_id_x(); }
DEVICE int block_y() { return (int)__builtin_amdgcn_workgroup_id_y(); }
DEVICE int block_z() { return (int)__builtin_amdgcn_workgroup_id_z(); }
DEVICE int lane_id() {
#if WAVE == 64
    return (int)__builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0u));
#else
    return (int)__builtin_amdgcn_mbcnt_lo(~0u, 0u);
#endif
}
DEVICE void sync_threads() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
// Orders what this wave wrote to LDS before what its lanes read next.
DEVICE void sync_wave() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
    __builtin_amdgcn_wave_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}
DEVICE int shfl(int v, int lane) { return __builtin_amdgcn_ds_bpermute(lane << 2, v); }
DEVICE float shfl(float v, int lane) { return __builtin_bit_cast(float, shfl(__builtin_bit_cast(int, v), lane)); }
DEVICE int shfl_xor(int v, int mask) { return shfl(v, lane_id() ^ mask); }
DEVICE float shfl_xor(float v, int mask) { return shfl(v, lane_id() ^ mask); }

// Four products of signed bytes, summed onto c.
DEVICE int dot4(int a, int b, int c) {
#if defined(__GFX11__) || defined(__GFX12__)
    return __builtin_amdgcn_sudot4(true, a, true, b, c, false);
#else
    return __builtin_amdgcn_sdot4(a, b, c, false);
#endif
}
// The low word of {hi, lo} >> bits, bits < 32.
DEVICE u32 funnel_right(u32 lo, u32 hi, int bits) { return __builtin_amdgcn_alignbit(hi, lo, (u32)bits); }
// Bytes of {hi, lo} (lo is bytes 0–3) chosen by the four selectors of `select`.
DEVICE u32 byte_permute(u32 lo, u32 hi, u32 select) { return __builtin_amdgcn_perm(hi, lo, select); }

DEVICE float exp_f32(float x) { return __builtin_amdgcn_exp2f(x * 1.4426950408889634f); }
DEVICE float exp2_f32(float x) { return __builtin_amdgcn_exp2f(x); }
DEVICE float log_f32(float x) { return __builtin_logf(x); }
DEVICE float rsqrt_f32(float x) { return 1.0f / __builtin_sqrtf(x); }
DEVICE float sqrt_f32(float x) { return __builtin_sqrtf(x); }
DEVICE float abs_f32(float x) { return __builtin_fabsf(x); }
DEVICE float fma_f32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE float floor_f32(float x) { return __builtin_floorf(x); }
// To nearest, ties to even.
DEVICE float round_even(float x) { return __builtin_rintf(x); }
// To nearest, ties away from zero.
DEVICE float round_away(float x) { return __builtin_roundf(x); }

DEVICE u32 atomic_add(u32* p, u32 v) { return __hip_atomic_fetch_add(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT); }
DEVICE u64 atomic_add(u64* p, u64 v) { return __hip_atomic_fetch_add(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT); }
DEVICE u32 atomic_cas(u32* p, u32 expected, u32 v) {
    __hip_atomic_compare_exchange_strong(p, &expected, v, __ATOMIC_RELAXED, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
    return expected;
}
// Makes this thread's writes visible to the whole device before what it does next, and others' before that visible to it.
DEVICE void fence_device() { __builtin_amdgcn_fence(__ATOMIC_SEQ_CST, "agent"); }

// A load of something that is read once.
template <class T> DEVICE T load_once(const T* p) { return *p; }

// Programmatic dependent launch is NVIDIA's; kernels of a stream follow each other here.
DEVICE void pdl_wait() {}
DEVICE void pdl_trigger() {}
