//! [`CpuProgram`]: a plan with its memory and resolved kernels. A run forks once; the threads walk the steps together and meet
//! at a barrier only where a step touches what an earlier one since the last barrier wrote, or writes what one read.

use super::Level;
use super::memory::{AlignedBuf, Ptr};
use super::pool::{Pool, PoolError};
use super::steps::{self, BoundStep, Extra, Fault, View, Worker};
use crate::backends::cpu::weights::CpuWeights;
use crate::backends::{BackendError, Program, States};
use crate::graph::plan::{Layout, MemoryBill, Operand, Place, Plan, Step};
use crate::ops::{Op, TensorType};
use crate::tensor::{Bounds, DType};
use std::any::Any;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The KV caches of a session.
pub(crate) struct CpuStates {
    states: Vec<(String, TensorType, AlignedBuf)>,
}

impl CpuStates {
    /// Zeroed states for a plan.
    pub fn new(plan: &Plan) -> Result<CpuStates, BackendError> {
        let mut states = Vec::with_capacity(plan.states.len());
        for slot in &plan.states {
            let buffer = AlignedBuf::zeroed(slot.bytes).map_err(|e| BackendError::OutOfMemory {
                purpose: format!("KV cache \"{}\"", slot.name),
                bytes: e.bytes,
            })?;
            states.push((slot.name.clone(), slot.ty.clone(), buffer));
        }
        Ok(CpuStates { states })
    }
}

impl States for CpuStates {
    fn bytes(&self) -> usize {
        self.states.iter().map(|s| s.2.len()).sum()
    }

