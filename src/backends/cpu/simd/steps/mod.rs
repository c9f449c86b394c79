//! Steps of a plan over raw views of the arena: one file an op, each a function that computes one thread's share.
//!
//! **Contract of every step function.** The views point to memory that lives and is large enough for the bound sizes; results
//! overlap operands only where the plan says in place; each thread of a run calls it once with its own `tid`, and nobody else
//! touches the results meanwhile. [`run`] passes that contract on from [`Program::run`](crate::backends::Program::run), whose plan was
//! made by the planner and whose sizes are within its bounds.

mod attention;
mod concat;
mod cont;
mod custom;
mod elementwise;
mod get_rows;
mod kv_append;
mod kv_mask;
mod matmul;
mod norm;
mod qmatmul;
mod quantize;
mod rope;
mod rope_kv_append;
mod soft_max;

use super::Level;
use super::memory::Ptr;
use super::packed::{self, PackedMatrix};
use super::pool::Pool;
use super::vector::{Binary, Norm};
use crate::graph::plan::Step;
use crate::ops::{Op, rope_angles};
use crate::tensor::{Bounds, DType};
use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// A tensor in memory with its sizes and strides (in bytes) bound.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub ptr: Ptr<u8>,
    pub dtype: DType,
    pub ne: [usize; 4],
    pub nb: [usize; 4],
}

/// What a step needs beside its views, resolved when the program is lowered.
pub(crate) enum Extra {
    None,
    /// The packed weight of a `qmatmul`. The program keeps it alive.
    Packed(*const PackedMatrix),
    /// The packed weights of a step with several.
    PackedList(Vec<*const PackedMatrix>),
    /// Angles of a `rope` per position, and the scale of cos and sin.
    Angles(Vec<f64>, f32),
}

// SAFETY: the packed matrix is only read, and outlives the program's steps.
unsafe impl Send for Extra {}
// SAFETY: as above.
unsafe impl Sync for Extra {}

/// A step ready to run.
pub(crate) struct BoundStep<'a> {
    pub op: &'a Op,
    pub extra: &'a Extra,
    pub operands: &'a [View],
    pub results: &'a [View],
}

/// One thread of a run.
pub(crate) struct Worker<'a> {
    pub level: Level,
    pub tid: usize,
    pub threads: usize,
    pub scratch: &'a mut [u8],
    /// Memory that the threads have in common: [`shared_bytes`] of the step.
    pub shared: Ptr<u8>,
    /// Where the threads meet within a step.
    pub pool: &'a Pool,
    /// The step that is computed.
    pub step: usize,
    /// Where an index out of range is noted; the run reports it.
    pub fault: &'a Fault,
}

/// An index that a step could not use.
#[derive(Default)]
pub(crate) struct Fault {
    /// The step's number + 1; 0 is no fault.
    step: AtomicUsize,
    index: AtomicI64,
}

impl Fault {
    fn note(&self, step: usize, index: i64) {
        self.index.store(index, Ordering::Relaxed);
        self.step.store(step + 1, Ordering::Relaxed);
    }

    /// The step and the index, and forgets them.
    pub fn take(&self) -> Option<(usize, i64)> {
        let step = self.step.swap(0, Ordering::Relaxed);
        (step > 0).then(|| (step - 1, self.index.load(Ordering::Relaxed)))
    }
}

impl Worker<'_> {
    /// This thread's share of `n` items.
    fn share(&self, n: usize) -> Range<usize> {
        packed::share(n, self.tid, self.threads)
    }

    /// Records an index that a step could not use.
    fn fault(&self, index: i64) {
        self.fault.note(self.step, index);
    }
}

impl View {
    fn rows(&self) -> usize {
        self.ne[1] * self.ne[2] * self.ne[3]
    }

    /// Address of row `i` in the order of the dimensions.
    fn row(&self, i: usize) -> *mut u8 {
        let (i1, rest) = (i % self.ne[1].max(1), i / self.ne[1].max(1));
        let (i2, i3) = (rest % self.ne[2].max(1), rest / self.ne[2].max(1));
        self.at(0, i1, i2, i3)
    }

    fn at(&self, i0: usize, i1: usize, i2: usize, i3: usize) -> *mut u8 {
        let offset = i0 * self.nb[0] + i1 * self.nb[1] + i2 * self.nb[2] + i3 * self.nb[3];
        self.ptr.as_mut_ptr().wrapping_add(offset)
    }

