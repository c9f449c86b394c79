//! [`HipProgram`]: a plan with its device memory. A run binds sizes, makes the launches of all steps and submits them to one stream.
//!
//! The launches of a plan for one token do not depend on how full the caches are, where its kernels read the position from device
//! memory. Such a plan is captured as a graph when it runs for the second time, and replayed from then on.

mod choose;

use super::arch::Arch;
use super::ffi::{Blas, Buffer, Device, Event, Function, GemmF16, GpuError, Graph, Pinned, Stream};
use super::kernels::Kernels;
use super::launch::{Launch, Launches};
use super::states::{CachePlanes, HipStates, zeroed};
use super::steps::{self, MOST_BIASES, Scratch, StepArgs};
use super::view::{DevicePtr, DeviceView, Form, View};
use super::weights::{DeviceWeight, HipWeights};
use super::{Turn, device_error, run_error};
use crate::backends::{BackendError, DecodeRun, Program, States};
use crate::graph::plan::{Layout, MemoryBill, Place, Plan, Step};
use crate::ops::{Op, TensorType};
use crate::tensor::{Bounds, DType};
use choose::{Chooser, Choosing, MOST_AHEAD};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where a view begins.
#[derive(Clone, Copy)]
enum Base {
    Arena(usize),
    State(usize),
    Weight(DevicePtr),
}

/// A view with symbolic sizes.
struct Symbolic {
    base: Base,
    ty: TensorType,
    layout: Layout,
}

struct Prepared {
    op: Op,
    name: String,
    /// Its operands, then its results, in the list of views.
    views: Range<usize>,
    operands: usize,
    weights: Vec<Option<DeviceWeight>>,
    scratch: DevicePtr,
    early: bool,
}

struct Port {
    name: String,
    offset: usize,
    bytes: usize,
    ty: TensorType,
    /// Where it lies in the pinned memory.
    host: usize,
}

/// What a step submits.
#[derive(Clone, Debug, PartialEq)]
enum Command {
    Launch(Box<Launch>),
    /// A product by the BLAS library.
    Product(GemmF16),
}

/// A command with its kernel, if it has one, and its step.
struct Resolved {
    step: usize,
    function: Option<Arc<Function>>,
    command: Command,
}

/// Commands that were made for sizes and states.
struct Bound {
    bounds: Bounds,
    states: Vec<DevicePtr>,
    commands: Vec<Resolved>,
}

/// A lowered plan.
pub(crate) struct HipProgram {
    arch: Arc<Arch>,
    kernels: Arc<Kernels>,
    blas: Arc<Mutex<Option<Blas>>>,
    stream: Arc<Stream>,
    turn: Turn,
    bounds: Bounds,
    bound: Bounds,
    steps: Vec<Prepared>,
    symbolic: Vec<Symbolic>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    states: Vec<(String, TensorType, usize)>,
    arena: Buffer,
    scratch: Buffer,
    /// Where the fault record lies in the scratch.
    fault: usize,
    /// Inputs, one after the other.
    upload: Pinned,
    /// The inputs that were set since the last run.
    dirty: Vec<usize>,
    /// Outputs, then the fault record.
    download: Pinned,
    fault_host: usize,
    /// Chosen ids on their way to the host.
    fetch: [Pinned; 2],
    results: Vec<f32>,
    result_ranges: Vec<Range<usize>>,
    current: Option<Bound>,
    /// Whether the launches are the same for every S.
    steady: bool,
    graph: Option<Graph>,
    /// Where what chooses tokens lies in the scratch, for programs that can.
    chooser: Option<Chooser>,
    /// A step with the choice of the next token.
    choosing: Option<(Choosing, Graph)>,
    profiling: bool,
    times: Vec<Duration>,
    /// Keeps what the launches point to.
    _weights: Arc<HipWeights>,
}

