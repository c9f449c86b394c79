//! `concat`: both parts in one launch.

use super::StepArgs;
use super::elementwise::launch;
use crate::backends::hip::launch::{Kernel, Launches};
use crate::ops::Concat;
use crate::tensor::DType;

pub(super) fn launches(op: &Concat, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (a, b, result) = (s.operands[0], s.operands[1], s.results[0]);
    if [a, b, result].iter().any(|v| v.dtype != DType::F32) {
        return Err("it joins f32 only".to_string());
    }
    let views = [a.view, b.view, result.view];
    if let Some(launch) = launch(&views, 1, Kernel { file: "concat", name: "concat_f32" }, out)? {
        launch.arg(op.dim as i32);
    }
    Ok(())
}