    /// Row `i` as f32.
    ///
    /// # Safety
    /// The row's elements lie side by side and nobody writes them meanwhile.
    unsafe fn f32_row<'a>(&self, i: usize) -> &'a [f32] {
        // SAFETY: rows of the view are in memory (the module's contract) and aligned: every buffer and stride is a multiple of 4.
        unsafe { std::slice::from_raw_parts(self.row(i) as *const f32, self.ne[0]) }
    }

    /// Row `i` as f32, for writing.
    ///
    /// # Safety
    /// As for [`View::f32_row`], and nobody else touches it meanwhile.
    unsafe fn f32_row_mut<'a>(&self, i: usize) -> &'a mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.row(i) as *mut f32, self.ne[0]) }
    }

    /// All elements of a vector of i32.
    ///
    /// # Safety
    /// It is an i32 vector that nobody writes meanwhile.
    unsafe fn i32s<'a>(&self) -> &'a [i32] {
        // SAFETY: the caller's promise; buffers are aligned to 64.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr() as *const i32, self.ne[0]) }
    }
}

/// Scratch bytes that one thread needs for a step, with weights that are repacked or not.
pub(crate) fn scratch_bytes(step: &Step, bounds: &Bounds, repack: bool) -> usize {
    match &step.op {
        Op::QMatmul(op) => qmatmul::scratch_bytes(op, step, bounds, repack),
        Op::QMatmulGroup(op) => qmatmul::group_scratch_bytes(op, step, bounds, repack),
        Op::GluQMatmul(op) => qmatmul::glu_scratch_bytes(op, step, bounds, repack),
        Op::RopeKvAppend(op) => rope_kv_append::scratch_bytes(op, step.operands[1].ty.shape.row().eval(bounds)),
        Op::Rope(rope) => rope.n_dims / 2 * 2 * 4,
        Op::Attention(_) | Op::FullAttention(_) => attention::scratch_bytes(step, bounds),
        _ => 0,
    }
}

/// Bytes that all threads have in common for a step. Steps that have some are separated by barriers.
pub(crate) fn shared_bytes(step: &Step, bounds: &Bounds, threads: usize) -> usize {
    match &step.op {
        Op::Attention(_) | Op::FullAttention(_) => attention::shared_bytes(step, bounds, threads),
        _ => 0,
    }
}

/// The scratch memory of a program: bytes that each of its threads has for itself, and bytes that all have in
/// common.
pub(crate) fn scratch_sizes(steps: &[Step], bounds: &Bounds, threads: usize, repack: bool) -> (usize, usize) {
    let each = steps.iter().map(|s| scratch_bytes(s, bounds, repack)).max().unwrap_or(0);
    let shared = steps.iter().map(|s| shared_bytes(s, bounds, threads)).max().unwrap_or(0);
    (each.next_multiple_of(128), shared.next_multiple_of(128))
}

/// What lowering resolves for a step. `Err` says why it cannot run.
pub(crate) fn prepare(step: &Step, packed: &[Option<&PackedMatrix>]) -> Result<Extra, String> {
    // A weight with its activations: operands `w` and `x`, rounded to `activation` on the way in.
    let weight = |w: usize, x: usize, activation: DType| -> Result<*const PackedMatrix, String> {
        let packed = packed.get(w).copied().flatten().ok_or("its weight was not packed")?;
        let found = if activation == DType::F32 { step.operands[x].ty.dtype } else { activation };
        if !packed.takes(found) {
            let wanted = packed.activation_type();
            return Err(format!("weights of {} multiply {wanted} activations, not {found}", packed.dtype()));
        }
        Ok(packed)
    };
    match &step.op {
        Op::QMatmul(op) => Ok(Extra::Packed(weight(0, 1, op.activation)?)),
        Op::QMatmulGroup(op) => {
            Ok(Extra::PackedList((0..op.weights).map(|i| weight(1 + i, 0, op.activation)).collect::<Result<_, _>>()?))
        }
        Op::GluQMatmul(op) => Ok(Extra::PackedList(vec![weight(1, 0, op.activation)?, weight(2, 0, op.activation)?])),
        Op::RopeKvAppend(op) => {
            let (angles, scale) = rope_angles(&op.rope, &[]);
            Ok(Extra::Angles(angles, scale))
        }
        Op::Rope(rope) => {
            let (angles, scale) = rope_angles(rope, &[]);
            Ok(Extra::Angles(angles, scale))
        }
        Op::Quantize(q) if !matches!(q.to, DType::Q8A | DType::F16 | DType::Bf16) => {
            Err(format!("it quantizes to q8_a, f16 and bf16 only, not {}", q.to))
        }
        Op::QkvRopeAppend(_) => {
            Err("only devices have it in one step; qmatmul_group and rope_kv_append do the same".to_string())
        }
        Op::Input(_) | Op::Weight(_) | Op::State(_) => Err("a source is no step".to_string()),
        Op::Reshape(_) | Op::Permute(_) | Op::Slice(_) => Err("a view is no step".to_string()),
        _ => Ok(Extra::None),
    }
}

