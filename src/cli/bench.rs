//! `bench`: tokens a second, beside the memory bandwidth of the machine.

use super::args::{self, DeviceArgs, FileArgs, KvTypeArg, ModelArgs, positive, threads};
use super::io::Output;
use super::{Failure, format, interrupt, profile};
use crate::engine::{
    self, BenchResult, BenchTest, Cancel, DEFAULT_CHUNK, EngineError, Model, ProfilePhase, Roofline, Sampler,
    SamplerOptions, Session, SessionOptions,
};
use crate::graph::view::units;
use crate::models::synthetic::{Synthetic, SyntheticError};
use crate::tensor::Bounds;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that the bandwidth is measured on: many times any cache.
const BANDWIDTH_BUFFER: usize = 1 << 30;
const SAMPLING: &str = "Sampling (with --temp)";

/// Measure prompt and decode speed
#[derive(Args, Debug)]
#[command(
    after_help = "Like llama-bench: ppN evaluates a prompt of N tokens, tgN decodes N tokens one after the other, @ dN with N tokens in
the cache before. Each test runs once uncounted, then -r times. Numbers can be lists: -p 128,512 -t 1,2.
--synthetic makes a model of random weights in memory instead of reading one: llama-8b, llama-1b or qwen2.5-0.5b in any
type or mix of `rocmforge quantize`.

The share of a decode test is the weights that a token reads, times tokens a second, over the memory bandwidth that the
same number of threads measured just before on a buffer of 1 GiB. A model that fits into the caches can exceed it. The
share of a prompt is that of the products with weights in the operations that as many threads can do, also measured.

Examples:
  rocmforge bench -m model.gguf
  rocmforge bench --synthetic llama-8b:Q4_K_M -n 128 -d 0,4096
  rocmforge bench -m model.gguf -p 0 -n 64 -d 0,1024 -r 3 -t 2 --json
  rocmforge bench --synthetic llama-1b:Q4_0 -p 0 --temp 0.8 --top-k 0
  rocmforge bench --synthetic llama-8b:Q4_K_M --device gpu --profile"
)]
pub struct BenchArgs {
    /// GGUF file and device.
    #[command(flatten)]
    model: BenchModelArgs,
    /// A model of random weights, as SHAPE:TYPE
    #[arg(long, value_name = "NAME", conflicts_with = "model", help_heading = "Model")]
    synthetic: Option<String>,
    /// Tokens of the prompt; 0 leaves the test out
    #[arg(short = 'p', long, value_name = "N", default_value = "512", value_delimiter = ',')]
    n_prompt: Vec<usize>,
    /// Tokens to decode; 0 leaves the test out
    #[arg(short = 'n', long, value_name = "N", default_value = "128", value_delimiter = ',')]
    n_gen: Vec<usize>,
    /// Tokens that are in the cache before
    #[arg(short = 'd', long, visible_alias = "depth", value_name = "N", default_value = "0", value_delimiter = ',')]
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
    /// Temperature at which the tokens to decode are drawn; at 0 a device takes the most probable ones, and the CPU gets random ones
    #[arg(long, value_name = "T", default_value_t = 0.0, help_heading = SAMPLING)]
    temp: f32,
    /// Keep the K most probable tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 40, help_heading = SAMPLING)]
    top_k: usize,
    /// Keep the most probable tokens that together have the probability P; 1 keeps all
    #[arg(long, value_name = "P", default_value_t = 0.95, help_heading = SAMPLING)]
    top_p: f32,
    /// Keep tokens at least P times as probable as the most probable one; 0 keeps all
    #[arg(long, value_name = "P", default_value_t = 0.05, help_heading = SAMPLING)]
    min_p: f32,
    /// After the tests, run each step by step and show where its time goes; a prompt on an empty cache
    #[arg(long)]
    profile: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Wait for a line on stdin before each test and each repetition, measure the machine's limits again, and print a line of JSON
    /// after each: for a script that measures another program in turn
    #[arg(long, conflicts_with_all = ["json", "profile"])]
    paced: bool,
}

impl BenchArgs {
    fn sampling(&self) -> SamplerOptions {
        SamplerOptions {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            seed: 1,
            ..SamplerOptions::default()
        }
    }
}

/// [`ModelArgs`] without the threads, which are a list here.
#[derive(Args, Debug)]
pub struct BenchModelArgs {
    /// The file.
    #[command(flatten)]
    file: FileArgs,
    /// The device.
    #[command(flatten)]
    device: DeviceArgs,
}

