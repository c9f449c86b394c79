//! [`CpuWeights`]: weights packed for the matmul kernels; rows for `get_rows` stay in the mapped file.

use super::simd::memory::AlignedBuf;
use super::simd::packed::{PackError, PackedMatrix};
use crate::backends::{BackendError, WeightSource, Weights};
use crate::graph::plan::WeightSlot;
use crate::tensor::Bounds;
use std::collections::HashMap;
use std::sync::Arc;

/// One weight in the forms that its uses need.
#[derive(Default)]
pub(crate) struct CpuWeight {
    /// For `qmatmul`.
    pub packed: Option<PackedMatrix>,
    /// For ops that read its elements.
    pub direct: Option<AlignedBuf>,
}

/// All weights of a model.
pub(crate) struct CpuWeights {
    weights: HashMap<String, CpuWeight>,
    source: Arc<dyn WeightSource>,
}

impl CpuWeights {
    /// Packs and copies what the slots' uses need.
    pub fn load(
        slots: &[WeightSlot],
        source: Arc<dyn WeightSource>,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<CpuWeights, BackendError> {
        let mut weights = HashMap::new();
        let mut done = 0;
        for slot in slots {
            let error = |reason: &str| BackendError::Weight { name: slot.name.clone(), reason: reason.to_string() };
            let bounds = Bounds { t: 1, s: 1, r: 1 };
            let bytes = source.bytes(&slot.name).ok_or_else(|| error("it is not in the file"))?;
            if Some(bytes.len()) != slot.ty.bytes(&bounds) {
                return Err(error("its size is not what its type says"));
            }
            let mut weight = CpuWeight::default();
            let [k, rows, ..] = slot.ty.shape.eval(&bounds);
            if slot.matmul {
                weight.packed = Some(PackedMatrix::pack(slot.ty.dtype, rows, k, bytes).map_err(|e| match e {
                    PackError::Alloc(e) => out_of_memory(&slot.name, e.bytes),
                    e => error(&e.to_string()),
                })?);
            }
            if slot.direct {
                let mut copy = AlignedBuf::zeroed(bytes.len()).map_err(|e| out_of_memory(&slot.name, e.bytes))?;
                copy.as_mut_slice().copy_from_slice(bytes);
                weight.direct = Some(copy);
            }
            weights.insert(slot.name.clone(), weight);
            if !slot.rows {
                source.release(&slot.name);
            }
            done += bytes.len() as u64;
            if !progress(done) {
                return Err(BackendError::Cancelled);
            }
        }
        Ok(CpuWeights { weights, source })
    }

    /// A loaded weight.
    pub fn get(&self, name: &str) -> Option<&CpuWeight> {
        self.weights.get(name)
    }

    /// A weight's bytes as the file stores them.
    pub fn file_bytes(&self, name: &str) -> Option<&[u8]> {
        self.source.bytes(name)
    }
}

impl Weights for CpuWeights {
    fn allocated(&self) -> usize {
        let of = |w: &CpuWeight| {
            w.packed.as_ref().map_or(0, PackedMatrix::bytes) + w.direct.as_ref().map_or(0, AlignedBuf::len)
        };
        self.weights.values().map(of).sum()
    }
}

fn out_of_memory(name: &str, bytes: usize) -> BackendError {
    BackendError::OutOfMemory { purpose: format!("weight \"{name}\""), bytes }
}
