//! `rocmforge`: parses and dispatches.

use clap::{Parser, Subcommand};
use rocmforge::cli;
use std::process::ExitCode;

/// Run language models from GGUF files
#[derive(Parser)]
#[command(
    version,
    max_term_width = 120,
    after_help = "Examples:
  rocmforge generate -m model.gguf --prompt 'Once upon a time' -n 100
  rocmforge inspect model.gguf
  rocmforge bench -m model.gguf

`rocmforge COMMAND --help` explains a command. - stands for stdin or stdout wherever a file is wanted.
Exit status: 0 success, 1 failure, 2 wrong arguments, 130 Ctrl-C."
)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Generate(cli::generate::GenerateArgs),
    Tokenize(cli::tokenize::TokenizeArgs),
    Detokenize(cli::detokenize::DetokenizeArgs),
    Logits(cli::logits::LogitsArgs),
    Perplexity(cli::perplexity::PerplexityArgs),
    Inspect(cli::inspect::InspectArgs),
    Bench(cli::bench::BenchArgs),
    Quantize(cli::quantize::QuantizeArgs),
    Synthetic(cli::synthetic::SyntheticArgs),
    Devices(cli::devices::DevicesArgs),
    GraphDump(cli::graph_dump::GraphDumpArgs),
    Verify(cli::verify::VerifyArgs),
}

fn main() -> ExitCode {
    let program: Program = match cli::parse() {
        Ok(program) => program,
        Err(status) => return status,
    };
    cli::finish(match program.command {
        Command::Generate(args) => cli::generate::run(args),
        Command::Tokenize(args) => cli::tokenize::run(args),
        Command::Detokenize(args) => cli::detokenize::run(args),
        Command::Logits(args) => cli::logits::run(args),
        Command::Perplexity(args) => cli::perplexity::run(args),
        Command::Inspect(args) => cli::inspect::run(args),
        Command::Bench(args) => cli::bench::run(args),
        Command::Quantize(args) => cli::quantize::run(args),
        Command::Synthetic(args) => cli::synthetic::run(args),
        Command::Devices(args) => cli::devices::run(args),
        Command::GraphDump(args) => cli::graph_dump::run(args),
        Command::Verify(args) => cli::verify::run(args),
    })
}
