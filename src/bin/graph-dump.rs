//! `graph-dump`: parses and dispatches.

use clap::Parser;
use rocmforge::cli;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "graph-dump", version, max_term_width = 120)]
struct Program {
    #[command(flatten)]
    args: cli::graph_dump::GraphDumpArgs,
}

fn main() -> ExitCode {
    match cli::parse::<Program>() {
        Ok(program) => cli::finish(cli::graph_dump::run(program.args)),
        Err(status) => status,
    }
}
