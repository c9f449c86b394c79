//! `graph-dump`: the graph of a model, built from the file's header alone.

use super::Failure;
use super::args::{FileArgs, KvTypeArg};
use super::io::Output;
use super::source::ModelSource;
use crate::graph::{text, to_dot};
use crate::models::{GraphOptions, build};
use crate::tensor::{Bounds, DType};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// How the graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// The text form, which can be parsed again.
    Text,
    /// Graphviz.
    Dot,
}

/// Where in the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// As the architecture describes the model, in the plainest ops.
    Source,
}

/// Print the graph of a model
#[derive(Args, Debug)]
#[command(after_help = "No weight is read.

Examples:
  rocmforge graph-dump -m model.gguf | less
  rocmforge graph-dump -m model.gguf --format dot | dot -Tsvg > graph.svg")]
pub struct GraphDumpArgs {
    /// The file.
    #[command(flatten)]
    file: FileArgs,
    /// How the graph is written
    #[arg(long, value_enum, default_value_t = GraphFormat::Text)]
    format: GraphFormat,
    /// Where in the pipeline
    #[arg(long, value_enum, default_value_t = Stage::Source)]
    stage: Stage,
    /// Tokens of a step at most
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = super::args::positive)]
    chunk: usize,
    /// Tokens that the context holds
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = super::args::positive)]
    ctx: usize,
    /// Element type of the KV cache
    #[arg(long, value_enum, default_value_t = KvTypeArg::Auto)]
    kv_type: KvTypeArg,
    /// File to write; - is stdout
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
}

/// Runs it.
pub fn run(args: GraphDumpArgs) -> Result<(), Failure> {
    let source = ModelSource::from_option(args.file.model.as_deref())?;
    let gguf = source.weights()?;
    let kv_type = if args.kv_type == KvTypeArg::F32 { DType::F32 } else { DType::F16 };
    let Stage::Source = args.stage;
    let options = GraphOptions { bounds: Bounds { t: args.chunk, s: args.ctx, r: args.chunk }, kv_type };
    let graph = build(gguf.header(), &options).map_err(|error| source.name(error.into()))?;
    let text = match args.format {
        GraphFormat::Text => text::print(&graph),
        GraphFormat::Dot => to_dot(&graph),
    };
    let mut out = Output::create(&args.out)?;
    out.write(text.as_bytes())?;
    out.finish()
}
