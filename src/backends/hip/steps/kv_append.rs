//! `kv_append`: an element a thread; neighbouring lanes have the elements of a block.

use super::{StepArgs, ids, rows_of_f32};
use crate::backends::hip::launch::{Kernel, Launches};
use crate::backends::hip::view::{DevicePtr, DeviceView, Form, View};
use crate::tensor::DType;

pub(super) fn launches(s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (state, x) = (s.operands[0], s.operands[1]);
    rows_of_f32(&[x])?;
    let (cache, dtype, slots) = (cache(&state)?, cache_type(&state)?, ids(&s.operands[2])?);
    let (elements, tokens) = (x.ne(0) * x.ne(1), x.ne(2));
    if elements * tokens > 0 {
        let grid = [tokens, elements.div_ceil(256), 1];
        let launch = out.add(Kernel { file: "kv_append", name: "kv_append" }, grid, 256);
        launch.arg(cache).arg(scales_of(&state)).arg(x.view).arg(slots).arg(dtype).arg(s.fault).arg(s.index);
    }
    Ok(())
}

/// A cache with all its positions, whatever part of them this run has filled, so that a launch does not depend on it.
pub(super) fn cache(state: &DeviceView) -> Result<View, String> {
    let mut view = state.view;
    let step = match state.form {
        Form::Planes { .. } => state.dtype.block_len(),
        _ if state.dtype.block_len() > 1 => return Err(format!("only a state can be a cache of {}", state.dtype)),
        _ => state.dtype.block_bytes(),
    };
    if view.nb[0] != step as i64 || view.nb[1] <= 0 {
        return Err("the elements of its cache do not lie side by side".to_string());
    }
    if let Ok(capacity) = i32::try_from(view.nb[2] / view.nb[1])
        && capacity > view.ne[1]
    {
        view.ne[1] = capacity;
    }
    Ok(view)
}

/// Where the scales of a cache of blocks begin; 0 of others.
pub(super) fn scales_of(state: &DeviceView) -> DevicePtr {
    if let Form::Planes { scales } = state.form { scales } else { 0 }
}

/// `CACHE_…` of `kernels/common/cache.h`.
pub(super) fn cache_type(state: &DeviceView) -> Result<i32, String> {
    match state.dtype {
        DType::F32 => Ok(0),
        DType::F16 => Ok(1),
        DType::Bf16 => Ok(2),
        DType::Q8_0 if state.ne(0).is_multiple_of(32) => Ok(3),
        DType::Q8_0 => Err(format!("a cache of q8_0 with heads of {} elements, which 32 must divide", state.ne(0))),
        dtype => Err(format!("there is no cache of {dtype}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{dense, planes, step, strided};
    use super::*;

    #[test]
    fn a_launch_does_not_depend_on_how_full_the_cache_is() {
        let launches = |filled| {
            let state = strided(DType::F16, [64, filled, 8, 1], [2, 128, 128 * 512, 128 * 512 * 8]);
            let operands = [state, dense(DType::F32, [64, 8, 1, 1]), dense(DType::I32, [1, 1, 1, 1])];
            step(&operands, &[state], launches).unwrap()
        };
        assert_eq!(launches(3), launches(400));
        assert_eq!(launches(3).list[0].grid, [1, 2, 1]);
    }

    #[test]
    fn caches_of_blocks_are_of_q8_0_with_whole_blocks() {
        assert_eq!(cache_type(&dense(DType::Q8_0, [96, 4, 1, 1])), Ok(3));
        let block = DType::Q8_0.block_bytes() as i64;
        let refused = cache_type(&strided(DType::Q8_0, [80, 4, 1, 1], [block, 3 * block, 12 * block, 12 * block]));
        assert!(refused.unwrap_err().contains("heads of 80 elements"));
        for other in [DType::Q4_0, DType::Q5_1, DType::Q4K] {
            let refused = cache_type(&dense(other, [256, 4, 1, 1])).unwrap_err();
            assert!(refused.contains(&other.to_string()), "{refused}");
        }
    }

    #[test]
    fn a_cache_of_blocks_is_found_whole() {
        assert_eq!(cache(&planes(64, 3, 512, 8)).unwrap().ne, [64, 512, 8, 1]);
        let blocks = dense(DType::Q8_0, [64, 512, 8, 1]);
        assert!(cache(&blocks).unwrap_err().contains("only a state"));
    }
}
