//! `cont`: a copy between any strides, in the largest elements that rows consist of.

use super::StepArgs;
use super::elementwise::{join, launch};
use crate::backends::hip::launch::{Kernel, Launches};
use crate::backends::hip::view::{DeviceView, View};

const KERNELS: [(i64, &str); 5] = [(16, "cont_16"), (8, "cont_8"), (4, "cont_4"), (2, "cont_2"), (1, "cont_1")];

pub(super) fn launches(s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (views, name) = plan(&s.operands[0], &s.results[0])?;
    launch(&views, 1, Kernel { file: "cont", name }, out).map(|_| ())
}

/// The views in elements of a kernel, and the kernel.
fn plan(x: &DeviceView, result: &DeviceView) -> Result<([View; 2], &'static str), String> {
    if x.dtype != result.dtype || x.view.ne != result.view.ne {
        return Err("a copy of another type or shape".to_string());
    }
    let size = x.dtype.block_bytes() as i64;
    let mut views = [x.view, result.view];
    for view in &mut views {
        view.ne[0] /= x.dtype.block_len() as i32;
    }
    join(&mut views);
    let side_by_side = views.iter().all(|v| v.nb[0] == size);
    let row = if side_by_side { i64::from(views[0].ne[0]) * size } else { size };
    let all = views.iter().fold(row, |all, v| all | v.ptr as i64 | v.nb[1] | v.nb[2] | v.nb[3]);
    let all = if side_by_side { all } else { views.iter().fold(all, |all, v| all | v.nb[0]) };
    let (unit, name) = KERNELS.into_iter().find(|(n, _)| all % n == 0).ok_or("a byte divides everything")?;
    if side_by_side {
        for view in &mut views {
            view.ne[0] = i32::try_from(row / unit).map_err(|_| format!("rows of {row} bytes are too long"))?;
            view.nb[0] = unit;
        }
    } else if unit != size {
        return Err(format!("elements of {} do not lie side by side", x.dtype));
    }
    Ok((views, name))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{dense, strided};
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn dense_copies_go_by_sixteen_bytes() {
        let x = dense(DType::F32, [9, 4, 3, 1]);
        let (views, name) = plan(&x, &x).unwrap();
        assert_eq!((name, views[0].ne, views[0].nb), ("cont_16", [27, 1, 1, 1], [16, 0, 0, 0]));
        let x = dense(DType::F16, [9, 3, 1, 1]);
        assert_eq!(plan(&x, &x).unwrap().1, "cont_2");
    }

    #[test]
    fn permuted_sources_go_by_element() {
        let (x, out) = (strided(DType::F32, [6, 5, 2, 1], [20, 4, 120, 240]), dense(DType::F32, [6, 5, 2, 1]));
        let (views, name) = plan(&x, &out).unwrap();
        assert_eq!((name, views[0].ne, views[0].nb), ("cont_4", [6, 5, 2, 1], [20, 4, 120, 0]));
        // Heads and tokens exchanged: rows of a head stay whole.
        let (x, out) = (strided(DType::F32, [64, 8, 5, 1], [4, 1280, 256, 10240]), dense(DType::F32, [64, 8, 5, 1]));
        let (views, name) = plan(&x, &out).unwrap();
        assert_eq!((name, views[0].ne, views[0].nb), ("cont_16", [16, 8, 5, 1], [16, 1280, 256, 0]));
        let half = strided(DType::F16, [6, 5, 1, 1], [10, 2, 60, 60]);
        assert_eq!(plan(&half, &dense(DType::F16, [6, 5, 1, 1])).unwrap().1, "cont_2");
    }

    #[test]
    fn blocks_are_copied_as_bytes_if_they_lie_side_by_side() {
        let x = dense(DType::Q4_0, [64, 3, 1, 1]);
        let (views, name) = plan(&x, &x).unwrap();
        assert_eq!((name, views[0].ne[0]), ("cont_4", 27));
        let apart = strided(DType::Q4_0, [64, 3, 1, 1], [54, 18, 108, 108]);
        assert!(plan(&apart, &x).is_err());
    }
}
