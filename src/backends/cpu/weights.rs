//! [`CpuWeights`]: weights packed for the matmul kernels; rows for `get_rows` stay in the mapped file, and without repacking all
//! matrices do.
//!
//! Weights are read in parts of some megabytes. While the threads pack one, the system fetches the next from the disk; the pages of
//! the one before are given back. So loading takes the memory of the packed weights and of one part.

use super::simd::memory::{AlignedBuf, AllocError, Slab};
use super::simd::packed::{PANEL_ROWS, PackError, PackedMatrix, packed_bytes};
use super::simd::pool::Pool;
use crate::backends::{BackendError, WeightSource, Weights};
use crate::graph::plan::{WeightMemory, WeightSlot};
use crate::tensor::Bounds;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a file that are packed at a time.
const PART: usize = 8 << 20;

/// Weights have no symbolic sizes.
const NO_SYMBOLS: Bounds = Bounds { t: 1, s: 1, r: 1 };

/// Memory that a weight takes.
pub(super) fn memory(slot: &WeightSlot, repack: bool) -> WeightMemory {
    let [k, rows, ..] = slot.ty.shape.eval(&NO_SYMBOLS);
    let bytes = slot.ty.bytes(&NO_SYMBOLS).unwrap_or(0);
    let packed = if slot.matmul && repack { packed_bytes(slot.ty.dtype, rows, k).unwrap_or(0) } else { 0 };
    let copied = if slot.direct { bytes } else { 0 };
    let in_place = slot.rows || (slot.matmul && !repack);
    WeightMemory { allocated: packed + copied, mapped: if in_place { bytes } else { 0 } }
}

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
    /// Packs and copies what the slots' uses need; without `repack` matrices stay in the source.
    pub fn load(
        slots: &[WeightSlot],
        source: Arc<dyn WeightSource>,
        repack: bool,
        pool: &Mutex<Pool>,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<CpuWeights, BackendError> {
        let sizes = slots.iter().map(|slot| memory(slot, repack).allocated);
        let slab = Slab::new(sizes).map_err(|e| out_of_memory("all weights", &e))?;
        let mut loader = Loader { source: &source, repack, pool, slab, done: 0, progress };
        let mut weights = HashMap::new();
        for (i, slot) in slots.iter().enumerate() {
            let weight = loader.load(slot, slots.get(i + 1))?;
            weights.insert(slot.name.clone(), weight);
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

struct Loader<'a> {
    source: &'a Arc<dyn WeightSource>,
    repack: bool,
    /// Locked for a part only: `progress` may run something on the same threads.
    pool: &'a Mutex<Pool>,
    slab: Slab,
    /// Bytes of the source that are ready.
    done: u64,
    progress: &'a mut dyn FnMut(u64) -> bool,
}

impl Loader<'_> {
    /// Loads a weight, while the system fetches the beginning of `next`.
    fn load(&mut self, slot: &WeightSlot, next: Option<&WeightSlot>) -> Result<CpuWeight, BackendError> {
        let error = |reason: &str| BackendError::Weight { name: slot.name.clone(), reason: reason.to_string() };
        let source = self.source;
        let bytes = source.bytes(&slot.name).ok_or_else(|| error("it is not in the file"))?;
        if Some(bytes.len()) != slot.ty.bytes(&NO_SYMBOLS) {
            return Err(error("its size is not what its type says"));
        }
        let mut weight = CpuWeight::default();
        if slot.direct {
            let copy = self.slab.take(bytes.len()).map_err(|e| out_of_memory(&slot.name, &e))?;
            weight.direct.insert(copy).as_mut_slice().copy_from_slice(bytes);
        }
        if slot.matmul {
            let packed = self.matrix(slot, bytes, next).map_err(|e| match e {
                PackError::Alloc(e) => out_of_memory(&slot.name, &e),
                e => error(&e.to_string()),
            })?;
            weight.packed = Some(packed.ok_or(BackendError::Cancelled)?);
        } else {
            source.release(&slot.name, 0..bytes.len());
            self.tell(bytes.len())?;
        }
        Ok(weight)
    }

    /// The matrix of a weight; `None` if loading was cancelled.
    fn matrix(
        &mut self,
        slot: &WeightSlot,
        bytes: &[u8],
        next: Option<&WeightSlot>,
    ) -> Result<Option<PackedMatrix>, PackError> {
        let [k, rows, ..] = slot.ty.shape.eval(&NO_SYMBOLS);
        if !self.repack {
            let matrix = PackedMatrix::in_place(slot.ty.dtype, rows, k, Arc::clone(self.source), &slot.name)?;
            return Ok(self.tell(bytes.len()).is_ok().then_some(matrix));
        }
        let mut matrix = PackedMatrix::zeroed_in(&mut self.slab, slot.ty.dtype, rows, k)?;
        let panel = PANEL_ROWS * matrix.row_bytes();
        let part = panel * (PART / panel.max(1)).max(1);
        for (i, piece) in bytes.chunks(part.max(1)).enumerate() {
            let range = i * part..i * part + piece.len();
            self.prefetch(slot, bytes.len(), range.end..range.end + part, next);
            let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
            matrix.pack_panels(range.start / panel.max(1), piece, Some(&pool))?;
            drop(pool);
            self.source.release(&slot.name, range);
            if self.tell(piece.len()).is_err() {
                return Ok(None);
            }
        }
        Ok(Some(matrix))
    }

    /// Has a part of a weight fetched; the beginning of the next one where this one of `len` bytes ends.
    fn prefetch(&self, slot: &WeightSlot, len: usize, part: Range<usize>, next: Option<&WeightSlot>) {
        if part.start < len {
            self.source.prefetch(&slot.name, part);
        } else if let Some(next) = next {
            self.source.prefetch(&next.name, 0..PART);
        }
    }

    fn tell(&mut self, bytes: usize) -> Result<(), BackendError> {
        self.done += bytes as u64;
        if (self.progress)(self.done) { Ok(()) } else { Err(BackendError::Cancelled) }
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

fn out_of_memory(name: &str, error: &AllocError) -> BackendError {
    BackendError::OutOfMemory { purpose: format!("weight \"{name}\""), bytes: error.bytes }
}
