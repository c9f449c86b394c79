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
    /// Of a session, which has programs for prefill and decode: weights and caches once, arenas and scratch of both.
    pub fn of_session(prefill: &MemoryBill, decode: &MemoryBill) -> MemoryBill {
        MemoryBill {
            arena: prefill.arena.saturating_add(decode.arena),
            scratch: prefill.scratch.saturating_add(decode.scratch),
            ..*decode
        }
    }

    /// Of two devices together.
    pub fn plus(&self, other: &MemoryBill) -> MemoryBill {
        MemoryBill {
            weights: self.weights.saturating_add(other.weights),
            mapped: self.mapped.saturating_add(other.mapped),
            kv: self.kv.saturating_add(other.kv),
            arena: self.arena.saturating_add(other.arena),
            scratch: self.scratch.saturating_add(other.scratch),
        }
    }

    /// All that is allocated; mapped pages belong to the file and can be dropped by the system.
    pub fn allocated(&self) -> usize {
        self.weights + self.kv + self.arena + self.scratch
    }
}
