//! The targets that plans can be made for. No device is needed: a target is data.

use crate::backends::cpu::CpuTarget;
use crate::graph::plan::Target;

/// Names that [`target`] knows: the CPU, and GPUs as compilers call them.
pub const TARGETS: &[&str] = &["cpu"];

/// The target of a name; `threads` matter to the CPU.
pub fn target(name: &str, threads: usize) -> Option<Box<dyn Target>> {
    match name {
        "cpu" => Some(Box::new(CpuTarget { threads })),
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
