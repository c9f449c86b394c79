//! The targets that plans can be made for. No device is needed: a target is data.

use crate::backends::cpu::CpuTarget;
use crate::cli::Failure;
use crate::graph::plan::Target;

/// Makes a target for a number of threads, where that matters.
type Make = fn(usize) -> Box<dyn Target>;

/// Targets by name.
const TARGETS: &[(&str, Make)] = &[("cpu", |threads| Box::new(CpuTarget { threads }))];

/// The target called `name`; 0 threads are as many as this process may use.
pub fn target(name: &str, threads: usize) -> Result<Box<dyn Target>, Failure> {
    let available = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = if threads == 0 { available() } else { threads };
    match TARGETS.iter().find(|t| t.0 == name) {
        Some((_, make)) => Ok(make(threads)),
        None => {
            let names: Vec<&str> = TARGETS.iter().map(|t| t.0).collect();
            Err(Failure::new(format!("there is no target \"{name}\"")).hint(format!("there is {}", names.join(", "))))
        }
    }
}
