//! [`CpuTarget`]: what plans for a processor are made for. Pure data, the same on every machine.

use super::simd::packed::{activation_type, is_supported};
use super::simd::steps;
use super::weights;
use crate::graph::passes::Capabilities;
use crate::graph::plan::{Plan, Target, WeightMemory, WeightSlot};
use crate::tensor::DType;

/// A processor with a number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTarget {
    /// Threads that run a program.
    pub threads: usize,
    /// Whether weights are copied into the order in which kernels read them. If not, they stay in the mapped file and are brought into that
    /// order as they are used: slower, and no memory but the file's pages. The results are the same, bit for bit.
    pub repack: bool,
}

impl CpuTarget {
    /// A processor that repacks weights.
    pub fn new(threads: usize) -> CpuTarget {
        CpuTarget { threads, repack: true }
    }
}

impl Capabilities for CpuTarget {
    fn activation_type(&self, weight: DType, k: usize, _: usize) -> DType {
        if is_supported(weight) { activation_type(weight, k) } else { DType::F32 }
    }
}

impl Target for CpuTarget {
    fn name(&self) -> &str {
        if self.repack { "cpu" } else { "cpu-mapped" }
    }

    fn alignment(&self) -> usize {
        64
    }

    fn weight_memory(&self, weight: &WeightSlot) -> WeightMemory {
        weights::memory(weight, self.repack)
    }

    fn scratch_bytes(&self, plan: &Plan) -> usize {
        let (each, shared) = steps::scratch_sizes(&plan.steps, &plan.bounds, self.threads, self.repack);
        each * self.threads + shared
    }
}
