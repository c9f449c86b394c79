//! Arguments that several subcommands share.

use super::source::ModelSource;
use super::{Failure, progress};
use crate::engine::{Cancel, DeviceChoice, EngineError, KvType, LoadOptions, LoadProgress, Model, SessionOptions};
use crate::text::Tokenizer;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Where a model runs.
#[derive(Args, Clone, Copy, Debug)]
pub struct DeviceArgs {
    /// What runs the model: auto, cpu, gpu or gpu:N; auto is a GPU, with as many layers as its memory holds, else the CPU
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Auto, help_heading = "Model")]
    pub device: DeviceChoice,
    /// Layers that a GPU runs, the last ones, with the output; without it as many as its memory holds
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub gpu_layers: Option<usize>,
    /// Leave the weights that the CPU reads in the mapped file instead of repacking them: slower, for machines short of memory
    #[arg(long, help_heading = "Model")]
    pub no_repack: bool,
}

/// Element type of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KvTypeArg {
    /// F32 where the weights are F32, F16 elsewhere.
    Auto,
    /// F32.
    F32,
    /// F16.
    F16,
    /// BF16.
    Bf16,
    /// Q8_0: half of F16's memory.
    #[value(name = "q8_0")]
    Q8_0,
}

impl From<KvTypeArg> for KvType {
    fn from(arg: KvTypeArg) -> KvType {
        match arg {
            KvTypeArg::Auto => KvType::Auto,
            KvTypeArg::F32 => KvType::F32,
            KvTypeArg::F16 => KvType::F16,
            KvTypeArg::Bf16 => KvType::Bf16,
            KvTypeArg::Q8_0 => KvType::Q8_0,
        }
    }
}

/// Which file.
#[derive(Args, Debug)]
pub struct FileArgs {
    /// GGUF file of the model; - is stdin; without it the bundled model
    #[arg(short, long, value_name = "FILE", help_heading = "Model")]
    pub model: Option<PathBuf>,
}

impl FileArgs {
    /// The tokenizer of the file, which may be a vocabulary without tensors. Shows its warnings.
    pub fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        let source = ModelSource::from_option(self.model.as_deref())?;
        let gguf = source.gguf()?;
        let tokenizer = Tokenizer::from_gguf(gguf.metadata()).map_err(|error| {
            Failure::new(format!("{source}: {error}"))
                .hint("`rocmforge inspect` shows what the file says about its tokenizer")
        })?;
        tokenizer.warnings().iter().for_each(|warning| warn(warning));
        Ok(tokenizer)
    }
}

/// Which model, and what runs it.
#[derive(Args, Debug)]
pub struct ModelArgs {
    /// The file.
    #[command(flatten)]
    pub file: FileArgs,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Threads; 0 takes all processors that this process may use
    #[arg(short = 't', long, value_name = "N", default_value_t = 0, value_parser = threads, help_heading = "Model")]
    pub threads: usize,
}

/// A number of threads that a machine could have.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 0..=4096) => Ok(n),
        _ => Err("a number from 0 to 4096 is needed".into()),
    }
}

impl ModelArgs {
    /// Opens the model for such a session, with a progress bar. Shows what runs where, and warnings.
    pub fn open(&self, session: SessionOptions) -> Result<Model, Failure> {
        let model = self.open_source(ModelSource::from_option(self.file.model.as_deref())?, session)?;
        show_placement(&model);
        Ok(model)
    }

    /// [`ModelArgs::open`] without a word about a missing `--model` and about what runs where.
    pub fn open_quietly(&self, session: SessionOptions) -> Result<Model, Failure> {
        self.open_source(ModelSource::quietly_from_option(self.file.model.as_deref())?, session)
    }

    fn open_source(&self, source: ModelSource, session: SessionOptions) -> Result<Model, Failure> {
        let gguf = source.weights()?;
        let options = self.load_options(session);
        let opened = loading(&options.session.cancel, |progress| Model::from_gguf(gguf, &options, progress));
        let model = opened.map_err(|failure| source.name(failure))?;
        model.warnings().iter().for_each(|warning| warn(warning));
        Ok(model)
    }

    /// How the model is opened.
    pub fn load_options(&self, session: SessionOptions) -> LoadOptions {
        let DeviceArgs { device, gpu_layers, no_repack } = self.device;
        LoadOptions { device, gpu_layers, session, threads: self.threads, no_repack, ..LoadOptions::default() }
    }
}

/// Loads with a progress bar.
pub fn loading(
    cancel: &Cancel,
    load: impl FnOnce(&mut dyn FnMut(LoadProgress) -> bool) -> Result<Model, EngineError>,
) -> Result<Model, Failure> {
    let bar = progress::bytes("loading");
    let loaded = load(&mut |at| {
        progress::set(&bar, at.done, at.total);
        !cancel.is_cancelled()
    });
    bar.finish_and_clear();
    loaded.map_err(|error| match error {
        EngineError::Cancelled => Failure::Interrupted("while the model was loaded"),
        error => error.into(),
    })
}

/// Tells the user what runs where.
pub fn show_placement(model: &Model) {
    eprintln!("note: {}", super::format::shown(&model.placement().to_string(), 1000));
}

/// Tells the user something that is no error.
pub fn warn(text: &str) {
    eprintln!("warning: {}", super::format::shown(text, 1000));
}

/// How the session is made.
#[derive(Args, Clone, Debug)]
pub struct SessionArgs {
    /// Tokens that the context holds; 0 takes what the model was trained with, at most 4096
    #[arg(short, long, value_name = "N", default_value_t = 0, help_heading = "Session")]
    pub ctx: usize,
    /// Tokens of the prompt that are evaluated at once; 0 takes 512
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Session")]
    pub chunk: usize,
    /// Element type of the KV cache; auto takes f32 where the model is measured (logits, perplexity) or all weights are f32, f16
    /// elsewhere
    #[arg(long, value_enum, default_value_t = KvTypeArg::Auto, help_heading = "Session")]
    pub kv_type: KvTypeArg,
}

impl SessionArgs {
    /// For commands that measure the model: its error should not be that of the cache.
    pub fn measuring(mut self) -> SessionArgs {
        if self.kv_type == KvTypeArg::Auto {
            self.kv_type = KvTypeArg::F32;
        }
        self
    }

    /// The options, with this context instead of `--ctx`.
    pub fn options(&self, context: usize, cancel: &Cancel) -> SessionOptions {
        SessionOptions { context, chunk: self.chunk, kv_type: self.kv_type.into(), cancel: cancel.clone() }
    }
}

/// A whole number from 1 on.
pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("a whole number from 1 on is needed".into()),
    }
}
