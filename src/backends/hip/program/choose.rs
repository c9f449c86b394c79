//! The choice of the next token on the device: decode steps that follow each other without work of the host, which fetches the chosen ids
//! some tokens behind (`kernels/sample.hip`).

use super::HipProgram;
use crate::backends::hip::ffi::{Event, Function};
use crate::backends::hip::launch::{Kernel, Launch, Launches};
use crate::backends::hip::run_error;
use crate::backends::hip::steps::{CHOOSER_BLOCKS, ChooserPlaces, Scratch};
use crate::backends::{BackendError, DecodeRun, DeviceSampling, States};
use crate::graph::plan::{Place, Plan};
use crate::tensor::DType;
use bytemuck::{Pod, Zeroable};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Fixed places of what chooses tokens, as offsets in the scratch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chooser {
    places: ChooserPlaces,
    /// Where the logits lie in the arena, and how many there are.
    logits: usize,
    vocabulary: usize,
}

/// `DecodeState` of `kernels/sample.hip`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct DecodeState {
    token: u32,
    position: i32,
    done: u32,
    failed: i32,
    arrived: u32,
    biases: u32,
    unused: [u32; 2],
}

/// `Sampling` of `kernels/sample.hip`; a temperature of 0 takes the largest logit.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Choosing {
    temperature: f32,
    top_k: i32,
    top_p: f32,
    min_p: f32,
}

/// The most candidates that `sample_top` sorts.
const MOST_CANDIDATES: usize = 1024;
/// Threads of the kernels that choose, blocks of `sample_greedy`.
const CHOOSER_THREADS: u32 = 256;
/// The most tokens whose ids are fetched at once, while as many more are evaluated.
pub(super) const MOST_AHEAD: usize = 8;

impl Choosing {
    /// How a device does it, if it can.
    pub(super) fn of(sampling: &DeviceSampling<'_>) -> Option<Choosing> {
        let DeviceSampling { temperature, top_k, top_p, min_p, .. } = *sampling;
        if temperature <= 0.0 {
            return Some(Choosing { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0 });
        }
        (1..=MOST_CANDIDATES).contains(&top_k).then_some(Choosing { temperature, top_k: top_k as i32, top_p, min_p })
    }
}

impl Chooser {
    pub(super) fn of(plan: &Plan, scratch: &Scratch) -> Option<Chooser> {
        let places = scratch.chooser()?;
        let [output] = &plan.outputs[..] else { return None };
        let known = |name: &str| ["tokens", "positions", "kv_slot", "kv_start", "rows"].contains(&name);
        let ids = plan.inputs.iter().all(|p| p.operand.ty.dtype == DType::I32 && known(&p.name));
        let Place::Arena(buffer) = output.operand.place else { return None };
        let logits = plan.buffers[buffer.index()].offset + output.operand.layout.offset(&plan.bounds);
        let vocabulary = output.operand.ty.shape.elements(&plan.bounds)?;
        (ids && plan.inputs.iter().any(|p| p.name == "tokens") && vocabulary > 0).then_some(Chooser {
            places,
            logits,
            vocabulary,
        })
    }
}

impl HipProgram {
    /// The launches before and after the steps, which write a step's inputs and choose the next token.
    fn chooser_launches(&self, chooser: &Chooser, how: &Choosing) -> (Launches, Launches) {
        let at = |offset: usize| self.scratch.ptr() + offset as u64;
        let kernel = |name| Kernel { file: "sample", name };
        let p = &chooser.places;
        let logits = self.arena.ptr() + chooser.logits as u64;
        let n = chooser.vocabulary as i32;
        let (mut before, mut after) = (Launches::default(), Launches::default());
        let advance = before.add(kernel("decode_advance"), [1, 1, 1], 64).arg(at(p.state));
        for name in ["tokens", "positions", "kv_slot", "kv_start", "rows"] {
            let port = self.inputs.iter().find(|p| p.name == name);
            advance.arg(port.map_or(0, |p| self.arena.ptr() + p.offset as u64));
        }
        after
            .add(kernel("sample_bias"), [1, 1, 1], CHOOSER_THREADS)
            .arg(at(p.state))
            .arg(at(p.biases))
            .arg(logits)
            .arg(n);
        if how.temperature > 0.0 {
            let top = after.add(kernel("sample_top"), [1, 1, 1], CHOOSER_THREADS);
            top.arg(at(p.state)).arg(at(p.chosen)).arg(at(p.draws)).arg(logits).arg(n).arg(*how);
        } else {
            let blocks = chooser.vocabulary.div_ceil(4 * CHOOSER_THREADS as usize).clamp(1, CHOOSER_BLOCKS);
            let greedy = after.add(kernel("sample_greedy"), [blocks, 1, 1], CHOOSER_THREADS);
            greedy.arg(at(p.state)).arg(at(p.chosen)).arg(at(p.partial)).arg(logits).arg(n).arg(blocks as i32);
        }
        (before, after)
    }

