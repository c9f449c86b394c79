//! `qmatmul`, `qmatmul_group` and `glu_qmatmul` of f16 activations: products on matrix units (`kernels/gemm.hip`), or by the BLAS library.

use super::StepArgs;
use crate::backends::hip::arch::Arch;
use crate::backends::hip::ffi::GemmF16;
use crate::backends::hip::gemm_choice::{BF16, F16, RAW, Tile, Variant, choose};
use crate::backends::hip::launch::{Kernel, Launches};
use crate::backends::hip::planes::PlaneLayout;
use crate::backends::hip::raw::kernels_of;
use crate::backends::hip::view::{DevicePtr, DeviceView, View};
use crate::backends::hip::weights::Planes;
use crate::graph::plan::Step;
use crate::ops::{Activation, Op};
use crate::tensor::{Bounds, DType};
use bytemuck::{Pod, Zeroable};

/// Bytes of scratch for expanded weights, at most; a matrix that is larger is multiplied in slabs of rows.
const SLAB: usize = 128 << 20;
/// Bytes of scratch for sums that may not go into the result, at most.
const SUMS: usize = 64 << 20;
/// Rows of a slab are a multiple of this.
const SLAB_ROWS: usize = 128;
/// Matrices that one launch takes.
const PARTS: usize = 4;
/// Threads of `gemm_dequantize_…` and `gemm_finish`.
const THREADS: u32 = 256;
/// Blocks of a grid in y and z.
const MOST_BLOCKS: usize = 65535;

/// `GemmPart` of `kernels/common/gemm.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct Part {
    w: Planes,
    bias: DevicePtr,
    residual: DevicePtr,
    out: DevicePtr,
    first: i32,
    n: i32,
    out_stride: i32,
    residual_stride: i32,
    tiles: i32,
    unused: i32,
}

const _: () = assert!(size_of::<Planes>() == 48 && size_of::<Part>() == 96);

/// One product, bound.
#[derive(Clone, Copy, Debug)]
struct Product {
    part: Part,
    /// The operand that is the weight.
    weight: usize,
    /// The weight's rows in the file's blocks, where there are no planes.
    raw: Option<View>,
    /// 0, or -1 - the number of a function of product and bias, or 1 + that of a function of what `out` holds, which multiplies the product.
    act: i32,
}

impl Product {
    /// Whether what lies in the result, or may lie there, is still wanted when the library has multiplied.
    fn sums_apart(&self) -> bool {
        self.act > 0 || (self.act < 0 && self.part.residual != 0)
    }
}

/// f16 activations: `t` rows of `k`.
#[derive(Clone, Copy, Debug)]
struct Rows {
    ptr: DevicePtr,
    stride: usize,
    t: usize,
    k: usize,
}

/// Whether a step is a product of f16 activations in whole blocks.
pub(super) fn serves(op: &Op, s: &StepArgs<'_>) -> bool {
    Slots::of(op).is_ok_and(|slots| {
        let x = &s.operands[slots.x];
        x.dtype == DType::F16 && x.ne(0).is_multiple_of(32)
    })
}

/// Appends the launches of a step whose activations are f16.
pub(super) fn launches(op: &Op, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let slots = Slots::of(op)?;
    let x = activations(&s.operands[slots.x])?;
    let products = slots.products.iter().map(|p| product(p, s, &x)).collect::<Result<Vec<_>, _>>()?;
    if x.t == 0 {
        return Ok(());
    }
    let mut rest = products.as_slice();
    while let Some(first) = rest.first() {
        let variant = choose(s.arch, first.part.w.format, total_rows(rest), x.k, x.t, s.arch.blas);
        // Products of one format share a launch; the halves of a gated product need each other's result.
        let count = match variant {
            Variant::Direct(_) if first.act == 0 => {
                let same = |p: &&Product| p.act == 0 && p.part.w.format == first.part.w.format;
                rest.iter().take(PARTS).take_while(same).count()
            }
            _ => 1,
        };
        let (now, later) = rest.split_at(count.max(1));
        match variant {
            Variant::Direct(tile) => direct(now, &x, tile, s, out)?,
            Variant::Scratch(_) | Variant::Library => expanded(first, &x, variant, s, out)?,
        }
        rest = later;
    }
    Ok(())
}

