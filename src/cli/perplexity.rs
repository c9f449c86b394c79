//! `perplexity`: how well a model predicts a text.

use super::Failure;
use super::args::{ModelArgs, SessionArgs, positive};
use super::io::{Output, read_text};
use super::{interrupt, progress};
use crate::engine::{self, EngineError, PerplexityOptions, Session};
use crate::text::EncodeOptions;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// Measure how well a model predicts a text
#[derive(Args, Debug)]
#[command(
    after_help = "The text is cut into chunks of --ctx tokens (512 without --ctx), each evaluated on its own with BOS in its first
place; the second half of each chunk is scored. That is how llama.cpp counts, so figures can be compared.

Examples:
  rocmforge perplexity -m model.gguf --file wiki.test.raw
  rocmforge perplexity -m model.gguf --file text.txt --ctx 256 --chunks 16 --json"
)]
pub struct PerplexityArgs {
    /// The model.
    #[command(flatten)]
    model: ModelArgs,
    /// The session.
    #[command(flatten)]
    session: SessionArgs,
    /// Text file; - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Chunks at most; without it the whole text
    #[arg(long, value_name = "N", value_parser = positive)]
    chunks: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    ppl: f64,
    ppl_error: f64,
    nll: f64,
    tokens: usize,
    ctx: usize,
    chunks: usize,
    scored: usize,
    seconds: f64,
    tokens_per_second: f64,
}

/// Runs it.
pub fn run(args: PerplexityArgs) -> Result<(), Failure> {
    let text = read_text(&args.file)?;
    let cancel = interrupt::install();
    let context = if args.session.ctx == 0 { 512 } else { args.session.ctx };
    let options = args.session.clone().measuring().options(context, &cancel);
    let model = args.model.open(options.clone())?;
    let tokenizer = model.tokenizer()?;
    let ids = tokenizer.encode(&text, EncodeOptions::default()).map_err(Failure::new)?;
    let mut session = Session::new(&model, &options)?;
    let bos = if tokenizer.adds_bos() { tokenizer.bos() } else { None };
    let options = PerplexityOptions { context, chunks: args.chunks, bos };
    let start = Instant::now();
    let bar = progress::tokens("scoring");
    let result = engine::perplexity(&mut session, &ids, &options, &mut |so_far| {
        progress::set(&bar, (so_far.chunks * context) as u64, (so_far.chunks_total * context) as u64);
        bar.set_message(format!("ppl {:.4}", so_far.ppl()));
    });
    bar.finish_and_clear();
    let result = result.map_err(|error| match error {
        EngineError::Cancelled => Failure::Interrupted("while the text was scored"),
        error @ EngineError::Option { .. } => Failure::new(format!("{}: {error}", args.file.display()))
            .hint("give a longer text with --file, or a smaller --ctx"),
        error => error.into(),
    })?;
    if result.nll().is_nan() {
        return Err(Failure::new("the perplexity is not a number: the model's logits are NaN")
            .hint("try another file of the model"));
    }
    let seconds = start.elapsed().as_secs_f64();
    let report = Report {
        ppl: result.ppl(),
        ppl_error: result.ppl_error(),
        nll: result.nll(),
        tokens: ids.len(),
        ctx: context,
        chunks: result.chunks,
        scored: result.scored,
        seconds,
        tokens_per_second: (result.chunks * context) as f64 / seconds,
    };
    let mut out = Output::stdout();
    if args.json {
        out.json(&report)?;
    } else {
        out.line(format_args!(
            "ppl {:.4} ± {:.4}  nll {:.6}  tokens {}  ctx {}  chunks {}  scored {}",
            report.ppl, report.ppl_error, report.nll, report.tokens, report.ctx, report.chunks, report.scored
        ))?;
        eprintln!("{:.1} s, {:.1} tokens/s", report.seconds, report.tokens_per_second);
    }
    out.finish()
}
