//! `qkv_rope_append`: two rows of Q, K or V a wave, which rotate together; for weights in planes and steps of a few tokens.

use super::kv_append::{cache, cache_type};
use super::qmatmul::{Matvec, block_shape, is_plain};
use super::rope::{RopeTable, Rotation, factors};
use super::{StepArgs, ids};
use crate::backends::hip::arch::Arch;
use crate::backends::hip::launch::{Kernel, Launches};
use crate::backends::hip::planes::PlaneLayout;
use crate::backends::hip::view::{DevicePtr, View};
use crate::backends::hip::weights::Planes;
use crate::ops::QkvRopeAppend;
use crate::tensor::DType;
use bytemuck::{Pod, Zeroable};

/// `RopeAppend` of `kernels/matvec_qkv.hip`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RopeAppend {
    state: [View; 2],
    positions: DevicePtr,
    slots: DevicePtr,
    factors: DevicePtr,
    fault: DevicePtr,
    table: RopeTable,
    scale: f32,
    n_dims: i32,
    neox: i32,
    head: [i32; 3],
    end: [i32; 3],
    cache: [i32; 2],
    step: i32,
}

const _: () = assert!(size_of::<RopeAppend>() == 1216, "as in matvec_qkv.hip");

macro_rules! kernels {
    ($($name:literal),*) => { [$( Kernel { file: "matvec_qkv", name: concat!("matvec_qkv_", $name) }, )*] };
}

/// Kernels by `FORMAT_…` of planes.h, from F16 on.
const ONE_FORMAT: [Kernel; 13] = kernels!(
    "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "mxfp4"
);
/// Pairs of formats that there is a kernel for, and these kernels.
const PAIRS: [(i32, i32); 4] = [(8, 10), (9, 10), (8, 9), (6, 3)];
const TWO_FORMATS: [Kernel; 4] = kernels!("q4_k_q6_k", "q5_k_q6_k", "q4_k_q5_k", "q5_0_q8_0");

/// The kernel for Q, K and V in these formats, and how many of the three have the first one's.
fn kernel(formats: [i32; 3]) -> Option<(Kernel, usize)> {
    let split = formats.iter().take_while(|&&f| f == formats[0]).count();
    if split == 3 {
        return Some((*ONE_FORMAT.get(usize::try_from(formats[0] - 1).ok()?)?, split));
    }
    let pair = PAIRS.iter().position(|&pair| pair == (formats[0], formats[2]))?;
    (formats[1..].windows(2).all(|f| split == 2 || f[0] == f[1])).then_some((TWO_FORMATS[pair], split))
}

/// LDS for activations of `k` elements, and with what the kernel has besides.
fn lds(plain: bool, k: usize) -> [usize; 2] {
    let activations = if plain { 4 * k } else { k + k / 4 };
    [activations, activations + 2048]
}

/// Whether the kernel takes weights of these types with rows of `k`.
pub(in crate::backends::hip) fn serves(weights: [DType; 3], k: usize, arch: &Arch) -> bool {
    let Some(q) = PlaneLayout::of(weights[0], 1, k) else { return false };
    let format = |dtype| PlaneLayout::of(dtype, 1, k).map_or(0, |layout| layout.format);
    kernel(weights.map(format)).is_some() && lds(is_plain(q.format), k)[1] <= arch.lds
}

