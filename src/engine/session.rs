//! [`Session`]: a KV cache with the programs for prefill and decode.

use super::model::LoadedStage;
use super::{EngineError, Model};
use crate::backends::{DecodeRun, DeviceSampling, Program, States};
use crate::graph::plan::{MemoryBill, Plan};
use crate::models::gguf::Header;
use crate::models::{Config, RESIDUAL};
use crate::tensor::{Bounds, DType};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Stops a running prefill or decode from another thread or a signal handler. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks what runs to stop soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// Withdraws the request.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Element type of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KvType {
    /// F32 where the weights are F32, F16 elsewhere.
    #[default]
    Auto,
    /// F32.
    F32,
    /// F16.
    F16,
    /// BF16: the range of F32, with 8 bits of precision.
    Bf16,
    /// Bytes with an f16 scale per 32: half of F16's memory, for models whose head sizes are multiples of 32.
    Q8_0,
}

impl KvType {
    /// The element type for a file: a cache as exact as the weights, f32 only where all tensors are.
    pub fn dtype(self, header: &Header) -> DType {
        match self {
            KvType::F32 => DType::F32,
            KvType::F16 => DType::F16,
            KvType::Bf16 => DType::Bf16,
            KvType::Q8_0 => DType::Q8_0,
            KvType::Auto if header.tensors().iter().all(|t| t.dtype == DType::F32) => DType::F32,
            KvType::Auto => DType::F16,
        }
    }
}

/// Tokens that prefill evaluates at once where nothing else was asked for.
pub const DEFAULT_CHUNK: usize = 512;

/// How a session runs.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Tokens that the KV cache holds; 0 takes the model's training context, at most 4096.
    pub context: usize,
    /// Tokens that prefill evaluates at once; 0 takes [`DEFAULT_CHUNK`].
    pub chunk: usize,
    /// Element type of the KV cache.
    pub kv_type: KvType,
    /// Stops what runs.
    pub cancel: Cancel,
}

impl SessionOptions {
    /// The context and the chunk of a session of a model.
    ///
    /// # Errors
    /// If positions cannot count the context.
    pub fn sizes(&self, config: &Config) -> Result<(usize, usize), EngineError> {
        let context = if self.context == 0 { config.n_ctx_train.min(4096) } else { self.context };
        if context > i32::MAX as usize {
            let reason = format!("{context} tokens are more than positions can count");
            return Err(EngineError::Option { name: "context", reason });
        }
        Ok((context, if self.chunk == 0 { DEFAULT_CHUNK } else { self.chunk }.min(context)))
    }
}

/// The most bytes of logits that `prefill_all` computes at once.
const LOGITS_BYTES: usize = 64 << 20;

/// The state of one conversation: a KV cache and the programs that fill it. `Send`, so that it can live in any thread.
pub struct Session {
    model: Model,
    options: SessionOptions,
    context: usize,
    chunk: usize,
    stages: Vec<Stage>,
    /// Tokens of a step of [`Session::prefill_all`], once that was asked for.
    all_rows: Option<usize>,
    position: usize,
    logits: Vec<f32>,
    memory: Vec<MemoryBill>,
}

/// What runs some of the layers: its caches and programs.
struct Stage {
    states: Box<dyn States>,
    prefill: Runner,
    decode: Runner,
    all_rows: Option<Runner>,
}

impl Stage {
    fn new(stage: &LoadedStage, prefill: &Plan, decode: &Plan) -> Result<Stage, EngineError> {
        let states = stage.backend.states(decode)?;
        let (prefill, decode) = (Runner::new(stage, prefill)?, Runner::new(stage, decode)?);
        Ok(Stage { states, prefill, decode, all_rows: None })
    }

    fn runner(&mut self, which: Which) -> (&mut Runner, &mut dyn States) {
        let runner = match which {
            Which::Prefill => &mut self.prefill,
            Which::Decode => &mut self.decode,
            Which::AllRows => self.all_rows.as_mut().expect("made by prefill_all before it is used"),
        };
        (runner, &mut *self.states)
    }

