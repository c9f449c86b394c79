// get_rows: out[:, i] = table[:, ids[i]], as f32.
//
// table: raw rows of any type; ids: i32[m]; out: f32 [k, m], contiguous. A row number that the table does not have goes to the fault
// record, and its row of the result is 0. Grid: x m. A thread takes groups of 32 elements. Bound by latency: a few kilobytes a row.
#include "common/blocks.h"
#include "common/store_groups.h"

template <int TYPE> DEVICE void get_rows(const RawMatrix& table, const int* ids, float* out, Fault* fault, int step) {
    pdl_trigger();
    pdl_wait();
    int id = ids[block_x()], k = table.k;
    bool inside = id >= 0 && id < table.rows;
    if (!inside && thread_id() == 0) note_fault(fault, step, id);
    const u8* row = table.data + (inside ? (i64)id * table.row_bytes : 0);
    float* target = out + (i64)block_x() * k;
    for (int group = thread_id(); group * 32 < k; group += STORE_THREADS) {
        float values[32] = {};
        if (inside) dequantize32_of<TYPE>(row, group, k, values);
        if (k % 32 == 0) {
#pragma unroll
            for (int i = 0; i < 32; i += 4) {
                *(f32x4*)(target + group * 32 + i) = f32x4{values[i], values[i + 1], values[i + 2], values[i + 3]};
            }
        } else {
            store_partial(values, target + group * 32, min_of(32, k - group * 32));
        }
    }
}

#define GET_ROWS(name, id, len, bytes)                                                                                      \
    KERNEL(get_rows_##name, STORE_THREADS, (RawMatrix table, const int* ids, float* out, Fault* fault, int step)) {         \
        get_rows<id>(table, ids, out, fault, step);                                                                         \
    }
FOR_EACH_FLOAT_TYPE(GET_ROWS)
FOR_EACH_SIMPLE_TYPE(GET_ROWS)
FOR_EACH_CODE_TYPE(GET_ROWS)
FOR_EACH_K_TYPE(GET_ROWS)
FOR_EACH_IQ_TYPE(GET_ROWS)
