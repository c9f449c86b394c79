//! `--profile`: runs the program and tells where its time goes, step by step, beside the memory bandwidth of the machine.

use super::{GraphDumpArgs, GraphFormat, Phase};
use crate::cli::Failure;
use crate::cli::args::{DeviceArgs, show_placement};
use crate::cli::io::{Output, to_json};
use crate::cli::source::ModelSource;
use crate::engine::{self, Cancel, LoadOptions, Model, Profile, ProfilePhase, SessionOptions};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

const SCHEMA: &str = "rocmforge.profile/1";
/// Bytes that the bandwidth is measured on.
const BANDWIDTH_BUFFER: usize = 512 << 20;
/// Steps that the text lists.
const SLOWEST: usize = 20;

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    model: &'a str,
    phase: String,
    device: String,
    threads: usize,
    repetitions: usize,
    memory_bandwidth: Option<f64>,
    total_seconds: f64,
    steps: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    device: String,
    /// In the plan of its device.
    step: usize,
    node: String,
    op: String,
    label: Option<String>,
    seconds: f64,
    bytes: u64,
    flops: u64,
    bytes_per_second: f64,
    flops_per_second: f64,
    /// Bytes a second over the measured memory bandwidth.
    bandwidth_share: Option<f64>,
}

/// Runs the program and writes the report; the trace goes to its own file.
pub fn run(args: &GraphDumpArgs) -> Result<String, Failure> {
    let source = ModelSource::from_option(args.model.as_deref().or(args.file.as_deref()))?;
    let DeviceArgs { device, gpu_layers } = args.device;
    let session = SessionOptions { context: args.ctx.unwrap_or(0), kv_type: args.kv_type.into(), ..Default::default() };
    let load = LoadOptions { device, gpu_layers, session, threads: args.threads, passes: super::pass_options(args) };
    let model = Model::from_gguf(source.weights()?, &load, &mut |_| true)?;
    show_placement(&model);
    let depth = args.ctx.unwrap_or(0).saturating_sub(1);
    let chunk = args.chunk.filter(|&n| n > 0).unwrap_or(512);
    let (phase, name) = match args.phase {
        Some(Phase::Prefill) => (ProfilePhase::Prefill(chunk), format!("prefill of {chunk} tokens")),
        _ => (ProfilePhase::Decode(depth), format!("decode at depth {depth}")),
    };
    let profiles = engine::profile(&model, phase, args.kv_type.into(), args.repetitions, &Cancel::default())?;
    let bandwidth = match model.placement().stages.as_slice() {
        [(device, _)] if device.threads > 0 => engine::read_bandwidth(device.threads, BANDWIDTH_BUFFER),
        _ => None,
    };
    if let Some(path) = &args.trace {
        let mut out = Output::create(path)?;
        out.write(trace(&profiles)?.as_bytes())?;
        out.finish()?;
    }
    let report = Report {
        schema: SCHEMA,
        model: &model.config().name,
        phase: name,
        device: model.device(),
        threads: model.threads(),
        repetitions: args.repetitions,
        memory_bandwidth: bandwidth,
        total_seconds: profiles.iter().map(|p| p.total().as_secs_f64()).sum(),
        steps: profiles.iter().flat_map(|p| rows(p, bandwidth)).collect(),
    };
    match args.format {
        GraphFormat::Text => Ok(text(&report)),
        GraphFormat::Json => Ok(format!("{}\n", to_json(&report)?)),
        _ => Err(Failure::new("--profile is written as text or json")
            .hint("--trace FILE writes a trace for Perfetto or chrome://tracing")),
    }
}

fn rows(profile: &Profile, bandwidth: Option<f64>) -> Vec<Row> {
    let row = |(step, time): (usize, &Duration)| {
        let s = &profile.plan.steps[step];
        let seconds = time.as_secs_f64();
        let rate = |n: u64| if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
        let bytes = s.bytes_read + s.bytes_written;
        Row {
            device: profile.device.clone(),
            step,
            node: s.node.to_string(),
            op: s.op.name().to_string(),
            label: s.label.clone(),
            seconds,
            bytes,
            flops: s.flops,
            bytes_per_second: rate(bytes),
            flops_per_second: rate(s.flops),
            bandwidth_share: bandwidth.map(|b| rate(bytes) / b),
        }
    };
    profile.times.iter().enumerate().map(row).collect()
}

