//! `devices`: what can run a model here.

use super::Failure;
use super::format;
use super::io::Output;
use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;
use std::thread;

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
struct DeviceInfo {
    /// What `--device` takes.
    device: &'static str,
    name: String,
    /// Processors that this process may use.
    threads: usize,
    /// Instruction sets that matter for inference.
    features: Vec<&'static str>,
    memory_bytes: Option<u64>,
    memory_available_bytes: Option<u64>,
}

/// Runs it.
pub fn run(args: DevicesArgs) -> Result<(), Failure> {
    let devices = [cpu()];
    let mut out = Output::stdout();
    if args.json {
        out.json(&devices)?;
    } else {
        let mut table = Table::new();
        table
            .load_preset(presets::UTF8_BORDERS_ONLY)
            .set_header(["device", "name", "threads", "memory", "free", "features"]);
        for device in &devices {
            let size = |n: Option<u64>| n.map_or("?".to_string(), format::bytes);
            table.add_row([
                device.device.to_string(),
                device.name.clone(),
                device.threads.to_string(),
                size(device.memory_bytes),
                size(device.memory_available_bytes),
                device.features.join(" "),
            ]);
        }
        out.line(table)?;
    }
    out.finish()
}

fn cpu() -> DeviceInfo {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let name = field(&cpuinfo, "model name").unwrap_or(std::env::consts::ARCH);
    let memory = |key| field(&meminfo, key)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024);
    DeviceInfo {
        device: "cpu",
        name: format::shown(name, 80),
        threads: thread::available_parallelism().map_or(1, usize::from),
        features: features(),
        memory_bytes: memory("MemTotal"),
        memory_available_bytes: memory("MemAvailable"),
    }
}

/// The value of the first `key : value` line.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':')).map(str::trim)
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    macro_rules! detected {
        ($($name:tt)*) => { [$(($name, is_x86_feature_detected!($name))),*] };
    }
    let all = detected!("avx2" "fma" "f16c" "avxvnni" "avx512f" "avx512bw" "avx512vl" "avx512vnni" "avx512bf16");
    all.iter().filter(|(_, present)| *present).map(|(name, _)| *name).collect()
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    macro_rules! detected {
        ($($name:tt)*) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    let all = detected!("neon" "dotprod" "i8mm" "bf16" "fp16");
    all.iter().filter(|(_, present)| *present).map(|(name, _)| *name).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields() {
        let text = "processor\t: 0\nmodel name\t: Some CPU\nMemTotal:       123 kB\n";
        assert_eq!(field(text, "model name"), Some("Some CPU"));
        assert_eq!(field(text, "MemTotal"), Some("123 kB"));
        assert_eq!(field(text, "model"), None);
    }
}