/// Where results go.
struct Report<'a> {
    rows: &'a mut Vec<Row>,
    /// Of each row, in words.
    profiles: &'a mut Vec<String>,
    out: &'a mut Output,
}

#[derive(Serialize)]
struct Row {
    model: String,
    architecture: String,
    device: String,
    /// What people call the device.
    device_name: String,
    threads: usize,
    /// Opening devices and loading weights.
    load_seconds: f64,
    /// Opening devices alone.
    load_open_seconds: f64,
    /// Allocating a device's memory for weights.
    load_allocate_seconds: Option<f64>,
    /// Reading a device's weights and packing them.
    load_pack_seconds: Option<f64>,
    /// Waiting for their copies, which run beside packing.
    load_copy_seconds: Option<f64>,
    test: String,
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    repetitions: usize,
    /// Who chose the tokens to decode: `host`, or `device`, without the host in between.
    chosen_by: &'static str,
    /// At 0 the most probable ones if the device chose them, else random ones.
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
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
    /// Operations a second of as many threads, in dot products of bytes.
    int8_peak: Option<f64>,
    /// Operations a second of as many threads, on f32.
    f32_peak: Option<f64>,
    /// Operations a second of as many threads, on bf16.
    bf16_peak: Option<f64>,
    /// The least time that products with weights take at these peaks over the time that the test took, by the median; prompts only.
    peak_share: Option<f64>,
    /// Where the time goes, with `--profile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<profile::Report>,
}

/// A line of `--paced`: a test that is prepared, or a repetition.
#[derive(Serialize)]
struct Sample {
    test: String,
    threads: usize,
    /// Null for a test that is prepared.
    tokens_per_second: Option<f64>,
    bytes_per_token: u64,
    memory_bandwidth: Option<f64>,
    bandwidth_share: Option<f64>,
    int8_peak: Option<f64>,
    f32_peak: Option<f64>,
    bf16_peak: Option<f64>,
    peak_share: Option<f64>,
}

/// Runs it.
pub fn run(args: BenchArgs) -> Result<(), Failure> {
    let tests = tests(&args)?;
    Sampler::new(args.sampling()).map_err(|e| Failure::new(e).hint("see `rocmforge bench --help`"))?;
    let cancel = interrupt::install();
    let needed = tests.iter().map(|(test, depth)| test.tokens().saturating_add(*depth)).max().unwrap_or(1);
    let session =
        SessionOptions { context: needed, chunk: args.chunk, kv_type: args.kv_type.into(), cancel: cancel.clone() };
    let synthetic = match &args.synthetic {
        Some(name) => Some(Arc::new(synthetic(name)?)),
        None => None,
    };
    let (mut rows, mut profiles) = (Vec::new(), Vec::new());
    let mut out = Output::stdout();
    for (index, &threads) in args.threads.iter().enumerate() {
        let file = FileArgs { model: args.model.file.model.clone() };
        let model_args = ModelArgs { file, device: args.model.device, threads };
        let model = match &synthetic {
            Some(data) => synthetic_model(Arc::clone(data), &model_args, session.clone(), index == 0)?,
            None if index == 0 => model_args.open(session.clone())?,
            None => model_args.open_quietly(session.clone())?,
        };
        eprintln!("{}", model.load_times());
        let mut report = Report { rows: &mut rows, profiles: &mut profiles, out: &mut out };
        bench_model(&args, &model, &session, &tests, &mut report)?;
    }
    if args.json {
        out.json(&rows)?;
    } else if !args.paced {
        out.line(table(&rows))?;
        for text in &profiles {
            out.line(format!("\n{}", text.trim_end()))?;
        }
    }
    out.finish()
}

/// The model of random weights of this name.
pub(super) fn synthetic(name: &str) -> Result<Synthetic, Failure> {
    let start = Instant::now();
    let data = Synthetic::new(name).map_err(|error| {
        let failure = Failure::new(&error);
        match error {
            SyntheticError::Type(_) => failure.hint("`rocmforge quantize --help` lists the types"),
            _ => failure,
        }
    })?;
    eprintln!("random weights made in {:.2} s", start.elapsed().as_secs_f64());
    Ok(data)
}

