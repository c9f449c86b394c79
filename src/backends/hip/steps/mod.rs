//! Steps: from bound views to kernel launches, one file an op. Pure functions: what cannot be launched is said here, at lowering.

mod dequantize;
mod get_rows;
mod matvec_raw;

use super::arch::Arch;
use super::launch::Launches;
use super::view::{DevicePtr, DeviceView};
use super::weights::DeviceWeight;
use crate::ops::Op;
use crate::tensor::Bounds;

/// What a step works on, bound.
pub(crate) struct StepArgs<'a> {
    /// Operands; a weight's view is that of its raw bytes (address 0 where it has only planes).
    pub operands: &'a [DeviceView],
    /// Results.
    pub results: &'a [DeviceView],
    /// For each operand, the weight that it is.
    pub weights: &'a [Option<&'a DeviceWeight>],
    /// The device.
    pub arch: &'a Arch,
    /// Scratch memory of this step: as many bytes as its `scratch_bytes` said, zeroed when the program was made.
    pub scratch: DevicePtr,
    /// The fault record.
    pub fault: DevicePtr,
    /// The step's number, for the fault record.
    pub index: i32,
    /// This run's sizes.
    pub bounds: &'a Bounds,
    /// The plan's.
    pub limits: &'a Bounds,
}

/// Appends the launches of a step, or says why the device cannot run it.
pub(crate) fn launches(op: &Op, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    match op {
        Op::GetRows(_) => get_rows::launches(s, out),
        Op::Dequantize(_) => dequantize::launches(s, out),
        Op::QMatmul(_) | Op::QMatmulGroup(_) | Op::GluQMatmul(_) => matvec_raw::launches(op, s, out),
        op => Err(format!("there is no device kernel for {}", op.name())),
    }
}
