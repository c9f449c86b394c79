//! [`Model`]: an opened file with its weights in memory.

use super::placement::{Wanted, open_gpu, place, plan_layers};
use super::{DeviceChoice, EngineError, KvType, LoadTimes, Placement, SessionOptions, Stage};
use crate::backends::{Backend, LoadedWeights, WeightSource};
use crate::graph::Graph;
use crate::graph::passes::PassOptions;
use crate::graph::plan::Plan;
use crate::models::gguf::{Gguf, Header};
use crate::models::synthetic::Synthetic;
use crate::models::{Config, GraphOptions, build};
use crate::tensor::Bounds;
use crate::text::{Tokenizer, TokenizerError};
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

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
    /// What runs it.
    pub device: DeviceChoice,
    /// How many of the last layers a GPU takes, with the output; `None` takes as many as its memory holds.
    pub gpu_layers: Option<usize>,
    /// The session that the memory of a GPU must hold beside the weights.
    pub session: SessionOptions,
    /// Threads of the CPU; 0 takes the number of processors that this process may use.
    pub threads: usize,
    /// Which passes run.
    pub passes: PassOptions,
    /// Leaves weights that the CPU reads in the mapped file, instead of copying them into the order of its kernels: slower, for
    /// machines that are short of memory.
    pub no_repack: bool,
}

/// A model, ready to run. Clones share the weights.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

struct Inner {
    data: Arc<dyn ModelData>,
    config: Config,
    stages: Vec<LoadedStage>,
    placement: Placement,
    times: LoadTimes,
    passes: PassOptions,
    bytes_per_token: u64,
    warnings: Vec<String>,
    tokenizer: OnceLock<Result<Tokenizer, TokenizerError>>,
}

/// A stage with its weights.
pub(super) struct LoadedStage {
    pub backend: Arc<dyn Backend>,
    pub layers: Range<usize>,
    pub weights: LoadedWeights,
}

/// What a model is made of: a header and the weights that it lists.
pub trait ModelData: WeightSource {
    /// Metadata and tensors.
    fn header(&self) -> &Header;
}

/// The mapped file as a source of weights.
struct File(Gguf);

impl ModelData for File {
    fn header(&self) -> &Header {
        self.0.header()
    }
}

impl WeightSource for File {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.tensor(name).map(|t| self.0.data(t))
    }

    fn release(&self, name: &str, part: Range<usize>) {
        if let Some(tensor) = self.0.tensor(name) {
            self.0.release(tensor, part);
        }
    }

    fn prefetch(&self, name: &str, part: Range<usize>) {
        if let Some(tensor) = self.0.tensor(name) {
            self.0.prefetch(tensor, part);
        }
    }
}

impl WeightSource for Synthetic {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.bytes(name)
    }
}

impl ModelData for Synthetic {
    fn header(&self) -> &Header {
        self.header()
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
        Model::from_data(Arc::new(File(gguf)), options, progress)
    }

    /// Prepares weights that come from anywhere.
    ///
    /// # Errors
    /// As [`Model::open`]; if the wanted device cannot be used.
    pub fn from_data(
        data: Arc<dyn ModelData>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> bool,
    ) -> Result<Model, EngineError> {
        let config = Config::read(data.header())?;
        let LoadOptions { device, gpu_layers, threads, ref session, ref passes, no_repack } = *options;
        let wanted = Wanted { device, gpu_layers, threads, session, passes, no_repack };
        let start = Instant::now();
        let (stages, why) = place(data.header(), &config, &wanted, &open_gpu)?;
        let devices = start.elapsed();
        let optional = wanted.is_optional() && stages.iter().any(|stage| stage.backend.device().threads == 0);
        match Model::load(Arc::clone(&data), stages, why, passes, devices, progress) {
            // A GPU that was not asked for and that cannot hold these weights is told about, and not used.
            Err(EngineError::Backend(error)) if optional => {
                let (stages, _) = place(data.header(), &config, &Wanted { gpu_layers: Some(0), ..wanted }, &open_gpu)?;
                Model::load(data, stages, Some(format!("no GPU is used: {error}")), passes, devices, progress)
            }
            made => made,
        }
    }

    /// Prepares weights for backends that the caller has made, each with the layers that it runs: all layers in their order, one
    /// stage after the other. `why` is told with the placement.
    ///
    /// # Errors
    /// As [`Model::open`]; if the stages are not all layers in their order.
    pub fn on_stages(
        data: Arc<dyn ModelData>,
        stages: Vec<Stage>,
        why: Option<String>,
        passes: &PassOptions,
        progress: &mut dyn FnMut(LoadProgress) -> bool,
    ) -> Result<Model, EngineError> {
        Model::load(data, stages, why, passes, Duration::ZERO, progress)
    }

