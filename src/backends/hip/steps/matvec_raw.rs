//! One product with a weight of any type, raw or in planes, with f32 sums: for types without planes, for short rows, for floats, and for
//! whatever else the faster kernels do not serve. The kernels are those of `kernels/common/matvec_raw.h`.

use super::StepArgs;
use super::elementwise::activation;
use super::qmatmul::is_plain;
use crate::backends::hip::launch::{Kernel, Launches};
use crate::backends::hip::raw::{RawMatrix, kernels_of, raw_matrix, row_stride};
use crate::backends::hip::view::{DevicePtr, DeviceView};
use crate::ops::Activation;
use crate::tensor::DType;
use bytemuck::{NoUninit, Pod, Zeroable};

const THREADS: u32 = 256;
/// Teams of 32 lanes in a block.
const TEAMS: usize = 8;
/// Bytes of LDS that a group of 32 activations takes.
const GROUP_BYTES: usize = 144;
/// Groups of activations that a block holds for all its tokens, at most (36 KiB).
const MAX_GROUPS: usize = 256;
/// Blocks for a compute unit; beyond, a block takes several tiles of rows and keeps the activations.
const BLOCKS_PER_UNIT: usize = 4;

/// `RawActivations` of matvec_raw.h.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Activations {
    data: DevicePtr,
    row_bytes: i64,
    norm: DevicePtr,
    eps: f32,
    kind: i32,
    rounded: i32,
    tokens: i32,
    chunk_groups: i32,
    unused: i32,
}

/// `RawResult` of matvec_raw.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct RawResult {
    out: DevicePtr,
    out_stride: i64,
    bias: DevicePtr,
    residual: DevicePtr,
    residual_stride: i64,
    act: i32,
    blocks: i32,
}

const _: () = assert!(size_of::<Activations>() == 48 && size_of::<RawResult>() == 48);

/// One product: operands and result by their place in the step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Product {
    pub weight: usize,
    pub x: usize,
    pub bias: Option<usize>,
    pub residual: Option<usize>,
    /// The factor of a normalisation of `x`, and its `eps`.
    pub norm: Option<(usize, f32)>,
    pub result: usize,
    /// The result holds the gate's product, and becomes this function of it times this product.
    pub gated: Option<Activation>,
    /// f32 activations are rounded to q8_a on the way in.
    pub rounded: bool,
}

macro_rules! plane_kernels {
    ($( $name:literal )*) => {
        [$( [
            Kernel { file: "matvec_planes", name: concat!("matvec_planes_", $name, "_1") },
            Kernel { file: "matvec_planes", name: concat!("matvec_planes_", $name, "_8") },
        ], )*]
    };
}

/// Kernels by `FORMAT_…` of planes.h, from `FORMAT_Q8_0` on.
const PLANES: [[Kernel; 2]; 11] =
    plane_kernels!["q8_0" "q4_0" "q4_1" "q5_0" "q5_1" "q4_k" "q5_k" "q6_k" "iq4_nl" "iq4_xs" "mxfp4"];

/// Appends the launch of one product: with the planes of its weight, or with raw rows.
pub(super) fn launch(product: &Product, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let planes = s.weights.get(product.weight).copied().flatten().and_then(|w| w.planes);
    if let Some(planes) = planes
        && !is_plain(planes.format)
    {
        return launch_with(planes, PLANES[planes.format as usize - 3], (planes.rows, planes.k), product, s, out);
    }
    let dtype = s.operands[product.weight].dtype;
    let matrix = match planes {
        // Floats in planes are rows as in a file.
        Some(planes) => {
            let row_bytes = planes.k as usize * dtype.block_bytes();
            RawMatrix { data: planes.quants, row_bytes: row_bytes as i64, rows: planes.rows, k: planes.k }
        }
        None => raw_matrix(s, product.weight)?,
    };
    launch_with(matrix, kernels_of(dtype)?.matvec, (matrix.rows, matrix.k), product, s, out)
}

fn launch_with<M: NoUninit>(
    matrix: M,
    kernels: [Kernel; 2],
    (rows, k): (i32, i32),
    product: &Product,
    s: &StepArgs<'_>,
    out: &mut Launches,
) -> Result<(), String> {
    let (rows, k) = (rows as usize, k as usize);
    let tokens = s.operands[product.x].rows();
    if rows == 0 || tokens == 0 {
        return Ok(());
    }
    // As many tokens as a block keeps activations of, and rows that a team works on at once.
    let (kernel, tile, team_rows) = if tokens == 1 { (kernels[0], 1, 1) } else { (kernels[1], 8, 2) };
    let chunk = k.div_ceil(32).clamp(1, MAX_GROUPS / tile);
    let blocks = rows.div_ceil(TEAMS * team_rows).min(s.arch.units * BLOCKS_PER_UNIT);
    let (mut activations, mut sums) = operands(product, s)?;
    (activations.chunk_groups, sums.blocks) = (chunk as i32, blocks as i32);
    let lds = tile * chunk * GROUP_BYTES;
    out.add(kernel, [blocks, tokens.div_ceil(tile), 1], THREADS).lds(lds).arg(matrix).arg(activations).arg(sums);
    Ok(())
}

