//! The choice of the next token on the device: decode steps that follow each other without work of the host, which fetches the chosen ids
//! some tokens behind (`kernels/sample.hip`).

use super::HipProgram;
use crate::backends::hip::ffi::{Event, Function};
use crate::backends::hip::launch::{Kernel, Launch, Launches};
use crate::backends::hip::run_error;
use crate::backends::hip::steps::{CHOOSER_BLOCKS, CHOOSER_PEAKS, ChooserPlaces, Scratch};
use crate::backends::{BackendError, DecodeRun, DeviceSampling, States};
use crate::graph::plan::{Place, Plan};
use crate::tensor::DType;
use bytemuck::{Pod, Zeroable};
use std::collections::VecDeque;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Fixed places of what chooses tokens, as offsets in the scratch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chooser {
    places: ChooserPlaces,
    /// Where the logits lie in the arena, and how many there are.
    logits: usize,
    pub(super) vocabulary: usize,
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
    listed: u32,
    unused: u32,
    search: Search,
}

/// `Search` of `kernels/sample.hip`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct Search {
    cut: u64,
    target: u64,
    before: [u64; 3],
    top: f32,
    least: u32,
    from: i32,
    to: i32,
    by: i32,
    unused: u32,
}

const _: () = assert!(size_of::<DecodeState>() == 96 && offset_of!(DecodeState, search) == 32);
const _: () = assert!(size_of::<Search>() == 64 && offset_of!(Search, top) == 40);

/// `Sampling` of `kernels/common/candidates.h`.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Sampling {
    scale: f64,
    top_p: u64,
    min_p: f32,
    top_k: u32,
    bits: i32,
    unused: u32,
}

const _: () = assert!(size_of::<Sampling>() == 32 && offset_of!(Sampling, min_p) == 16);

/// How tokens are chosen: what the launches of a step depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choosing {
    /// `None` takes the largest logit.
    sampling: Option<Sampling>,
    /// Whether there are biases.
    biased: bool,
}

/// The largest top-k of which the peaks of the logits' parts give a bound.
const PEAKS_TOP_K: u32 = 1024;
/// `SAMPLE_PEAKS_BLOCK`, parts of the logits a block.
const PEAKS_BLOCK: usize = 32;
/// The most blocks of `sample_masses` and `sample_draw`, and how many logits a thread of theirs has at least.
const DRAW_BLOCKS: usize = 256;
const DRAW_LOGITS: usize = 4;
/// Threads of the kernels that choose.
const CHOOSER_THREADS: u32 = 256;
/// The most tokens whose ids are fetched at once, while as many more are evaluated.
pub(super) const MOST_AHEAD: usize = 8;

impl Choosing {
    /// How a device does it; `None` for options that the sampler on the host refuses, and where numbers are missing.
    pub(super) fn of(run: &DecodeRun<'_>, vocabulary: usize) -> Option<Choosing> {
        let DeviceSampling { bias, temperature, top_k, top_p, min_p, draws } = run.sampling;
        let unit = 0.0..=1.0;
        let biased = !bias.is_empty();
        if temperature <= 0.0 {
            return Some(Choosing { sampling: None, biased });
        }
        if !temperature.is_finite() || !unit.contains(&top_p) || !unit.contains(&min_p) || draws.len() < run.count {
            return None;
        }
        let sampling = Sampling {
            scale: std::f64::consts::LOG2_E / f64::from(temperature) * 2f64.powi(32),
            top_p: if top_p < 1.0 { (f64::from(top_p) * 2f64.powi(64)).ceil() as u64 } else { u64::MAX },
            min_p: if min_p > 0.0 { min_p.ln() } else { f32::NEG_INFINITY },
            top_k: u32::try_from(top_k).unwrap_or(0),
            // As many masses as there are logits, none above 2^bits, have no sum above 2^63.
            bits: 63 - vocabulary.next_power_of_two().trailing_zeros() as i32,
            unused: 0,
        };
        Some(Choosing { sampling: Some(sampling), biased })
    }
}

/// A random number in [0, 1) in units of 2^-64.
fn portion(draw: f64) -> u64 {
    (draw * 2f64.powi(64)) as u64
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
        if how.biased {
            let bias = after.add(kernel("sample_bias"), [1, 1, 1], CHOOSER_THREADS);
            bias.arg(at(p.state)).arg(at(p.biases)).arg(logits).arg(n);
        }
        let Some(sampling) = how.sampling else {
            let blocks = chooser.vocabulary.div_ceil(4 * CHOOSER_THREADS as usize).clamp(1, CHOOSER_BLOCKS);
            let greedy = after.add(kernel("sample_greedy"), [blocks, 1, 1], CHOOSER_THREADS);
            greedy.arg(at(p.state)).arg(at(p.chosen)).arg(at(p.partial)).arg(logits).arg(n).arg(blocks as i32);
            return (before, after);
        };
        // Peaks tell which logits a small top-k leaves; a histogram shows where the sums of all are reached.
        let by_peaks = (1..=PEAKS_TOP_K).contains(&sampling.top_k);
        let histogram = if by_peaks { 0 } else { at(p.histogram) };
        let parts = chooser.vocabulary.div_ceil(PEAKS_BLOCK).min(CHOOSER_PEAKS / PEAKS_BLOCK);
        let peaks = after.add(kernel("sample_peaks"), [parts, 1, 1], CHOOSER_THREADS);
        peaks.arg(at(p.state)).arg(at(p.chosen)).arg(histogram).arg(at(p.peaks));
        peaks.arg(logits).arg(n).arg(parts as i32).arg(sampling);
        let blocks = chooser.vocabulary.div_ceil(DRAW_LOGITS * CHOOSER_THREADS as usize).min(DRAW_BLOCKS);
        if !by_peaks {
            let masses = after.add(kernel("sample_masses"), [blocks, 1, 1], CHOOSER_THREADS);
            masses.arg(at(p.state)).arg(at(p.chosen)).arg(at(p.draws)).arg(histogram);
            masses.arg(logits).arg(n).arg(blocks as i32).arg(sampling);
        }
        // Each launch ends at least one of top-k, top-p and the draw; without a histogram it has the candidates of all.
        let cuts = usize::from(sampling.top_k > 0) + usize::from(sampling.top_p < u64::MAX);
        for _ in 0..if by_peaks { 1 } else { cuts + 1 } {
            let draw = after.add(kernel("sample_draw"), [blocks, 1, 1], CHOOSER_THREADS);
            draw.arg(at(p.state)).arg(at(p.chosen)).arg(at(p.draws)).arg(histogram).arg(at(p.list));
            draw.arg(logits).arg(n).arg(blocks as i32).arg(sampling);
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
        let draws: Vec<u64> = run.sampling.draws.iter().take(run.count).copied().map(portion).collect();
        upload(p.draws, bytemuck::cast_slice(&draws))?;
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
