//! Steps: from bound views to kernel launches, one file an op. Pure functions: what cannot be launched is said here, at lowering.

mod attention;
mod concat;
mod cont;
mod dequantize;
pub(super) mod elementwise;
mod gemm;
mod get_rows;
mod kv_append;
mod kv_mask;
mod matmul;
mod matvec_raw;
mod norm;
pub(super) mod qkv_rope_append;
mod qmatmul;
mod quantize;
mod rope;
mod rope_kv_append;
mod soft_max;
#[cfg(test)]
pub(super) mod testing;

use super::arch::Arch;
use super::launch::Launches;
use super::view::{DevicePtr, DeviceView, Form};
use super::weights::DeviceWeight;
use crate::graph::plan::{Plan, Step};
use crate::ops::Op;
use crate::tensor::{Bounds, DType};

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
    /// What [`reads_early`] says of it.
    pub early: bool,
}

/// Scratch memory of a plan: a part that attention keeps zeroed between steps, a part that each step uses as it likes, what chooses
/// tokens after a decode step, and the fault record at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scratch {
    attention: usize,
    others: usize,
    chooser: usize,
    /// The plan's bound of S, where it is for one token.
    positions: usize,
}

/// Where what chooses tokens lies in the scratch (`kernels/sample.hip`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChooserPlaces {
    /// `DecodeState`.
    pub state: usize,
    /// The best of each block.
    pub partial: usize,
    /// `Bias`es.
    pub biases: usize,
    /// `Histogram`.
    pub histogram: usize,
    /// The largest logits of parts of them.
    pub peaks: usize,
    /// Candidates.
    pub list: usize,
    /// Random numbers, one a position.
    pub draws: usize,
    /// Chosen ids, one a position.
    pub chosen: usize,
    end: usize,
}

/// Blocks of `sample_greedy` at most.
pub(crate) const CHOOSER_BLOCKS: usize = 256;
/// `SAMPLE_PEAKS`, parts of the logits at most.
pub(crate) const CHOOSER_PEAKS: usize = 4096;
/// `SAMPLE_BUCKETS` of the histogram, each with a count and two sums.
const CHOOSER_BUCKETS: usize = 2048;
/// `SAMPLE_LISTED`, candidates in the list at most.
const CHOOSER_LISTED: usize = 4096;
/// Tokens with a bias at most.
pub(crate) const MOST_BIASES: usize = 1024;

impl Scratch {
    /// What the steps of a plan need.
    pub fn of(plan: &Plan, arch: &Arch) -> Scratch {
        let most = |attention: bool| {
            let of = plan.steps.iter().filter(|s| is_attention(&s.op) == attention);
            of.map(|s| scratch_bytes(s, &plan.bounds, arch)).max().unwrap_or(0).next_multiple_of(256)
        };
        let decodes = plan.bounds.t == 1 && plan.bounds.r == 1 && plan.inputs.iter().any(|p| p.name == "tokens");
        let positions = if decodes { plan.bounds.s } else { 0 };
        let mut scratch = Scratch { attention: most(true), others: most(false), chooser: 0, positions };
        scratch.chooser = scratch.chooser().map_or(0, |p| p.end - p.state).next_multiple_of(256);
        scratch
    }

    /// Where a step's scratch begins.
    pub fn offset(&self, step: &Step) -> usize {
        if is_attention(&step.op) { 0 } else { self.attention }
    }

    /// Where what chooses tokens lies, for plans of one token of a model.
    pub fn chooser(&self) -> Option<ChooserPlaces> {
        if self.positions == 0 {
            return None;
        }
        let state = self.attention + self.others;
        let partial = state + 256;
        let biases = partial + 8 * CHOOSER_BLOCKS;
        let histogram = biases + 8 * MOST_BIASES;
        let peaks = histogram + (4 + 2 * 8) * CHOOSER_BUCKETS;
        let list = peaks + 4 * CHOOSER_PEAKS;
        let draws = list + 8 * CHOOSER_LISTED;
        let chosen = draws + 8 * self.positions;
        let end = chosen + 4 * self.positions;
        Some(ChooserPlaces { state, partial, biases, histogram, peaks, list, draws, chosen, end })
    }

    /// Where the fault record lies.
    pub fn fault(&self) -> usize {
        self.attention + self.others + self.chooser
    }

    /// Bytes in all.
    pub fn bytes(&self) -> usize {
        self.fault() + 256
    }
}

/// Whether the kernels of a step may read some of what it works on before those of the step before have ended.
pub(crate) fn reads_early(step: &Step, plan: &Plan) -> bool {
    attention::early(step, plan)
}

fn is_attention(op: &Op) -> bool {
    matches!(op, Op::Attention(_) | Op::FullAttention(_))
}

/// Bytes of scratch that a step needs.
fn scratch_bytes(step: &Step, bounds: &Bounds, arch: &Arch) -> usize {
    match &step.op {
        Op::QMatmul(_) | Op::QMatmulGroup(_) | Op::GluQMatmul(_) => gemm::scratch_bytes(step, bounds, arch),
        Op::Attention(_) | Op::FullAttention(_) => attention::scratch_bytes(step, bounds, arch),
        _ => 0,
    }
}