fn synthetic_model(
    data: Arc<Synthetic>,
    model_args: &ModelArgs,
    session: SessionOptions,
    show: bool,
) -> Result<Model, Failure> {
    let options = model_args.load_options(session);
    let model = args::loading(&options.session.cancel, |progress| Model::from_data(data, &options, progress))?;
    if show {
        args::show_placement(&model);
    }
    Ok(model)
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
    session: &SessionOptions,
    tests: &[(BenchTest, usize)],
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    let options = session;
    let mut session = Session::new(model, options)?;
    if args.paced {
        return paced(args, model, &mut session, tests, report.out);
    }
    eprintln!("measuring the machine …");
    let limits = limits(model);
    for &(test, depth) in tests {
        eprintln!("{} …", test.name(depth));
        let result =
            engine::bench(&mut session, test, depth, args.repetitions, &args.sampling()).map_err(interrupted)?;
        report.rows.push(row(args, model, &result, limits)?);
    }
    if args.profile {
        // Its memory is the profiles' now.
        drop(session);
        let first = report.rows.len() - tests.len();
        for (&(test, depth), row) in tests.iter().zip(&mut report.rows[first..]) {
            eprintln!("{}, step by step …", test.name(depth));
            let (found, text) = step_by_step(args, model, test, depth, &options.cancel, row)?;
            row.profile = Some(found);
            report.profiles.push(text);
        }
    }
    Ok(())
}

/// Where the time of a test goes, and that in words.
fn step_by_step(
    args: &BenchArgs,
    model: &Model,
    test: BenchTest,
    depth: usize,
    cancel: &Cancel,
    row: &Row,
) -> Result<(profile::Report, String), Failure> {
    let (phase, whole) = match test {
        BenchTest::Prompt(n) => {
            let chunk = if args.chunk == 0 { DEFAULT_CHUNK } else { args.chunk };
            (ProfilePhase::Prefill(n.min(chunk)), n.min(chunk) as f64)
        }
        BenchTest::Decode(_) => (ProfilePhase::Decode(depth), 1.0),
    };
    let (found, _) =
        profile::measure(model, phase, args.kv_type.into(), args.repetitions, cancel).map_err(interrupted)?;
    let without = whole / row.tokens_per_second_median.max(1e-9);
    let text = format!(
        "{}without a stop after each step, as measured above, {}\n",
        profile::text(&found),
        units::seconds(without)
    );
    Ok((found, text))
}

fn interrupted(error: EngineError) -> Failure {
    match error {
        EngineError::Cancelled => Failure::Interrupted("while speed was measured"),
        error => error.into(),
    }
}

/// The limits of the processor, which say something about what it runs alone.
fn limits(model: &Model) -> Option<Roofline> {
    match model.placement().stages.as_slice() {
        [(device, _)] if device.threads > 0 => Roofline::measure(device.threads, BANDWIDTH_BUFFER),
        _ => None,
    }
}

/// The tests at the pace of stdin, to its end.
fn paced(
    args: &BenchArgs,
    model: &Model,
    session: &mut Session,
    tests: &[(BenchTest, usize)],
    out: &mut Output,
) -> Result<(), Failure> {
    let mut open = true;
    for &(test, depth) in tests.iter() {
        let mut limits = None;
        let mut failed = None;
        let mut next = |time| {
            let told = sample(args, model, test, depth, time, limits)
                .map_err(Failure::from)
                .and_then(|sample| out.json_line(&sample));
            failed = told.err();
            open = failed.is_none() && std::io::stdin().read_line(&mut String::new()).is_ok_and(|n| n > 0);
            limits = open.then(|| self::limits(model)).flatten();
            open
        };
        engine::bench_paced(session, test, depth, args.repetitions, &args.sampling(), &mut next)
            .map_err(interrupted)?;
        if let Some(failure) = failed {
            return Err(failure);
        }
        if !open {
            break;
        }
    }
    Ok(())
}

fn sample(
    args: &BenchArgs,
    model: &Model,
    test: BenchTest,
    depth: usize,
    time: Option<Duration>,
    limits: Option<Roofline>,
) -> Result<Sample, EngineError> {
    let speed = time.map(|time| test.tokens() as f64 / time.as_secs_f64().max(1e-9));
    let shares = shares(args, model, test, depth, speed.unwrap_or(0.0), limits)?;
    Ok(Sample {
        test: test.name(depth),
        threads: model.threads(),
        tokens_per_second: speed,
        bytes_per_token: model.bytes_per_token(),
        memory_bandwidth: limits.map(|l| l.bandwidth),
        bandwidth_share: shares.memory.filter(|_| speed.is_some()),
        int8_peak: limits.map(|l| l.int8),
        f32_peak: limits.map(|l| l.f32),
        bf16_peak: limits.map(|l| l.bf16),
        peak_share: shares.arithmetic.filter(|_| speed.is_some()),
    })
}