    fn write(&mut self, index: usize, values: &[u8]) -> Result<(), BackendError> {
        let state =
            self.states.get_mut(index).filter(|s| values.len() <= s.2.len()).ok_or(BackendError::Foreign("states"))?;
        state.2.as_mut_slice()[..values.len()].copy_from_slice(values);
        Ok(())
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Where a view begins.
#[derive(Clone, Copy)]
enum Base {
    Arena(usize),
    State(usize),
    Weight(Ptr<u8>),
}

/// A view with symbolic sizes.
struct Symbolic {
    base: Base,
    ty: TensorType,
    layout: Layout,
}

struct Prepared {
    op: Op,
    extra: Extra,
    name: String,
    /// Its operands, then its results, in the list of views.
    views: Range<usize>,
    operands: usize,
    /// Whether all threads must have finished the steps before.
    barrier: bool,
}

struct Port {
    name: String,
    offset: usize,
    bytes: usize,
    ty: TensorType,
}

/// A lowered plan.
pub(crate) struct CpuProgram {
    bounds: Bounds,
    bound: Bounds,
    steps: Vec<Prepared>,
    symbolic: Vec<Symbolic>,
    views: Vec<View>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// Names, types and sizes of the states that the plan wants.
    states: Vec<(String, TensorType, usize)>,
    arena: AlignedBuf,
    scratch: AlignedBuf,
    scratch_each: usize,
    threads: usize,
    level: Level,
    pool: Arc<Mutex<Pool>>,
    fault: Fault,
    failure: Mutex<Option<(usize, String)>>,
    /// With profiling: nanoseconds from the start of the run to the start of each step, and to the end.
    starts: Vec<AtomicU64>,
    /// Keeps what the views of weights point to.
    _weights: Arc<CpuWeights>,
}

// SAFETY: the pointers in views lead to the program's own arena, to its weights (shared, only read) and to states that a run
// borrows exclusively.
unsafe impl Send for CpuProgram {}

impl CpuProgram {
    /// Resolves kernels and allocates the arena and the scratch.
    pub fn new(
        plan: &Plan,
        weights: Arc<CpuWeights>,
        pool: Arc<Mutex<Pool>>,
        level: Level,
        repack: bool,
    ) -> Result<CpuProgram, BackendError> {
        let allocate = |purpose: &str, bytes| {
            AlignedBuf::zeroed(bytes)
                .map_err(|e| BackendError::OutOfMemory { purpose: purpose.to_string(), bytes: e.bytes })
        };
        let threads = pool.lock().unwrap_or_else(PoisonError::into_inner).threads();
        let (scratch_each, shared) = steps::scratch_sizes(&plan.steps, &plan.bounds, threads, repack);
        if scratch_each * threads + shared > plan.bill.scratch {
            return Err(BackendError::Foreign("threads"));
        }
        let mut program = CpuProgram {
            bounds: plan.bounds,
            bound: plan.bounds,
            steps: Vec::with_capacity(plan.steps.len()),
            symbolic: Vec::new(),
            views: Vec::new(),
            inputs: ports(plan, &plan.inputs),
            outputs: ports(plan, &plan.outputs),
            states: plan.states.iter().map(|s| (s.name.clone(), s.ty.clone(), s.bytes)).collect(),
            arena: allocate("the arena of activations", plan.arena.bytes)?,
            scratch: allocate("scratch memory of the threads", plan.bill.scratch)?,
            scratch_each,
            threads,
            level,
            pool,
            fault: Fault::default(),
            failure: Mutex::new(None),
            starts: Vec::new(),
            _weights: Arc::clone(&weights),
        };
        for output in &plan.outputs {
            let o = &output.operand;
            if !matches!(o.place, Place::Arena(_)) || o.ty.dtype != DType::F32 || !o.layout.is_contiguous(&o.ty) {
                return Err(unsupported(&output.name, "an output must be a contiguous f32 result: add a `cont`"));
            }
        }
        let mut hazards = Hazards::default();
        for step in &plan.steps {
            let prepared = program.prepare(plan, step, &weights, &mut hazards)?;
            program.steps.push(prepared);
        }
        let empty = View { ptr: program.arena.view(), dtype: DType::F32, ne: [0; 4], nb: [0; 4] };
        program.views = vec![empty; program.symbolic.len()];
        Ok(program)
    }

    fn prepare(
        &mut self,
        plan: &Plan,
        step: &Step,
        weights: &CpuWeights,
        hazards: &mut Hazards,
    ) -> Result<Prepared, BackendError> {
        let name = step.describe();
        let weight_of = |operand: &Operand| match operand.place {
            Place::Weight(w) => plan.weights.get(w.index()).and_then(|slot| weights.get(&slot.name)),
            _ => None,
        };
        let packed: Vec<_> = step.operands.iter().map(|o| weight_of(o).and_then(|w| w.packed.as_ref())).collect();
        let extra = steps::prepare(step, &packed).map_err(|reason| unsupported(&name, &reason))?;
        let first = self.symbolic.len();
        for (slot, operand) in step.operands.iter().chain(&step.results).enumerate() {
            let base = match operand.place {
                Place::Arena(b) => Base::Arena(plan.buffers[b.index()].offset),
                Place::State(s) => Base::State(s.index()),
                Place::Weight(w) => {
                    let weight = &plan.weights[w.index()].name;
                    let in_file = matches!(step.op, Op::GetRows(_)) && slot == 0;
                    let bytes = match (step.op.is_matmul_weight(slot), in_file) {
                        (true, _) => Some(&[][..]), // read through `extra`
                        (_, true) => weights.file_bytes(weight),
                        _ => weights.get(weight).and_then(|w| w.direct.as_ref()).map(AlignedBuf::as_slice),
                    };
                    let bytes = bytes.ok_or_else(|| BackendError::Weight {
                        name: weight.clone(),
                        reason: "it was not loaded for this use".to_string(),
                    })?;
                    Base::Weight(Ptr::new(bytes.as_ptr().cast_mut()))
                }
            };
            self.symbolic.push(Symbolic { base, ty: operand.ty.clone(), layout: operand.layout.clone() });
        }
        Ok(Prepared {
            op: step.op.clone(),
            extra,
            name,
            views: first..self.symbolic.len(),
            operands: step.operands.len(),
            barrier: hazards.barrier_before(plan, step, steps::shared_bytes(step, &plan.bounds, self.threads) > 0),
        })
    }

    /// Binds sizes and addresses.
    fn bind(&mut self, states: &mut CpuStates, bounds: &Bounds) {
        let arena = self.arena.view();
        for (view, symbolic) in self.views.iter_mut().zip(&self.symbolic) {
            let base = match symbolic.base {
                Base::Arena(offset) => arena.as_mut_ptr().wrapping_add(offset),
                Base::State(i) => states.states[i].2.view().as_mut_ptr(),
                Base::Weight(ptr) => ptr.as_mut_ptr(),
            };
            *view = View {
                ptr: Ptr::new(base.wrapping_add(symbolic.layout.offset(bounds))),
                dtype: symbolic.ty.dtype,
                ne: symbolic.ty.shape.eval(bounds),
                nb: symbolic.layout.strides(bounds),
            };
        }
    }
}

impl Program for CpuProgram {
    fn set_input(&mut self, index: usize, values: &[u8]) -> Result<(), BackendError> {
        let Some(port) = self.inputs.get(index) else {
            return Err(BackendError::Input {
                name: format!("#{index}"),
                reason: "there is no such input".to_string(),
            });
        };
        if values.len() > port.bytes {
            let reason = format!("{} bytes, the plan holds {}", values.len(), port.bytes);
            return Err(BackendError::Input { name: port.name.clone(), reason });
        }
        self.arena.as_mut_slice()[port.offset..][..values.len()].copy_from_slice(values);
        Ok(())
    }

    fn run(&mut self, states: &mut dyn States, bounds: &Bounds, cancel: &AtomicBool) -> Result<(), BackendError> {
        let states = states.as_any_mut().downcast_mut::<CpuStates>().ok_or(BackendError::Foreign("states"))?;
        let same = states.states.len() == self.states.len()
            && states.states.iter().zip(&self.states).all(|(a, b)| a.0 == b.0 && a.1 == b.1 && a.2.len() == b.2);
        if !same {
            return Err(BackendError::Foreign("states"));
        }
        if bounds.t > self.bounds.t || bounds.s > self.bounds.s || bounds.r > self.bounds.r {
            let reason = format!("{bounds} exceeds the plan's {}", self.bounds);
            return Err(BackendError::Input { name: "bounds".to_string(), reason });
        }
        self.bind(states, bounds);
        self.bound = *bounds;
        let pool = Arc::clone(&self.pool);
        let pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
        let threads = pool.threads();
        let scratch = self.scratch.view();
        // Behind what the threads have for themselves.
        let shared_scratch = Ptr::new(scratch.as_mut_ptr().wrapping_add(threads * self.scratch_each));
        let stop_at = AtomicUsize::new(usize::MAX);
        let this = &*self;
        let profiling = !this.starts.is_empty();
        let begin = Instant::now();
        let note = |i: usize| {
            if let Some(start) = this.starts.get(i) {
                start.store(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
            }
        };
        let walk = |tid: usize| {
            // SAFETY: the scratch begins with `scratch_each` bytes for each of the pool's threads, and each thread takes its own.
            let scratch = unsafe { scratch.add(tid * this.scratch_each).slice_mut(this.scratch_each) };
            let (level, fault, shared) = (this.level, &this.fault, shared_scratch);
            // A thread that enters while the others are at a step has met them at the barrier before it.
            let Ok(entry) = pool.enter(tid) else { return };
            let mut entered = entry.is_some();
            let threads = pool.active();
            let mut worker = Worker { level, tid, threads, scratch, shared, pool: &pool, step: 0, fault };
            for (i, step) in this.steps.iter().enumerate().skip(entry.unwrap_or(0)) {
                if entered && i >= stop_at.load(Ordering::Relaxed) {
                    return;
                }
                if (step.barrier || profiling) && !entered {
                    pool.checkpoint(tid, i);
                    // Only thread 0 decides to stop, and before the barrier, so that all threads stop at the same step.
                    if tid == 0 && (cancel.load(Ordering::Relaxed) || this.failed()) {
                        stop_at.store(i, Ordering::Relaxed);
                    }
                    if pool.barrier_wait().is_err() || i >= stop_at.load(Ordering::Relaxed) {
                        return;
                    }
                    worker.threads = pool.active();
                    if tid >= worker.threads {
                        return;
                    }
                }
                entered = false;
                if tid == 0 {
                    note(i);
                }
                let views = &this.views[step.views.clone()];
                let (operands, results) = views.split_at(step.operands);
                let bound = BoundStep { op: &step.op, extra: &step.extra, operands, results };
                worker.step = i;
                // SAFETY: the views are bound within the plan's bounds to buffers of the arena that the planner keeps apart
                // while they live, to states that this run borrows exclusively, and to weights that the program keeps alive;
                // barriers separate every write from other accesses; each thread runs the step once with its own tid.
                if let Err(reason) = unsafe { steps::run(&bound, &mut worker) } {
                    *this.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some((i, reason));
                }
            }
            if profiling && pool.barrier_wait().is_ok() && tid == 0 {
                note(this.steps.len());
            }
        };
        let outcome = pool.run(&walk);
        drop(pool);
        let node = |i: usize| self.steps.get(i).map_or_else(String::new, |s| s.name.clone());
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        let fault = self.fault.take();
        match outcome {
            Err(PoolError::Panicked(reason)) => {
                return Err(BackendError::Step { node: "a kernel".to_string(), reason });
            }
            Err(error) => return Err(BackendError::Threads(error.to_string())),
            Ok(()) => {}
        }
        if let Some((i, reason)) = failure {
            return Err(BackendError::Step { node: node(i), reason });
        }
        if let Some((i, index)) = fault {
            return Err(BackendError::Index { node: node(i), index });
        }
        if stop_at.load(Ordering::Relaxed) != usize::MAX { Err(BackendError::Cancelled) } else { Ok(()) }
    }

    fn output(&self, index: usize) -> &[f32] {
        let Some(port) = self.outputs.get(index) else { return &[] };
        let bytes = port.ty.bytes(&self.bound).unwrap_or(0);
        bytemuck::try_cast_slice(&self.arena.as_slice()[port.offset..][..bytes]).unwrap_or(&[])
    }

    fn allocated(&self) -> MemoryBill {
        MemoryBill { arena: self.arena.len(), scratch: self.scratch.len(), ..MemoryBill::default() }
    }

    fn set_profiling(&mut self, on: bool) {
        let steps = if on { self.steps.len() + 1 } else { 0 };
        self.starts = (0..steps).map(|_| AtomicU64::new(0)).collect();
    }

    fn step_times(&self) -> Vec<Duration> {
        let starts: Vec<u64> = self.starts.iter().map(|s| s.load(Ordering::Relaxed)).collect();
        starts.windows(2).map(|w| Duration::from_nanos(w[1].saturating_sub(w[0]))).collect()
    }
}

impl CpuProgram {
    fn failed(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

fn ports(plan: &Plan, ports: &[crate::graph::plan::Port]) -> Vec<Port> {
    let port = |p: &crate::graph::plan::Port| {
        let offset = match p.operand.place {
            Place::Arena(b) => plan.buffers[b.index()].offset + p.operand.layout.offset(&plan.bounds),
            _ => 0,
        };
        let bytes = p.operand.ty.bytes(&plan.bounds).unwrap_or(0);
        Port { name: p.name.clone(), offset, bytes, ty: p.operand.ty.clone() }
    };
    ports.iter().map(port).collect()
}

fn unsupported(node: &str, reason: &str) -> BackendError {
    BackendError::Unsupported { backend: "cpu".to_string(), node: node.to_string(), reason: reason.to_string() }
}

/// Stands for the scratch memory that threads have in common, as if it were a state.
const SHARED_SCRATCH: usize = usize::MAX;

/// What the steps since the last barrier read and wrote: byte ranges of the arena, states, and the scratch in common.
#[derive(Default)]
struct Hazards {
    read: Vec<(Option<usize>, Range<usize>)>,
    written: Vec<(Option<usize>, Range<usize>)>,
}

impl Hazards {
    /// Whether a barrier must stand before `step`; notes what the step touches: also the scratch in common, if it is `sharing`.
    fn barrier_before(&mut self, plan: &Plan, step: &Step, sharing: bool) -> bool {
        let touched = |operand: &Operand| match operand.place {
            Place::Arena(b) => {
                let buffer = &plan.buffers[b.index()];
                Some((None, buffer.offset..buffer.offset + buffer.bytes))
            }
            Place::State(s) => Some((Some(s.index()), 0..1)),
            Place::Weight(_) => None,
        };
        let reads: Vec<_> = step.operands.iter().filter_map(touched).collect();
        let mut writes: Vec<_> = step.results.iter().filter_map(touched).collect();
        writes.extend(sharing.then_some((Some(SHARED_SCRATCH), 0..1)));
        let meets = |a: &[(Option<usize>, Range<usize>)], b: &[(Option<usize>, Range<usize>)]| {
            a.iter().any(|x| b.iter().any(|y| x.0 == y.0 && x.1.start < y.1.end && y.1.start < x.1.end))
        };
        let barrier = meets(&reads, &self.written) || meets(&writes, &self.written) || meets(&writes, &self.read);
        if barrier {
            self.read.clear();
            self.written.clear();
        }
        self.read.extend(reads);
        self.written.extend(writes);
        barrier
    }
}