pub(super) fn launches(op: &QkvRopeAppend, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (x, q) = (s.operands[0], s.results[0]);
    let tail = &s.operands[op.k_state()..];
    let types = [cache_type(&tail[0])?, cache_type(&tail[1])?];
    if let Some(blocks) = tail[..2].iter().find(|state| state.dtype.block_len() > 1) {
        return Err(format!("no wave has all elements of a block of {}, which rope_kv_append stores", blocks.dtype));
    }
    let planes = |w: usize| s.weights.get(w).copied().flatten().and_then(|w| w.planes);
    let [Some(wq), Some(wk), Some(wv)] = [1, 2, 3].map(planes) else {
        return Err("its weights have no planes, which qkv_rope_append needs".to_string());
    };
    let w: [Planes; 3] = [wq, wk, wv];
    let (plain, k) = (is_plain(wq.format), wq.k);
    let kernel = kernel(w.map(|w| w.format)).filter(|_| w.iter().all(|w| w.k == k));
    let Some((kernel, split)) = kernel else {
        return Err("there is no kernel for the formats of Q, K and V together".to_string());
    };
    let [dynamic, lds] = lds(plain, k as usize);
    let rounding = if plain { DType::F32 } else { DType::Q8A };
    if op.group.activation != rounding || lds > s.arch.lds {
        return Err(format!("rows of {k} with activations of {} in one step", op.group.activation));
    }
    if x.dtype != DType::F32 || !x.is_contiguous() || !q.is_contiguous() {
        return Err("its input or Q does not lie side by side".to_string());
    }
    let heads = op.heads(s.operands, |view| Some(view.ne(0))).ok_or("it has no caches")?;
    if x.rows() == 0 || heads.contains(&0) {
        return Ok(());
    }
    let rotation = Rotation::of(&op.rope)?;
    let mut append = RopeAppend {
        state: [cache(&tail[0])?, cache(&tail[1])?],
        positions: ids(&tail[2])?,
        slots: ids(&tail[3])?,
        factors: factors(tail.get(4))?,
        fault: s.fault,
        table: rotation.table,
        scale: rotation.scale,
        n_dims: rotation.n_dims,
        neox: rotation.neox,
        head: heads.map(|d| d as i32),
        end: [0; 3],
        cache: types,
        step: s.index,
    };
    let mut a = Matvec::zeroed();
    let mut pairs = 0;
    for (i, d) in heads.into_iter().enumerate() {
        a.w[i] = w[i];
        a.bias[i] = if op.group.bias { s.operands[4 + i].view.ptr } else { 0 };
        pairs += w[i].rows as usize / d * d.div_ceil(2);
        append.end[i] = pairs as i32;
    }
    a.out[0] = q.view.ptr;
    a.x = x.view.ptr;
    if op.group.norm_eps > 0.0 {
        (a.eps, a.norm) = (op.group.norm_eps, s.operands[op.group.norm_slot()].view.ptr);
    }
    (a.count, a.k, a.x_stride) = (3, k, k);
    let (threads, per_unit) = block_shape(s.arch);
    let blocks = pairs.clamp(1, s.arch.units * per_unit);
    let launch = out.add(kernel, [blocks, x.rows(), 1], threads).lds(dynamic).arg(a).arg(append);
    if split < 3 {
        launch.arg(split as i32);
    }
    launch.arg(blocks as i32);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_for_one_format_or_for_pairs_of_the_usual_mixes() {
        assert_eq!(kernel([8, 8, 8]).unwrap(), (Kernel { file: "matvec_qkv", name: "matvec_qkv_q4_k" }, 3));
        assert_eq!(kernel([8, 8, 10]).unwrap(), (Kernel { file: "matvec_qkv", name: "matvec_qkv_q4_k_q6_k" }, 2));
        assert_eq!(kernel([6, 3, 3]).unwrap(), (Kernel { file: "matvec_qkv", name: "matvec_qkv_q5_0_q8_0" }, 1));
        for none in [[8, 10, 8], [8, 9, 10], [10, 10, 8], [8, 8, 3], [0, 0, 0], [14, 14, 14]] {
            assert!(kernel(none).is_none(), "{none:?}");
        }
    }

    #[test]
    fn types_without_planes_and_rows_that_no_lds_holds_are_not_served() {
        let arch = Arch::of("gfx1100").unwrap();
        assert!(serves([DType::Q4K, DType::Q4K, DType::Q6K], 4096, &arch));
        assert!(serves([DType::F16; 3], 4096, &arch));
        assert!(!serves([DType::F16; 3], 16384, &arch));
        assert!(!serves([DType::F16, DType::F32, DType::F16], 4096, &arch));
        assert!(!serves([DType::Q4K; 3], 256, &arch));
        assert!(!serves([DType::F32; 3], 4096, &arch));
    }
}