/// Bytes of scratch that a step may need.
pub(super) fn scratch_bytes(step: &Step, bounds: &Bounds, arch: &Arch) -> usize {
    let Ok(slots) = Slots::of(&step.op) else { return 0 };
    if step.operands[slots.x].ty.dtype != DType::F16 {
        return 0;
    }
    let size = |slot: usize| step.operands[slot].ty.shape.eval(bounds);
    let t: usize = size(slots.x)[1..].iter().product();
    let of = |p: &ProductSlots| {
        let weight = &step.operands[p.weight].ty;
        let (k, n) = (size(p.weight)[0], size(p.weight)[1]);
        let format = PlaneLayout::of(weight.dtype, n, k).map_or(RAW, |layout| layout.format);
        let in_kernel = GEMM.iter().any(|(f, _)| *f == format);
        if in_kernel && !arch.blas {
            0
        } else {
            slab(n, k, t, p.gated.is_some() || (p.act.is_some() && p.residual.is_some())).bytes
        }
    };
    slots.products.iter().map(of).max().unwrap_or(0)
}

/// How a matrix is cut into slabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slab {
    rows: usize,
    /// Where sums that may not go into the result begin, behind the weights.
    sums: usize,
    bytes: usize,
}

/// Slabs of equal size, as few as the limits allow.
fn slab(n: usize, k: usize, t: usize, sums_apart: bool) -> Slab {
    let sums_row = if sums_apart { 4 * t } else { 0 };
    let most = (SLAB / (2 * k).max(1)).min(SUMS.checked_div(sums_row).unwrap_or(usize::MAX));
    let slabs = n.div_ceil((most / SLAB_ROWS * SLAB_ROWS).max(SLAB_ROWS)).max(1);
    let rows = n.div_ceil(slabs).next_multiple_of(SLAB_ROWS).min(n);
    let sums = (rows * 2 * k).next_multiple_of(256);
    Slab { rows, sums, bytes: sums + rows * sums_row }
}

/// The places of a product's operands.
#[derive(Clone, Copy, Debug, Default)]
struct ProductSlots {
    weight: usize,
    bias: Option<usize>,
    residual: Option<usize>,
    result: usize,
    /// The function of product and bias.
    act: Option<Activation>,
    /// The function of what the result holds, which multiplies the product.
    gated: Option<Activation>,
}

/// The places of a step's operands, with products in the order in which they run.
struct Slots {
    x: usize,
    products: Vec<ProductSlots>,
}

impl Slots {
    fn of(op: &Op) -> Result<Slots, String> {
        Ok(match op {
            Op::QMatmul(op) => {
                let bias = op.bias.then_some(2);
                let residual = op.residual.then_some(2 + usize::from(op.bias));
                Slots {
                    x: 1,
                    products: vec![ProductSlots { weight: 0, bias, residual, act: op.act, ..Default::default() }],
                }
            }
            Op::QMatmulGroup(op) => {
                let of = |i| ProductSlots {
                    weight: 1 + i,
                    bias: op.bias.then_some(1 + op.weights + i),
                    result: i,
                    ..Default::default()
                };
                Slots { x: 0, products: (0..op.weights).map(of).collect() }
            }
            // The gate's product lies in the result until the other takes its place.
            Op::GluQMatmul(op) => {
                let of = |weight, gated| ProductSlots { weight, gated, ..Default::default() };
                Slots { x: 0, products: vec![of(1, None), of(2, Some(op.act))] }
            }
            other => return Err(format!("{} is no product with a weight", other.name())),
        })
    }
}

