//! [`Session`]: a KV cache with the programs for prefill and decode.

use super::{EngineError, Model};
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

/// The state of one conversation. `Send`, so that it can live in any thread.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// A session with an empty cache.
    pub fn new(_model: &Model, _options: &SessionOptions) -> Result<Session, EngineError> {
        todo!()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        todo!()
    }

    /// Tokens that the cache holds at most.
    pub fn context(&self) -> usize {
        todo!()
    }

    /// Tokens in the cache.
    pub fn position(&self) -> usize {
        todo!()
    }

    /// Evaluates tokens in chunks; afterwards [`Session::logits`] are those of the last one. `progress` gets tokens done and tokens in all.
    pub fn prefill(&mut self, _ids: &[u32], _progress: &mut dyn FnMut(usize, usize)) -> Result<(), EngineError> {
        todo!()
    }

    /// Evaluates tokens in chunks and hands the logits of each to `each` with its index in `ids`.
    pub fn prefill_all(&mut self, _ids: &[u32], _each: &mut dyn FnMut(usize, &[f32])) -> Result<(), EngineError> {
        todo!()
    }

    /// Evaluates one token and returns its logits.
    pub fn decode(&mut self, _id: u32) -> Result<&[f32], EngineError> {
        todo!()
    }

    /// The logits of the last token evaluated by `prefill` or `decode`; empty before.
    pub fn logits(&self) -> &[f32] {
        todo!()
    }

    /// Forgets all tokens from `len` on.
    pub fn truncate(&mut self, _len: usize) {
        todo!()
    }
}