/// Appends the launches of a step, or says why the device cannot run it.
pub(crate) fn launches(op: &Op, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    raw_weights(op, s)?;
    forms(op, s)?;
    match op {
        Op::Attention(op) => attention::launches(op, s, out),
        Op::FullAttention(op) => attention::full_launches(op, s, out),
        Op::Add(_) => elementwise::binary(&elementwise::ADD, s, out),
        Op::Sub(_) => elementwise::binary(&elementwise::SUB, s, out),
        Op::Mul(_) => elementwise::binary(&elementwise::MUL, s, out),
        Op::Div(_) => elementwise::binary(&elementwise::DIV, s, out),
        Op::Scale(op) => elementwise::scale(op.factor, s, out),
        Op::Unary(op) => elementwise::unary(op.kind, s, out),
        Op::Glu(op) => elementwise::glu(op.act, s, out),
        Op::Constant(op) => elementwise::constant(op.value, s, out),
        Op::RmsNorm(op) => norm::launches(&norm::RMS_NORM, op.eps, s, out),
        Op::RmsNormMul(op) => norm::rms_norm_mul(op.eps, s, out),
        Op::AddRmsNormMul(op) => norm::add_rms_norm_mul(op.eps, s, out),
        Op::LayerNorm(op) => norm::launches(&norm::LAYER_NORM, op.eps, s, out),
        Op::Rope(op) => rope::launches(op, s, out),
        Op::KvAppend(_) => kv_append::launches(s, out),
        Op::RopeKvAppend(op) => rope_kv_append::launches(op, s, out),
        Op::QkvRopeAppend(op) => qkv_rope_append::launches(op, s, out),
        Op::KvMask(op) => kv_mask::launches(op, s, out),
        Op::SoftMax(_) => soft_max::launches(s, out),
        Op::Matmul(_) => matmul::launches(s, out),
        Op::Quantize(op) => quantize::launches(op.to, s, out),
        Op::Dequantize(_) if matches!(s.operands[0].dtype, DType::F32 | DType::F16 | DType::Bf16) => {
            quantize::widen(s, out)
        }
        Op::Cont(_) => cont::launches(s, out),
        Op::Concat(op) => concat::launches(op, s, out),
        Op::GetRows(_) => get_rows::launches(s, out),
        Op::Dequantize(_) => dequantize::launches(s, out),
        Op::QMatmul(_) | Op::QMatmulGroup(_) | Op::GluQMatmul(_) if gemm::serves(op, s) => gemm::launches(op, s, out),
        Op::QMatmul(_) | Op::QMatmulGroup(_) | Op::GluQMatmul(_) => qmatmul::launches(op, s, out),
        op => Err(format!("there is no device kernel for {}", op.name())),
    }
}

/// Weights whose elements the op reads must be on the device as the file has them.
fn raw_weights(op: &Op, s: &StepArgs<'_>) -> Result<(), String> {
    for (i, (view, weight)) in s.operands.iter().zip(s.weights).enumerate() {
        if weight.is_some() && view.view.ptr == 0 && !op.is_matmul_weight(i) {
            return Err(format!("operand {i}, a weight of {}, is on the device for matmuls only", view.dtype));
        }
    }
    Ok(())
}

/// Caches of blocks are read, as whole rows, by the ops that know how they lie.
fn forms(op: &Op, s: &StepArgs<'_>) -> Result<(), String> {
    let attends = matches!(op, Op::Attention(_) | Op::FullAttention(_));
    let appends = matches!(op, Op::KvAppend(_) | Op::RopeKvAppend(_) | Op::QkvRopeAppend(_));
    let reads_planes = attends || appends || matches!(op, Op::Dequantize(_));
    for view in s.operands.iter().chain(s.results) {
        match view.form {
            Form::PartsOfRows => return Err(format!("it takes parts of the rows of a cache of {}", view.dtype)),
            Form::Planes { .. } if !reads_planes => {
                return Err(format!("devices keep codes and scales of a cache of {} apart: dequantize it", view.dtype));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The views must be f32 with the elements of a row side by side.
fn rows_of_f32(views: &[DeviceView]) -> Result<(), String> {
    for v in views {
        if v.dtype != DType::F32 {
            return Err(format!("it is for f32, not {}", v.dtype));
        }
        if v.view.nb[0] != 4 && v.ne(0) != 1 {
            return Err("the elements of a row do not lie side by side".to_string());
        }
    }
    Ok(())
}

/// The address of a vector of i32: positions, slots.
fn ids(view: &DeviceView) -> Result<DevicePtr, String> {
    if view.dtype != DType::I32 || (view.view.nb[0] != 4 && view.ne(0) != 1) {
        return Err(format!("ids of {} that do not lie side by side", view.dtype));
    }
    Ok(view.view.ptr)
}
