// mma.sync m16n8k16 of NVIDIA (sm_80 on) with f32 sums, and the same on a host with waves of 32, so that what builds on
// its register layout is tested without a GPU.
//
// With r = lane / 4 and c = lane % 4 a lane holds pairs of 16-bit elements, the lower index in the lower half:
//   A (16 × 16): a0 = (row r, k 2c…), a1 = (r + 8, 2c…), a2 = (r, 2c + 8…), a3 = (r + 8, 2c + 8…)
//   B (16 × 8):  b0 = (k 2c…, col r), b1 = (k 2c + 8…, col r)
//   C (16 × 8):  c0, c1 = (row r, col 2c, 2c + 1), c2, c3 = (row r + 8, the same)
#pragma once
#include "attention.h"

#if defined(GPU_NVIDIA) || (defined(HOST_DEVICE) && WAVE == 32)
#define HAVE_MMA 1

// The lower, the higher halves of two words as a pair.
DEVICE u32 low_halves(u32 a, u32 b) {
#if defined(GPU_NVIDIA)
    return __byte_perm(a, b, 0x5410);
#else
    return (a & 0xffffu) | b << 16;
#endif
}
DEVICE u32 high_halves(u32 a, u32 b) {
#if defined(GPU_NVIDIA)
    return __byte_perm(a, b, 0x7632);
#else
    return a >> 16 | (b & 0xffff0000u);
#endif
}
DEVICE u32 word(const u32x4& x, int i) { return i < 2 ? (i == 0 ? x.x : x.y) : (i == 2 ? x.z : x.w); }

// Four 8 × 8 matrices of 16-bit elements from LDS: lane l gives the address of row l % 8 of matrix l / 8, each 16 bytes. Of every matrix a lane
// gets elements 2c and 2c + 1 of row r; transposed: of column r.
template <bool transposed> DEVICE void load_matrices(u32* out, const char* row) {
#if defined(GPU_NVIDIA)
    u32 at = (u32)__cvta_generic_to_shared(row);
    if (transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                     : "r"(at)
                     : "memory");
#else
    struct Lane {
        u32* out;
        const u16* row;
    } mine = {out, (const u16*)row};
    wave_together(&mine, [](void* const* lanes) {
        for (int lane = 0; lane < 32; lane++) {
            for (int m = 0; m < 4; m++) {
                int r = lane / 4, c = lane % 4 * 2;
                const u16* rows[2] = {((Lane*)lanes[m * 8 + (transposed ? c : r)])->row, ((Lane*)lanes[m * 8 + (transposed ? c + 1 : r)])->row};
                ((Lane*)lanes[lane])->out[m] = rows[0][transposed ? r : c] | (u32)rows[1][transposed ? r : c + 1] << 16;
            }
        }
    });
#endif
}

// 16 bytes from global memory to LDS, there after wait_copies() and a barrier.
DEVICE void copy_async(char* to, const char* from) {
#if defined(GPU_NVIDIA)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((u32)__cvta_generic_to_shared(to)), "l"(from) : "memory");
#else
    *(u32x4*)to = *(const u32x4*)from;
#endif
}
// 4 or 8 bytes, as copy_async; of `bytes` of them the rest is zeros.
template <int size> DEVICE void copy_async_few(char* to, const char* from, int bytes = size) {
#if defined(GPU_NVIDIA)
    u32 at = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(at), "l"(from), "n"(size), "r"(bytes) : "memory");
#else
    u8 part[size] = {};
    __builtin_memcpy(part, from, (u64)bytes);
    __builtin_memcpy(to, part, size);
