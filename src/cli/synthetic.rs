//! `synthetic`: writes a model of random weights to a file.

use super::bench::synthetic;
use super::io::is_dash;
use super::quantize::failure;
use super::{Failure, format, interrupt, progress};
use clap::Args;
use std::path::PathBuf;

/// Write a model of random weights
#[derive(Args, Debug)]
#[command(
    after_help = "It has the shapes of a real model and says nothing sensible: for measuring speed, also that of other programs, with nothing
to download. It has no tokenizer. `rocmforge bench --synthetic` measures the same model without a file.

Examples:
  rocmforge synthetic qwen2.5-0.5b:Q4_0 model.gguf
  rocmforge synthetic llama-1b:Q4_K_M model.gguf"
)]
pub struct SyntheticArgs {
    /// SHAPE:TYPE, where the shape is llama-8b, llama-1b, qwen2.5-0.5b, small or tiny and the type one of `rocmforge quantize`
    #[arg(value_name = "NAME")]
    name: String,
    /// File to write; it is replaced when the new one is complete. - is stdout
    #[arg(value_name = "OUT")]
    out: PathBuf,
}

/// Runs it.
pub fn run(args: SyntheticArgs) -> Result<(), Failure> {
    let model = synthetic(&args.name)?;
    let cancel = interrupt::install();
    let bar = progress::bytes("writing");
    let mut tell = |done, total| {
        progress::set(&bar, done, total);
        !cancel.is_cancelled()
    };
    let written = match is_dash(&args.out) {
        true => model.write(std::io::stdout().lock(), &mut tell).map(drop),
        false => model.write_file(&args.out, &mut tell),
    };
    bar.finish_and_clear();
    written.map_err(|error| failure(error, &args.out))?;
    let bytes = model.header().tensors().iter().map(|tensor| tensor.bytes).sum();
    eprintln!("{} tensors, {}", model.header().tensors().len(), format::bytes(bytes));
    Ok(())
}
