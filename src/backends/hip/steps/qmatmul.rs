//! `qmatmul`, `qmatmul_group`, `glu_qmatmul`: which kernel multiplies.
//!
//! * `matvec`: weights in planes, f32 activations that it normalises and rounds by itself: steps of a few tokens.
//! * `gemm`: f16 activations of many tokens.
//! * `matvec_raw`, `matvec_planes`: everything else, in f32.

use super::matvec_raw::{self, Product};
use super::{StepArgs, elementwise};
use crate::backends::hip::arch::{Arch, Matrix};
use crate::backends::hip::launch::{Kernel, Launches};
use crate::backends::hip::view::{DevicePtr, DeviceView};
use crate::backends::hip::weights::Planes;
use crate::ops::{Activation, Op, QMatmul};
use crate::tensor::DType;
use bytemuck::{Pod, Zeroable};

/// `Matvec` of `kernels/common/matvec.h`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Matvec {
    pub w: [Planes; 3],
    pub bias: [DevicePtr; 3],
    pub out: [DevicePtr; 3],
    pub x: DevicePtr,
    pub residual: DevicePtr,
    pub norm: DevicePtr,
    pub eps: f32,
    pub count: i32,
    pub k: i32,
    pub act: i32,
    pub x_stride: i32,
    unused: i32,
}

const _: () = assert!(size_of::<Matvec>() == 240);

/// A step's products by the places of their operands.
struct Products {
    x: usize,
    weights: Vec<usize>,
    biases: Vec<usize>,
    residual: Option<usize>,
    norm: Option<(f32, usize)>,
    activation: DType,
    glu: Option<Activation>,
}

impl Products {
    fn of(op: &Op) -> Option<Products> {
        let norm = |eps: f32, slot: usize| (eps > 0.0).then_some((eps, slot));
        Some(match op {
            Op::QMatmul(op) => {
                let (bias, residual) = (usize::from(op.bias), usize::from(op.residual));
                Products {
                    x: 1,
                    weights: vec![0],
                    biases: if op.bias { vec![2] } else { Vec::new() },
                    residual: op.residual.then_some(2 + bias),
                    norm: norm(op.norm_eps, 2 + bias + residual),
                    activation: op.activation,
                    glu: None,
                }
            }
            Op::QMatmulGroup(op) => Products {
                x: 0,
                weights: (1..=op.weights).collect(),
                biases: if op.bias { (1 + op.weights..1 + 2 * op.weights).collect() } else { Vec::new() },
                residual: None,
                norm: norm(op.norm_eps, op.norm_slot()),
                activation: op.activation,
                glu: None,
            },
            Op::GluQMatmul(op) => Products {
                x: 0,
                weights: vec![1, 2],
                biases: Vec::new(),
                residual: None,
                norm: norm(op.norm_eps, 3),
                activation: op.activation,
                glu: Some(op.act),
            },
            _ => return None,
        })
    }
}

/// Appends the launches of a product, a group of products or a gated product.
pub(super) fn launches(op: &Op, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    if let Op::QMatmul(matmul @ QMatmul { act: Some(act), .. }) = op {
        return activated(matmul, *act, s, out);
    }
    let products = Products::of(op).ok_or("it is no product")?;
    if s.operands[products.x].rows() == 0 {
        return Ok(());
    }
    if let Some(planes) = all_planes(&products, s)
        && fast(&products, &planes, s, out).is_some()
    {
        return Ok(());
    }
    general(&products, s, out)
}

/// A product, then its activation function, then the residual: launches of their own.
fn activated(op: &QMatmul, act: Activation, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let residual = 2 + usize::from(op.bias);
    let kept: Vec<usize> = (0..s.operands.len()).filter(|&i| !(op.residual && i == residual)).collect();
    let operands: Vec<DeviceView> = kept.iter().map(|&i| s.operands[i]).collect();
    let weights: Vec<_> = kept.iter().map(|&i| s.weights[i]).collect();
    let product = QMatmul { act: None, residual: false, ..op.clone() };
    super::launches(&product.into(), &StepArgs { operands: &operands, weights: &weights, ..*s }, out)?;
    let result = s.results[0];
    elementwise::unary(act, &StepArgs { operands: &[result], weights: &[None], ..*s }, out)?;
    if op.residual {
        let pair = [result, s.operands[residual]];
        elementwise::binary(&elementwise::ADD, &StepArgs { operands: &pair, weights: &[None, None], ..*s }, out)?;
    }
    Ok(())
}

