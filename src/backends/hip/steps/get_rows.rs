//! `get_rows`: rows of a raw table by numbers in device memory.

use super::StepArgs;
use crate::backends::hip::launch::Launches;
use crate::backends::hip::raw::{kernels_of, raw_matrix};

/// Threads of a block (`STORE_THREADS` of `kernels/common/store_groups.h`).
const THREADS: u32 = 128;

/// Appends the launch: a block for each row of the result.
pub(super) fn launches(s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (ids, result) = (&s.operands[1], &s.results[0]);
    let kernel = kernels_of(s.operands[0].dtype)?.get_rows;
    let table = raw_matrix(s, 0)?;
    if !ids.is_contiguous() || !result.is_contiguous() {
        return Err("get_rows takes contiguous row numbers and writes contiguous rows".into());
    }
    if ids.elements() > 0 && table.k > 0 {
        out.add(kernel, [ids.elements(), 1, 1], THREADS)
            .arg(table)
            .arg(ids.view.ptr)
            .arg(result.view.ptr)
            .arg(s.fault)
            .arg(s.index);
    }
    Ok(())
}
