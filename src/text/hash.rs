//! A fast keyed hash for the lookups that encoding does by the million. Seeds are random per table, so that a crafted
//! vocabulary cannot aim its collisions.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Builds [`FoldHasher`]s with one random seed pair.
#[derive(Clone, Debug)]
pub(super) struct FoldState {
    seed: u64,
    factor: u64,
}

impl FoldState {
    pub(super) fn new() -> FoldState {
        let random = RandomState::new();
        FoldState { seed: random.hash_one(0u8), factor: random.hash_one(1u8) | 1 }
    }

    /// The hash of a byte string.
    pub(super) fn hash_bytes(&self, bytes: &[u8]) -> u64 {
        let mut hash = self.seed ^ bytes.len() as u64;
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            hash = fold(hash ^ u64::from_le_bytes(*chunk), self.factor);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        fold(fold(hash ^ u64::from_le_bytes(last), self.factor), self.seed | 1)
    }
}

impl BuildHasher for FoldState {
    type Hasher = FoldHasher;
    fn build_hasher(&self) -> FoldHasher {
        FoldHasher { state: self.clone(), hash: self.seed }
    }
}

/// The low and the high half of the 128-bit product, folded together.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// A [`Hasher`] for `HashMap`s with [`FoldState`].
pub(super) struct FoldHasher {
    state: FoldState,
    hash: u64,
}

impl Hasher for FoldHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.hash = fold(self.hash ^ self.state.hash_bytes(bytes), self.state.factor);
    }
    fn write_u64(&mut self, value: u64) {
        self.hash = fold(self.hash ^ value, self.state.factor);
    }
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }
    fn finish(&self) -> u64 {
        fold(self.hash, self.state.seed | 1)
    }
}
