//! `dequantize`: the values of raw blocks as f32. The kernels of `kernels/dequantize.hip` that write f16 serve products on matrix units.

use super::StepArgs;
use crate::backends::hip::launch::Launches;
use crate::backends::hip::raw::{kernels_of, raw_address};
use crate::backends::hip::view::View;

/// Threads of a block (`STORE_THREADS` of `kernels/common/store_groups.h`).
pub(super) const THREADS: usize = 128;

/// Appends the launch.
pub(super) fn launches(s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (x, result) = (&s.operands[0], &s.results[0]);
    let kernel = kernels_of(x.dtype)?.dequantize_f32;
    if !result.is_contiguous() {
        return Err("dequantize writes contiguous values".into());
    }
    if x.view.nb[0] != x.dtype.block_bytes() as i64 && x.ne(0) > 1 {
        return Err(format!("elements of a row of {} do not lie side by side: stride {}", x.dtype, x.view.nb[0]));
    }
    let groups = x.ne(0).div_ceil(32) * x.rows();
    if groups > 0 {
        let source = View { ptr: raw_address(s, 0)?, ..x.view };
        out.add(kernel, [groups.div_ceil(THREADS), 1, 1], THREADS as u32).arg(source).arg(result.view.ptr);
    }
    Ok(())
}
