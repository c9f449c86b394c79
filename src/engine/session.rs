//! [`Session`]: a KV cache with the programs for prefill and decode.

use super::{EngineError, Model};
use crate::backends::{Program, States};
use crate::graph::plan::{MemoryBill, Plan};
use crate::models::gguf::Header;
use crate::tensor::{Bounds, DType};
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
}

impl KvType {
    /// The element type for a file: a cache as exact as the weights, f32 only where all tensors are.
    pub fn dtype(self, header: &Header) -> DType {
        match self {
            KvType::F32 => DType::F32,
            KvType::F16 => DType::F16,
            KvType::Bf16 => DType::Bf16,
            KvType::Auto if header.tensors().iter().all(|t| t.dtype == DType::F32) => DType::F32,
            KvType::Auto => DType::F16,
        }
    }
}

/// How a session runs.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Tokens that the KV cache holds; 0 takes the model's training context, at most 4096.
    pub context: usize,
    /// Tokens that prefill evaluates at once; 0 takes 512.
    pub chunk: usize,
    /// Element type of the KV cache.
    pub kv_type: KvType,
    /// Stops what runs.
    pub cancel: Cancel,
}

/// The most bytes of logits that `prefill_all` computes at once.
const LOGITS_BYTES: usize = 64 << 20;

/// The state of one conversation: a KV cache and the programs that fill it. `Send`, so that it can live in any thread.
pub struct Session {
    model: Model,
    options: SessionOptions,
    context: usize,
    chunk: usize,
    states: Box<dyn States>,
    prefill: Runner,
    decode: Runner,
    /// Made when logits of every token are asked for the first time.
    all_rows: Option<Runner>,
    position: usize,
    logits: Vec<f32>,
    memory: MemoryBill,
}

/// A program with the order of its inputs.
struct Runner {
    program: Box<dyn Program>,
    /// Where `tokens`, `positions`, `kv_slot`, `kv_start` and `rows` stand among the plan's inputs.
    inputs: [Option<usize>; 5],
    /// What is bound to one of them, kept so that a token allocates nothing.
    values: Vec<i32>,
    tokens: usize,
}

const INPUTS: [&str; 5] = ["tokens", "positions", "kv_slot", "kv_start", "rows"];

impl Runner {
    fn new(model: &Model, plan: &Plan) -> Result<Runner, EngineError> {
        let program = model.backend().lower(plan, model.weights())?;
        let inputs = INPUTS.map(|name| plan.inputs.iter().position(|p| p.name == name));
        Ok(Runner { program, inputs, values: Vec::with_capacity(plan.bounds.t), tokens: plan.bounds.t })
    }

    /// Evaluates `ids` from `position` on; the logits of the tokens in `rows` are the program's output afterwards.
    fn run(
        &mut self,
        states: &mut dyn States,
        ids: &[u32],
        position: usize,
        rows: std::ops::Range<usize>,
        cancel: &Cancel,
    ) -> Result<&[f32], EngineError> {
        let count = |from: usize, n: usize| (from..from + n).map(|i| i as i32);
        for (name, index) in INPUTS.iter().zip(self.inputs) {
            let Some(index) = index else { continue };
            self.values.clear();
            match *name {
                "tokens" => self.values.extend(ids.iter().map(|&id| id as i32)),
                "positions" | "kv_slot" => self.values.extend(count(position, ids.len())),
                "rows" => self.values.extend(count(rows.start, rows.len())),
                _ => self.values.resize(ids.len(), 0), // kv_start: one sequence, from the beginning of the cache
            }
            self.program.set_input(index, bytemuck::cast_slice(&self.values))?;
        }
        let bounds = Bounds { t: ids.len(), s: position + ids.len(), r: rows.len() };
        self.program.run(states, &bounds, cancel.flag())?;
        Ok(self.program.output(0))
    }
}

impl Session {
    /// A session with an empty cache.
    ///
    /// # Errors
    /// If the context or chunk cannot be, or memory is short.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Session, EngineError> {
        let context = if options.context == 0 { model.config().n_ctx_train.min(4096) } else { options.context };
        if context > i32::MAX as usize {
            let reason = format!("{context} tokens are more than positions can count");
            return Err(EngineError::Option { name: "context", reason });
        }
        let chunk = if options.chunk == 0 { 512 } else { options.chunk }.min(context);
        let plan = |t: usize, r: usize| model.plan(Bounds { t, s: context, r }, options.kv_type);
        let (prefill, decode) = (plan(chunk, 1)?, plan(1, 1)?);
        let states = model.backend().states(&decode)?;
        let memory = MemoryBill::of_session(&prefill.bill, &decode.bill);
        Ok(Session {
            prefill: Runner::new(model, &prefill)?,
            decode: Runner::new(model, &decode)?,
            all_rows: None,
            model: model.clone(),
            options: options.clone(),
            context,
            chunk,
            states,
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

    /// The memory that the plans predicted: weights, KV cache, and the arenas and scratch of prefill and decode.
    pub fn memory(&self) -> MemoryBill {
        self.memory
    }

    /// The memory that was allocated, counted by who allocated it.
    pub fn allocated(&self) -> MemoryBill {
        let (prefill, decode) = (self.prefill.program.allocated(), self.decode.program.allocated());
        MemoryBill {
            weights: self.model.weights().allocated(),
            mapped: self.memory.mapped,
            kv: self.states.bytes(),
            arena: prefill.arena + decode.arena,
            scratch: prefill.scratch + decode.scratch,
        }
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
            let runner = if chunk.len() == 1 { &mut self.decode } else { &mut self.prefill };
            let rows = if last { chunk.len() - 1..chunk.len() } else { 0..0 };
            let logits = runner.run(&mut *self.states, chunk, self.position, rows, &self.options.cancel)?;
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
        let runner = match &mut self.all_rows {
            Some(runner) => runner,
            slot => {
                let rows = (LOGITS_BYTES / (4 * vocabulary)).clamp(1, self.chunk);
                let plan = self.model.plan(Bounds { t: rows, s: self.context, r: rows }, self.options.kv_type)?;
                slot.insert(Runner::new(&self.model, &plan)?)
            }
        };
        for (i, chunk) in ids.chunks(runner.tokens).enumerate() {
            let first = i * runner.tokens;
            let logits = runner.run(&mut *self.states, chunk, self.position, 0..chunk.len(), &self.options.cancel)?;
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

    /// Evaluates one token and returns its logits.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn decode(&mut self, id: u32) -> Result<&[f32], EngineError> {
        self.check(&[id])?;
        let logits = self.decode.run(&mut *self.states, &[id], self.position, 0..1, &self.options.cancel)?;
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.position += 1;
        Ok(&self.logits)
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

    fn check(&self, ids: &[u32]) -> Result<(), EngineError> {
        if ids.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let vocabulary = self.model.config().n_vocab;
        if let Some(index) = ids.iter().position(|&id| id as usize >= vocabulary) {
            return Err(EngineError::TokenOutOfVocabulary { id: ids[index], index, vocabulary });
        }
        let needed = self.position.saturating_add(ids.len());
        if needed > self.context {
            return Err(EngineError::ContextFull { needed, context: self.context });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("position", &self.position)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
