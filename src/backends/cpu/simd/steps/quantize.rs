//! `quantize`: activations as int8 blocks for the integer kernels, or as halves.

use super::{Level, View, Worker};
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
        round(worker.level, out.dtype, &src[blocks.start * block..blocks.end * block], dst);
    }
}

/// Rounds to int8 blocks or to halves.
///
/// # Panics
/// If the lengths do not fit.
pub(super) fn round(level: Level, to: DType, x: &[f32], out: &mut [u8]) {
    if to == DType::Q8A {
        return quantize_q8a(level, x, out);
    }
    assert!(Some(out.len()) == to.row_bytes(x.len()), "{} bytes of {to} for {} elements", out.len(), x.len());
    // SAFETY: as many halves as floats.
    unsafe { vector::convert(level, DType::F32, to, x.as_ptr() as *const u8, out.as_mut_ptr(), x.len()) }
}
