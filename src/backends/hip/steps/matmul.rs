//! `matmul` of activations: one tiled kernel for any strides.

use super::StepArgs;
use crate::backends::hip::launch::{Kernel, Launches};
use crate::backends::hip::view::DeviceView;
use crate::tensor::DType;

/// Rows and columns of the result that a block computes.
const TILE: usize = 32;
/// Blocks of a grid in y and z.
const MOST_BLOCKS: usize = 65535;

pub(super) fn launches(s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (a, b, result) = (s.operands[0], s.operands[1], s.results[0]);
    let (a_type, b_type) = (operand_type(&a)?, operand_type(&b)?);
    if result.dtype != DType::F32 || a.ne(0) != b.ne(0) {
        return Err(format!("rows of {} and {} elements to {}", a.ne(0), b.ne(0), result.dtype));
    }
    if result.elements() == 0 {
        return Ok(());
    }
    let repeats = |i: usize| a.ne(i) > 0 && b.ne(i).is_multiple_of(a.ne(i));
    if !repeats(2) || !repeats(3) {
        return Err(format!("slices {:?} do not serve {:?}", &a.view.ne[2..], &b.view.ne[2..]));
    }
    let grid = [result.ne(0).div_ceil(TILE), result.ne(1).div_ceil(TILE), result.ne(2) * result.ne(3)];
    if grid[1] > MOST_BLOCKS || grid[2] > MOST_BLOCKS {
        return Err(format!("{} rows in {} slices are too many", result.ne(1), grid[2]));
    }
    let launch = out.add(Kernel { file: "matmul", name: "matmul_float" }, grid, 256);
    launch.arg(a.view).arg(b.view).arg(result.view).arg(a_type).arg(b_type);
    Ok(())
}

/// `OPERAND_…` of the kernel.
fn operand_type(view: &DeviceView) -> Result<i32, String> {
    match view.dtype {
        DType::F32 => Ok(0),
        DType::F16 => Ok(1),
        DType::Bf16 => Ok(2),
        dtype => Err(format!("it multiplies f32, f16 and bf16, not {dtype}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{dense, step};
    use super::*;

    #[test]
    fn a_block_computes_a_tile_and_blocks_types_are_refused() {
        let (a, b) = (dense(DType::F16, [64, 33, 2, 1]), dense(DType::F32, [64, 70, 8, 1]));
        let result = dense(DType::F32, [33, 70, 8, 1]);
        let out = step(&[a, b], &[result], launches).unwrap();
        assert_eq!(out.list[0].grid, [2, 3, 8]);
        assert!(step(&[dense(DType::Q8_0, [64, 33, 2, 1]), b], &[result], launches).is_err());
        assert!(step(&[dense(DType::F32, [64, 33, 3, 1]), b], &[result], launches).is_err());
    }
}
