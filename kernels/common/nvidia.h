// NVIDIA: nvcc, with nothing but its own built-in functions and cuda_fp16.h.
#pragma once
#include <cuda_fp16.h>
#define GPU_NVIDIA 1
#define WAVE 32
#define DEVICE static __device__ __forceinline__
#define DEVICE_CONSTANT static __device__ const
#define LDS(type, name, count) __shared__ type name[count]
#define DYNAMIC_LDS(name) extern __shared__ __align__(16) u8 name[]
#define KERNEL(name, threads, params) extern "C" __global__ void __launch_bounds__(threads) name params
#define KERNEL_OCCUPANCY(name, threads, blocks, params) extern "C" __global__ void __launch_bounds__(threads, blocks) name params
// Not __restrict__: with dependent launches the compiler may move loads above pdl_wait().
#define RESTRICT
#define DEVICE_MEMBER __device__ __forceinline__
#define MATRIX_MMA 1

typedef __half half_t;
DEVICE float half_to_float(half_t h) { return __half2float(h); }
DEVICE half_t float_to_half(float f) { return __float2half_rn(f); }

DEVICE int thread_id() { return (int)threadIdx.x; }
DEVICE int block_x() { return (int)blockIdx.x; }
DEVICE int block_y() { return (int)blockIdx.y; }
DEVICE int block_z() { return (int)blockIdx.z; }
DEVICE int lane_id() { return (int)(threadIdx.x & 31u); }
DEVICE void sync_threads() { __syncthreads(); }
DEVICE void sync_wave() { __syncwarp(); }
DEVICE int shfl(int v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
DEVICE float shfl(float v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
DEVICE int shfl_xor(int v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE float shfl_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }

DEVICE int dot4(int a, int b, int c) { return __dp4a(a, b, c); }
DEVICE u32 funnel_right(u32 lo, u32 hi, int bits) { return __funnelshift_r(lo, hi, bits); }
DEVICE u32 byte_permute(u32 lo, u32 hi, u32 select) { return __byte_perm(lo, hi, select); }

DEVICE float exp_f32(float x) { return __expf(x); }
DEVICE float exp2_f32(float x) { return exp2f(x); }
DEVICE float log_f32(float x) { return logf(x); }
DEVICE float rsqrt_f32(float x) { return 1.0f / sqrtf(x); }
DEVICE float sqrt_f32(float x) { return sqrtf(x); }
DEVICE float abs_f32(float x) { return fabsf(x); }
DEVICE float fma_f32(float a, float b, float c) { return fmaf(a, b, c); }
DEVICE float floor_f32(float x) { return floorf(x); }
DEVICE float round_even(float x) { return rintf(x); }
DEVICE float round_away(float x) { return roundf(x); }

DEVICE u32 atomic_add(u32* p, u32 v) { return atomicAdd(p, v); }
DEVICE u64 atomic_add(u64* p, u64 v) { return atomicAdd(p, v); }
DEVICE u32 atomic_cas(u32* p, u32 expected, u32 v) { return atomicCAS(p, expected, v); }
// Releases what this thread has written or seen, and acquires what others had released with it.
DEVICE u32 atomic_add_ordered(u32* p, u32 v) {
    u32 before;
    asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;" : "=r"(before) : "l"(p), "r"(v) : "memory");
    return before;
}
DEVICE void fence_device() { __threadfence(); }

template <class T> DEVICE T load_once(const T* p) {
    static_assert(sizeof(T) == 16 || sizeof(T) == 8 || sizeof(T) == 4 || sizeof(T) == 2 || sizeof(T) == 1, "a plain load");
    T out;
    if (sizeof(T) == 16) {
        uint4 v = __ldcs((const uint4*)p);
        memcpy(&out, &v, 16);
    } else if (sizeof(T) == 8) {
        uint2 v = __ldcs((const uint2*)p);
        memcpy(&out, &v, 8);
    } else if (sizeof(T) == 4) {
        u32 v = __ldcs((const u32*)p);
        memcpy(&out, &v, 4);
    } else if (sizeof(T) == 2) {
        u16 v = __ldcs((const u16*)p);
        memcpy(&out, &v, 2);
    } else {
        u8 v = __ldcs((const u8*)p);
        memcpy(&out, &v, 1);
    }
    return out;
}

// Waits until the kernels before this one in the stream have finished and their writes are visible.
DEVICE void pdl_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// Lets the next kernel of the stream start; it waits for this one's end before it touches its results.
DEVICE void pdl_trigger() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