impl HipProgram {
    /// Allocates the arena and the scratch, and makes the launches once to see whether all steps can run.
    pub fn new(
        plan: &Plan,
        weights: Arc<HipWeights>,
        arch: &Arc<Arch>,
        kernels: &Arc<Kernels>,
        blas: &Arc<Mutex<Option<Blas>>>,
        stream: &Arc<Stream>,
        turn: &Turn,
    ) -> Result<HipProgram, BackendError> {
        let _turn = turn.take();
        let device: &Arc<Device> = stream.device();
        let memory = |purpose: &str, bytes: usize| zeroed(stream, bytes).map_err(|e| device_error(purpose, bytes, e));
        let pinned = |purpose: &str, bytes| Pinned::new(device, bytes).map_err(|e| device_error(purpose, bytes, e));
        for output in &plan.outputs {
            let o = &output.operand;
            if !matches!(o.place, Place::Arena(_)) || o.ty.dtype != DType::F32 || !o.layout.is_contiguous(&o.ty) {
                return Err(unsupported(
                    &arch.name,
                    &output.name,
                    "an output must be a contiguous f32 result: add a `cont`",
                ));
            }
        }
        let scratch = Scratch::of(plan, arch);
        let (inputs, input_bytes) = ports(plan, &plan.inputs);
        let (outputs, output_bytes) = ports(plan, &plan.outputs);
        let mut program = HipProgram {
            arch: Arc::clone(arch),
            kernels: Arc::clone(kernels),
            blas: Arc::clone(blas),
            stream: Arc::clone(stream),
            turn: turn.clone(),
            bounds: plan.bounds,
            bound: plan.bounds,
            steps: Vec::with_capacity(plan.steps.len()),
            symbolic: Vec::new(),
            inputs,
            outputs,
            states: plan.states.iter().map(|s| (s.name.clone(), s.ty.clone(), s.bytes)).collect(),
            arena: memory("the arena of activations", plan.arena.bytes)?,
            scratch: memory("scratch memory of the steps", scratch.bytes())?,
            fault: scratch.fault(),
            upload: pinned("staging memory of the inputs", input_bytes)?,
            dirty: Vec::new(),
            download: pinned("staging memory of the outputs", output_bytes + 64)?,
            fault_host: output_bytes,
            fetch: [
                pinned("staging memory of chosen tokens", 4 * MOST_AHEAD)?,
                pinned("staging memory of chosen tokens", 4 * MOST_AHEAD)?,
            ],
            results: Vec::new(),
            result_ranges: Vec::new(),
            current: None,
            steady: false,
            graph: None,
            chooser: Chooser::of(plan, &scratch),
            choosing: None,
            profiling: false,
            times: Vec::new(),
            _weights: Arc::clone(&weights),
        };
        for step in &plan.steps {
            let prepared = program.prepare(plan, step, &weights, &scratch)?;
            program.steps.push(prepared);
        }
        // Made-up addresses of the states: what can be launched does not depend on them.
        let states: Vec<DevicePtr> = program.states.iter().map(|_| program.arena.ptr()).collect();
        let most = program.commands(&plan.bounds, &states)?;
        let least = Bounds { s: 1, ..plan.bounds };
        let captured = |c: &(usize, Command)| matches!(c.1, Command::Launch(_));
        program.steady = plan.bounds.t == 1
            && plan.bounds.r <= 1
            && most.iter().all(captured)
            && most == program.commands(&least, &states)?;
        Ok(program)
    }

    fn prepare(
        &mut self,
        plan: &Plan,
        step: &Step,
        weights: &HipWeights,
        scratch: &Scratch,
    ) -> Result<Prepared, BackendError> {
        let name = step.describe();
        let first = self.symbolic.len();
        let mut of_operands = Vec::with_capacity(step.operands.len());
        for (slot, operand) in step.operands.iter().chain(&step.results).enumerate() {
            let mut weight = None;
            let base = match operand.place {
                Place::Arena(b) => Base::Arena(plan.buffers[b.index()].offset),
                Place::State(s) => Base::State(s.index()),
                Place::Weight(w) => {
                    let of = &plan.weights[w.index()].name;
                    let found = *weights.get(of).ok_or_else(|| BackendError::Weight {
                        name: of.clone(),
                        reason: "it was not loaded for this use".to_string(),
                    })?;
                    weight = Some(found);
                    Base::Weight(found.raw.unwrap_or(0))
                }
            };
            if slot < step.operands.len() {
                of_operands.push(weight);
            }
            self.symbolic.push(Symbolic { base, ty: operand.ty.clone(), layout: operand.layout.clone() });
        }
        Ok(Prepared {
            op: step.op.clone(),
            name,
            views: first..self.symbolic.len(),
            operands: step.operands.len(),
            weights: of_operands,
            scratch: self.scratch.ptr() + scratch.offset(step) as u64,
            early: steps::reads_early(step, plan),
        })
    }

