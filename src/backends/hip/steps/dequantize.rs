//! `dequantize`: the values of raw blocks as f32. The kernels of `kernels/dequantize.hip` that write f16 serve products on matrix units.

use super::StepArgs;
use crate::backends::hip::launch::{Kernel, Launches};
use crate::backends::hip::raw::{kernels_of, raw_address};
use crate::backends::hip::view::{Form, View};

/// Threads of a block (`STORE_THREADS` of `kernels/common/store_groups.h`).
pub(super) const THREADS: usize = 128;

/// Appends the launch.
pub(super) fn launches(s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (x, result) = (&s.operands[0], &s.results[0]);
    if !result.is_contiguous() {
        return Err("dequantize writes contiguous values".into());
    }
    let groups = x.ne(0).div_ceil(32) * x.rows();
    let grid = [groups.div_ceil(THREADS), 1, 1];
    if groups == 0 {
        return Ok(());
    }
    if let Form::Planes { scales } = x.form {
        let kernel = Kernel { file: "dequantize", name: "dequantize_cache_q8_0" };
        out.add(kernel, grid, THREADS as u32).arg(x.view).arg(scales).arg(result.view.ptr);
        return Ok(());
    }
    let kernel = kernels_of(x.dtype)?.dequantize_f32;
    if x.view.nb[0] != x.dtype.block_bytes() as i64 && x.ne(0) > 1 {
        return Err(format!("elements of a row of {} do not lie side by side: stride {}", x.dtype, x.view.nb[0]));
    }
    let source = View { ptr: raw_address(s, 0)?, ..x.view };
    out.add(kernel, grid, THREADS as u32).arg(source).arg(result.view.ptr);
    Ok(())
}
