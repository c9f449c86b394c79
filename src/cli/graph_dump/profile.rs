//! `--profile`: runs the program and tells where its time goes, step by step, beside what the machine
//! could do: as text, JSON, a trace, a picture or the page.

use super::{GraphDumpArgs, GraphFormat, Phase};
use crate::cli::Failure;
use crate::cli::args::{DeviceArgs, show_placement};
use crate::cli::io::{Output, to_json};
use crate::cli::profile::{self, Report};
use crate::cli::source::ModelSource;
use crate::engine::{Cancel, DEFAULT_CHUNK, LoadOptions, Model, Profile, ProfilePhase, SessionOptions};
use crate::graph::view::{Measured, Stages, html};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

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
    let chunk = args.chunk.filter(|&n| n > 0).unwrap_or(DEFAULT_CHUNK);
    let phase = match args.phase {
        Some(Phase::Prefill) => ProfilePhase::Prefill(chunk),
        _ => ProfilePhase::Decode(depth),
    };
    let (report, profiles) =
        profile::measure(&model, phase, args.kv_type.into(), args.repetitions, &Cancel::default())?;
    if let Some(path) = &args.trace {
        let mut out = Output::create(path)?;
        out.write(trace(&profiles)?.as_bytes())?;
        out.finish()?;
    }
    match args.format {
        GraphFormat::Text => Ok(profile::text(&report)),
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
fn pictured(args: &GraphDumpArgs, model: &Model, profile: &Profile, report: &Report) -> Result<String, Failure> {
    let plan = &profile.plan;
    let graph = model.graph(plan.bounds, args.kv_type.into())?;
    // The target of the plan that ran, whatever `--target` says.
    let target = super::target::target(&plan.target, model.threads())?;
    let stages = Stages::new(&graph, &*target, &super::pass_options(args)).map_err(Failure::new)?;
    let fold = super::fold(&stages.fused().graph, &args.layers)?;
    let measured = Measured {
        about: profile::headline(report),
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