fn activations(x: &DeviceView) -> Result<Rows, String> {
    if x.dtype != DType::F16 {
        return Err(format!("products on matrix units take f16 activations, not {}", x.dtype));
    }
    let (k, t) = (x.ne(0), x.rows());
    if k == 0 || !k.is_multiple_of(32) {
        return Err(format!("rows of {k} elements are no whole blocks of 32"));
    }
    let stride = rows_side_by_side(x, 2)?;
    if !stride.is_multiple_of(8) || !x.view.ptr.is_multiple_of(16) {
        return Err("rows of activations that do not begin at multiples of 16 bytes".to_string());
    }
    if t.saturating_mul(stride) > i32::MAX as usize {
        return Err(format!("{t} rows of {k} elements are too many"));
    }
    Ok(Rows { ptr: x.view.ptr, stride, t, k })
}

/// The elements from a row to the next, the same between all rows.
fn rows_side_by_side(v: &DeviceView, element: i64) -> Result<usize, String> {
    let [first, row, plane, cube] = v.view.nb;
    let rows = |dim: usize| v.view.ne[dim] as i64;
    let even = (v.ne(0) == 1 || first == element)
        && (v.ne(2) == 1 || plane == row * rows(1))
        && (v.ne(3) == 1 || cube == row * rows(1) * rows(2));
    if !even || row < 0 || row % element != 0 {
        return Err(format!("rows of {:?} with strides {:?} do not follow each other", v.view.ne, v.view.nb));
    }
    Ok(if v.rows() == 1 { v.ne(0) } else { (row / element) as usize })
}

fn floats(v: &DeviceView) -> Result<i32, String> {
    if v.dtype != DType::F32 {
        return Err(format!("sums are f32, not {}", v.dtype));
    }
    i32::try_from(rows_side_by_side(v, 4)?).map_err(|_| "rows are too far apart".to_string())
}

fn product(slots: &ProductSlots, s: &StepArgs<'_>, x: &Rows) -> Result<Product, String> {
    let operand = &s.operands[slots.weight];
    let weight = s.weights.get(slots.weight).copied().flatten();
    let (n, k) = (operand.ne(1), operand.ne(0));
    if k != x.k {
        return Err(format!("weights of {k} elements a row with activations of {}", x.k));
    }
    let (w, raw) = match weight.and_then(|w| w.planes) {
        Some(planes) => (planes, None),
        None => {
            let Some(ptr) = weight.map_or(Some(operand.view.ptr), |w| w.raw).filter(|&p| p != 0) else {
                return Err(format!("the {} weight is not on the device", operand.dtype));
            };
            let planes =
                Planes { format: RAW, rows: n as i32, k: k as i32, blocks: (k / 32) as i32, ..Planes::zeroed() };
            (planes, Some(View { ptr, ..operand.view }))
        }
    };
    let act = match (slots.gated, slots.act) {
        (Some(act), _) => 1 + act as i32,
        (None, Some(act)) => -1 - act as i32,
        (None, None) => 0,
    };
    let result = &s.results[slots.result];
    let residual = slots.residual.map(|r| &s.operands[r]);
    let part = Part {
        w,
        bias: slots.bias.map_or(0, |b| s.operands[b].view.ptr),
        residual: residual.map_or(0, |r| r.view.ptr),
        out: result.view.ptr,
        first: 0,
        n: n as i32,
        out_stride: floats(result)?,
        residual_stride: residual.map_or(Ok(0), floats)?,
        tiles: 0,
        unused: 0,
    };
    Ok(Product { part, weight: slots.weight, raw, act })
}

/// The rows of the products at the front that are of the format of the first.
fn total_rows(products: &[Product]) -> usize {
    let format = products.first().map(|p| p.part.w.format);
    let same = products.iter().take(PARTS).take_while(|p| Some(p.part.w.format) == format && p.act == 0);
    same.map(|p| p.part.n as usize).sum::<usize>().max(products.first().map_or(0, |p| p.part.n as usize))
}

