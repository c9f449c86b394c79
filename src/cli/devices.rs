//! `devices`: what can run a model here.

use super::Failure;
use super::format;
use super::io::Output;
use crate::engine::{DeviceReport, devices};
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// List what can run a model here
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  rocmforge devices
  rocmforge devices --json")]
pub struct DevicesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct DeviceInfo<'a> {
    /// What `--device` takes; null for what cannot be used.
    device: Option<&'a str>,
    name: Option<String>,
    platform: Option<&'a str>,
    arch: Option<&'a str>,
    /// Processors that this process may use.
    threads: Option<usize>,
    /// Instruction sets that matter for inference.
    features: &'a [&'static str],
    units: Option<usize>,
    wave: Option<usize>,
    lds_bytes: Option<usize>,
    memory_bytes: Option<u64>,
    memory_available_bytes: Option<u64>,
    driver: Option<&'a str>,
    /// The target of the kernels that it would run.
    kernels: Option<&'a str>,
    /// Why it cannot be used, and what to do.
    problem: Option<&'a str>,
}

/// Runs it.
pub fn run(args: DevicesArgs) -> Result<(), Failure> {
    let devices = devices();
    let mut out = Output::stdout();
    if args.json {
        out.json(&devices.iter().map(info).collect::<Vec<_>>())?;
        return out.finish();
    }
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["device", "name", "units", "memory", "free", "details"]);
    for device in devices.iter().filter(|d| d.device.is_some()) {
        let size = |n: Option<u64>| n.map_or("?".to_string(), format::bytes);
        table.add_row([
            device.device.clone().unwrap_or_default(),
            format::shown(&device.name, 80),
            units(device),
            size(device.memory),
            size(device.memory_free),
            details(device),
        ]);
    }
    out.line(table)?;
    for device in &devices {
        match (&device.device, &device.problem) {
            (Some(name), Some(problem)) => out.line(format_args!("not usable: {name}: {problem}"))?,
            (None, Some(problem)) => out.line(format_args!("not usable: {problem}"))?,
            _ => {}
        }
    }
    out.finish()
}

fn info(device: &DeviceReport) -> DeviceInfo<'_> {
    DeviceInfo {
        device: device.device.as_deref(),
        name: (!device.name.is_empty()).then(|| format::shown(&device.name, 80)),
        platform: device.platform.as_deref(),
        arch: device.arch.as_deref(),
        threads: device.threads,
        features: &device.features,
        units: device.units,
        wave: device.wave,
        lds_bytes: device.lds,
        memory_bytes: device.memory,
        memory_available_bytes: device.memory_free,
        driver: device.driver.as_deref(),
        kernels: device.kernels.as_deref(),
        problem: device.problem.as_deref(),
    }
}

/// `8 threads`, `96 units of 32`.
fn units(device: &DeviceReport) -> String {
    match (device.threads, device.units, device.wave) {
        (Some(1), ..) => "1 thread".to_string(),
        (Some(threads), ..) => format!("{threads} threads"),
        (_, Some(units), Some(wave)) => format!("{units} units, waves of {wave}"),
        _ => String::new(),
    }
}

/// `avx2 fma`, `gfx1100, HIP 6.2.41133, kernels for gfx11-generic`.
fn details(device: &DeviceReport) -> String {
    let mut parts: Vec<String> = [&device.arch, &device.driver].into_iter().flatten().cloned().collect();
    parts.extend(device.kernels.iter().map(|target| format!("kernels for {target}")));
    if !device.features.is_empty() {
        parts.push(device.features.join(" "));
    }
    parts.join(", ")
}
