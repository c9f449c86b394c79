//! `add`, `sub`, `mul`, `div`, `scale`, `unary`, `glu`, `constant`: one item a thread (`kernels/common/elementwise.h`).

use super::StepArgs;
use crate::backends::hip::launch::{Kernel, Launch, Launches};
use crate::backends::hip::view::{DeviceView, View};
use crate::ops::Activation;
use crate::tensor::DType;
use smallvec::SmallVec;

/// Threads of a block: `ELEMENTWISE_THREADS`.
const THREADS: usize = 256;

/// A kernel for one element a thread, and one for four neighbours of a row.
pub(super) struct Kernels {
    pub file: &'static str,
    pub one: &'static str,
    pub four: &'static str,
}

/// Operands and, last, the result as the kernels take them: all of the result's sizes, stride 0 where an operand repeats, dimensions that lie
/// side by side in every view joined, those of one element dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Items {
    pub views: SmallVec<[View; 3]>,
    /// Whether four neighbours of a row can be taken at once.
    pub by_four: bool,
}

impl Items {
    /// Views of operands and, last, the result. `Err` if an operand does not repeat to the result's sizes.
    pub fn of(given: &[DeviceView]) -> Result<Items, String> {
        let shape = given.last().ok_or("a step without results")?.view.ne;
        let mut views: SmallVec<[View; 3]> = given.iter().map(|v| v.view).collect();
        for view in &mut views {
            for dim in 0..4 {
                if view.ne[dim] != shape[dim] && view.ne[dim] != 1 {
                    return Err(format!("an operand of sizes {:?} does not repeat to {shape:?}", view.ne));
                }
                if view.ne[dim] == 1 {
                    view.nb[dim] = 0;
                }
            }
            view.ne = shape;
        }
        join(&mut views);
        let (last, binary) = (views.len() - 1, views.len() == 3);
        let by_four = views.iter().zip(given).enumerate().all(|(i, (view, v))| {
            let repeats = binary && i == 1 && i != last && view.nb[0] == 0;
            repeats || aligned(view, v.dtype.block_bytes() as i64)
        });
        Ok(Items { by_four: by_four && shape_of_fours(&views[last]), views })
    }

    /// Appends the launch with the views and the number of items; the caller appends further arguments. None if there is nothing to do.
    pub fn launch<'a>(&self, kernels: &Kernels, out: &'a mut Launches) -> Result<Option<&'a mut Launch>, String> {
        let (unit, name) = if self.by_four { (4, kernels.four) } else { (1, kernels.one) };
        launch(&self.views, unit, Kernel { file: kernels.file, name }, out)
    }
}

/// Launches a kernel of one item of `unit` elements a thread.
pub(super) fn launch<'a>(
    views: &[View],
    unit: u64,
    kernel: Kernel,
    out: &'a mut Launches,
) -> Result<Option<&'a mut Launch>, String> {
    let elements = views.last().map_or(0, |v| v.ne.iter().map(|&n| n as u64).product::<u64>());
    let items = u32::try_from(elements / unit).ok().filter(|&n| n <= u32::MAX - THREADS as u32);
    // Kernels count items in 32 bits, and a place is made of 32-bit numbers.
    let items =
        items.filter(|_| elements <= i32::MAX as u64).ok_or_else(|| format!("{elements} elements are too many"))?;
    if items == 0 {
        return Ok(None);
    }
    let launch = out.add(kernel, [(items as usize).div_ceil(THREADS), 1, 1], THREADS as u32);
    for view in views {
        launch.arg(*view);
    }
    Ok(Some(launch.arg(items)))
}

/// Joins dimensions that lie side by side in every view and drops those of one element. All views have the same sizes.
pub(super) fn join(views: &mut [View]) {
    let ne = views[0].ne;
    let mut sizes: SmallVec<[i32; 4]> = SmallVec::new();
    let mut strides: SmallVec<[[i64; 4]; 3]> = views.iter().map(|_| [0; 4]).collect();
    for dim in (0..4).filter(|&d| ne[d] != 1) {
        let last = sizes.len().wrapping_sub(1);
        let size = sizes.last().map(|&n| i64::from(n) * i64::from(ne[dim]));
        let joins = |(view, strides): (&View, &[i64; 4])| view.nb[dim] == strides[last] * i64::from(sizes[last]);
        match size.and_then(|n| i32::try_from(n).ok()) {
            Some(size) if views.iter().zip(&strides).all(joins) => sizes[last] = size,
            _ => {
                for (view, strides) in views.iter().zip(&mut strides) {
                    strides[sizes.len()] = view.nb[dim];
                }
                sizes.push(ne[dim]);
            }
        }
    }
    for (view, nb) in views.iter_mut().zip(strides) {
        view.ne = [1; 4];
        view.ne[..sizes.len()].copy_from_slice(&sizes);
        view.nb = nb;
    }
}

/// Whether elements of `size` bytes lie side by side and every row is aligned to four.
fn aligned(view: &View, size: i64) -> bool {
    view.nb[0] == size && (view.ptr as i64 | view.nb[1] | view.nb[2] | view.nb[3]) % (4 * size) == 0
}

fn shape_of_fours(view: &View) -> bool {
    view.ne[0] % 4 == 0
}

