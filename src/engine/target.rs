//! The targets that plans can be made for. No device is needed: a target is data.

use crate::backends::cpu::{CpuTarget, Level};
#[cfg(feature = "hip")]
use crate::backends::hip::HipTarget;
use crate::graph::plan::Target;

/// Names that [`target`] knows: the CPU, with weights repacked or left in the mapped file, and GPUs as compilers call them (with the feature `hip`).
#[cfg(feature = "hip")]
pub const TARGETS: &[&str] = &[
    "cpu",
    "cpu-mapped",
    "gfx1030",
    "gfx1100",
    "gfx1151",
    "gfx1200",
    "gfx1201",
    "gfx90a",
    "gfx942",
    "gfx950",
    "sm_80",
    "sm_90",
];

/// Names that [`target`] knows: the CPU.
#[cfg(not(feature = "hip"))]
pub const TARGETS: &[&str] = &["cpu", "cpu-mapped"];

/// This machine's processor.
fn this_cpu(threads: usize) -> CpuTarget {
    CpuTarget::of_level(threads, Level::best())
}

/// The target of a name; `threads` matter to the CPU, which is this machine's.
pub fn target(name: &str, threads: usize) -> Option<Box<dyn Target>> {
    match name {
        "cpu-mapped" => Some(Box::new(CpuTarget { repack: false, ..this_cpu(threads) })),
        "cpu" => Some(Box::new(this_cpu(threads))),
        #[cfg(feature = "hip")]
        _ => HipTarget::of(name).map(|target| Box::new(target) as Box<dyn Target>),
        #[cfg(not(feature = "hip"))]
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_targets() {
        for &name in TARGETS {
            assert_eq!(target(name, 1).unwrap().name(), name);
        }
        assert!(target("abacus", 1).is_none());
    }
}
