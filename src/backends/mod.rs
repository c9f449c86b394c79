//! What runs a plan: the [`Backend`] and [`Program`] traits and their implementations.
//!
//! Lowering is the capability test: there is no second list of what a backend supports.

pub mod cpu;
#[cfg(feature = "hip")]
pub mod hip;
pub mod null;

use crate::graph::plan::{MemoryBill, Plan, Target, WeightSlot};
use crate::tensor::Bounds;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Where a backend gets the bytes of weights from.
pub trait WeightSource: Send + Sync {
    /// The bytes of the weight of this name, as the file stores them.
    fn bytes(&self, name: &str) -> Option<&[u8]>;

    /// Tells that a weight was copied and its bytes are not needed soon; they can still be read.
    fn release(&self, _name: &str) {}
}

/// Weights in the form that a backend's kernels read.
pub trait Weights: Any + Send + Sync {
    /// Bytes allocated.
    fn allocated(&self) -> usize;
}

/// Weights that programs share.
pub type LoadedWeights = Arc<dyn Weights>;

/// States (KV caches) of one session.
pub trait States: Send {
    /// Bytes allocated.
    fn bytes(&self) -> usize;
    /// Overwrites state `index` (in the plan's order) from its start on: restores a saved cache.
    fn write(&mut self, index: usize, values: &[u8]) -> Result<(), BackendError>;
    /// For the backend that made it.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// Something that runs plans.
pub trait Backend: Send + Sync {
    /// What plans for it are made for.
    fn target(&self) -> &dyn Target;

    /// Prepares weights. `progress` gets the bytes of the file that are done; it returns `false` to cancel.
    fn load(
        &self,
        weights: &[WeightSlot],
        source: Arc<dyn WeightSource>,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<LoadedWeights, BackendError>;

    /// Allocates the states of a plan, all zeros.
    fn states(&self, plan: &Plan) -> Result<Box<dyn States>, BackendError>;

    /// A program for a plan, or the node that it cannot run.
    fn lower(&self, plan: &Plan, weights: &LoadedWeights) -> Result<Box<dyn Program>, BackendError>;
}

/// A lowered plan.
pub trait Program: Send {
    /// Binds input `index` (in the plan's order) to values. Inputs share the arena with what a run computes: bind them before each run.
    fn set_input(&mut self, index: usize, values: &[u8]) -> Result<(), BackendError>;

    /// Runs all steps once with `bounds`, each at most the plan's. `cancel` is looked at between steps.
    fn run(&mut self, states: &mut dyn States, bounds: &Bounds, cancel: &AtomicBool) -> Result<(), BackendError>;

    /// The f32 values of output `index` (in the plan's order) of the last run.
    fn output(&self, index: usize) -> &[f32];

    /// The bytes it allocated: arena and scratch.
    fn allocated(&self) -> MemoryBill;

    /// Turns the timing of steps on or off. While it is on, every step waits for the one before it.
    fn set_profiling(&mut self, _on: bool) {}

    /// How long each step of the last run took; empty without profiling.
    fn step_times(&self) -> Vec<Duration> {
        Vec::new()
    }
}

/// Why a backend cannot prepare or run a plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Not enough memory.
    #[error("{purpose}: could not allocate {bytes} bytes; a smaller context or a smaller model needs less")]
    OutOfMemory {
        /// What the memory was for.
        purpose: String,
        /// How much.
        bytes: usize,
    },
    /// A weight that the source does not have, or not in the plan's size.
    #[error("weight \"{name}\": {reason}")]
    Weight {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A node that the backend cannot run.
    #[error("{backend} cannot run {node}: {reason}")]
    Unsupported {
        /// The backend.
        backend: String,
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// An input that does not fit its plan.
    #[error("input \"{name}\": {reason}")]
    Input {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// An index in an input's values that is out of range.
    #[error("{node}: index {index} is out of range")]
    Index {
        /// The node that used it.
        node: String,
        /// The index.
        index: i64,
    },
    /// Weights or states of another backend or plan.
    #[error("these {0} were not made for this program")]
    Foreign(&'static str),
    /// Threads could not be started.
    #[error("could not start worker threads: {0}")]
    Threads(String),
    /// A step failed: a user's op, or a defect.
    #[error("{node}: {reason}")]
    Step {
        /// The node.
        node: String,
        /// What happened.
        reason: String,
    },
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
}
