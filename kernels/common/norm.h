// What the norm kernels share: a row in registers of a group of threads (a block, or a wave), read once from memory.
//
// A group of `group` threads holds `vectors` vectors of four elements each; vector j of thread t is number j * group + t of the row.
// Rows of these kernels are multiples of four elements, aligned to 16 bytes; the `_any` kernels take every row and read it twice or more.
#pragma once
#include "rows.h"

// Rows up to this long are one wave's.
#define NORM_WAVE_ROW 256
#define NORM_WAVE_THREADS 256

template <int group> DEVICE int group_thread() { return group == WAVE ? lane_id() : thread_id(); }
template <int group> DEVICE float group_sum(float v, float* shared) {
    return group == WAVE ? wave_sum(v) : block_sum<group>(v, shared);
}
// The row of this wave, for blocks of NORM_WAVE_THREADS threads.
DEVICE int row_of_wave() { return block_x() * (NORM_WAVE_THREADS / WAVE) + thread_id() / WAVE; }

template <int group, int vectors> struct Row {
    f32x4 v[vectors];
};

// First element of this thread's vector j.
template <int group> DEVICE int element(int j) { return (j * group + group_thread<group>()) * 4; }

// Elements beyond k are 0.
template <int group, int vectors> DEVICE void load_row(Row<group, vectors>& r, const float* from, int k) {
#pragma unroll
    for (int j = 0; j < vectors; j++) {
        int i = element<group>(j);
        r.v[j] = i < k ? *(const f32x4*)(from + i) : f32x4{0.0f, 0.0f, 0.0f, 0.0f};
    }
}
template <int group, int vectors> DEVICE void add_row(Row<group, vectors>& r, const Row<group, vectors>& o) {
#pragma unroll
    for (int j = 0; j < vectors; j++) r.v[j] = f32x4{r.v[j].x + o.v[j].x, r.v[j].y + o.v[j].y, r.v[j].z + o.v[j].z, r.v[j].w + o.v[j].w};
}
template <int group, int vectors> DEVICE void store_row(const Row<group, vectors>& r, float* to, int k) {
#pragma unroll
    for (int j = 0; j < vectors; j++) {
        int i = element<group>(j);
        if (i < k) *(f32x4*)(to + i) = r.v[j];
    }
}
// Every element times `factor`.
template <int group, int vectors> DEVICE void scale_row(Row<group, vectors>& r, float factor) {
#pragma unroll
    for (int j = 0; j < vectors; j++) r.v[j] = f32x4{r.v[j].x * factor, r.v[j].y * factor, r.v[j].z * factor, r.v[j].w * factor};
}
template <int group, int vectors> DEVICE void mul_row(Row<group, vectors>& r, const Row<group, vectors>& o) {
#pragma unroll
    for (int j = 0; j < vectors; j++) r.v[j] = f32x4{r.v[j].x * o.v[j].x, r.v[j].y * o.v[j].y, r.v[j].z * o.v[j].z, r.v[j].w * o.v[j].w};
}
// Takes `mean` from the row's elements; those beyond k stay 0.
template <int group, int vectors> DEVICE void centre_row(Row<group, vectors>& r, float mean, int k) {
#pragma unroll
    for (int j = 0; j < vectors; j++) {
        f32x4 v = r.v[j];
        if (element<group>(j) < k) r.v[j] = f32x4{v.x - mean, v.y - mean, v.z - mean, v.w - mean};
    }
}
template <int group, int vectors> DEVICE float sum_of(const Row<group, vectors>& r, float* shared) {
    float s = 0.0f;
#pragma unroll
    for (int j = 0; j < vectors; j++) s += (r.v[j].x + r.v[j].y) + (r.v[j].z + r.v[j].w);
    return group_sum<group>(s, shared);
}
template <int group, int vectors> DEVICE float sum_of_squares(const Row<group, vectors>& r, float* shared) {
    float s = 0.0f;
#pragma unroll
    for (int j = 0; j < vectors; j++) {
        f32x4 v = r.v[j];
        s += (v.x * v.x + v.y * v.y) + (v.z * v.z + v.w * v.w);
    }
    return group_sum<group>(s, shared);
}

// 1 / √(mean(x²) + eps).
DEVICE float rms_factor(float sum_of_squares, int k, float eps) { return rsqrt_f32(sum_of_squares / (float)k + eps); }

// Expands X(suffix, threads, group, vectors, row, live) for each kernel that keeps its row in registers; `row` is the row of this thread
// and `live` whether there is one. Rows up to 256, 1024, 4096, 8192 and 16384 elements.
#define NORM_VARIANTS(X)                                                                            \
    X(wave, NORM_WAVE_THREADS, WAVE, NORM_WAVE_ROW / 4 / WAVE, row_of_wave(), row_of_wave() < rows) \
    X(1k, 256, 256, 1, block_x(), block_x() < rows)                                                 \
    X(4k, 1024, 1024, 1, block_x(), block_x() < rows)                                               \
    X(8k, 1024, 1024, 2, block_x(), block_x() < rows)                                               \
    X(16k, 1024, 1024, 4, block_x(), block_x() < rows)