/// A launch of `gemm` for products of one format.
fn direct(products: &[Product], x: &Rows, tile: Tile, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let mut parts = [Part::zeroed(); PARTS];
    let shape = tile.shape(s.arch);
    let mut tiles = 0;
    for (part, product) in parts.iter_mut().zip(products) {
        *part = product.part;
        part.tiles = (part.n as usize).div_ceil(shape.n) as i32;
        tiles += part.tiles as usize;
    }
    let format = products[0].part.w.format;
    let kernels = GEMM.iter().find(|(f, _)| *f == format).ok_or_else(|| format!("no product with format {format}"))?;
    if tiles > MOST_BLOCKS {
        return Err(format!("{tiles} tiles of rows are too many"));
    }
    let grid = [x.t.div_ceil(shape.t), tiles, 1];
    let threads = 4 * s.arch.wave as u32;
    let kernel = kernels.1[usize::from(tile == Tile::Small)];
    let launch = out.add(kernel, grid, threads).lds(shape.lds);
    launch.arg(parts).arg(x.ptr).arg(x.stride as i64).arg(x.t as i32).arg(products[0].act);
    Ok(())
}

/// A product of weights that become f16 in scratch memory first, slab by slab; f16 weights are taken where they are.
fn expanded(p: &Product, x: &Rows, variant: Variant, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (n, k) = (p.part.n as usize, x.k);
    let halves = p.part.w.format == F16;
    let slab = slab(n, k, x.t, p.sums_apart());
    let step = if halves && !p.sums_apart() { n } else { slab.rows };
    for first in (0..n).step_by(step.max(1)) {
        let rows = step.min(n - first);
        let w = if halves { p.part.w.quants + (first * k * 2) as u64 } else { s.scratch };
        if !halves {
            expand(p, first, rows, s, out)?;
        }
        let column = |ptr: DevicePtr| if ptr == 0 { 0 } else { ptr + 4 * first as u64 };
        let part = Part {
            w: Planes { quants: w, format: F16, rows: rows as i32, ..p.part.w },
            bias: column(p.part.bias),
            residual: column(p.part.residual),
            out: column(p.part.out),
            n: rows as i32,
            ..p.part
        };
        match variant {
            Variant::Library => library(&Product { part, ..*p }, x, s.scratch + slab.sums as u64, out)?,
            Variant::Scratch(tile) | Variant::Direct(tile) => direct(&[Product { part, ..*p }], x, tile, s, out)?,
        }
    }
    Ok(())
}

/// Rows of a weight into the scratch memory as f16.
fn expand(p: &Product, first: usize, rows: usize, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let groups = rows * (p.part.w.k as usize / 32);
    let Some(raw) = p.raw else {
        let kernel = DEQUANTIZE.iter().find(|(f, _)| *f == p.part.w.format);
        let kernel = kernel.ok_or_else(|| format!("format {} does not become f16", p.part.w.format))?.1;
        let launch = out.add(kernel, [(groups * 4).div_ceil(THREADS as usize), 1, 1], THREADS);
        launch.arg(p.part.w).arg(s.scratch).arg(first as i32).arg(rows as i32);
        return Ok(());
    };
    let dtype = s.operands[p.weight].dtype;
    let source = View { ptr: raw.ptr + first as u64 * raw.nb[1] as u64, ne: [raw.ne[0], rows as i32, 1, 1], ..raw };
    let threads = super::dequantize::THREADS;
    let launch = out.add(kernels_of(dtype)?.dequantize_f16, [groups.div_ceil(threads), 1, 1], threads as u32);
    launch.arg(source).arg(s.scratch);
    Ok(())
}

