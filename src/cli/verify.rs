//! `verify`: the differential check that a user runs when he suspects a fusion.

use super::Failure;
use super::io::Output;
use super::source::ModelSource;
use crate::engine::{self, DeviceChoice, VerifyOptions};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Check that the fused program computes what the unfused model means
#[derive(Args, Debug)]
#[command(
    after_help = "On random tokens, the graph after all passes and after each pass alone is compared with the unfused graph, both
computed by the ops' scalar references; then every step of the program with the reference of its op. The first node
that differs is named, and the exit status is 1.

Examples:
  rocmforge verify -m model.gguf
  rocmforge verify -m model.gguf --layers 0 --tokens 1 --seed 7"
)]
pub struct VerifyArgs {
    /// GGUF file of the model; - is stdin
    #[arg(short, long, value_name = "FILE", help_heading = "Model")]
    model: Option<PathBuf>,
    /// Layers of the model that are checked, from the first on; 0 is all of them. More layers have no other kinds of steps
    #[arg(long, value_name = "N", default_value_t = 2)]
    layers: usize,
    /// Tokens of the step; 1 checks the decode program
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = super::args::positive)]
    tokens: usize,
    /// Seed of the random tokens
    #[arg(short, long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// What runs the program: cpu, gpu or gpu:N
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
    /// The CPU reads weights in the file instead of repacking them
    #[arg(long)]
    no_repack: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    check: &'a str,
    sites: usize,
    largest_difference: f32,
    first_different_node: Option<&'a str>,
    difference: Option<f32>,
}

/// Runs it.
pub fn run(args: VerifyArgs) -> Result<(), Failure> {
    let source = ModelSource::from_option(args.model.as_deref())?;
    let layers = if args.layers == 0 { usize::MAX } else { args.layers };
    let options = VerifyOptions {
        layers,
        tokens: args.tokens,
        seed: args.seed,
        device: args.device,
        no_repack: args.no_repack,
        ..VerifyOptions::default()
    };
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let verdicts = engine::verify(source.weights()?, &options, &mut |what| {
        if terminal {
            eprintln!("{what} …");
        }
    })?;
    let mut out = Output::stdout();
    let rows: Vec<Row<'_>> = verdicts
        .iter()
        .map(|v| Row {
            check: &v.what,
            sites: v.sites,
            largest_difference: v.largest,
            first_different_node: v.first_difference.as_ref().map(|d| d.0.as_str()),
            difference: v.first_difference.as_ref().map(|d| d.1),
        })
        .collect();
    if args.json {
        out.json(&rows)?;
    } else {
        for row in &rows {
            let verdict = match row.first_different_node {
                None => "same".to_string(),
                Some(node) => format!("DIFFERS first at {node} by {:.2e}", row.difference.unwrap_or(0.0)),
            };
            out.line(format_args!(
                "{:42} {:4} sites  largest difference {:.1e}  {verdict}",
                row.check, row.sites, row.largest_difference
            ))?;
        }
    }
    out.finish()?;
    match rows.iter().find(|row| row.first_different_node.is_some()) {
        None => Ok(()),
        Some(row) => {
            let node = row.first_different_node.unwrap_or_default();
            Err(Failure::new(format!("{}: {node} differs", row.check))
                .hint("run with the pass disabled, and report the pass and the node"))
        }
    }
}
