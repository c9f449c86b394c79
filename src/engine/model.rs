//! [`Model`]: an opened file with its weights in memory.

use super::EngineError;
use crate::models::Config;
use crate::models::gguf::Header;
use crate::text::Tokenizer;
use std::path::Path;

/// How far loading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of weights that are ready.
    pub done: u64,
    /// Bytes of weights in all.
    pub total: u64,
}

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Threads; 0 takes the number of processors that this process may use.
    pub threads: usize,
}

/// A model, ready to run. Clones share the weights.
#[derive(Clone, Debug)]
pub struct Model {}

impl Model {
    /// Opens a GGUF file and prepares its weights. `progress` is called from this thread; it returns `false` to cancel.
    pub fn open(
        _path: impl AsRef<Path>,
        _options: &LoadOptions,
        _progress: &mut dyn FnMut(LoadProgress) -> bool,
    ) -> Result<Model, EngineError> {
        todo!()
    }

    /// The file's header: metadata and tensor list.
    pub fn header(&self) -> &Header {
        todo!()
    }

    /// The hyperparameters.
    pub fn config(&self) -> &Config {
        todo!()
    }

    /// The tokenizer, if the file has one.
    pub fn tokenizer(&self) -> Result<&Tokenizer, EngineError> {
        todo!()
    }

    /// Threads that run it.
    pub fn threads(&self) -> usize {
        todo!()
    }

    /// Bytes of weights that evaluating one token reads.
    pub fn bytes_per_token(&self) -> u64 {
        todo!()
    }

    /// What the user should know: tensors that the graph does not use, doubtful metadata.
    pub fn warnings(&self) -> &[String] {
        todo!()
    }
}
