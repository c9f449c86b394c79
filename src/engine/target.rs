//! The targets that plans can be made for. No device is needed: a target is data.

use crate::backends::cpu::CpuTarget;
use crate::graph::plan::Target;

/// Makes a target for a number of threads, where that matters.
pub type MakeTarget = fn(usize) -> Box<dyn Target>;

/// Targets by name.
pub const TARGETS: &[(&str, MakeTarget)] = &[("cpu", |threads| Box::new(CpuTarget { threads }))];