/// Operands and result of an op on f32.
fn f32_items(s: &StepArgs<'_>) -> Result<Items, String> {
    let views: SmallVec<[DeviceView; 3]> = s.operands.iter().chain(&s.results[..1]).copied().collect();
    if let Some(v) = views.iter().find(|v| v.dtype != DType::F32) {
        return Err(format!("it is for f32, not {}", v.dtype));
    }
    Items::of(&views)
}

/// `add`, `sub`, `mul`, `div`.
pub(super) fn binary(kernels: &Kernels, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    f32_items(s)?.launch(kernels, out).map(|_| ())
}

pub(super) const ADD: Kernels = Kernels { file: "add", one: "add_f32", four: "add_f32x4" };
pub(super) const SUB: Kernels = Kernels { file: "sub", one: "sub_f32", four: "sub_f32x4" };
pub(super) const MUL: Kernels = Kernels { file: "mul", one: "mul_f32", four: "mul_f32x4" };
pub(super) const DIV: Kernels = Kernels { file: "div", one: "div_f32", four: "div_f32x4" };
const SCALE: Kernels = Kernels { file: "scale", one: "scale_f32", four: "scale_f32x4" };
const UNARY: Kernels = Kernels { file: "unary", one: "unary_f32", four: "unary_f32x4" };
const GLU: Kernels = Kernels { file: "glu", one: "glu_f32", four: "glu_f32x4" };
const CONSTANT: Kernels = Kernels { file: "constant", one: "constant_f32", four: "constant_f32x4" };

pub(super) fn scale(factor: f32, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    if let Some(launch) = f32_items(s)?.launch(&SCALE, out)? {
        launch.arg(factor);
    }
    Ok(())
}

pub(super) fn unary(kind: Activation, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    if let Some(launch) = f32_items(s)?.launch(&UNARY, out)? {
        launch.arg(activation(kind));
    }
    Ok(())
}

pub(super) fn glu(kind: Activation, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    if let Some(launch) = f32_items(s)?.launch(&GLU, out)? {
        launch.arg(activation(kind));
    }
    Ok(())
}

pub(super) fn constant(value: f32, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    if let Some(launch) = f32_items(s)?.launch(&CONSTANT, out)? {
        launch.arg(value);
    }
    Ok(())
}

/// `ACTIVATION_…` of `kernels/common/activation.h`.
pub(in crate::backends::hip) fn activation(kind: Activation) -> i32 {
    match kind {
        Activation::Silu => 0,
        Activation::Gelu => 1,
        Activation::Relu => 2,
        Activation::Tanh => 3,
        Activation::Sigmoid => 4,
        Activation::Exp => 5,
        Activation::Neg => 6,
        Activation::Sqr => 7,
        Activation::Sqrt => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{dense, strided};
    use super::*;

    #[test]
    fn dense_views_become_one_dimension_of_fours() {
        let x = dense(DType::F32, [32, 3, 2, 5]);
        let items = Items::of(&[x, x, x]).unwrap();
        assert!(items.by_four);
        assert!(items.views.iter().all(|v| v.ne == [960, 1, 1, 1] && v.nb == [4, 0, 0, 0]));
        let mut launches = Launches::default();
        items.launch(&ADD, &mut launches).unwrap();
        assert_eq!((launches.list[0].kernel.name, launches.list[0].grid), ("add_f32x4", [1, 1, 1]));
    }

    #[test]
    fn a_repeated_operand_has_stride_zero() {
        let (a, b) = (dense(DType::F32, [5, 4, 3, 2]), dense(DType::F32, [1, 4, 1, 2]));
        let items = Items::of(&[a, b, a]).unwrap();
        assert_eq!(items.views[2].ne, [5, 4, 3, 2]);
        assert_eq!(items.views[1].nb, [0, 4, 0, 16]);
        assert!(!items.by_four);
        let (a, row) = (dense(DType::F32, [64, 7, 1, 1]), dense(DType::F32, [64, 1, 1, 1]));
        let items = Items::of(&[a, row, a]).unwrap();
        assert_eq!((items.views[0].ne, items.views[1].nb, items.by_four), ([64, 7, 1, 1], [4, 0, 0, 0], true));
        let column = dense(DType::F32, [1, 7, 1, 1]);
        let items = Items::of(&[a, column, a]).unwrap();
        assert_eq!((items.views[1].nb, items.by_four), ([0, 4, 0, 0], true));
        assert!(Items::of(&[a, dense(DType::F32, [32, 7, 1, 1]), a]).is_err());
    }

    #[test]
    fn odd_rows_and_offsets_go_one_by_one() {
        let x = dense(DType::F32, [33, 3, 2, 1]);
        assert!(!Items::of(&[x, x]).unwrap().by_four);
        let mut shifted = dense(DType::F32, [32, 3, 2, 1]);
        shifted.view.ptr += 4;
        assert!(!Items::of(&[shifted, shifted]).unwrap().by_four);
        let slice = strided(DType::F32, [32, 3, 1, 1], [4, 200, 600, 600]);
        assert!(!Items::of(&[slice, slice]).unwrap().by_four);
    }

    #[test]
    fn one_element_is_one_item() {
        let x = dense(DType::F32, [1, 1, 1, 1]);
        let mut launches = Launches::default();
        Items::of(&[x, x]).unwrap().launch(&SCALE, &mut launches).unwrap();
        assert_eq!(launches.list[0].grid, [1, 1, 1]);
        let none = dense(DType::F32, [8, 0, 1, 1]);
        assert!(Items::of(&[none, none]).unwrap().launch(&SCALE, &mut launches).unwrap().is_none());
    }
}
