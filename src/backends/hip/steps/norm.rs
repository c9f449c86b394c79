//! `rms_norm`, `rms_norm_mul`, `add_rms_norm_mul`, `layer_norm`: a row in the registers of a block or a wave.

use super::{StepArgs, rows_of_f32};
use crate::backends::hip::launch::{Kernel, Launch, Launches};
use crate::backends::hip::view::{DevicePtr, DeviceView};

/// The kernels of an op, by how a row is spread over threads.
pub(super) struct Kernels {
    pub file: &'static str,
    /// A wave a row of up to 256 elements; blocks of 256 threads.
    pub wave: &'static str,
    /// A block a row of up to 1024, 4096, 8192 and 16384 elements.
    pub blocks: [&'static str; 4],
    /// Any row.
    pub any: &'static str,
}

pub(super) const RMS_NORM: Kernels = Kernels {
    file: "rms_norm",
    wave: "rms_norm_wave",
    blocks: ["rms_norm_1k", "rms_norm_4k", "rms_norm_8k", "rms_norm_16k"],
    any: "rms_norm_any",
};
pub(super) const LAYER_NORM: Kernels = Kernels {
    file: "layer_norm",
    wave: "layer_norm_wave",
    blocks: ["layer_norm_1k", "layer_norm_4k", "layer_norm_8k", "layer_norm_16k"],
    any: "layer_norm_any",
};
const RMS_NORM_MUL: Kernels = Kernels {
    file: "rms_norm_mul",
    wave: "rms_norm_mul_wave",
    blocks: ["rms_norm_mul_1k", "rms_norm_mul_4k", "rms_norm_mul_8k", "rms_norm_mul_16k"],
    any: "rms_norm_mul_any",
};
const ADD_RMS_NORM_MUL: Kernels = Kernels {
    file: "add_rms_norm_mul",
    wave: "add_rms_norm_mul_wave",
    blocks: ["add_rms_norm_mul_1k", "add_rms_norm_mul_4k", "add_rms_norm_mul_8k", "add_rms_norm_mul_16k"],
    any: "add_rms_norm_mul_any",
};

/// `rms_norm` and `layer_norm`.
pub(super) fn launches(kernels: &Kernels, eps: f32, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (x, result) = (s.operands[0], s.results[0]);
    let Some(launch) = launch(kernels, &[x, result], None, s, out)? else { return Ok(()) };
    launch.arg(x.view).arg(result.view).arg(result.rows() as i32).arg(eps);
    Ok(())
}

pub(super) fn rms_norm_mul(eps: f32, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (x, result) = (s.operands[0], s.results[0]);
    let weight = weight(&s.operands[1])?;
    let Some(launch) = launch(&RMS_NORM_MUL, &[x, result], Some(weight), s, out)? else { return Ok(()) };
    launch.arg(x.view).arg(weight).arg(result.view).arg(result.rows() as i32).arg(eps).arg(constant(s, 1));
    Ok(())
}

pub(super) fn add_rms_norm_mul(eps: f32, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (x, residual, sum, result) = (s.operands[0], s.operands[1], s.results[0], s.results[1]);
    let weight = weight(&s.operands[2])?;
    let views = [x, residual, sum, result];
    let Some(launch) = launch(&ADD_RMS_NORM_MUL, &views, Some(weight), s, out)? else { return Ok(()) };
    launch.arg(x.view).arg(residual.view).arg(weight).arg(sum.view).arg(result.view);
    launch.arg(result.rows() as i32).arg(eps).arg(constant(s, 2));
    Ok(())
}

/// Whether operand `i` is a weight, which kernels of the plan do not write.
fn constant(s: &StepArgs<'_>, i: usize) -> i32 {
    i32::from(s.weights.get(i).is_some_and(|w| w.is_some()))
}

/// The address of the scale.
fn weight(view: &DeviceView) -> Result<DevicePtr, String> {
    rows_of_f32(&[*view])?;
    Ok(view.view.ptr)
}

/// The kernel for rows of these views; `None` if there are no elements.
fn launch<'a>(
    kernels: &Kernels,
    views: &[DeviceView],
    weight: Option<DevicePtr>,
    s: &StepArgs<'_>,
    out: &'a mut Launches,
) -> Result<Option<&'a mut Launch>, String> {
    rows_of_f32(views)?;
    let (k, rows) = (views[0].ne(0), views[0].rows());
    if k * rows == 0 {
        return Ok(None);
    }
    i32::try_from(rows).map_err(|_| format!("{rows} rows are too many"))?;
    let aligned = |v: &DeviceView| (v.view.ptr as i64 | v.view.nb[1] | v.view.nb[2] | v.view.nb[3]) % 16 == 0;
    let by_four = k.is_multiple_of(4) && views.iter().all(aligned) && weight.is_none_or(|w| w.is_multiple_of(16));
    let (name, blocks, threads) = match k {
        1..=256 if by_four => (kernels.wave, rows.div_ceil(256 / s.arch.wave), 256),
        1..=1024 if by_four => (kernels.blocks[0], rows, 256),
        1..=4096 if by_four => (kernels.blocks[1], rows, 1024),
        1..=8192 if by_four => (kernels.blocks[2], rows, 1024),
        1..=16384 if by_four => (kernels.blocks[3], rows, 1024),
        _ => (kernels.any, rows, 256),
    };
    Ok(Some(out.add(Kernel { file: kernels.file, name }, [blocks, 1, 1], threads)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{dense, step, strided};
    use super::*;
    use crate::tensor::DType;

    fn kernel_of(x: DeviceView) -> (&'static str, u32, u32) {
        let out = step(&[x], &[x], |s, out| launches(&RMS_NORM, 1e-5, s, out)).unwrap();
        (out.list[0].kernel.name, out.list[0].grid[0], out.list[0].threads)
    }

    #[test]
    fn the_length_of_a_row_chooses_its_threads() {
        let of = |k| kernel_of(dense(DType::F32, [k, 3, 5, 1]));
        assert_eq!(of(128), ("rms_norm_wave", 2, 256));
        assert_eq!(of(1024), ("rms_norm_1k", 15, 256));
        assert_eq!(of(4096), ("rms_norm_4k", 15, 1024));
        assert_eq!(of(5120), ("rms_norm_8k", 15, 1024));
        assert_eq!(of(12288), ("rms_norm_16k", 15, 1024));
        assert_eq!(of(20000), ("rms_norm_any", 15, 256));
    }

    #[test]
    fn rows_that_are_not_aligned_go_by_element() {
        assert_eq!(kernel_of(dense(DType::F32, [102, 3, 1, 1])).0, "rms_norm_any");
        assert_eq!(kernel_of(strided(DType::F32, [128, 3, 1, 1], [4, 520, 1560, 1560])).0, "rms_norm_any");
        assert_eq!(kernel_of(strided(DType::F32, [128, 3, 1, 1], [4, 2048, 6144, 6144])).0, "rms_norm_wave");
    }

    #[test]
    fn rows_that_do_not_lie_side_by_side_are_refused() {
        let x = strided(DType::F32, [4, 128, 1, 1], [512, 4, 2048, 2048]);
        assert!(step(&[x], &[x], |s, out| launches(&RMS_NORM, 1e-5, s, out)).is_err());
    }
}