fn text(report: &Report<'_>) -> String {
    let total = report.total_seconds.max(1e-12);
    let runs_on = match report.threads {
        0 => report.device.clone(),
        n if report.device == "cpu" => format!("{n} threads"),
        n => format!("{}, {n} threads", report.device),
    };
    let mut out = format!(
        "{}: {}, {runs_on}, {:.3} ms in {} steps (medians of {} runs)\n",
        report.model,
        report.phase,
        total * 1e3,
        report.steps.len(),
        report.repetitions
    );
    if let Some(bandwidth) = report.memory_bandwidth {
        let _ = writeln!(out, "memory bandwidth measured after it: {:.1} GB/s", bandwidth / 1e9);
    }
    let header = format!("{:>9} {:>6} {:>8} {:>9} {:>6}", "µs", "time", "GB/s", "GFLOP/s", "of bw");
    let line = |seconds: f64, bytes: f64, flops: f64| {
        let share = report
            .memory_bandwidth
            .map_or(String::new(), |b| format!("{:5.0}%", 100.0 * bytes / seconds.max(1e-12) / b));
        format!(
            "{:9.1} {:5.1}% {:8.1} {:9.1} {share:>6}",
            seconds * 1e6,
            100.0 * seconds / total,
            bytes / seconds.max(1e-12) / 1e9,
            flops / seconds.max(1e-12) / 1e9
        )
    };
    let mut ops: BTreeMap<&str, (usize, f64, f64, f64)> = BTreeMap::new();
    for row in &report.steps {
        let entry = ops.entry(&row.op).or_default();
        entry.0 += 1;
        entry.1 += row.seconds;
        entry.2 += row.bytes as f64;
        entry.3 += row.flops as f64;
    }
    let mut ops: Vec<_> = ops.into_iter().collect();
    ops.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    let _ = writeln!(out, "\nby op\n{:>6} {header}", "steps");
    for (op, (count, seconds, bytes, flops)) in ops {
        let _ = writeln!(out, "{count:6} {}  {op}", line(seconds, bytes, flops));
    }
    let mut slowest: Vec<&Row> = report.steps.iter().collect();
    slowest.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let _ = writeln!(out, "\nthe slowest steps\n{:>6} {header}", "step");
    for row in slowest.into_iter().take(SLOWEST) {
        let label = row.label.as_deref().unwrap_or(&row.node);
        let _ = writeln!(
            out,
            "{:6} {}  {} {label}",
            row.step,
            line(row.seconds, row.bytes as f64, row.flops as f64),
            row.op
        );
    }
    out
}

/// Trace events as Perfetto and chrome://tracing read them: times in microseconds.
fn trace(profiles: &[Profile]) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Event<'a> {
        name: String,
        cat: &'a str,
        ph: &'static str,
        ts: f64,
        dur: f64,
        pid: u32,
        tid: u32,
        args: BTreeMap<&'static str, String>,
    }
    let mut at = Duration::ZERO;
    let mut events = Vec::new();
    let steps = profiles.iter().enumerate().flat_map(|(i, p)| p.plan.steps.iter().zip(&p.times).map(move |s| (i, s)));
    for (device, (step, &time)) in steps {
        let args = BTreeMap::from([
            ("node", step.node.to_string()),
            ("bytes_read", step.bytes_read.to_string()),
            ("bytes_written", step.bytes_written.to_string()),
            ("flops", step.flops.to_string()),
        ]);
        events.push(Event {
            name: step.label.clone().unwrap_or_else(|| step.op.name().to_string()),
            cat: step.op.name(),
            ph: "X",
            ts: at.as_secs_f64() * 1e6,
            dur: time.as_secs_f64() * 1e6,
            pid: 1,
            tid: device as u32 + 1,
            args,
        });
        at += time;
    }
    to_json(&BTreeMap::from([("traceEvents", events)]))
}