/// What kernels need to know of a product's activations and of where its sums go.
fn operands(product: &Product, s: &StepArgs<'_>) -> Result<(Activations, RawResult), String> {
    let (x, result) = (&s.operands[product.x], &s.results[product.result]);
    let activations = Activations {
        data: x.view.ptr,
        row_bytes: row_stride(x)?,
        norm: product.norm.map_or(0, |(i, _)| s.operands[i].view.ptr),
        eps: product.norm.map_or(0.0, |(_, eps)| eps),
        kind: activation_number(x.dtype)?,
        rounded: i32::from(product.rounded && x.dtype == DType::F32),
        tokens: x.rows() as i32,
        chunk_groups: 0,
        unused: 0,
    };
    let (bias, residual) = (product.bias.map(|i| &s.operands[i]), product.residual.map(|i| &s.operands[i]));
    let sums = RawResult {
        out: result.view.ptr,
        out_stride: float_stride(result)?,
        bias: bias.map_or(0, |b| b.view.ptr),
        residual: residual.map_or(0, |r| r.view.ptr),
        residual_stride: residual.map_or(Ok(0), float_stride)?,
        act: product.gated.map_or(0, |act| 1 + activation(act)),
        blocks: 0,
    };
    Ok((activations, sums))
}

/// `DTYPE_…` of the activations that the kernels read.
fn activation_number(dtype: DType) -> Result<i32, String> {
    match dtype {
        DType::F32 | DType::F16 => Ok(kernels_of(dtype)?.number),
        DType::Q8A => Ok(1002),
        other => Err(format!("raw matrices are multiplied with f32, f16 or q8_a activations, not {other}")),
    }
}

/// Floats from a row to the next.
fn float_stride(view: &DeviceView) -> Result<i64, String> {
    match view.dtype {
        DType::F32 => Ok(row_stride(view)? / 4),
        other => Err(format!("sums are f32, not {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::hip::steps::qmatmul::launches;
    use crate::backends::hip::steps::testing::{dense, step};
    use crate::ops::{GluQMatmul, Op, QMatmul, QMatmulGroup};

    fn launched(op: impl Into<Op>, operands: &[DeviceView], results: &[DeviceView]) -> Result<Launches, String> {
        let op = op.into();
        step(operands, results, |s, out| launches(&op, s, out))
    }

    fn names(out: &Launches) -> Vec<&str> {
        out.list.iter().map(|l| l.kernel.name).collect()
    }

    fn qmatmul(activation: DType) -> QMatmul {
        QMatmul { bias: false, act: None, residual: false, activation, norm_eps: 0.0 }
    }

    #[test]
    fn header_and_step_agree_on_the_shape_of_a_block() {
        let header = include_str!("../../../../kernels/common/matvec_raw.h");
        assert!(header.contains(&format!("#define MATVEC_THREADS {THREADS}\n")));
        assert!(header.contains(&format!("#define MATVEC_TEAM {}\n", THREADS as usize / TEAMS)));
        assert!(header.contains(&format!("#define MATVEC_GROUP_WORDS {}\n", GROUP_BYTES / 4)));
        assert!(header.contains(&format!("DTYPE_q8_a = {};", activation_number(DType::Q8A).unwrap())));
    }

    #[test]
    fn one_token_and_more_take_kernels_of_their_own_with_lds_within_bounds() {
        for (tokens, kernel, rows) in
            [(1, "matvec_raw_q2_K_1", 1), (2, "matvec_raw_q2_K_8", 1), (17, "matvec_raw_q2_K_8", 3)]
        {
            let w = dense(DType::Q2K, [16384, 100, 1, 1]);
            let x = dense(DType::F32, [16384, tokens, 1, 1]);
            let y = dense(DType::F32, [100, tokens, 1, 1]);
            let out = launched(qmatmul(DType::F32), &[w, x], &[y]).unwrap();
            assert_eq!(names(&out), [kernel]);
            assert_eq!(out.list[0].grid[1..], [rows, 1]);
            assert_eq!(out.list[0].lds, 36 << 10);
        }
    }

    #[test]
    fn a_group_is_a_launch_for_each_weight_and_a_gated_product_two_in_place() {
        let x = dense(DType::F32, [64, 1, 1, 1]);
        let weights = [DType::Q8_0, DType::F16, DType::Bf16].map(|t| dense(t, [64, 8, 1, 1]));
        let y = [dense(DType::F32, [8, 1, 1, 1]); 3];
        let group = QMatmulGroup { weights: 3, bias: false, activation: DType::Q8A, norm_eps: 0.0 };
        let out = launched(group, &[x, weights[0], weights[1], weights[2]], &y).unwrap();
        assert_eq!(names(&out), ["matvec_raw_q8_0_1", "matvec_raw_f16_1", "matvec_raw_bf16_1"]);
        let glu = GluQMatmul { act: Activation::Gelu, activation: DType::F32, norm_eps: 0.0 };
        let out = launched(glu, &[x, weights[0], weights[1]], &y[..1]).unwrap();
        assert_eq!(names(&out), ["matvec_raw_q8_0_1", "matvec_raw_f16_1"]);
    }

    #[test]
    fn what_the_kernels_do_not_read_is_refused_by_name() {
        let x = dense(DType::Bf16, [64, 1, 1, 1]);
        let (w, y) = (dense(DType::F32, [64, 8, 1, 1]), dense(DType::F32, [8, 1, 1, 1]));
        assert!(launched(qmatmul(DType::F32), &[w, x], &[y]).unwrap_err().contains("bf16"));
        let x = dense(DType::F32, [64, 1, 1, 1]);
        let w = dense(DType::I8, [64, 8, 1, 1]);
        assert!(launched(qmatmul(DType::F32), &[w, x], &[y]).unwrap_err().contains("i8"));
    }
}
