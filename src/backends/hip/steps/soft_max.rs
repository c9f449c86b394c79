//! `soft_max`: a block a row.

use super::{StepArgs, rows_of_f32};
use crate::backends::hip::launch::{Kernel, Launches};

pub(super) fn launches(s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (x, result) = (s.operands[0], s.results[0]);
    rows_of_f32(&[x, result])?;
    if result.elements() > 0 {
        let launch = out.add(Kernel { file: "soft_max", name: "soft_max_f32" }, [result.rows(), 1, 1], 256);
        launch.arg(x.view).arg(result.view);
    }
    Ok(())
}
