//! `logits`: the logits of every position of a sequence of token ids.

use super::Failure;
use super::args::{ModelArgs, SessionArgs};
use super::io::{Output, read_ids};
use super::{interrupt, progress};
use crate::engine::{EngineError, Session};
use clap::Args;
use std::path::PathBuf;

/// Write the logits after each of some token ids
#[derive(Args, Debug)]
#[command(
    after_help = "The output is one row for each id, each row as many little-endian f32 as the vocabulary has tokens.
Without --ctx the context is as long as the ids.

Examples:
  rocmforge logits -m model.gguf --ids ids.txt --out logits.f32
  rocmforge tokenize -m model.gguf < a.txt | rocmforge logits -m model.gguf --ids - --out - | xxd | less"
)]
pub struct LogitsArgs {
    /// The model.
    #[command(flatten)]
    model: ModelArgs,
    /// The session.
    #[command(flatten)]
    session: SessionArgs,
    /// File with ids separated by blanks, commas or newlines; - is stdin
    #[arg(long, value_name = "FILE")]
    ids: PathBuf,
    /// File to write; - is stdout
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs it.
pub fn run(args: LogitsArgs) -> Result<(), Failure> {
    let ids = read_ids(&args.ids)?;
    if ids.is_empty() {
        return Err(Failure::new(format!("{} holds no token ids", args.ids.display())).hint("give at least one id"));
    }
    let cancel = interrupt::install();
    let context = if args.session.ctx == 0 { ids.len() } else { args.session.ctx };
    let options = args.session.clone().measuring().options(context, &cancel);
    let model = args.model.open(options.clone())?;
    let mut session = Session::new(&model, &options)?;
    let mut out = Output::create(&args.out)?;
    let bar = progress::tokens("logits");
    let mut failed = None;
    let evaluated = session.prefill_all(&ids, &mut |index, row| {
        progress::set(&bar, index as u64 + 1, ids.len() as u64);
        if failed.is_none() {
            let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
            failed = out.write(&bytes).err();
            if failed.is_some() {
                cancel.cancel();
            }
        }
    });
    bar.finish_and_clear();
    match (failed, evaluated) {
        (Some(failure), _) => Err(failure),
        (None, Err(EngineError::Cancelled)) => {
            Err(Failure::Interrupted("while logits were computed: the output is incomplete"))
        }
        (None, Err(error)) => Err(error.into()),
        (None, Ok(())) => out.finish(),
    }
}
