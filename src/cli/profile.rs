//! Where the time of a model's steps goes, beside what the machine could do: what `graph-dump --profile` and `bench --profile` tell.

use crate::engine::{self, Cancel, EngineError, KvType, Limit, Model, Profile, ProfilePhase, Roofline};
use crate::graph::view::MeasuredStep;
use crate::graph::view::units::{self, plural};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

const SCHEMA: &str = "rocmforge.profile/1";
/// Bytes that the bandwidth is measured on.
const BANDWIDTH_BUFFER: usize = 512 << 20;
/// Steps that the text lists.
const SLOWEST: usize = 20;

/// What was measured.
#[derive(Serialize)]
pub struct Report {
    schema: &'static str,
    model: String,
    phase: String,
    device: String,
    threads: usize,
    repetitions: usize,
    memory_bandwidth: Option<f64>,
    roofline: Option<Limits>,
    pub total_seconds: f64,
    pub steps: Vec<Row>,
}

/// The limits of the processor, where all runs on it.
#[derive(Serialize)]
pub struct Limits {
    bytes_per_second: f64,
    f32_flops_per_second: f64,
    bf16_flops_per_second: f64,
    int8_flops_per_second: f64,
}

/// A step.
#[derive(Serialize)]
pub struct Row {
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
    pub measured: MeasuredStep,
}

/// Runs a model's programs step by step.
///
/// # Errors
/// As [`engine::profile`].
pub fn measure(
    model: &Model,
    phase: ProfilePhase,
    kv_type: KvType,
    repetitions: usize,
    cancel: &Cancel,
) -> Result<(Report, Vec<Profile>), EngineError> {
    let profiles = engine::profile(model, phase, kv_type, repetitions, cancel)?;
    let roofline = match model.placement().stages.as_slice() {
        [(device, _)] if device.threads > 0 => Roofline::measure(device.threads, BANDWIDTH_BUFFER),
        _ => None,
    };
    let report = Report {
        schema: SCHEMA,
        model: model.config().name.clone(),
        phase: match phase {
            ProfilePhase::Prefill(tokens) => format!("prefill of {}", plural(tokens, "token")),
            ProfilePhase::Decode(depth) => format!("decode at depth {depth}"),
        },
        device: model.device(),
        threads: model.threads(),
        repetitions,
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
    Ok((report, profiles))
}

/// What was measured, in a line.
pub fn headline(report: &Report) -> String {
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

/// The kinds of steps, and the slowest ones.
pub fn text(report: &Report) -> String {
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
    let last = if known { "roofline" } else { "" };
    let header = format!("{:>10} {:>6} {:>8} {:>9} {last:>8}", "µs", "time", "GB/s", "GFLOP/s");
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
