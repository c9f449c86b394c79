//! [`CpuTarget`]: what plans for a processor are made for. Pure data, the same on every machine.

use super::simd::Level;
use super::simd::packed::{fast_activation_type, is_supported};
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
    /// Whether activations that are multiplied with weights of bf16 are rounded to bf16: what processors with dot products of bf16
    /// ([`Level::has_bf16_dots`]) do twice as fast as products of f32.
    pub bf16_dots: bool,
}

impl CpuTarget {
    /// A processor that repacks weights and multiplies weights of bf16 with activations of f32.
    pub fn new(threads: usize) -> CpuTarget {
        CpuTarget { threads, repack: true, bf16_dots: false }
    }

    /// A processor whose best level is `level`, which repacks weights.
    pub fn of_level(threads: usize, level: Level) -> CpuTarget {
        CpuTarget { bf16_dots: level.has_bf16_dots(), ..CpuTarget::new(threads) }
    }
}

impl Capabilities for CpuTarget {
    fn activation_type(&self, weight: DType, k: usize, _: usize) -> DType {
        if is_supported(weight) { fast_activation_type(self.bf16_dots, weight, k) } else { DType::F32 }
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