/// A product of f16 weights by the BLAS library, and a kernel for what it does not do.
fn library(p: &Product, x: &Rows, sums: DevicePtr, out: &mut Launches) -> Result<(), String> {
    let apart = p.sums_apart();
    let mut rest = p.part;
    // What lies in the result already is what the library adds to.
    let accumulate =
        p.act == 0 && rest.residual != 0 && rest.residual == rest.out && rest.residual_stride == rest.out_stride;
    if accumulate {
        rest.residual = 0;
    }
    let (to, stride) = if apart { (sums, rest.n as usize) } else { (rest.out, rest.out_stride as usize) };
    out.product(GemmF16 {
        w: rest.w.quants,
        w_stride: x.k,
        x: x.ptr,
        x_stride: x.stride,
        out: to,
        out_stride: stride,
        rows: rest.n as usize,
        tokens: x.t,
        k: x.k,
        accumulate,
    });
    if p.act != 0 || rest.bias != 0 || rest.residual != 0 {
        if x.t > MOST_BLOCKS {
            return Err(format!("{} tokens are too many", x.t));
        }
        let kernel = Kernel { file: "gemm_dequantize", name: "gemm_finish" };
        let launch = out.add(kernel, [(rest.n as usize).div_ceil(4 * THREADS as usize), x.t, 1], THREADS);
        launch.arg(rest).arg(to).arg(stride as i32).arg(p.act);
    }
    Ok(())
}

macro_rules! formats {
    ($( $format:literal $name:literal, )*) => {
        /// The kernels of a `FORMAT_…` of planes.h, with large and with small tiles.
        const GEMM: &[(i32, [Kernel; 2])] = &[
            $( ($format, [
                Kernel { file: "gemm", name: concat!("gemm_", $name, "_large") },
                Kernel { file: "gemm", name: concat!("gemm_", $name, "_small") },
            ]), )*
        ];
        const DEQUANTIZE: &[(i32, Kernel)] = &[
            (BF16, Kernel { file: "gemm_dequantize", name: "gemm_dequantize_bf16" }),
            $( ($format, Kernel { file: "gemm_dequantize", name: concat!("gemm_dequantize_", $name) }), )*
        ];
    };
}
formats! {
    1 "f16", 3 "q8_0", 4 "q4_0", 5 "q4_1", 6 "q5_0", 7 "q5_1", 8 "q4_k", 9 "q5_k", 10 "q6_k", 11 "iq4_nl", 12 "iq4_xs", 13 "mxfp4",
}

#[cfg(test)]
mod tests {
    use super::super::testing::dense;
    use super::*;
    use crate::backends::hip::weights::DeviceWeight;
    use crate::ops::{GluQMatmul, QMatmul, QMatmulGroup};

    const HEADER: &str = include_str!("../../../../kernels/gemm.hip");

    fn weight(format: i32, n: usize, k: usize) -> DeviceWeight {
        let planes =
            Planes { quants: 0x100, format, rows: n as i32, k: k as i32, blocks: k as i32 / 32, ..Planes::zeroed() };
        DeviceWeight { dtype: DType::Q4K, planes: Some(planes), raw: None }
    }

    fn launched(
        arch: &Arch,
        op: impl Into<Op>,
        operands: &[DeviceView],
        results: &[DeviceView],
        weights: &[Option<&DeviceWeight>],
    ) -> Result<Launches, String> {
        let (scratch, fault, index, early) = (1 << 30, 0, 0, false);
        let s = StepArgs { operands, results, weights, arch, scratch, fault, index, early };
        let mut out = Launches::default();
        launches(&op.into(), &s, &mut out).map(|()| out)
    }

    fn names(out: &Launches) -> Vec<&str> {
        out.list.iter().map(|l| l.kernel.name).collect()
    }

    fn qmatmul(bias: bool, residual: bool) -> QMatmul {
        QMatmul { bias, act: None, residual, activation: DType::F32, norm_eps: 0.0 }
    }

