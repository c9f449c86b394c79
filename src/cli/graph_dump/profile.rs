//! `--profile`: runs the program and tells where its time goes, step by step, beside what the machine
//! could do: as text, JSON, a trace, a picture or the page.

use super::{GraphDumpArgs, GraphFormat, Phase};
use crate::cli::Failure;
use crate::cli::args::{DeviceArgs, show_placement};
use crate::cli::io::{Output, to_json};
use crate::cli::source::ModelSource;
use crate::engine::{self, Cancel, Limit, LoadOptions, Model, Profile, ProfilePhase, Roofline, SessionOptions};
use crate::graph::view::units::{self, plural};
use crate::graph::view::{Measured, MeasuredStep, Stages, html};
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
    roofline: Option<Limits>,
    total_seconds: f64,
    steps: Vec<Row>,
}

#[derive(Serialize)]
struct Limits {
    bytes_per_second: f64,
    f32_flops_per_second: f64,
    bf16_flops_per_second: f64,
    int8_flops_per_second: f64,
}

#[derive(Serialize)]
struct Row {
    device: String,
    /// In the plan of its device.
    step: usize,
    node: String,
    op: String,
    label: Option<String>,
    bytes: u64,
    flops: u64,
    /// Bytes a second over the measured memory bandwidth.
    bandwidth_share: Option<f64>,
    #[serde(flatten)]
    measured: MeasuredStep,
}

/// Runs the program and writes the report; the trace goes to its own file.
pub fn run(args: &GraphDumpArgs) -> Result<String, Failure> {
    if args.format == GraphFormat::Dot {
        return Err(Failure::new("--profile is written as text, json, svg or html")
            .hint("--trace FILE writes a trace for Perfetto or chrome://tracing"));
    }
    let source = ModelSource::from_option(args.model.as_deref().or(args.file.as_deref()))?;
    let DeviceArgs { device, gpu_layers, no_repack } = args.device;
    let session = SessionOptions { context: args.ctx.unwrap_or(0), kv_type: args.kv_type.into(), ..Default::default() };
    let (threads, passes) = (args.threads, super::pass_options(args));
    let load = LoadOptions { device, gpu_layers, session, threads, passes, no_repack };
    let model = Model::from_gguf(source.weights()?, &load, &mut |_| true)?;
    show_placement(&model);
    let depth = args.ctx.unwrap_or(0).saturating_sub(1);
    let chunk = args.chunk.filter(|&n| n > 0).unwrap_or(512);
    let (phase, name) = match args.phase {
        Some(Phase::Prefill) => (ProfilePhase::Prefill(chunk), format!("prefill of {}", plural(chunk, "token"))),
        _ => (ProfilePhase::Decode(depth), format!("decode at depth {depth}")),
    };
    let profiles = engine::profile(&model, phase, args.kv_type.into(), args.repetitions, &Cancel::default())?;
    // The limits of the processor, where all runs on it.
    let roofline = match model.placement().stages.as_slice() {
        [(device, _)] if device.threads > 0 => Roofline::measure(device.threads, BANDWIDTH_BUFFER),
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
        memory_bandwidth: roofline.map(|r| r.bandwidth),
        roofline: roofline.map(|r| Limits {
            bytes_per_second: r.bandwidth,
            f32_flops_per_second: r.f32,
            bf16_flops_per_second: r.bf16,
            int8_flops_per_second: r.int8,
        }),
        total_seconds: profiles.iter().map(|p| p.total().as_secs_f64()).sum(),
        steps: profiles.iter().flat_map(|p| rows(p, roofline)).collect(),
    };
    match args.format {
        GraphFormat::Text => Ok(text(&report)),
        GraphFormat::Json => Ok(format!("{}\n", to_json(&report)?)),
        _ => match profiles.as_slice() {
            [profile] => pictured(args, &model, profile, &report),
            _ => Err(Failure::new(
                "a model on several devices has a profile as text or json: one picture shows one plan",
            )),
        },
    }
}

/// The graph with the times of its steps as a page or as SVG.
fn pictured(args: &GraphDumpArgs, model: &Model, profile: &Profile, report: &Report<'_>) -> Result<String, Failure> {
    let plan = &profile.plan;
    let graph = model.graph(plan.bounds, args.kv_type.into())?;
    // The target of the plan that ran, whatever `--target` says.
    let target = super::target::target(&plan.target, model.threads())?;
    let stages = Stages::new(&graph, &*target, &super::pass_options(args)).map_err(Failure::new)?;
    let fold = super::fold(&stages.fused().graph, &args.layers)?;
    let measured = Measured {
        about: headline(report),
        total_seconds: report.total_seconds,
        steps: report.steps.iter().map(|row| row.measured.clone()).collect(),
    };
    if args.format == GraphFormat::Svg {
        return Ok(super::picture(&stages.fused().graph, &fold, plan, &measured.about, Some(&measured)));
    }
    let contents = html::Contents {
        stages: &stages,
        plan: Some(plan),
        layers: &args.layers,
        target: &plan.target,
        measured: Some(&measured),
        session: None,
    };
    html::page(&contents).map_err(|error| Failure::new(format!("cannot make the page: {error}")))
}