/// Computes this thread's share of a step. `Err` is a message of a user's op.
///
/// # Safety
/// The module's contract.
pub(crate) unsafe fn run(step: &BoundStep<'_>, worker: &mut Worker<'_>) -> Result<(), String> {
    let (x, out) = (step.operands, step.results);
    // SAFETY: the contract is passed on to every function.
    unsafe {
        match step.op {
            Op::GetRows(_) => get_rows::run(x, &out[0], worker),
            Op::Dequantize(_) => get_rows::dequantize(&x[0], &out[0], worker),
            Op::Quantize(_) => quantize::run(&x[0], &out[0], worker),
            Op::Matmul(_) => matmul::run(&x[0], &x[1], &out[0], worker),
            Op::QMatmul(op) => qmatmul::run(op, step.extra, x, &out[0], worker),
            Op::QMatmulGroup(op) => qmatmul::run_group(op, step.extra, x, out, worker),
            Op::GluQMatmul(op) => qmatmul::run_glu(op, step.extra, x, &out[0], worker),
            Op::RopeKvAppend(op) => rope_kv_append::run(op, step.extra, x, &out[0], worker),
            Op::Add(_) => elementwise::binary(Binary::Add, x, &out[0], worker),
            Op::Sub(_) => elementwise::binary(Binary::Sub, x, &out[0], worker),
            Op::Mul(_) => elementwise::binary(Binary::Mul, x, &out[0], worker),
            Op::Div(_) => elementwise::binary(Binary::Div, x, &out[0], worker),
            Op::Scale(op) => elementwise::scale(op.factor, &x[0], &out[0], worker),
            Op::Unary(op) => elementwise::activation(op.kind, &x[0], &out[0], worker),
            Op::Glu(op) => elementwise::glu(op.act, x, &out[0], worker),
            Op::Constant(op) => elementwise::fill(op.value, &out[0], worker),
            Op::RmsNorm(op) => norm::run(Norm::Rms { eps: op.eps }, &x[0], None, &out[0], worker),
            Op::RmsNormMul(op) => norm::run(Norm::Rms { eps: op.eps }, &x[0], Some(&x[1]), &out[0], worker),
            Op::AddRmsNormMul(op) => norm::add_rms_norm(op.eps, x, out, worker),
            Op::LayerNorm(op) => norm::run(Norm::Layer { eps: op.eps }, &x[0], None, &out[0], worker),
            Op::Rope(op) => rope::run(op, step.extra, x, &out[0], worker),
            Op::KvAppend(_) => kv_append::run(x, worker),
            Op::KvMask(op) => kv_mask::run(op, x, &out[0], worker),
            Op::SoftMax(_) => soft_max::run(&x[0], &out[0], worker),
            Op::Attention(op) => attention::run(op, x, &out[0], worker),
            Op::FullAttention(op) => attention::run_full(op, x, &out[0], worker),
            Op::Cont(_) => cont::run(&x[0], &out[0], worker),
            Op::Concat(op) => concat::run(op, x, &out[0], worker),
            Op::Custom(op) => return custom::run(op.as_ref(), x, out, worker),
            // `prepare` refuses these.
            Op::Input(_) | Op::Weight(_) | Op::State(_) | Op::Reshape(_) | Op::Permute(_) | Op::Slice(_) => {}
            Op::QkvRopeAppend(_) => {}
        }
    }
    Ok(())
}
