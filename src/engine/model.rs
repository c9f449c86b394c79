//! [`Model`]: an opened file with its weights in memory.

use super::{EngineError, KvType};
use crate::backends::cpu::CpuBackend;
use crate::backends::{Backend, LoadedWeights, WeightSource};
use crate::graph::Graph;
use crate::graph::passes::PassOptions;
use crate::graph::plan::{Plan, plan};
use crate::models::gguf::{Gguf, Header};
use crate::models::{Config, GraphOptions, build};
use crate::tensor::{Bounds, DType};
use crate::text::{Tokenizer, TokenizerError};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

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
    /// Which passes run.
    pub passes: PassOptions,
}

/// A model, ready to run. Clones share the weights.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

struct Inner {
    file: Arc<File>,
    config: Config,
    backend: CpuBackend,
    weights: LoadedWeights,
    passes: PassOptions,
    bytes_per_token: u64,
    warnings: Vec<String>,
    tokenizer: OnceLock<Result<Tokenizer, TokenizerError>>,
}

/// The mapped file as a source of weights.
struct File(Gguf);

impl WeightSource for File {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.tensor(name).map(|t| self.0.data(t))
    }

    fn release(&self, name: &str) {
        if let Some(tensor) = self.0.tensor(name) {
            self.0.release(tensor);
        }
    }
}

impl Model {
    /// Opens a GGUF file and prepares its weights. `progress` is called from this thread; it returns `false` to cancel.
    ///
    /// # Errors
    /// When the file is no GGUF file, lacks a key or tensor, has an unknown architecture, or memory is short.
    pub fn open(
        path: impl AsRef<Path>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> bool,
    ) -> Result<Model, EngineError> {
        Model::from_gguf(Gguf::open(path)?, options, progress)
    }

    /// Prepares the weights of a file that is already in memory or mapped.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_gguf(
        gguf: Gguf,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> bool,
    ) -> Result<Model, EngineError> {
        let config = Config::read(gguf.header())?;
        let backend = CpuBackend::new(options.threads)?;
        // The smallest plan states all weights and what they are used for.
        let bounds = Bounds { t: 1, s: 1, r: 1 };
        let graph = build(gguf.header(), &GraphOptions { bounds, kv_type: DType::F16 })?;
        let plan = plan(&graph, bounds, backend.target(), &options.passes)?;
        let size = |name: &str| gguf.tensor(name).map_or(0, |t| t.bytes);
        let total = plan.weights.iter().map(|w| size(&w.name)).sum();
        let bytes_per_token = plan.weights.iter().filter(|w| w.matmul || w.direct).map(|w| size(&w.name)).sum();
        let unused: Vec<&str> = gguf
            .tensors()
            .iter()
            .map(|t| t.name.as_str())
            .filter(|name| !plan.weights.iter().any(|w| w.name == *name))
            .collect();
        let mut warnings = Vec::new();
        if !unused.is_empty() {
            let shown = unused[..unused.len().min(4)].join(", ");
            warnings.push(format!(
                "{} tensors of the file are not used by {}: {shown}",
                unused.len(),
                config.architecture
            ));
        }
        let file = Arc::new(File(gguf));
        let source: Arc<dyn WeightSource> = Arc::clone(&file) as _;
        let weights = backend.load(&plan.weights, source, &mut |done| progress(LoadProgress { done, total }))?;
        let inner = Inner {
            file,
            config,
            backend,
            weights,
            passes: options.passes.clone(),
            bytes_per_token,
            warnings,
            tokenizer: OnceLock::new(),
        };
        Ok(Model { inner: Arc::new(inner) })
    }

    /// The file's header: metadata and tensor list.
    pub fn header(&self) -> &Header {
        self.inner.file.0.header()
    }

    /// The hyperparameters.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The tokenizer, made when first asked for.
    ///
    /// # Errors
    /// If the file has none or its vocabulary is broken.
    pub fn tokenizer(&self) -> Result<&Tokenizer, EngineError> {
        let meta = self.header().metadata();
        if meta.get("tokenizer.ggml.model").is_none() {
            return Err(EngineError::NoTokenizer);
        }
        let made = self.inner.tokenizer.get_or_init(|| Tokenizer::from_gguf(meta));
        made.as_ref().map_err(|e| EngineError::Tokenizer(e.clone()))
    }

    /// Threads that run it.
    pub fn threads(&self) -> usize {
        self.inner.backend.threads()
    }

    /// Bytes of weights, as the file stores them, that evaluating one token reads.
    pub fn bytes_per_token(&self) -> u64 {
        self.inner.bytes_per_token
    }

    /// What the user should know: tensors that the graph does not use.
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// The unfused graph.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn graph(&self, bounds: Bounds, kv_type: KvType) -> Result<Graph, EngineError> {
        let kv_type = kv_type.dtype(self.header());
        Ok(build(self.header(), &GraphOptions { bounds, kv_type })?)
    }

    /// The plan for `bounds`.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn plan(&self, bounds: Bounds, kv_type: KvType) -> Result<Plan, EngineError> {
        Ok(plan(&self.graph(bounds, kv_type)?, bounds, self.inner.backend.target(), &self.inner.passes)?)
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        &self.inner.backend
    }

    pub(super) fn weights(&self) -> &LoadedWeights {
        &self.inner.weights
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("config", &self.inner.config).finish_non_exhaustive()
    }
}
