//! `quantize`: activations as int8 blocks for the integer kernels, or as halves.

use super::{View, Worker};
use crate::backends::cpu::simd::activations::quantize_q8a;
use crate::backends::cpu::simd::vector;
use crate::tensor::DType;

/// # Safety
/// The module's contract.
pub(super) unsafe fn run(x: &View, out: &View, worker: &Worker<'_>) {
    let (k, row_bytes) = (out.ne[0], out.dtype.row_bytes(out.ne[0]).unwrap_or(0));
    // A single row is split by blocks, so that all threads help.
    let (block, block_bytes) = (out.dtype.block_len(), out.dtype.block_bytes());
    let (rows, blocks) = if out.rows() >= worker.threads {
        (worker.share(out.rows()), 0..k / block)
    } else {
        (0..out.rows(), worker.share(k / block))
    };
    for row in rows {
        // SAFETY: these blocks are this thread's; a row of the result has row_bytes bytes.
        let (src, dst) = unsafe {
            (
                x.f32_row(row),
                std::slice::from_raw_parts_mut(
                    out.row(row).add(blocks.start * block_bytes),
                    blocks.len() * block_bytes,
                ),
            )
        };
        debug_assert!(blocks.end * block_bytes <= row_bytes);
        let src = &src[blocks.start * block..blocks.end * block];
        if out.dtype == DType::Q8A {
            quantize_q8a(worker.level, src, dst);
        } else {
            // SAFETY: as many halves as floats.
            unsafe {
                vector::convert(
                    worker.level,
                    DType::F32,
                    out.dtype,
                    src.as_ptr() as *const u8,
                    dst.as_mut_ptr(),
                    src.len(),
                );
            }
        }
    }
}
