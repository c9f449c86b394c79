//! [`HipTarget`]: what plans for a device are made for. Pure data: no device is needed.

use super::arch::Arch;
use super::planes::{PlaneLayout, SHORTEST_ROW};
use super::{steps, weights};
use crate::graph::passes::Capabilities;
use crate::graph::plan::{Plan, Target, WeightMemory, WeightSlot};
use crate::tensor::DType;

/// A device by its architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HipTarget {
    arch: Arch,
}

/// Steps of at most so many tokens read weights as vectors products do; more go through matrix products.
pub(crate) const FEW_TOKENS: usize = 8;

impl HipTarget {
    /// The target of an architecture by the compiler's name for it, e.g. `gfx1100` or `sm_90`.
    pub fn of(name: &str) -> Option<HipTarget> {
        Arch::of(name).map(HipTarget::new)
    }

    pub(crate) fn new(arch: Arch) -> HipTarget {
        HipTarget { arch }
    }

    /// Its facts.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }
}

/// Whether products with such a weight read planes.
fn has_planes(weight: DType, k: usize) -> bool {
    PlaneLayout::of(weight, 1, k).is_some()
}

impl Capabilities for HipTarget {
    fn activation_type(&self, weight: DType, k: usize, tokens: usize) -> DType {
        let plain = matches!(weight, DType::F16 | DType::Bf16);
        // Matrix units take halves of any type but f32, whatever its form in memory.
        let blocks = weight != DType::F32 && k >= SHORTEST_ROW && k.is_multiple_of(32);
        match (has_planes(weight, k), tokens <= FEW_TOKENS) {
            (true, true) if !plain => DType::Q8A,
            (_, false) if blocks => DType::F16,
            _ => DType::F32,
        }
    }

    fn norm_in_matmul(&self, weight: DType, k: usize, tokens: usize) -> bool {
        has_planes(weight, k) && tokens <= FEW_TOKENS
    }

    fn rope_in_matmul(&self, weights: [DType; 3], caches: [DType; 2], k: usize, tokens: usize) -> bool {
        // The products of the 32 elements of a block come from as many waves of several blocks: rope_kv_append brings them together.
        let whole = caches.iter().all(|cache| cache.block_len() == 1);
        tokens <= FEW_TOKENS && whole && steps::qkv_rope_append::serves(weights, k, &self.arch)
    }
}

impl Target for HipTarget {
    fn name(&self) -> &str {
        &self.arch.name
    }

    fn alignment(&self) -> usize {
        256
    }

    fn weight_memory(&self, weight: &WeightSlot) -> WeightMemory {
        WeightMemory { allocated: weights::device_bytes(weight), mapped: 0 }
    }

    fn scratch_bytes(&self, plan: &Plan) -> usize {
        steps::Scratch::of(plan, &self.arch).bytes()
    }
}