fn all_planes(products: &Products, s: &StepArgs<'_>) -> Option<Vec<Planes>> {
    products.weights.iter().map(|&w| s.weights.get(w).copied().flatten()?.planes).collect()
}

macro_rules! by_format {
    ($file:literal, $prefix:literal) => {
        [
            Kernel { file: $file, name: concat!($prefix, "f32") },
            Kernel { file: $file, name: concat!($prefix, "f16") },
            Kernel { file: $file, name: concat!($prefix, "bf16") },
            Kernel { file: $file, name: concat!($prefix, "q8_0") },
            Kernel { file: $file, name: concat!($prefix, "q4_0") },
            Kernel { file: $file, name: concat!($prefix, "q4_1") },
            Kernel { file: $file, name: concat!($prefix, "q5_0") },
            Kernel { file: $file, name: concat!($prefix, "q5_1") },
            Kernel { file: $file, name: concat!($prefix, "q4_k") },
            Kernel { file: $file, name: concat!($prefix, "q5_k") },
            Kernel { file: $file, name: concat!($prefix, "q6_k") },
            Kernel { file: $file, name: concat!($prefix, "iq4_nl") },
            Kernel { file: $file, name: concat!($prefix, "iq4_xs") },
            Kernel { file: $file, name: concat!($prefix, "mxfp4") },
        ]
    };
}

/// Kernels by `FORMAT_…` of planes.h, which has no planes of f32.
const MATVEC: [Kernel; 14] = by_format!("matvec", "matvec_");
const MATVEC_GLU: [Kernel; 14] = by_format!("matvec", "matvec_glu_");
const MATVEC_WIDE: [Kernel; 14] = by_format!("matvec_wide", "matvec_wide_");
/// Kernels for the matrices of a group in two formats.
const MATVEC_TWO: [(i32, i32, Kernel); 4] = [
    (8, 10, Kernel { file: "matvec", name: "matvec_q4_k_q6_k" }),
    (9, 10, Kernel { file: "matvec", name: "matvec_q5_k_q6_k" }),
    (8, 9, Kernel { file: "matvec", name: "matvec_q4_k_q5_k" }),
    (6, 3, Kernel { file: "matvec", name: "matvec_q5_0_q8_0" }),
];

/// Whether the elements of a `FORMAT_…` are floats, which multiply f32 activations.
pub(super) fn is_plain(format: i32) -> bool {
    format <= 2
}

/// Threads of a block and blocks of a compute unit, as in matvec.h.
pub(super) fn block_shape(arch: &Arch) -> (u32, usize) {
    if arch.matrix == Matrix::Mma { (512, 2) } else { (256, 4) }
}

/// Whether the one product of a step is `matvec_wide`'s: rows so long that to round them twice on a unit costs more than what two blocks there
/// have for them.
fn is_wide(products: &Products, planes: &[Planes], arch: &Arch) -> bool {
    let one = products.glu.is_none() && planes.len() == 1;
    one && arch.matrix == Matrix::Mma && products.norm.is_none() && !is_plain(planes[0].format) && planes[0].k > 8192
}

