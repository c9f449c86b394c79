//! [`MemoryBill`]: the bytes that running a plan takes, known before a weight is read.

/// Bytes by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryBill {
    /// Allocated for weights (repacked copies).
    pub weights: usize,
    /// Of the mapped file, read while running.
    pub mapped: usize,
    /// KV caches.
    pub kv: usize,
    /// The arena.
    pub arena: usize,
    /// Scratch memory of the backend.
    pub scratch: usize,
}

impl MemoryBill {
    /// All that is allocated; mapped pages belong to the file and can be dropped by the system.
    pub fn allocated(&self) -> usize {
        self.weights + self.kv + self.arena + self.scratch
    }
}