    fn output(&self, which: Which) -> &[f32] {
        let runner = match which {
            Which::Prefill => Some(&self.prefill),
            Which::Decode => Some(&self.decode),
            Which::AllRows => self.all_rows.as_ref(),
        };
        runner.map_or(&[], |r| r.program.output(0))
    }
}

/// A program of each stage.
#[derive(Clone, Copy)]
enum Which {
    Prefill,
    Decode,
    AllRows,
}

/// A program with the order of its inputs.
struct Runner {
    program: Box<dyn Program>,
    /// Where the inputs of [`INPUTS`] stand among the plan's.
    inputs: [Option<usize>; INPUTS.len()],
    /// What is bound to one of them, kept so that a token allocates nothing.
    values: Vec<i32>,
}

const INPUTS: [&str; 6] = ["tokens", "positions", "kv_slot", "kv_start", "rows", RESIDUAL];

/// What a step evaluates.
struct Step<'a> {
    ids: &'a [u32],
    position: usize,
    /// Tokens whose logits are wanted.
    rows: Range<usize>,
    cancel: &'a Cancel,
}

impl Runner {
    fn new(stage: &LoadedStage, plan: &Plan) -> Result<Runner, EngineError> {
        let program = stage.backend.lower(plan, &stage.weights)?;
        let inputs = INPUTS.map(|name| plan.inputs.iter().position(|p| p.name == name));
        Ok(Runner { program, inputs, values: Vec::with_capacity(plan.bounds.t) })
    }

    /// Runs the step; `residual` is what the stage before gave.
    fn run(&mut self, states: &mut dyn States, step: &Step<'_>, residual: &[f32]) -> Result<(), EngineError> {
        let count = |from: usize, n: usize| (from..from + n).map(|i| i as i32);
        let n = step.ids.len();
        for (name, index) in INPUTS.iter().zip(self.inputs) {
            let Some(index) = index else { continue };
            self.values.clear();
            match *name {
                RESIDUAL => {
                    self.program.set_input(index, bytemuck::cast_slice(residual))?;
                    continue;
                }
                "tokens" => self.values.extend(step.ids.iter().map(|&id| id as i32)),
                "positions" | "kv_slot" => self.values.extend(count(step.position, n)),
                "rows" => self.values.extend(count(step.rows.start, step.rows.len())),
                _ => self.values.resize(n, 0), // kv_start: one sequence, from the beginning of the cache
            }
            self.program.set_input(index, bytemuck::cast_slice(&self.values))?;
        }
        let bounds = Bounds { t: n, s: step.position + n, r: step.rows.len() };
        Ok(self.program.run(states, &bounds, step.cancel.flag())?)
    }
}

/// Runs a step through all stages, one after the other; the result is the logits of its rows.
fn evaluate<'s>(stages: &'s mut [Stage], which: Which, step: &Step<'_>) -> Result<&'s [f32], EngineError> {
    for i in 0..stages.len() {
        let (before, from) = stages.split_at_mut(i);
        let residual = before.last().map_or(&[][..], |stage| stage.output(which));
        let (runner, states) = from[0].runner(which);
        runner.run(states, step, residual)?;
    }
    Ok(stages.last().map_or(&[], |stage| stage.output(which)))
}

