//! What the steps' tests share: views at made-up addresses.

use super::StepArgs;
use crate::backends::hip::arch::Arch;
use crate::backends::hip::launch::Launches;
use crate::backends::hip::view::{DeviceView, Form, View};
use crate::tensor::DType;

/// A view of these strides.
pub(in crate::backends::hip) fn strided(dtype: DType, ne: [usize; 4], nb: [i64; 4]) -> DeviceView {
    DeviceView { view: View { ptr: 1 << 20, ne: ne.map(|n| n as i32), nb }, dtype, form: Form::Whole }
}

/// The first `filled` positions of a cache of q8_0 of `[d, capacity, heads]`.
pub(in crate::backends::hip) fn planes(d: usize, filled: usize, capacity: usize, heads: usize) -> DeviceView {
    let head = (d * capacity) as i64;
    let view = strided(DType::Q8_0, [d, filled, heads, 1], [32, d as i64, head, head * heads as i64]);
    DeviceView { form: Form::Planes { scales: view.view.ptr + (d * capacity * heads) as u64 }, ..view }
}

/// A view of elements side by side.
pub(in crate::backends::hip) fn dense(dtype: DType, ne: [usize; 4]) -> DeviceView {
    let row = dtype.row_bytes(ne[0]).unwrap() as i64;
    let plane = row * ne[1] as i64;
    strided(dtype, ne, [dtype.block_bytes() as i64, row, plane, plane * ne[2] as i64])
}

/// The launches of a step on a gfx1100 without weights.
pub(in crate::backends::hip) fn step(
    operands: &[DeviceView],
    results: &[DeviceView],
    f: impl Fn(&StepArgs<'_>, &mut Launches) -> Result<(), String>,
) -> Result<Launches, String> {
    let arch = Arch::of("gfx1100").unwrap();
    let weights = vec![None; operands.len()];
    let (scratch, fault, index, early) = (0, 1 << 16, 0, false);
    let args = StepArgs { operands, results, weights: &weights, arch: &arch, scratch, fault, index, early };
    let mut out = Launches::default();
    f(&args, &mut out).map(|()| out)
}