/// What a speed is of the machine's limits.
struct Shares {
    memory: Option<f64>,
    arithmetic: Option<f64>,
}

fn shares(
    args: &BenchArgs,
    model: &Model,
    test: BenchTest,
    depth: usize,
    speed: f64,
    limits: Option<Roofline>,
) -> Result<Shares, EngineError> {
    let mut shares = Shares { memory: None, arithmetic: None };
    let Some(limits) = limits else { return Ok(shares) };
    match test {
        BenchTest::Decode(_) => shares.memory = Some(model.bytes_per_token() as f64 * speed / limits.bandwidth),
        BenchTest::Prompt(n) => {
            let options = SessionOptions { context: depth + n, chunk: args.chunk, ..SessionOptions::default() };
            let (context, chunk) = options.sizes(model.config())?;
            let chunk = chunk.min(n);
            let plans = model.plans(Bounds { t: chunk, s: context, r: 1 }, args.kv_type.into())?;
            let least: f64 = plans.iter().map(|plan| limits.products(plan)).sum();
            shares.arithmetic = Some(least / chunk as f64 * speed);
        }
    }
    Ok(shares)
}

fn row(args: &BenchArgs, model: &Model, result: &BenchResult, limits: Option<Roofline>) -> Result<Row, EngineError> {
    let (n_prompt, n_gen) = match result.test {
        BenchTest::Prompt(n) => (n, 0),
        BenchTest::Decode(n) => (0, n),
    };
    let shares = shares(args, model, result.test, result.depth, result.median(), limits)?;
    let times = model.load_times();
    let names: Vec<&str> = model.placement().stages.iter().map(|(device, _)| device.name.as_str()).collect();
    Ok(Row {
        model: model.config().name.clone(),
        architecture: model.config().architecture.clone(),
        device: model.device(),
        device_name: names.join(" + "),
        threads: model.threads(),
        load_seconds: times.total().as_secs_f64(),
        load_open_seconds: times.devices.as_secs_f64(),
        load_allocate_seconds: times.parts.map(|parts| parts.allocating.as_secs_f64()),
        load_pack_seconds: times.parts.map(|parts| parts.packing.as_secs_f64()),
        load_copy_seconds: times.parts.map(|parts| parts.copying.as_secs_f64()),
        test: result.test.name(result.depth),
        n_prompt,
        n_gen,
        n_depth: result.depth,
        repetitions: result.times.len(),
        chosen_by: if result.on_device { "device" } else { "host" },
        temperature: args.temp,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        tokens_per_second: result.mean(),
        tokens_per_second_stddev: result.standard_deviation(),
        tokens_per_second_median: result.median(),
        samples: result.speeds(),
        bytes_per_token: model.bytes_per_token(),
        memory_bandwidth: limits.map(|l| l.bandwidth),
        bandwidth_share: shares.memory,
        int8_peak: limits.map(|l| l.int8),
        f32_peak: limits.map(|l| l.f32),
        bf16_peak: limits.map(|l| l.bf16),
        peak_share: shares.arithmetic,
        profile: None,
    })
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    let head = ["model", "device", "threads", "test", "tokens/s", "median", "weights/token", "limit", "share"];
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(head);
    for row in rows {
        table.add_row([
            format::shown(&row.model, 40),
            row.device.clone(),
            row.threads.to_string(),
            row.test.clone(),
            format!("{:.2} ± {:.2}", row.tokens_per_second, row.tokens_per_second_stddev),
            format!("{:.2}", row.tokens_per_second_median),
            format::bytes(row.bytes_per_token),
            limit(row),
            row.bandwidth_share.or(row.peak_share).map_or(String::new(), |share| format!("{:.1} %", share * 100.0)),
        ]);
    }
    for column in [2, 4, 5, 6, 7, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The limit that a share is of.
fn limit(row: &Row) -> String {
    match (row.bandwidth_share, row.memory_bandwidth, row.int8_peak) {
        (Some(_), Some(bandwidth), _) => format!("{:.1} GB/s", bandwidth / 1e9),
        (None, _, Some(peak)) => format!("{:.0} Gop/s", peak / 1e9),
        _ => String::new(),
    }
}