impl Session {
    /// A session with an empty cache.
    ///
    /// # Errors
    /// If the context or chunk cannot be, or memory is short: a smaller session of the same model can be tried then.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Session, EngineError> {
        let (context, chunk) = options.sizes(model.config())?;
        let plans = |t: usize, r: usize| model.plans(Bounds { t, s: context, r }, options.kv_type);
        let (prefill, decode) = (plans(chunk, 1)?, plans(1, 1)?);
        let memory = prefill.iter().zip(&decode).map(|(p, d)| MemoryBill::of_session(&p.bill, &d.bill)).collect();
        let mut stages = Vec::new();
        for (stage, (prefill, decode)) in model.stages().iter().zip(prefill.iter().zip(&decode)) {
            stages.push(Stage::new(stage, prefill, decode)?);
        }
        Ok(Session {
            stages,
            all_rows: None,
            model: model.clone(),
            options: options.clone(),
            context,
            chunk,
            position: 0,
            logits: Vec::with_capacity(model.config().n_vocab),
            memory,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Tokens that the cache holds at most.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens in the cache.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The memory that the plans predicted: weights, KV cache, and the arenas and scratch of prefill and decode, on all devices.
    pub fn memory(&self) -> MemoryBill {
        self.memory.iter().fold(MemoryBill::default(), |sum, bill| sum.plus(bill))
    }

    /// [`Session::memory`] of each stage of [`Model::placement`].
    pub fn memory_of_stages(&self) -> &[MemoryBill] {
        &self.memory
    }

    /// The memory that was allocated, counted by who allocated it.
    pub fn allocated(&self) -> MemoryBill {
        self.allocated_of_stages().iter().fold(MemoryBill::default(), |sum, bill| sum.plus(bill))
    }

    /// [`Session::allocated`] of each stage of [`Model::placement`].
    pub fn allocated_of_stages(&self) -> Vec<MemoryBill> {
        let of = |((stage, loaded), bill): ((&Stage, &LoadedStage), &MemoryBill)| {
            let (prefill, decode) = (stage.prefill.program.allocated(), stage.decode.program.allocated());
            MemoryBill {
                weights: loaded.weights.allocated(),
                mapped: bill.mapped,
                kv: stage.states.bytes(),
                arena: prefill.arena + decode.arena,
                scratch: prefill.scratch + decode.scratch,
            }
        };
        self.stages.iter().zip(self.model.stages()).zip(&self.memory).map(of).collect()
    }

    /// Evaluates tokens in chunks; afterwards [`Session::logits`] are those of the last one. `progress` gets tokens done and tokens
    /// in all.
    ///
    /// # Errors
    /// Without tokens, with an id that is not in the vocabulary, when the context is too short (nothing is evaluated then), or
    /// when cancelled: whole chunks evaluated before stay in the cache.
    pub fn prefill(&mut self, ids: &[u32], progress: &mut dyn FnMut(usize, usize)) -> Result<(), EngineError> {
        self.check(ids)?;
        progress(0, ids.len());
        let mut done = 0;
        for chunk in ids.chunks(self.chunk) {
            let last = done + chunk.len() == ids.len();
            let which = if chunk.len() == 1 { Which::Decode } else { Which::Prefill };
            let rows = if last { chunk.len() - 1..chunk.len() } else { 0..0 };
            let step = Step { ids: chunk, position: self.position, rows, cancel: &self.options.cancel };
            let logits = evaluate(&mut self.stages, which, &step)?;
            if last {
                self.logits.clear();
                self.logits.extend_from_slice(logits);
            }
            self.position += chunk.len();
            done += chunk.len();
            progress(done, ids.len());
        }
        Ok(())
    }

    /// Evaluates tokens in chunks and hands the logits of each to `each` with its index in `ids`.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn prefill_all(&mut self, ids: &[u32], each: &mut dyn FnMut(usize, &[f32])) -> Result<(), EngineError> {
        self.check(ids)?;
        let vocabulary = self.model.config().n_vocab;
        let tokens = self.prepare_all_rows(vocabulary)?;
        for (i, chunk) in ids.chunks(tokens).enumerate() {
            let first = i * tokens;
            let step = Step { ids: chunk, position: self.position, rows: 0..chunk.len(), cancel: &self.options.cancel };
            let logits = evaluate(&mut self.stages, Which::AllRows, &step)?;
            for (row, logits) in logits.chunks_exact(vocabulary).enumerate() {
                each(first + row, logits);
                if first + row + 1 == ids.len() {
                    self.logits.clear();
                    self.logits.extend_from_slice(logits);
                }
            }
            self.position += chunk.len();
        }
        Ok(())
    }

    /// Makes the programs that give logits for every token; the tokens of a step.
    fn prepare_all_rows(&mut self, vocabulary: usize) -> Result<usize, EngineError> {
        if let Some(tokens) = self.all_rows {
            return Ok(tokens);
        }
        let rows = (LOGITS_BYTES / (4 * vocabulary)).clamp(1, self.chunk);
        let plans = self.model.plans(Bounds { t: rows, s: self.context, r: rows }, self.options.kv_type)?;
        for ((stage, loaded), plan) in self.stages.iter_mut().zip(self.model.stages()).zip(&plans) {
            stage.all_rows = Some(Runner::new(loaded, plan)?);
        }
        Ok(*self.all_rows.insert(rows))
    }

    /// Evaluates one token and returns its logits.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn decode(&mut self, id: u32) -> Result<&[f32], EngineError> {
        self.check(&[id])?;
        let step = Step { ids: &[id], position: self.position, rows: 0..1, cancel: &self.options.cancel };
        let logits = evaluate(&mut self.stages, Which::Decode, &step)?;
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.position += 1;
        Ok(&self.logits)
    }

