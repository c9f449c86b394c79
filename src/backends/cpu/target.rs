//! [`CpuTarget`]: what plans for a processor are made for. Pure data, the same on every machine.

use super::simd::packed::{activation_type, is_supported, packed_bytes};
use super::simd::steps;
use crate::graph::passes::Capabilities;
use crate::graph::plan::{Plan, Target, WeightMemory, WeightSlot};
use crate::tensor::{Bounds, DType};

/// A processor with a number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTarget {
    /// Threads that run a program.
    pub threads: usize,
}

impl Capabilities for CpuTarget {
    fn activation_type(&self, weight: DType, k: usize, _: usize) -> DType {
        if is_supported(weight) { activation_type(weight, k) } else { DType::F32 }
    }
}

impl Target for CpuTarget {
    fn name(&self) -> &str {
        "cpu"
    }

    fn alignment(&self) -> usize {
        64
    }

    fn weight_memory(&self, weight: &WeightSlot) -> WeightMemory {
        let [k, rows, ..] = weight.ty.shape.eval(&NO_SYMBOLS);
        let bytes = weight.ty.bytes(&NO_SYMBOLS).unwrap_or(0);
        let packed = if weight.matmul { packed_bytes(weight.ty.dtype, rows, k).unwrap_or(0) } else { 0 };
        let copied = if weight.direct { bytes } else { 0 };
        WeightMemory { allocated: packed + copied, mapped: if weight.rows { bytes } else { 0 } }
    }

    fn scratch_bytes(&self, plan: &Plan) -> usize {
        let (each, shared) = steps::scratch_sizes(&plan.steps, &plan.bounds, self.threads);
        each * self.threads + shared
    }
}

/// Weights have no symbolic sizes.
const NO_SYMBOLS: Bounds = Bounds { t: 1, s: 1, r: 1 };
