//! `tokenize`: the token ids of a text.

use super::Failure;
use super::args::FileArgs;
use super::io::{Output, read_text};
use crate::text::{EncodeOptions, Tokenizer};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Print the token ids of a text
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  rocmforge tokenize -m model.gguf < story.txt
  rocmforge tokenize -m model.gguf --text 'Hello world' --json
  rocmforge tokenize -m model.gguf --no-bos < a.txt | rocmforge detokenize -m model.gguf --no-bos | cmp - a.txt")]
pub struct TokenizeArgs {
    /// The file.
    #[command(flatten)]
    file: FileArgs,
    /// The text itself
    #[arg(long, value_name = "TEXT", conflicts_with = "input")]
    text: Option<String>,
    /// File with the text, taken exactly as it is; - is stdin
    #[arg(long, value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// Add neither BOS nor EOS, whatever the model wants
    #[arg(long)]
    no_bos: bool,
    /// Take control tokens such as <|im_end|> in the text as plain text
    #[arg(long)]
    no_special: bool,
    /// Print JSON: ids, the text of each token, and their number
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Tokens<'a> {
    ids: &'a [u32],
    pieces: Vec<String>,
    count: usize,
}

/// Runs it.
pub fn run(args: TokenizeArgs) -> Result<(), Failure> {
    let tokenizer = args.file.tokenizer()?;
    let text = match &args.text {
        Some(text) => text.clone(),
        None => read_text(&args.input)?,
    };
    let add = if args.no_bos { Some(false) } else { None };
    let options = EncodeOptions { add_bos: add, add_eos: add, parse_special: !args.no_special };
    let ids = tokenizer.encode(&text, options).map_err(Failure::new)?;
    let mut out = Output::stdout();
    if args.json {
        out.json(&Tokens { ids: &ids, pieces: pieces(&tokenizer, &ids), count: ids.len() })?;
    } else {
        out.line(ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))?;
    }
    out.finish()
}

/// What each token renders as. A part of a character shows as U+FFFD.
fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let piece = |&id| tokenizer.token_bytes(id).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    ids.iter().map(|id| piece(id).unwrap_or_default()).collect()
}
