// The host: the dialect for g++ and clang++, with -DHOST_DEVICE and -DWAVE=32 or 64. What runs here is in ../host/hip_host.cpp: the threads of
// a block are fibers that change hands at barriers and shuffles; a block stays on one thread of the operating system.
//
// Strict where devices are undefined: a barrier or shuffle that not all live threads of the block or wave reach (the same one: lines are
// compared), a shuffle from a lane that takes no part, and memory outside an allocation or an LDS array are errors that name the kernel.
// LDS and device memory begin as 0xff bytes: NaN.
#pragma once
#include <utility>
#if WAVE != 32 && WAVE != 64
#error "compile with -DWAVE=32 or -DWAVE=64"
#endif

namespace host {

struct Block {
    int x, y, z;
};

struct Thread {
    int id;
    int lane;
    Block* block;
};

// The running thread of the running block.
extern __thread Thread* current __attribute__((visibility("hidden"), tls_model("initial-exec")));

// Waits for all live threads of the block (the wave).
void wait_block(int line);
void wait_wave(int line);
// `value` as lane `from` of the wave gave it.
u32 shuffle(u32 value, int from, int line);
// Every lane gives a pointer; when all lanes of the wave have, one runs `f` on the WAVE pointers in lane order, and then all go on.
void together(void* mine, void (*f)(void* const* lanes), int line);
// Scratch memory that the lanes of a wave share: 16 KiB.
u8* wave_scratch();
// This block's LDS array that `key` stands for.
void* lds(const void* key, u64 bytes);
u8* dynamic_lds();

struct Kernel {
    const char* name;
    const char* file;
    int threads;
    void (*call)(void* const* args);
    const u32* sizes;
    u32 count;
};
// Makes a kernel known to hipModuleGetFunction.
struct Register {
    Register(const Kernel& kernel);
};

// Unpacks the arguments of a launch by the types of the kernel's parameters.
template <auto kernel> struct Trampoline;
template <class... P, void (*kernel)(P...)> struct Trampoline<kernel> {
    template <int... i> static void unpack([[maybe_unused]] void* const* args, std::integer_sequence<int, i...>) {
        kernel(*(P*)args[i]...);
    }
    static void call(void* const* args) { unpack(args, std::make_integer_sequence<int, (int)sizeof...(P)>()); }
    static constexpr u32 sizes[] = {(u32)sizeof(P)..., 0};
    static constexpr u32 count = sizeof...(P);
};

}  // namespace host

#define GPU_HOST 1
#define DEVICE [[maybe_unused]] static inline
#define DEVICE_MEMBER inline
#define DEVICE_CONSTANT [[maybe_unused]] static const
#define DEVICE_MEMBER inline
#define LDS(type, name, count)    \
    static const char name##_key = 0; \
    type(&name)[count] = *(type(*)[count])host::lds(&name##_key, sizeof(type) * (count))
#define DYNAMIC_LDS(name) u8* const name = host::dynamic_lds()
#define HOST_KERNEL(name, threads, params)                                                                              \
    static void name params;                                                                                            \
    static const host::Register name##_registered({#name, __BASE_FILE__, threads, host::Trampoline<&name>::call,       \
                                                   host::Trampoline<&name>::sizes, host::Trampoline<&name>::count});   \
    static void name params
#define KERNEL(name, threads, params) HOST_KERNEL(name, threads, params)
#define KERNEL_OCCUPANCY(name, threads, blocks, params) HOST_KERNEL(name, threads, params)
#define RESTRICT __restrict__
#define MATRIX_HOST 1

typedef _Float16 half_t;
DEVICE float half_to_float(half_t h) { return (float)h; }
DEVICE half_t float_to_half(float f) { return (half_t)f; }

DEVICE int thread_id() { return host::current->id; }
DEVICE int block_x() { return host::current->block->x; }
DEVICE int block_y() { return host::current->block->y; }
DEVICE int block_z() { return host::current->block->z; }
DEVICE int lane_id() { return host::current->lane; }

DEVICE void sync_threads(int line = __builtin_LINE()) { host::wait_block(line); }
DEVICE void sync_wave(int line = __builtin_LINE()) { host::wait_wave(line); }
DEVICE int shfl(int v, int lane, int line = __builtin_LINE()) { return (int)host::shuffle((u32)v, lane, line); }
DEVICE float shfl(float v, int lane, int line = __builtin_LINE()) {
    return __builtin_bit_cast(float, host::shuffle(__builtin_bit_cast(u32, v), lane, line));
}
DEVICE int shfl_xor(int v, int mask, int line = __builtin_LINE()) { return shfl(v, lane_id() ^ mask, line); }
DEVICE float shfl_xor(float v, int mask, int line = __builtin_LINE()) { return shfl(v, lane_id() ^ mask, line); }
// For matrix fragments: what the lanes of a wave hold, brought together (see host::together), and scratch memory that they share.
DEVICE void wave_together(void* mine, void (*f)(void* const* lanes), int line = __builtin_LINE()) { host::together(mine, f, line); }
DEVICE u8* wave_exchange() { return host::wave_scratch(); }

DEVICE int dot4(int a, int b, int c) {
    for (int i = 0; i < 32; i += 8) c += (int)(i8)(a >> i) * (int)(i8)(b >> i);
    return c;
}
DEVICE u32 funnel_right(u32 lo, u32 hi, int bits) { return (u32)(((u64)hi << 32 | lo) >> bits); }
DEVICE u32 byte_permute(u32 lo, u32 hi, u32 select) {
    u64 bytes = (u64)hi << 32 | lo;
    u32 out = 0;
    for (int i = 0; i < 32; i += 8) out |= (u32)(u8)(bytes >> (8 * (select >> i & 7))) << i;
    return out;
}

DEVICE float exp_f32(float x) { return __builtin_exp2f(x * 1.4426950408889634f); }
DEVICE float exp2_f32(float x) { return __builtin_exp2f(x); }
DEVICE float log_f32(float x) { return __builtin_logf(x); }
DEVICE float rsqrt_f32(float x) { return 1.0f / __builtin_sqrtf(x); }
DEVICE float sqrt_f32(float x) { return __builtin_sqrtf(x); }
DEVICE float abs_f32(float x) { return __builtin_fabsf(x); }
DEVICE float fma_f32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE float floor_f32(float x) { return __builtin_floorf(x); }
DEVICE float round_even(float x) { return __builtin_rintf(x); }
DEVICE float round_away(float x) { return __builtin_roundf(x); }

DEVICE u32 atomic_add(u32* p, u32 v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
DEVICE u64 atomic_add(u64* p, u64 v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
DEVICE u32 atomic_cas(u32* p, u32 expected, u32 v) {
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}
DEVICE void fence_device() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

template <class T> DEVICE T load_once(const T* p) { return *p; }

DEVICE void pdl_wait() {}
DEVICE void pdl_trigger() {}
