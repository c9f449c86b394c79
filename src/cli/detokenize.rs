//! `detokenize`: the text of token ids.

use super::Failure;
use super::args::FileArgs;
use super::io::{Output, read_ids};
use crate::text::{DecodeOptions, Tokenizer, TokenizerKind};
use clap::Args;
use std::path::PathBuf;

/// Print the text of token ids, with nothing before or after it
#[derive(Args, Debug)]
#[command(after_help = "The BOS and EOS that `tokenize` added are left out, so that the text comes back as it was.

Examples:
  echo '1 403 407 261 378' | rocmforge detokenize -m model.gguf")]
pub struct DetokenizeArgs {
    /// The file.
    #[command(flatten)]
    file: FileArgs,
    /// File with ids separated by blanks, commas or newlines; - is stdin
    #[arg(long, value_name = "FILE", default_value = "-")]
    ids: PathBuf,
    /// The ids were made with `tokenize --no-bos`: leave out nothing
    #[arg(long)]
    no_bos: bool,
    /// Render control tokens as nothing
    #[arg(long)]
    no_special: bool,
}

/// Runs it.
pub fn run(args: DetokenizeArgs) -> Result<(), Failure> {
    let tokenizer = args.file.tokenizer()?;
    let ids = read_ids(&args.ids)?;
    let ids = if args.no_bos { &ids[..] } else { without_added(&tokenizer, &ids) };
    let options = DecodeOptions { special: !args.no_special, ..DecodeOptions::default() };
    let bytes = tokenizer
        .decode_bytes(ids, options)
        .map_err(|error| Failure::new(error).hint("are these ids of this model? `rocmforge tokenize` makes them"))?;
    let mut out = Output::stdout();
    out.write(&bytes)?;
    out.finish()
}

/// Ids without the BOS and EOS that encoding adds.
fn without_added<'a>(tokenizer: &Tokenizer, mut ids: &'a [u32]) -> &'a [u32] {
    if tokenizer.adds_bos()
        && let [first, rest @ ..] = ids
        && Some(*first) == tokenizer.bos()
    {
        ids = rest;
    }
    let end = if tokenizer.kind() == TokenizerKind::WordPiece { tokenizer.sep() } else { tokenizer.eos() };
    if tokenizer.adds_eos()
        && let [rest @ .., last] = ids
        && Some(*last) == end
    {
        ids = rest;
    }
    ids
}