/// Launches of `matvec`, if that serves the step: `None` if not.
fn fast(products: &Products, planes: &[Planes], s: &StepArgs<'_>, out: &mut Launches) -> Option<()> {
    let x = &s.operands[products.x];
    let plain = is_plain(planes[0].format);
    let rounding = if plain { DType::F32 } else { DType::Q8A };
    let k = planes[0].k as usize;
    let lds = if plain { 4 * k } else { k + k / 4 };
    let contiguous = |v: &DeviceView| v.dtype == DType::F32 && v.is_contiguous();
    let suits = x.dtype == DType::F32
        && products.activation == rounding
        && x.is_contiguous()
        && lds + 256 <= s.arch.lds
        && planes.iter().all(|p| is_plain(p.format) == plain && p.k as usize == k)
        && s.results.iter().all(contiguous)
        && products.residual.is_none_or(|r| contiguous(&s.operands[r]));
    let act = match products.glu {
        None | Some(Activation::Silu) => 0,
        Some(Activation::Gelu) => 1,
        Some(Activation::Relu) => 2,
        Some(_) => return None,
    };
    if !suits || (products.glu.is_some() && planes[0].format != planes[1].format) {
        return None;
    }
    let wide = is_wide(products, planes, s.arch);
    let (threads, per_unit) = if wide { (1024, 1) } else { block_shape(s.arch) };
    let waves = threads as usize / s.arch.wave;
    // Runs of matrices that one launch takes: of one format, or of a pair of formats that there is a kernel for; at most three.
    let mut first = 0;
    while first < planes.len() {
        let same = |from: usize, most: usize| {
            let rest = &planes[from..planes.len().min(most)];
            rest.iter().take_while(|p| p.format == rest[0].format).count()
        };
        let split = same(first, first + 3);
        let mut count = split;
        let table = if products.glu.is_some() {
            MATVEC_GLU
        } else if wide {
            MATVEC_WIDE
        } else {
            MATVEC
        };
        let mut kernel = table[planes[first].format as usize];
        let next = first + split;
        if split < 3 && next < planes.len() {
            let pair = MATVEC_TWO.iter().find(|(a, b, _)| (*a, *b) == (planes[first].format, planes[next].format));
            if let Some((_, _, two)) = pair {
                count += same(next, first + 3);
                kernel = *two;
            }
        }
        let mut a = Matvec::zeroed();
        let mut rows = 0;
        for i in 0..count {
            let at = first + i;
            a.w[i] = planes[at];
            a.bias[i] = products.biases.get(at).map_or(0, |&b| s.operands[b].view.ptr);
            a.out[i] = if products.glu.is_some() { 0 } else { s.results[at].view.ptr };
            rows += planes[at].rows as usize;
        }
        if products.glu.is_some() {
            a.out[0] = s.results[0].view.ptr;
            rows /= 2;
        }
        a.x = x.view.ptr;
        a.residual = products.residual.map_or(0, |r| s.operands[r].view.ptr);
        (a.eps, a.norm) = products.norm.map_or((0.0, 0), |(eps, norm)| (eps, s.operands[norm].view.ptr));
        (a.count, a.k, a.act, a.x_stride) = (count as i32, k as i32, act, k as i32);
        let blocks = rows.div_ceil(waves).clamp(1, s.arch.units * per_unit);
        let launch = out.add(kernel, [blocks, x.rows(), 1], threads).lds(lds).arg(a);
        if count > split {
            launch.arg(split as i32);
        }
        launch.arg(blocks as i32);
        first += count;
    }
    Some(())
}

/// A launch a weight.
fn general(products: &Products, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let rounded = match products.activation {
        DType::F32 => false,
        DType::Q8A => true,
        other => return Err(format!("activations are not rounded to {other} on the way in")),
    };
    for (i, &weight) in products.weights.iter().enumerate() {
        let product = Product {
            weight,
            x: products.x,
            bias: products.biases.get(i).copied(),
            residual: products.residual,
            norm: products.norm.map(|(eps, slot)| (slot, eps)),
            result: if products.glu.is_some() { 0 } else { i },
            gated: products.glu.filter(|_| i == 1),
            rounded,
        };
        matvec_raw::launch(&product, s, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::dense;
    use super::*;
    use crate::backends::hip::weights::DeviceWeight;

    /// The kernel of a product with rows of `k`, and its blocks and threads.
    fn launched(arch: &str, dtype: DType, format: i32, k: usize) -> (&'static str, u32, u32) {
        let planes =
            Planes { quants: 0x100, format, rows: 4096, k: k as i32, blocks: k as i32 / 32, ..Planes::zeroed() };
        let weight = DeviceWeight { dtype, planes: Some(planes), raw: None };
        let activation = if is_plain(format) { DType::F32 } else { DType::Q8A };
        let op = Op::QMatmul(QMatmul { bias: false, act: None, residual: false, activation, norm_eps: 0.0 });
        let vector = |n| dense(DType::F32, [n, 1, 1, 1]);
        let s = StepArgs {
            operands: &[dense(DType::F32, [k, 4096, 1, 1]), vector(k)],
            results: &[vector(4096)],
            weights: &[Some(&weight), None],
            arch: &Arch::of(arch).unwrap(),
            scratch: 0,
            fault: 0,
            index: 0,
            early: false,
        };
        let mut out = Launches::default();
        launches(&op, &s, &mut out).unwrap();
        let [only] = &out.list[..] else { panic!("{} launches", out.list.len()) };
        (only.kernel.name, only.grid[0], only.threads)
    }

    #[test]
    fn long_rounded_rows_take_one_block_a_unit_on_nvidia() {
        let q4_k = |arch, k| launched(arch, DType::Q4K, 8, k);
        assert_eq!(q4_k("sm_90", 8192), ("matvec_q4_k", 256, 512));
        assert_eq!(q4_k("sm_90", 14336), ("matvec_wide_q4_k", 128, 1024));
        assert_eq!(q4_k("gfx1100", 14336), ("matvec_q4_k", 384, 256));
        assert_eq!(launched("sm_90", DType::F16, 1, 14336), ("matvec_f16", 256, 512));
    }
}