    fn view(&self, symbolic: &Symbolic, states: &[DevicePtr], bounds: &Bounds) -> DeviceView {
        let base = match symbolic.base {
            Base::Arena(offset) => self.arena.ptr() + offset as u64,
            Base::State(i) => states[i],
            Base::Weight(ptr) => ptr,
        };
        let offset = symbolic.layout.offset(bounds);
        let ptr = if base == 0 { 0 } else { base + offset as u64 };
        let ne = symbolic.ty.shape.eval(bounds).map(|n| n as i32);
        let nb = symbolic.layout.strides(bounds).map(|n| n as i64);
        let view = DeviceView { view: View { ptr, ne, nb }, dtype: symbolic.ty.dtype, form: Form::Whole };
        match symbolic.base {
            Base::State(i) => {
                CachePlanes::of(&self.states[i].1, self.states[i].2).map_or(view, |p| p.view(view, offset))
            }
            _ => view,
        }
    }

    /// The commands of all steps for these sizes.
    fn commands(&self, bounds: &Bounds, states: &[DevicePtr]) -> Result<Vec<(usize, Command)>, BackendError> {
        let mut all = Vec::with_capacity(self.steps.len() + 16);
        let mut views = Vec::with_capacity(16);
        for (index, step) in self.steps.iter().enumerate() {
            views.clear();
            views.extend(self.symbolic[step.views.clone()].iter().map(|s| self.view(s, states, bounds)));
            let (operands, results) = views.split_at(step.operands);
            let weights: Vec<Option<&DeviceWeight>> = step.weights.iter().map(Option::as_ref).collect();
            let args = StepArgs {
                operands,
                results,
                weights: &weights,
                arch: &self.arch,
                scratch: step.scratch,
                fault: self.scratch.ptr() + self.fault as u64,
                index: index as i32,
                early: step.early,
            };
            let mut out = Launches::default();
            steps::launches(&step.op, &args, &mut out)
                .map_err(|reason| unsupported(&self.arch.name, &step.name, &reason))?;
            let mut products = out.products.into_iter().peekable();
            for (i, launch) in out.list.into_iter().enumerate() {
                while let Some((_, product)) = products.next_if(|(before, _)| *before <= i) {
                    all.push((index, Command::Product(product)));
                }
                if launch.grid.iter().all(|&n| n > 0) {
                    all.push((index, Command::Launch(Box::new(launch))));
                }
            }
            all.extend(products.map(|(_, product)| (index, Command::Product(product))));
        }
        Ok(all)
    }

    /// Makes `self.current` what these sizes and states need.
    fn bind(&mut self, bounds: &Bounds, states: &[DevicePtr]) -> Result<(), BackendError> {
        let fits = |b: &Bound| b.states == states && (b.bounds == *bounds || self.steady);
        if self.current.as_ref().is_some_and(fits) {
            return Ok(());
        }
        let bounds = if self.steady { self.bounds } else { *bounds };
        let mut commands = Vec::new();
        for (step, command) in self.commands(&bounds, states)? {
            let function = match &command {
                Command::Launch(launch) => {
                    Some(self.kernels.get(launch.kernel).map_err(|e| run_error(&self.steps[step].name, e))?)
                }
                Command::Product(_) => None,
            };
            commands.push(Resolved { step, function, command });
        }
        self.current = Some(Bound { bounds, states: states.to_vec(), commands });
        self.graph = None;
        self.choosing = None;
        Ok(())
    }