    /// [`Model::on_stages`], where making the backends took `devices`.
    fn load(
        data: Arc<dyn ModelData>,
        stages: Vec<Stage>,
        why: Option<String>,
        passes: &PassOptions,
        devices: Duration,
        progress: &mut dyn FnMut(LoadProgress) -> bool,
    ) -> Result<Model, EngineError> {
        let start = Instant::now();
        let config = Config::read(data.header())?;
        check_stages(&stages, config.n_layer)?;
        // The smallest plans state all weights and what they are used for.
        let bounds = Bounds { t: 1, s: 1, r: 1 };
        let plan = |stage: &Stage| {
            plan_layers(data.header(), &stage.layers, bounds, KvType::F16, stage.backend.target(), passes)
        };
        let plans = stages.iter().map(plan).collect::<Result<Vec<Plan>, EngineError>>()?;
        let slots = || plans.iter().flat_map(|p| &p.weights);
        let size = |name: &str| data.header().tensor(name).map_or(0, |t| t.bytes);
        let total = slots().map(|w| size(&w.name)).sum();
        let bytes_per_token = slots().filter(|w| w.matmul || w.direct).map(|w| size(&w.name)).sum();
        let used: HashSet<&str> = slots().map(|w| w.name.as_str()).collect();
        let warnings = unused_tensors(data.header(), &used, &config.architecture);
        let placement =
            Placement { stages: stages.iter().map(|s| (s.backend.device(), s.layers.clone())).collect(), why };
        let mut loaded = Vec::new();
        let mut before = 0;
        for (Stage { backend, layers }, plan) in stages.into_iter().zip(&plans) {
            let source: Arc<dyn WeightSource> = Arc::clone(&data) as _;
            let mut tell = |done| progress(LoadProgress { done: before + done, total });
            let weights = backend.load(&plan.weights, source, &mut tell)?;
            before += plan.weights.iter().map(|w| size(&w.name)).sum::<u64>();
            loaded.push(LoadedStage { backend, layers, weights });
        }
        let parts = loaded.iter().find_map(|stage| stage.weights.load_parts());
        let times = LoadTimes { devices, weights: start.elapsed(), bytes: total, parts };
        let inner = Inner {
            data,
            config,
            stages: loaded,
            placement,
            times,
            passes: passes.clone(),
            bytes_per_token,
            warnings,
            tokenizer: OnceLock::new(),
        };
        Ok(Model { inner: Arc::new(inner) })
    }

    /// The file's header: metadata and tensor list.
    pub fn header(&self) -> &Header {
        self.inner.data.header()
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
        if matches!(meta.str("tokenizer.ggml.model"), Ok(None | Some("no_vocab" | "none"))) {
            return Err(EngineError::NoTokenizer);
        }
        let made = self.inner.tokenizer.get_or_init(|| Tokenizer::from_gguf(meta));
        made.as_ref().map_err(|e| EngineError::Tokenizer(e.clone()))
    }

    /// Threads of the CPU that run it; 0 if a device runs all of it.
    pub fn threads(&self) -> usize {
        self.inner.placement.stages.iter().map(|(device, _)| device.threads).max().unwrap_or(0)
    }

    /// What runs where.
    pub fn placement(&self) -> &Placement {
        &self.inner.placement
    }

    /// How long opening it took.
    pub fn load_times(&self) -> &LoadTimes {
        &self.inner.times
    }

    /// What runs it, for reports: `cpu`, `gpu:0`, `cpu+gpu:0`.
    pub fn device(&self) -> String {
        let ids: Vec<&str> = self.inner.placement.stages.iter().map(|(device, _)| device.id.as_str()).collect();
        ids.join("+")
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

    /// The plans for `bounds`, one a stage.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn plans(&self, bounds: Bounds, kv_type: KvType) -> Result<Vec<Plan>, EngineError> {
        let plan = |stage: &LoadedStage| {
            plan_layers(self.header(), &stage.layers, bounds, kv_type, stage.backend.target(), &self.inner.passes)
        };
        self.inner.stages.iter().map(plan).collect()
    }

    pub(super) fn stages(&self) -> &[LoadedStage] {
        &self.inner.stages
    }
}

fn check_stages(stages: &[Stage], n_layer: usize) -> Result<(), EngineError> {
    let mut next = 0;
    for stage in stages {
        if stage.layers.start != next || stage.layers.end <= next {
            let reason = format!("layers {:?} do not follow layer {next}", stage.layers);
            return Err(EngineError::Option { name: "stages", reason });
        }
        next = stage.layers.end;
    }
    match next == n_layer && !stages.is_empty() {
        true => Ok(()),
        false => {
            let reason = format!("they have {next} of the model's {n_layer} layers");
            Err(EngineError::Option { name: "stages", reason })
        }
    }
}

fn unused_tensors(header: &Header, used: &HashSet<&str>, architecture: &str) -> Vec<String> {
    let unused: Vec<&str> =
        header.tensors().iter().map(|t| t.name.as_str()).filter(|name| !used.contains(name)).collect();
    if unused.is_empty() {
        return Vec::new();
    }
    let shown = unused[..unused.len().min(4)].join(", ");
    vec![format!("{} tensors of the file are not used by {architecture}: {shown}", unused.len())]
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("config", &self.inner.config).finish_non_exhaustive()
    }
}