#endif
}
// Ends a group of copies.
DEVICE void commit_copies() {
#if defined(GPU_NVIDIA)
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits for this thread's copies but those of the last `groups` groups.
template <int groups> DEVICE void wait_copies() {
#if defined(GPU_NVIDIA)
    asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
#endif
}

// Pairs of 16-bit floats: from two floats (to nearest even), to two floats, and c += A B.
template <class T> struct Pair;

#if defined(GPU_NVIDIA)

template <> struct Pair<half_t> {
    DEVICE u32 pack(float lo, float hi) {
        u32 d;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
        return d;
    }
    DEVICE f32x2 unpack(u32 pair) {
        f32x2 x;
        asm("{ .reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }" : "=f"(x.x), "=f"(x.y) : "r"(pair));
        return x;
    }
    DEVICE void mma(float* c, const u32* a, u32 b0, u32 b1) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

template <> struct Pair<bf16_t> {
    DEVICE u32 pack(float lo, float hi) {
        u32 d;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
        return d;
    }
    DEVICE f32x2 unpack(u32 pair) { return {bits_to_float(pair << 16), bits_to_float(pair & 0xffff0000u)}; }
    DEVICE void mma(float* c, const u32* a, u32 b0, u32 b1) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

#else

template <class T> DEVICE T narrow(float x);
template <> inline half_t narrow<half_t>(float x) { return float_to_half(x); }
template <> inline bf16_t narrow<bf16_t>(float x) { return bf16_t{float_to_bf16(x)}; }

template <class T> struct Pair {
    DEVICE u32 pack(float lo, float hi) {
        union {
            T x[2];
            u32 bits;
        } u;
        u.x[0] = narrow<T>(lo), u.x[1] = narrow<T>(hi);
        return u.bits;
    }
    DEVICE f32x2 unpack(u32 pair) {
        union {
            u32 bits;
            T x[2];
        } u;
        u.bits = pair;
        return {to_float(u.x[0]), to_float(u.x[1])};
    }
    struct Lane {
        float* c;
        u32 a[4], b[2];
    };
    static f32x2 product(f32x2 sum, u32 a, u32 b) {
        f32x2 x = unpack(a), y = unpack(b);
        return {sum.x + x.x * y.x, sum.y + x.y * y.y};
    }
    DEVICE void mma(float* c, const u32* a, u32 b0, u32 b1) {
        Lane mine = {c, {a[0], a[1], a[2], a[3]}, {b0, b1}};
        wave_together(&mine, [](void* const* lanes) {
            for (int row = 0; row < 16; row++) {
                for (int col = 0; col < 8; col++) {
                    f32x2 sum = {0.0f, 0.0f};
                    for (int k = 0; k < 8; k++) {
                        u32 x = ((Lane*)lanes[row % 8 * 4 + k % 4])->a[row / 8 + k / 4 * 2];
                        sum = product(sum, x, ((Lane*)lanes[col * 4 + k % 4])->b[k / 4]);
                    }
                    ((Lane*)lanes[row % 8 * 4 + col / 2])->c[row / 8 * 2 + col % 2] += sum.x + sum.y;
                }
            }
        });
    }
};

#endif

// ---- bytes as halves ------------------------------------------------------------------------------------------------------------

// The bytes of b and a, a's first, that the digits of `select` name, the last digit the lowest.
template <u32 select> DEVICE u32 pick_bytes(u32 a, u32 b) {
#if defined(GPU_NVIDIA)
    return __byte_perm(a, b, select);
#else
    return byte_permute(a, b, (select & 7u) | (select >> 4 & 7u) << 8 | (select >> 8 & 7u) << 16 | (select >> 12 & 7u) << 24);
#endif
}
// Bytes `first` and `second` of a word as the halves byte · 2^-24, which have the same bits.
template <int first, int second> DEVICE u32 byte_halves(u32 x) { return pick_bytes<0x4040u + first + 256u * second>(x, 0u); }
// Bytes 2I and 2I + 1 of a word as the halves byte − 128.
template <int I> DEVICE u32 code_halves(u32 x) {
    u32 pair = pick_bytes<I == 0 ? 0x4140u : 0x4342u>(x, 0x64646464u);  // 1024 + byte
#if defined(GPU_NVIDIA)
    u32 d;
    asm("sub.f16x2 %0, %1, %2;" : "=r"(d) : "r"(pair), "r"(0x64806480u));
    return d;
#else
    f32x2 v = Pair<half_t>::unpack(pair);
    return Pair<half_t>::pack(v.x - 1152.0f, v.y - 1152.0f);
#endif
}
// Halves times halves, each rounded to nearest.
DEVICE u32 multiply_halves(u32 a, u32 b) {
#if defined(GPU_NVIDIA)
    u32 d;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
#else
    f32x2 x = Pair<half_t>::unpack(a), y = Pair<half_t>::unpack(b);
    return Pair<half_t>::pack(x.x * y.x, x.y * y.y);
#endif
}

// The 8 × 8 matrix of 16-bit elements of which a lane has elements 2c and 2c + 1 of row r, transposed.
DEVICE u32 transposed(u32 pair) {
#if defined(GPU_NVIDIA)
    u32 d;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(d) : "r"(pair));
    return d;
#else
    u32 mine[2] = {pair, 0u};
    wave_together(mine, [](void* const* lanes) {
        for (int lane = 0; lane < 32; lane++) {
            int r = lane / 4, c = lane % 4;
            auto element = [&](int row, int column) { return ((u32*)lanes[row * 4 + column / 2])[0] >> 16 * (column % 2) & 0xffffu; };
            ((u32*)lanes[lane])[1] = element(2 * c, r) | element(2 * c + 1, r) << 16;
        }
    });
    return mine[1];
#endif
}
// Whether it is so in any lane of the wave.
DEVICE bool wave_any(bool here) {
#if defined(GPU_NVIDIA)
    return __any_sync(0xffffffffu, here);
#else
    return wave_max(here ? 1.0f : 0.0f) > 0.0f;
#endif
}
#endif