    fn submit(&self, resolved: &Resolved) -> Result<(), BackendError> {
        let failed = |e| run_error(&self.steps[resolved.step].name, e);
        match (&resolved.command, &resolved.function) {
            (Command::Launch(launch), Some(function)) => {
                let Launch { grid, threads, lds, args, .. } = &**launch;
                self.stream.launch(function, *grid, *threads, *lds, args.bytes(), args.offsets(), true).map_err(failed)
            }
            (Command::Product(product), _) => {
                let mut blas = self.blas.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(blas) = &mut *blas else {
                    return Err(failed(GpuError::refused("a product", "there is no BLAS library")));
                };
                blas.gemm_f16(&self.stream, product).map_err(failed)
            }
            (Command::Launch(_), None) => Ok(()),
        }
    }

    fn submit_all(&mut self, cancel: &AtomicBool) -> Result<(), BackendError> {
        let Some(current) = &self.current else { return Ok(()) };
        if self.steady && !self.profiling {
            if let Some(graph) = &self.graph {
                return self.stream.replay(graph).map_err(|e| run_error("the captured steps", e));
            }
            self.stream.begin_capture().map_err(|e| run_error("capturing the steps", e))?;
            let submitted = current.commands.iter().try_for_each(|command| self.submit(command));
            let graph = self.stream.end_capture().map_err(|e| run_error("capturing the steps", e));
            submitted?;
            let graph = self.graph.insert(graph?);
            return self.stream.replay(graph).map_err(|e| run_error("the captured steps", e));
        }
        if self.profiling {
            return self.submit_timed();
        }
        for command in &current.commands {
            if cancel.load(Ordering::Relaxed) {
                return Err(BackendError::Cancelled);
            }
            self.submit(command)?;
        }
        Ok(())
    }

    /// Submits with an event before each step.
    fn submit_timed(&mut self) -> Result<(), BackendError> {
        let Some(current) = &self.current else { return Ok(()) };
        let failed = |e| run_error("timing the steps", e);
        let mut marks = Vec::with_capacity(self.steps.len() + 1);
        let mut next = 0;
        for step in 0..=self.steps.len() {
            let mut mark = Event::new(self.stream.device(), true).map_err(failed)?;
            self.stream.record(&mut mark).map_err(failed)?;
            marks.push(mark);
            while next < current.commands.len() && current.commands[next].step == step {
                self.submit(&current.commands[next])?;
                next += 1;
            }
        }
        self.stream.synchronize().map_err(failed)?;
        let times: Result<Vec<_>, _> = marks.windows(2).map(|w| w[1].elapsed(&w[0])).collect();
        self.times = times.map_err(failed)?;
        Ok(())
    }
}

impl Program for HipProgram {
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
        let host = self.upload.as_mut_slice().map_err(|e| run_error(&port.name, e))?;
        host[port.host..][..values.len()].copy_from_slice(values);
        if !self.dirty.contains(&index) {
            self.dirty.push(index);
        }
        Ok(())
    }

    fn run(&mut self, states: &mut dyn States, bounds: &Bounds, cancel: &AtomicBool) -> Result<(), BackendError> {
        let states = self.own(states)?;
        if bounds.t > self.bounds.t || bounds.s > self.bounds.s || bounds.r > self.bounds.r {
            let reason = format!("{bounds} exceeds the plan's {}", self.bounds);
            return Err(BackendError::Input { name: "bounds".to_string(), reason });
        }
        let steady = self.steady;
        // A step without tokens or rows whose logits are wanted is not what was captured.
        self.steady = steady && (bounds.t, bounds.r) == (self.bounds.t, self.bounds.r);
        let turn = self.turn.clone();
        let guard = turn.take();
        let outcome = self.run_bound(&states, bounds, cancel);
        drop(guard);
        self.steady = steady;
        outcome
    }

    fn output(&self, index: usize) -> &[f32] {
        self.result_ranges.get(index).map_or(&[], |r| &self.results[r.clone()])
    }

    fn decode_many(
        &mut self,
        states: &mut dyn States,
        run: &DecodeRun<'_>,
        each: &mut dyn FnMut(u32) -> bool,
    ) -> Option<Result<usize, BackendError>> {
        let chooser = self.chooser.filter(|_| self.steady && !self.profiling)?;
        let how = Choosing::of(run, chooser.vocabulary)?;
        if run.sampling.bias.len() > MOST_BIASES || run.position + run.count > self.bounds.s {
            return None;
        }
        Some(self.choose_many(states, run, &chooser, &how, each))
    }

    fn allocated(&self) -> MemoryBill {
        MemoryBill { arena: self.arena.len(), scratch: self.scratch.len(), ..MemoryBill::default() }
    }

    fn set_profiling(&mut self, on: bool) {
        self.profiling = on;
        self.times.clear();
    }

    fn step_times(&self) -> Vec<Duration> {
        self.times.clone()
    }
}