    fn glu() -> GluQMatmul {
        GluQMatmul { act: Activation::Silu, activation: DType::F32, norm_eps: 0.0 }
    }

    #[test]
    fn header_and_choice_agree_on_shapes_and_formats() {
        for (arch, from, to) in
            [("sm_90", "GPU_NVIDIA", "MATRIX_NONE"), ("gfx1030", "MATRIX_NONE", "#else"), ("gfx942", "#else", "#endif")]
        {
            let arch = Arch::of(arch).unwrap();
            let section = HEADER.split(from).nth(1).unwrap().split(to).next().unwrap();
            for (tile, name) in [(Tile::Large, "Large"), (Tile::Small, "Small")] {
                let line = section.lines().find(|l| l.ends_with(&format!("> {name};"))).unwrap();
                let list = line.split('<').nth(1).unwrap().split('>').next().unwrap();
                let [n, t, k, stages, waves_n, waves_t] =
                    list.split(", ").map(|v| v.parse().unwrap()).collect::<Vec<usize>>()[..].try_into().unwrap();
                let shape = tile.shape(&arch);
                assert_eq!(
                    (shape.n, shape.t, shape.lds),
                    (n, t, stages * (n + t) * (k + 8) * 2),
                    "{} {name}",
                    arch.name
                );
                assert_eq!(waves_n * waves_t, 4);
            }
        }
        for (format, kernels) in GEMM {
            let name = kernels[0].name.strip_prefix("gemm_").unwrap().strip_suffix("_large").unwrap();
            assert!(HEADER.contains(&format!("GEMM_FORMAT({name}, FORMAT_{})", name.to_uppercase())));
            let planes = include_str!("../../../../kernels/common/planes.h");
            assert!(planes.contains(&format!("#define FORMAT_{} {format}\n", name.to_uppercase())));
        }
    }

    #[test]
    fn a_group_of_one_format_is_one_launch() {
        let arch = Arch::of("sm_90").unwrap();
        let x = dense(DType::F16, [4096, 512, 1, 1]);
        let rows = [4096, 1024, 1024];
        let w = rows.map(|n| dense(DType::Q4K, [4096, n, 1, 1]));
        let y = rows.map(|n| dense(DType::F32, [n, 512, 1, 1]));
        let group = QMatmulGroup { weights: 3, bias: false, activation: DType::F32, norm_eps: 0.0 };
        let (q4, q6) = (rows.map(|n| weight(8, n, 4096)), weight(10, 1024, 4096));
        let operands = [x, w[0], w[1], w[2]];
        let out =
            launched(&arch, group.clone(), &operands, &y, &[None, Some(&q4[0]), Some(&q4[1]), Some(&q4[2])]).unwrap();
        assert_eq!(names(&out), ["gemm_q4_k_large"]);
        assert_eq!((out.list[0].grid, out.list[0].threads), ([4, 48, 1], 128));
        let out = launched(&arch, group, &operands, &y, &[None, Some(&q4[0]), Some(&q4[1]), Some(&q6)]).unwrap();
        assert_eq!(names(&out), ["gemm_q4_k_large", "gemm_q6_k_small"]);
    }

    #[test]
    fn a_gated_product_is_two_launches_in_order() {
        let arch = Arch::of("gfx942").unwrap();
        let x = dense(DType::F16, [4096, 300, 1, 1]);
        let w = dense(DType::Q4K, [4096, 14336, 1, 1]);
        let y = dense(DType::F32, [14336, 300, 1, 1]);
        let q4 = weight(8, 14336, 4096);
        let out = launched(&arch, glu(), &[x, w, w], &[y], &[None, Some(&q4), Some(&q4)]).unwrap();
        assert_eq!(names(&out), ["gemm_q4_k_large", "gemm_q4_k_large"]);
        let act = |i: usize| {
            let args = &out.list[i].args;
            args.bytes()[usize::from(*args.offsets().last().unwrap())]
        };
        assert_eq!((act(0), act(1), out.list[0].threads), (0, 1, 256));
    }

