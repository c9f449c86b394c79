//! A user's op: its reference on copies of its operands, by one thread. The only step that allocates.

use super::{View, Worker};
use crate::ops::{BoundType, CustomOp};
use crate::tensor::HostTensor;

/// # Safety
/// The module's contract; operands are contiguous.
pub(super) unsafe fn run(op: &dyn CustomOp, x: &[View], out: &[View], worker: &Worker<'_>) -> Result<(), String> {
    if worker.tid != 0 {
        return Ok(());
    }
    let size = |v: &View| v.dtype.row_bytes(v.ne[0]).unwrap_or(0) * v.rows();
    let operands: Option<Vec<HostTensor>> = x
        .iter()
        // SAFETY: a contiguous operand has this many bytes and nobody writes it.
        .map(|v| HostTensor::from_bytes(v.dtype, v.ne, unsafe { std::slice::from_raw_parts(v.ptr.as_ptr(), size(v)) }))
        .collect();
    let operands = operands.ok_or("an operand cannot be copied")?;
    let operands: Vec<&HostTensor> = operands.iter().collect();
    let types: Vec<BoundType> = out.iter().map(|v| BoundType { dtype: v.dtype, ne: v.ne }).collect();
    let results = op.reference(&operands, &types).map_err(|e| e.to_string())?;
    for (view, result) in out.iter().zip(&results) {
        let bytes = result.bytes();
        if result.dtype() != view.dtype || result.ne() != view.ne || bytes.len() != size(view) {
            return Err(format!("it returned {} {:?}, not the type it inferred", result.dtype(), result.ne()));
        }
        // SAFETY: the result's buffer is contiguous with this many bytes, and only this thread writes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), view.ptr.as_mut_ptr(), bytes.len()) }
    }
    if results.len() == out.len() {
        Ok(())
    } else {
        Err(format!("it returned {} results of {}", results.len(), out.len()))
    }
}
