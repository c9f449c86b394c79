//! `quantize`: makes a smaller file of a model.

use super::args::threads;
use super::io::{Output, is_dash};
use super::source::ModelSource;
use super::{Failure, format, interrupt, progress};
use crate::models::gguf::{Gguf, GgufError};
use crate::models::quantize::{Quantization, QuantizeError, QuantizeOptions, QuantizePlan, quantize, quantize_file};
use clap::Args;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Make a smaller file of a model
#[derive(Args, Debug)]
#[command(after_help = help())]
pub struct QuantizeArgs {
    /// GGUF file to read, F32, F16 or BF16; - is stdin
    #[arg(value_name = "IN")]
    source: PathBuf,
    /// File to write; it is replaced when the new one is complete. - is stdout
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Type or mix of types: see the list below
    #[arg(value_name = "TYPE", value_parser = Quantization::from_name)]
    to: &'static Quantization,
    /// Quantize tensors that are quantized already, which loses more than quantizing the original
    #[arg(long)]
    allow_requantize: bool,
    /// One type for all matrices, output and embeddings included, instead of a mix
    #[arg(long)]
    pure: bool,
    /// Print the type of each tensor and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Threads; 0 takes all processors that this process may use
    #[arg(short = 't', long, value_name = "N", default_value_t = 0, value_parser = threads)]
    threads: usize,
    /// Nothing on stderr but warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

fn help() -> String {
    let mut help = String::from("Types, with the mean bits of a weight in Llama 3 8B:\n");
    for q in Quantization::ALL {
        help.push_str(&format!("  {:<10} {:>5.2}  {}\n", q.name, q.bits, q.about));
    }
    help.push_str(
        "Norms, biases and other small tensors stay as they are. The output matrix (or the embedding that serves as it) gets
Q6_K or Q8_0. Tensors whose rows no block of the type divides get a similar type with smaller blocks, or F16.
Q3_K, Q4_K and Q5_K are short for their _M.

Examples:
  rocmforge quantize model-f16.gguf model-q4_k_m.gguf Q4_K_M
  rocmforge quantize model-f16.gguf - Q8_0 | ssh server 'cat > model.gguf'
  rocmforge quantize model-f16.gguf x.gguf Q5_K_M --dry-run",
    );
    help
}

/// Runs it.
pub fn run(args: QuantizeArgs) -> Result<(), Failure> {
    let source = ModelSource::from_option(Some(&args.source))?;
    let gguf = source.gguf()?;
    let options =
        QuantizeOptions { pure: args.pure, allow_requantize: args.allow_requantize, ..QuantizeOptions::new(args.to) };
    let plan = QuantizePlan::new(gguf.header(), options).map_err(|error| source.name(failure(error, &args.out)))?;
    if args.dry_run {
        return show(&plan);
    }
    let cancel = interrupt::install();
    let start = Instant::now();
    let bar = progress::bytes("quantizing");
    let written = write(&args, &gguf, &plan, &mut |done, total| {
        progress::set(&bar, done, total);
        !cancel.is_cancelled()
    });
    bar.finish_and_clear();
    written.map_err(|error| match error {
        error @ (QuantizeError::Value { .. } | QuantizeError::Metadata(_)) => source.name(failure(error, &args.out)),
        error => failure(error, &args.out),
    })?;
    if !args.quiet {
        eprintln!("{}, {:.1} s", summary(&plan), start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn write(
    args: &QuantizeArgs,
    gguf: &Gguf,
    plan: &QuantizePlan,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<(), QuantizeError> {
    if is_dash(&args.out) {
        quantize(gguf, plan, args.threads, std::io::stdout().lock(), progress).map(drop)
    } else {
        quantize_file(gguf, plan, args.threads, &args.out, progress)
    }
}

/// One line for people.
fn summary(plan: &QuantizePlan) -> String {
    let fallbacks = plan.tensors.iter().filter(|tensor| tensor.instead_of.is_some()).count();
    let fallbacks = match fallbacks {
        0 => String::new(),
        n => format!(", {n} tensors in another type because of their row length"),
    };
    format!(
        "{} tensors, {} → {}, {:.2} bits a weight{fallbacks}",
        plan.tensors.len(),
        format::bytes(plan.bytes_before),
        format::bytes(plan.bytes_after),
        plan.bits(),
    )
}

fn show(plan: &QuantizePlan) -> Result<(), Failure> {
    let mut out = Output::stdout();
    for tensor in &plan.tensors {
        let shape = tensor.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ");
        let reason = tensor.instead_of.map(|dtype| format!(" (rows do not fit {dtype})")).unwrap_or_default();
        let name = format::shown(&tensor.name, 64);
        out.line(format_args!("{name:<40} {shape:>16}  {} → {}{reason}", tensor.from, tensor.to))?;
    }
    out.line(summary(plan))?;
    out.finish()
}

/// What went wrong, with what the user can do about it.
pub(super) fn failure(error: QuantizeError, out: &Path) -> Failure {
    let failure = Failure::new(&error);
    match error {
        QuantizeError::Cancelled => Failure::Interrupted("while the file was quantized; nothing was written"),
        QuantizeError::Gguf(GgufError::Io { error, .. }) => write_failure(&error, out),
        QuantizeError::Io { error, path, .. } if error.kind() == ErrorKind::StorageFull => write_failure(&error, &path),
        QuantizeError::Gguf(error) => error.into(),
        QuantizeError::Metadata(_) => failure.hint("`rocmforge inspect` shows the metadata"),
        QuantizeError::NoTensors => failure.hint("give a file with weights"),
        QuantizeError::Split { .. } => failure.hint("merge the parts into one file"),
        QuantizeError::Requantize { .. } => {
            failure.hint("give the F16, BF16 or F32 file of the model, or accept the loss with --allow-requantize")
        }
        QuantizeError::Value { .. } => failure.hint("the model is damaged, or needs a type of more range such as BF16"),
        QuantizeError::SameFile { .. } => failure.hint("give another name for the result"),
        QuantizeError::NotAFile { .. } => failure.hint("give the name of a file; - is stdout"),
        QuantizeError::Io { .. } => failure.hint("check that the folder exists and may be written to"),
        _ => failure.hint("free some memory, or give fewer --threads"),
    }
}

/// The output cannot be written.
fn write_failure(error: &std::io::Error, out: &Path) -> Failure {
    if is_dash(out) && error.kind() == ErrorKind::BrokenPipe {
        return Failure::ClosedPipe;
    }
    let name = if is_dash(out) { "stdout".to_string() } else { out.display().to_string() };
    Failure::new(format!("cannot write {name}: {error}"))
        .hint("free some space or write elsewhere; nothing was left there")
}
