//! `bench`: tokens a second, beside the memory bandwidth of the machine.

use super::args::{KvTypeArg, ModelArgs, SessionArgs, positive, threads};
use super::io::Output;
use super::{Failure, format, interrupt};
use crate::engine::{self, BenchResult, BenchTest, Cancel, EngineError, Model};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// Bytes that the bandwidth is measured on: many times any cache.
const BANDWIDTH_BUFFER: usize = 1 << 30;

/// Measure prompt and decode speed
#[derive(Args, Debug)]
#[command(
    after_help = "Like llama-bench: ppN evaluates a prompt of N tokens, tgN decodes N tokens one after the other, @ dN with N tokens in
the cache before. Each test runs once uncounted, then -r times. Numbers can be lists: -p 128,512 -t 1,2.

The share of bandwidth is the weights that a decoded token reads, times tokens a second, over the memory bandwidth that
the same number of threads measured just before on a buffer of 1 GiB. A model that fits into the caches can exceed it.

Examples:
  rocmforge bench -m model.gguf
  rocmforge bench -m model.gguf -p 0 -n 64 -d 0,1024 -r 3 -t 2 --json"
)]
pub struct BenchArgs {
    /// GGUF file and device.
    #[command(flatten)]
    model: BenchModelArgs,
    /// Tokens of the prompt; 0 leaves the test out
    #[arg(short = 'p', long, value_name = "N", default_value = "512", value_delimiter = ',')]
    n_prompt: Vec<usize>,
    /// Tokens to decode; 0 leaves the test out
    #[arg(short = 'n', long, value_name = "N", default_value = "128", value_delimiter = ',')]
    n_gen: Vec<usize>,
    /// Tokens that are in the cache before
    #[arg(short = 'd', long, value_name = "N", default_value = "0", value_delimiter = ',')]
    n_depth: Vec<usize>,
    /// Repetitions
    #[arg(short = 'r', long, value_name = "N", default_value_t = 5, value_parser = positive)]
    repetitions: usize,
    /// Threads; 0 takes all processors that this process may use
    #[arg(short = 't', long, value_name = "N", default_value = "0", value_delimiter = ',', value_parser = threads)]
    threads: Vec<usize>,
    /// Tokens of the prompt that are evaluated at once; 0 takes 512
    #[arg(long, value_name = "N", default_value_t = 0)]
    chunk: usize,
    /// Element type of the KV cache
    #[arg(long, value_enum, default_value_t = KvTypeArg::Auto)]
    kv_type: KvTypeArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// [`ModelArgs`] without the threads, which are a list here.
#[derive(Args, Debug)]
pub struct BenchModelArgs {
    /// The file.
    #[command(flatten)]
    file: super::args::FileArgs,
    /// What runs the model
    #[arg(long, value_enum, default_value_t = super::args::Device::Auto, help_heading = "Model")]
    device: super::args::Device,
}

#[derive(Serialize)]
struct Row {
    model: String,
    architecture: String,
    device: &'static str,
    threads: usize,
    test: String,
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    repetitions: usize,
    tokens_per_second: f64,
    tokens_per_second_stddev: f64,
    tokens_per_second_median: f64,
    samples: Vec<f64>,
    /// Bytes of weights that evaluating one token reads.
    bytes_per_token: u64,
    /// Bytes a second that as many threads read from memory.
    memory_bandwidth: Option<f64>,
    /// Bytes of weights a second over the memory bandwidth, by the median; decode only.
    bandwidth_share: Option<f64>,
}

/// Runs it.
pub fn run(args: BenchArgs) -> Result<(), Failure> {
    let tests = tests(&args)?;
    let cancel = interrupt::install();
    let mut rows = Vec::new();
    let mut out = Output::stdout();
    for (index, &threads) in args.threads.iter().enumerate() {
        let model_args = ModelArgs {
            file: super::args::FileArgs { model: args.model.file.model.clone() },
            device: args.model.device,
            threads,
        };
        let model = if index == 0 { model_args.open(&cancel)? } else { model_args.open_quietly(&cancel)? };
        bench_model(&args, &model, &tests, &cancel, &mut rows)?;
    }
    if args.json {
        out.json(&rows)?;
    } else {
        out.line(table(&rows))?;
    }
    out.finish()
}

fn tests(args: &BenchArgs) -> Result<Vec<(BenchTest, usize)>, Failure> {
    let prompts = args.n_prompt.iter().map(|&n| BenchTest::Prompt(n));
    let decodes = args.n_gen.iter().map(|&n| BenchTest::Decode(n));
    let tests: Vec<BenchTest> = prompts.chain(decodes).filter(|test| test.tokens() > 0).collect();
    if tests.is_empty() {
        return Err(Failure::new("there is nothing to measure: -p and -n are both 0").hint("give -p N, -n N or both"));
    }
    Ok(args.n_depth.iter().flat_map(|&depth| tests.iter().map(move |&test| (test, depth))).collect())
}

fn bench_model(
    args: &BenchArgs,
    model: &Model,
    tests: &[(BenchTest, usize)],
    cancel: &Cancel,
    rows: &mut Vec<Row>,
) -> Result<(), Failure> {
    let needed = tests.iter().map(|(test, depth)| test.tokens().saturating_add(*depth)).max().unwrap_or(1);
    let session_args = SessionArgs { ctx: needed, chunk: args.chunk, kv_type: args.kv_type };
    let mut session = session_args.session(model, cancel)?;
    eprintln!("measuring memory bandwidth with {} threads …", model.threads());
    let bandwidth = engine::read_bandwidth(model.threads(), BANDWIDTH_BUFFER);
    for &(test, depth) in tests {
        eprintln!("{} …", test.name(depth));
        let result = engine::bench(&mut session, test, depth, args.repetitions).map_err(|error| match error {
            EngineError::Cancelled => Failure::Interrupted("while speed was measured"),
            error => error.into(),
        })?;
        rows.push(row(model, &result, bandwidth));
    }
    Ok(())
}

fn row(model: &Model, result: &BenchResult, bandwidth: Option<f64>) -> Row {
    let (n_prompt, n_gen) = match result.test {
        BenchTest::Prompt(n) => (n, 0),
        BenchTest::Decode(n) => (0, n),
    };
    let bytes_per_token = model.bytes_per_token();
    let share = |bandwidth: f64| bytes_per_token as f64 * result.median() / bandwidth;
    Row {
        model: model.config().name.clone(),
        architecture: model.config().architecture.clone(),
        device: "cpu",
        threads: model.threads(),
        test: result.test.name(result.depth),
        n_prompt,
        n_gen,
        n_depth: result.depth,
        repetitions: result.times.len(),
        tokens_per_second: result.mean(),
        tokens_per_second_stddev: result.standard_deviation(),
        tokens_per_second_median: result.median(),
        samples: result.speeds(),
        bytes_per_token,
        memory_bandwidth: bandwidth,
        bandwidth_share: bandwidth.filter(|_| n_gen > 0).map(share),
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    let head = ["model", "threads", "test", "tokens/s", "median", "weights/token", "memory", "share"];
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(head);
    for row in rows {
        table.add_row([
            format::shown(&row.model, 40),
            row.threads.to_string(),
            row.test.clone(),
            format!("{:.2} ± {:.2}", row.tokens_per_second, row.tokens_per_second_stddev),
            format!("{:.2}", row.tokens_per_second_median),
            format::bytes(row.bytes_per_token),
            row.memory_bandwidth.map_or("?".to_string(), |b| format!("{:.1} GB/s", b / 1e9)),
            row.bandwidth_share.map_or(String::new(), |share| format!("{:.1} %", share * 100.0)),
        ]);
    }
    for column in [1, 3, 4, 5, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