impl HipProgram {
    fn run_bound(&mut self, states: &[DevicePtr], bounds: &Bounds, cancel: &AtomicBool) -> Result<(), BackendError> {
        self.bind(bounds, states)?;
        self.bound = *bounds;
        for &index in &self.dirty {
            let port = &self.inputs[index];
            let bytes = port.ty.bytes(bounds).unwrap_or(0).min(port.bytes);
            self.stream
                .upload(&self.arena, port.offset, &self.upload, port.host..port.host + bytes)
                .map_err(|e| run_error(&port.name, e))?;
        }
        self.dirty.clear();
        let submitted = self.submit_all(cancel);
        if submitted.is_err() {
            let _ = self.stream.synchronize();
            return submitted;
        }
        let failed = |e| run_error("reading the results", e);
        for port in &self.outputs {
            let bytes = port.ty.bytes(bounds).unwrap_or(0).min(port.bytes);
            self.stream
                .download(&mut self.download, port.host, &self.arena, port.offset..port.offset + bytes)
                .map_err(failed)?;
        }
        self.check_fault()?;
        let host = self.download.as_slice().map_err(failed)?;
        self.results.clear();
        self.result_ranges.clear();
        for port in &self.outputs {
            let bytes = port.ty.bytes(bounds).unwrap_or(0).min(port.bytes);
            let start = self.results.len();
            self.results.extend(
                host[port.host..][..bytes].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            );
            self.result_ranges.push(start..self.results.len());
        }
        Ok(())
    }
}

impl HipProgram {
    /// The addresses of this program's states.
    fn own(&self, states: &mut dyn States) -> Result<Vec<DevicePtr>, BackendError> {
        let states = states.as_any_mut().downcast_mut::<HipStates>().ok_or(BackendError::Foreign("states"))?;
        states.addresses(&self.states).ok_or(BackendError::Foreign("states"))
    }

    /// Looks at the fault record of finished work.
    fn check_fault(&mut self) -> Result<(), BackendError> {
        let failed = |e| run_error("reading the results", e);
        self.stream
            .download(&mut self.download, self.fault_host, &self.scratch, self.fault..self.fault + 8)
            .map_err(failed)?;
        self.stream.synchronize().map_err(failed)?;
        let host = self.download.as_slice().map_err(failed)?;
        let word = |at: usize| u32::from_le_bytes([host[at], host[at + 1], host[at + 2], host[at + 3]]);
        let (step, index) = (word(self.fault_host), word(self.fault_host + 4) as i32);
        if step == 0 {
            return Ok(());
        }
        self.stream.memset(&self.scratch, self.fault..self.fault + 8, 0).map_err(failed)?;
        let node = self.steps.get(step as usize - 1).map_or_else(String::new, |s| s.name.clone());
        Err(BackendError::Index { node, index: index.into() })
    }
}

/// The ports of a plan, and the bytes of pinned memory that they take together.
fn ports(plan: &Plan, ports: &[crate::graph::plan::Port]) -> (Vec<Port>, usize) {
    let mut host = 0;
    let list = ports
        .iter()
        .map(|p| {
            let offset = match p.operand.place {
                Place::Arena(b) => plan.buffers[b.index()].offset + p.operand.layout.offset(&plan.bounds),
                _ => 0,
            };
            let bytes = p.operand.ty.bytes(&plan.bounds).unwrap_or(0);
            let port = Port { name: p.name.clone(), offset, bytes, ty: p.operand.ty.clone(), host };
            host += bytes.next_multiple_of(64);
            port
        })
        .collect();
    (list, host)
}

fn unsupported(backend: &str, node: &str, reason: &str) -> BackendError {
    BackendError::Unsupported { backend: backend.to_string(), node: node.to_string(), reason: reason.to_string() }
}
