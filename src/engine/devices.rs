//! [`devices`]: what can run a model on this machine, and why other things cannot.

use std::thread;

/// Something that can run a model, or that one could expect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceReport {
    /// What names it in a [`DeviceChoice`](super::DeviceChoice): `cpu`, `gpu:0`; `None` for what cannot be used at all.
    pub device: Option<String>,
    /// Its name as sold.
    pub name: String,
    /// Whose driver runs it: `HIP`, `CUDA`; `None` for the processor.
    pub platform: Option<String>,
    /// The instruction set of a GPU: `gfx1100`, `sm_90`.
    pub arch: Option<String>,
    /// Instruction sets of the processor that matter for inference.
    pub features: Vec<&'static str>,
    /// Processors that this process may use.
    pub threads: Option<usize>,
    /// Compute units of a GPU.
    pub units: Option<usize>,
    /// Lanes of its waves.
    pub wave: Option<usize>,
    /// Bytes of LDS that a block may have.
    pub lds: Option<usize>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes that are free.
    pub memory_free: Option<u64>,
    /// The version of the driver, for people.
    pub driver: Option<String>,
    /// The target whose kernels this build would run on it.
    pub kernels: Option<String>,
    /// Why it cannot be used, and what to do about it.
    pub problem: Option<String>,
}

/// The processor first, then every GPU that a driver lists, then what is missing for others.
pub fn devices() -> Vec<DeviceReport> {
    let mut all = vec![cpu()];
    all.extend(gpus());
    all.sort_by_key(|d| d.device.is_none()); // stable
    all
}

fn cpu() -> DeviceReport {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = |key| field(&meminfo, key)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024);
    DeviceReport {
        device: Some("cpu".to_string()),
        name: field(&cpuinfo, "model name").unwrap_or(std::env::consts::ARCH).to_string(),
        threads: Some(thread::available_parallelism().map_or(1, usize::from)),
        features: features(),
        memory: memory("MemTotal"),
        memory_free: memory("MemAvailable"),
        ..DeviceReport::default()
    }
}

#[cfg(feature = "hip")]
fn gpus() -> Vec<DeviceReport> {
    let report = |found: Result<crate::backends::hip::Gpu, String>| match found {
        Ok(gpu) => DeviceReport {
            device: Some(format!("gpu:{}", gpu.number)),
            name: gpu.name,
            platform: Some(gpu.platform),
            arch: Some(gpu.arch),
            units: Some(gpu.units),
            wave: Some(gpu.wave),
            lds: Some(gpu.lds),
            memory: Some(gpu.total_memory),
            memory_free: Some(gpu.free_memory),
            driver: Some(gpu.driver),
            problem: gpu.kernels.clone().err(),
            kernels: gpu.kernels.ok(),
            ..DeviceReport::default()
        },
        Err(problem) => DeviceReport { problem: Some(problem), ..DeviceReport::default() },
    };
    crate::backends::hip::gpus().into_iter().map(report).collect()
}

#[cfg(not(feature = "hip"))]
fn gpus() -> Vec<DeviceReport> {
    let problem = "GPUs: this build has no backend for them; the feature `hip` brings it".to_string();
    vec![DeviceReport { problem: Some(problem), ..DeviceReport::default() }]
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
    use super::*;

    #[test]
    fn fields() {
        let text = "processor\t: 0\nmodel name\t: Some CPU\nMemTotal:       123 kB\n";
        assert_eq!(field(text, "model name"), Some("Some CPU"));
        assert_eq!(field(text, "MemTotal"), Some("123 kB"));
        assert_eq!(field(text, "model"), None);
    }

    #[test]
    fn every_device_is_usable_or_has_a_problem() {
        let all = devices();
        assert_eq!(all[0].device.as_deref(), Some("cpu"));
        assert!(all[0].threads > Some(0) && all[0].problem.is_none());
        for gpu in &all[1..] {
            assert_eq!(gpu.kernels.is_some(), gpu.problem.is_none(), "{gpu:?}");
            let choice = gpu.device.as_deref().map(str::parse::<crate::engine::DeviceChoice>);
            assert!(matches!(choice, None | Some(Ok(_))), "{gpu:?}");
        }
        // On a machine without GPUs both platforms say what is missing.
        #[cfg(feature = "hip")]
        assert!(all.len() >= 3);
    }
}
