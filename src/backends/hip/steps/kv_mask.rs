//! `kv_mask`: a block a part of a row of scores.

use super::{StepArgs, ids, rows_of_f32};
use crate::backends::hip::launch::{Kernel, Launches};
use crate::ops::KvMask;

/// Elements of a row that a block takes.
const PART: usize = 1024;

pub(super) fn launches(op: &KvMask, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (scores, result) = (s.operands[0], s.results[0]);
    rows_of_f32(&[scores, result])?;
    let (starts, slots) = (ids(&s.operands[1])?, ids(&s.operands[2])?);
    if result.elements() > 0 {
        let grid = [result.rows(), result.ne(0).div_ceil(PART), 1];
        let launch = out.add(Kernel { file: "kv_mask", name: "kv_mask_f32" }, grid, 256);
        launch.arg(scores.view).arg(starts).arg(slots).arg(result.view);
        launch.arg(i32::from(op.causal)).arg(i32::try_from(op.window).unwrap_or(i32::MAX));
    }
    Ok(())
}