    /// Evaluates `id`, chooses the next token, evaluates that one, and so on, on the device alone: `each` gets the tokens as they are
    /// chosen, at most `count`, and returns `false` to stop. The last one is not in the cache. There are no [`Session::logits`] then.
    ///
    /// The result is the number of tokens that `each` got; fewer than `count` also when cancelled. `None`: what runs the model cannot
    /// do this, or not with this sampling, and nothing has happened.
    ///
    /// # Errors
    /// As [`Session::prefill`], for `count` tokens. What `each` got before an error is valid.
    pub fn decode_many(
        &mut self,
        id: u32,
        count: usize,
        sampling: DeviceSampling<'_>,
        each: &mut dyn FnMut(u32) -> bool,
    ) -> Option<Result<usize, EngineError>> {
        let [stage] = &mut self.stages[..] else { return None };
        if let Err(error) = check(&self.model, &[id], self.position, count.max(1), self.context) {
            return Some(Err(error));
        }
        let run = DecodeRun { token: id, position: self.position, count, sampling, cancel: self.options.cancel.flag() };
        let mut given = 0;
        let outcome = stage.decode.program.decode_many(&mut *stage.states, &run, &mut |id| {
            given += 1;
            each(id)
        })?;
        self.position += given;
        self.logits.clear();
        Some(outcome.map(|_| given).map_err(EngineError::from))
    }

    /// The logits of the last token evaluated; empty before.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Forgets all tokens from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.position = self.position.min(len);
        self.logits.clear();
    }

    /// Takes back [`Session::truncate`] by `n` tokens, after which nothing was evaluated.
    pub(super) fn keep(&mut self, n: usize) {
        self.position += n;
    }

    fn check(&self, ids: &[u32]) -> Result<(), EngineError> {
        check(&self.model, ids, self.position, ids.len(), self.context)
    }
}

/// Whether `ids` can be evaluated, and `count` tokens in all fit behind `position`.
fn check(model: &Model, ids: &[u32], position: usize, count: usize, context: usize) -> Result<(), EngineError> {
    if ids.is_empty() {
        return Err(EngineError::EmptyPrompt);
    }
    let vocabulary = model.config().n_vocab;
    if let Some(index) = ids.iter().position(|&id| id as usize >= vocabulary) {
        return Err(EngineError::TokenOutOfVocabulary { id: ids[index], index, vocabulary });
    }
    let needed = position.saturating_add(count);
    if needed > context {
        return Err(EngineError::ContextFull { needed, context });
    }
    Ok(())
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("position", &self.position)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