    #[test]
    fn weights_without_planes_are_expanded_slab_by_slab() {
        let arch = Arch::of("gfx1100").unwrap();
        let x = dense(DType::F16, [8192, 300, 1, 1]);
        let w = dense(DType::Iq2Xxs, [8192, 10000, 1, 1]);
        let y = dense(DType::F32, [10000, 300, 1, 1]);
        let out = launched(&arch, qmatmul(false, false), &[w, x], &[y], &[None, None]).unwrap();
        assert_eq!(
            names(&out),
            ["dequantize_iq2_xxs_f16", "gemm_f16_large", "dequantize_iq2_xxs_f16", "gemm_f16_large"]
        );
        assert_eq!(slab(10000, 8192, 300, false), Slab { rows: 5120, sums: 80 << 20, bytes: 80 << 20 });
        let gated = slab(28672, 8192, 4096, true);
        assert!(gated.rows == 4096 && gated.bytes <= SLAB + SUMS, "{gated:?}");
    }

    #[test]
    fn the_library_multiplies_and_a_kernel_adds_what_is_not_there_yet() {
        let arch = Arch { blas: true, ..Arch::of("sm_90").unwrap() };
        let x = dense(DType::F16, [4096, 512, 1, 1]);
        let w = dense(DType::Q4K, [4096, 4096, 1, 1]);
        let (mut y, bias) = (dense(DType::F32, [4096, 512, 1, 1]), dense(DType::F32, [4096, 1, 1, 1]));
        let q4 = weight(8, 4096, 4096);
        let weights = [Some(&q4), None, None, None];
        let plain = launched(&arch, qmatmul(false, false), &[w, x], &[y], &weights).unwrap();
        assert_eq!((names(&plain), plain.products[0].0), (vec!["gemm_dequantize_q4_k"], 1));
        let in_place = launched(&arch, qmatmul(false, true), &[w, x, y], &[y], &weights).unwrap();
        assert!(in_place.list.len() == 1 && in_place.products[0].1.accumulate);
        let residual = y;
        y.view.ptr += 1 << 24;
        let added = launched(&arch, qmatmul(true, true), &[w, x, bias, residual], &[y], &weights).unwrap();
        assert_eq!(names(&added), ["gemm_dequantize_q4_k", "gemm_finish"]);
        assert!(added.products[0].0 == 1 && !added.products[0].1.accumulate);
        let act = QMatmul { act: Some(Activation::Gelu), ..qmatmul(true, true) };
        let activated = launched(&arch, act, &[w, x, bias, y], &[y], &weights).unwrap();
        assert_eq!(names(&activated), ["gemm_dequantize_q4_k", "gemm_finish"]);
        assert_ne!(activated.products[0].1.out, y.view.ptr, "the residual lies in the result");
        let gated = launched(&arch, glu(), &[x, w, w], &[y], &[None, Some(&q4), Some(&q4)]).unwrap();
        assert_eq!(names(&gated), ["gemm_dequantize_q4_k", "gemm_dequantize_q4_k", "gemm_finish"]);
        assert_eq!(gated.products[1].1.out, (1 << 30) + (4096 * 4096 * 2));
    }

    #[test]
    fn what_the_kernels_do_not_multiply_is_refused_with_the_reason() {
        let arch = Arch::of("gfx1100").unwrap();
        let y = dense(DType::F32, [64, 9, 1, 1]);
        let refused = |dtype, k| {
            let operands = [dense(DType::F16, [k, 64, 1, 1]), dense(dtype, [k, 9, 1, 1])];
            launched(&arch, qmatmul(false, false), &operands, &[y], &[None, None]).unwrap_err()
        };
        assert!(refused(DType::F32, 64).contains("f32"));
        assert!(refused(DType::F16, 40).contains("40"));
    }
}
