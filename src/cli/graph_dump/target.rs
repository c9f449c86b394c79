//! `--target`: what plans are made for.

use crate::cli::Failure;
use crate::engine::{self, TARGETS};
use crate::graph::plan::Target;

/// The name of the processor as target.
pub fn cpu(no_repack: bool) -> &'static str {
    if no_repack { "cpu-mapped" } else { "cpu" }
}

/// Whether a target is the processor.
pub fn is_cpu(target: &dyn Target) -> bool {
    matches!(target.name(), "cpu" | "cpu-mapped")
}

/// The target called `name`; 0 threads are as many as this process may use.
pub fn target(name: &str, threads: usize) -> Result<Box<dyn Target>, Failure> {
    let available = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = if threads == 0 { available() } else { threads };
    engine::target(name, threads).ok_or_else(|| {
        Failure::new(format!("there is no target \"{name}\"")).hint(format!("there is {}", TARGETS.join(", ")))
    })
}