    /// Captures a step between its inputs and the choice of the next token.
    fn capture_choosing(&mut self, chooser: &Chooser, how: &Choosing) -> Result<(), BackendError> {
        let doing = "capturing the choice of tokens";
        let (before, after) = self.chooser_launches(chooser, how);
        let load = |list: Launches| -> Result<Vec<(Arc<Function>, Launch)>, BackendError> {
            list.list
                .into_iter()
                .map(|l| Ok((self.kernels.get(l.kernel).map_err(|e| run_error(doing, e))?, l)))
                .collect()
        };
        let (before, after) = (load(before)?, load(after)?);
        let run = |(f, l): &(Arc<Function>, Launch)| {
            let args = &l.args;
            self.stream
                .launch(f, l.grid, l.threads, l.lds, args.bytes(), args.offsets(), true)
                .map_err(|e| run_error(doing, e))
        };
        self.stream.begin_capture().map_err(|e| run_error(doing, e))?;
        let steps = self.current.as_ref().map_or(&[][..], |c| &c.commands);
        let submitted = before
            .iter()
            .try_for_each(run)
            .and_then(|()| steps.iter().try_for_each(|command| self.submit(command)))
            .and_then(|()| after.iter().try_for_each(run));
        let graph = self.stream.end_capture().map_err(|e| run_error(doing, e));
        submitted?;
        self.choosing = Some((*how, graph?));
        Ok(())
    }

    pub(super) fn choose_many(
        &mut self,
        states: &mut dyn States,
        run: &DecodeRun<'_>,
        chooser: &Chooser,
        how: &Choosing,
        each: &mut dyn FnMut(u32) -> bool,
    ) -> Result<usize, BackendError> {
        let states = self.own(states)?;
        let turn = self.turn.clone();
        let mut guard = turn.take();
        self.bind(&self.bounds.clone(), &states)?;
        if self.choosing.as_ref().is_none_or(|(h, _)| h != how) {
            self.capture_choosing(chooser, how)?;
        }
        let failed = |e| run_error("choosing tokens", e);
        let p = chooser.places;
        let state = DecodeState {
            token: run.token,
            position: run.position as i32,
            biases: run.sampling.bias.len() as u32,
            ..DecodeState::default()
        };
        let upload = |at: usize, bytes: &[u8]| self.stream.upload_now(&self.scratch, at, bytes).map_err(failed);
        upload(p.state, bytemuck::bytes_of(&state))?;
        let biases: Vec<u32> = run.sampling.bias.iter().flat_map(|(id, bias)| [*id, bias.to_bits()]).collect();
        upload(p.biases, bytemuck::cast_slice(&biases))?;
        upload(p.draws, bytemuck::cast_slice(run.sampling.draws))?;
        let (mut submitted, mut given, mut ahead, mut slot) = (0, 0, 1, 0);
        // While the ids of one batch are fetched, the next one runs.
        let mut running: VecDeque<(usize, Range<usize>, Event)> = VecDeque::with_capacity(2);
        loop {
            while running.len() < 2 && submitted < run.count && !run.cancel.load(Ordering::Relaxed) {
                let batch = submitted..(submitted + ahead).min(run.count);
                let Some((_, graph)) = &self.choosing else { break };
                for _ in batch.clone() {
                    self.stream.replay(graph).map_err(failed)?;
                }
                let (from, to) = (p.chosen + 4 * batch.start, p.chosen + 4 * batch.end);
                self.stream.download(&mut self.fetch[slot], 0, &self.scratch, from..to).map_err(failed)?;
                let mut done = Event::new(self.stream.device(), false).map_err(failed)?;
                self.stream.record(&mut done).map_err(failed)?;
                submitted = batch.end;
                running.push_back((slot, batch, done));
                (ahead, slot) = ((2 * ahead).min(MOST_AHEAD), 1 - slot);
            }
            let Some((slot, batch, done)) = running.pop_front() else { break };
            drop(guard);
            let more = self.hand_out(slot, batch, &done, &mut given, each);
            guard = turn.take();
            if !more? {
                break;
            }
        }
        self.stream.synchronize().map_err(failed)?;
        self.check_fault()?;
        Ok(given)
    }

    /// Waits for a batch and hands its tokens out; `false` when nobody wants more.
    fn hand_out(
        &self,
        slot: usize,
        batch: Range<usize>,
        done: &Event,
        given: &mut usize,
        each: &mut dyn FnMut(u32) -> bool,
    ) -> Result<bool, BackendError> {
        let failed = |e| run_error("choosing tokens", e);
        done.synchronize().map_err(failed)?;
        // The turn is not held while `each` runs, which may use another session.
        let guard = self.turn.take();
        let mut host = [0; 4 * MOST_AHEAD];
        let host = &mut host[..4 * batch.len()];
        host.copy_from_slice(&self.fetch[slot].as_slice().map_err(failed)?[..4 * batch.len()]);
        drop(guard);
        for bytes in host.chunks_exact(4) {
            let id = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            if id == u32::MAX {
                let reason = "a logit is NaN or infinite, or no token has one".to_string();
                return Err(BackendError::Step { node: "choosing a token".to_string(), reason });
            }
            *given += 1;
            if !each(id) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