fn headline(report: &Report<'_>) -> String {
    let runs_on = match report.threads {
        0 => report.device.clone(),
        n if report.device == "cpu" => plural(n, "thread"),
        n => format!("{}, {}", report.device, plural(n, "thread")),
    };
    format!(
        "{}: {}, {runs_on}, {} in {} (medians of {})",
        report.model,
        report.phase,
        units::seconds(report.total_seconds),
        plural(report.steps.len(), "step"),
        plural(report.repetitions, "run")
    )
}

fn rows(profile: &Profile, roofline: Option<Roofline>) -> Vec<Row> {
    let row = |(step, time): (usize, &Duration)| {
        let s = &profile.plan.steps[step];
        let seconds = time.as_secs_f64();
        let rate = |n: u64| if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
        let bytes = s.bytes_read + s.bytes_written;
        let least = roofline.map(|r| r.least(s));
        Row {
            device: profile.device.clone(),
            step,
            node: s.node.to_string(),
            op: s.op.name().to_string(),
            label: s.label.clone(),
            bytes,
            flops: s.flops,
            bandwidth_share: roofline.map(|r| rate(bytes) / r.bandwidth),
            measured: MeasuredStep {
                seconds,
                bytes_per_second: rate(bytes),
                flops_per_second: rate(s.flops),
                roofline_share: least.map(|l| if seconds > 0.0 { l.0 / seconds } else { 0.0 }),
                limit: least.map(|l| match l.1 {
                    Limit::Memory => "memory",
                    Limit::Compute => "compute",
                }),
            },
        }
    };
    profile.times.iter().enumerate().map(row).collect()
}

/// What a line of the text sums up.
#[derive(Clone, Copy, Default)]
struct Sum {
    steps: usize,
    seconds: f64,
    bytes: f64,
    flops: f64,
    /// The least seconds of the roofline.
    least: f64,
}

impl Sum {
    fn add(&mut self, row: &Row) {
        self.steps += 1;
        self.seconds += row.measured.seconds;
        self.bytes += row.bytes as f64;
        self.flops += row.flops as f64;
        self.least += row.measured.seconds * row.measured.roofline_share.unwrap_or(0.0);
    }

    fn line(&self, total: f64, roofline: bool) -> String {
        let seconds = self.seconds.max(1e-12);
        let share = if roofline { format!("{:7.0}%", 100.0 * self.least / seconds) } else { String::new() };
        format!(
            "{:10.1} {:5.1}% {:8.1} {:9.1} {share:>8}",
            self.seconds * 1e6,
            100.0 * self.seconds / total,
            self.bytes / seconds / 1e9,
            self.flops / seconds / 1e9
        )
    }
}

fn text(report: &Report<'_>) -> String {
    let total = report.total_seconds.max(1e-12);
    let mut out = format!("{}\n", headline(report));
    if let Some(limits) = &report.roofline {
        let _ = writeln!(
            out,
            "measured after it: {:.1} GB/s from memory, {:.0} GFLOP/s on f32, {:.0} GFLOP/s on bytes",
            limits.bytes_per_second / 1e9,
            limits.f32_flops_per_second / 1e9,
            limits.int8_flops_per_second / 1e9
        );
    }
    let known = report.roofline.is_some();
    let header = format!("{:>10} {:>6} {:>8} {:>9} {:>8}", "µs", "time", "GB/s", "GFLOP/s", "roofline");
    let mut ops: BTreeMap<&str, Sum> = BTreeMap::new();
    report.steps.iter().for_each(|row| ops.entry(&row.op).or_default().add(row));
    let mut ops: Vec<_> = ops.into_iter().collect();
    ops.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    let _ = writeln!(out, "\nby op\n{:>6} {header}", "steps");
    for (op, sum) in &ops {
        let _ = writeln!(out, "{:6} {}  {op}", sum.steps, sum.line(total, known));
    }
    let mut slowest: Vec<&Row> = report.steps.iter().collect();
    slowest.sort_by(|a, b| b.measured.seconds.total_cmp(&a.measured.seconds));
    let _ = writeln!(out, "\nthe slowest steps\n{:>6} {header}", "step");
    for row in slowest.into_iter().take(SLOWEST) {
        let mut sum = Sum::default();
        sum.add(row);
        let label = row.label.as_deref().unwrap_or(&row.node);
        let limit = row.measured.limit.map_or(String::new(), |limit| format!("  ({limit})"));
        let _ = writeln!(out, "{:6} {}  {} {label}{limit}", row.step, sum.line(total, known), row.op);
    }
    if known {
        out.push_str("\nroofline: the least time for the step's bytes or operations over its time; above 100% its bytes were in a cache\n");
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
