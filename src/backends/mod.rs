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
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Where a backend gets the bytes of weights from.
pub trait WeightSource: Send + Sync {
    /// The bytes of the weight of this name, as the file stores them.
    fn bytes(&self, name: &str) -> Option<&[u8]>;

    /// Tells that this part of a weight was copied and is not needed soon; it can still be read.
    fn release(&self, _name: &str, _part: Range<usize>) {}

    /// Tells that this part of a weight will be read next.
    fn prefetch(&self, _name: &str, _part: Range<usize>) {}
}

/// Weights in the form that a backend's kernels read.
pub trait Weights: Any + Send + Sync {
    /// Bytes allocated.
    fn allocated(&self) -> usize;

    /// Where the time of loading them went; `None` where that is not told apart.
    fn load_parts(&self) -> Option<LoadParts> {
        None
    }
}

/// Where the time of loading weights onto a device went. What threads do at the same time is their mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadParts {
    /// Allocating the device's memory.
    pub allocating: Duration,
    /// Reading weights and bringing them into the order of the kernels.
    pub packing: Duration,
    /// Waiting for copies to the device, which run beside packing: next to nothing where packing takes longer.
    pub copying: Duration,
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

/// What a backend runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// What `--device` takes: `cpu`, `gpu:0`.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Threads of the processor that run plans; 0 where a device does.
    pub threads: usize,
}

/// A device's own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Bytes that can be allocated now.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// How [`Program::decode_many`] chooses tokens: the sampler's chain without what needs the text so far. Bias, top-k, top-p and min-p in
/// this order, each on the softmax of what is left, at temperature 1; then a draw from the softmax at `temperature`.
///
/// The random numbers come from the host, one a token, so that a seed means the same draws everywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceSampling<'a> {
    /// Added to logits before anything else, −∞ forbids a token; ids in the vocabulary, each at most once.
    pub bias: &'a [(u32, f32)],
    /// 0 takes the largest logit, the smallest id among equals, and ignores what follows.
    pub temperature: f32,
    /// Keeps the k largest; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most probable tokens that together have at least this probability; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this times as probable as the most probable one; 0 keeps all.
    pub min_p: f32,
    /// A number in [0, 1) for each token to choose: with what is left in descending order of logits (then ascending ids), the first
    /// token is chosen whose cumulated probability is larger. Empty at temperature 0.
    pub draws: &'a [f64],
}

impl DeviceSampling<'_> {
    /// Always the largest logit.
    pub const GREEDY: DeviceSampling<'static> =
        DeviceSampling { bias: &[], temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, draws: &[] };
}

/// What [`Program::decode_many`] does.
#[derive(Clone, Copy, Debug)]
pub struct DecodeRun<'a> {
    /// The token that is evaluated first.
    pub token: u32,
    /// Its position, which is also its cache row: one sequence from row 0 on. The rows before it are filled.
    pub position: usize,
    /// Tokens to choose; `position + count` is at most the plan's bound of S.
    pub count: usize,
    /// How to choose them.
    pub sampling: DeviceSampling<'a>,
    /// Looked at between tokens.
    pub cancel: &'a AtomicBool,
}

/// Something that runs plans.
pub trait Backend: Send + Sync {
    /// What it runs on.
    fn device(&self) -> DeviceInfo {
        let name = self.target().name().to_string();
        DeviceInfo { id: name.clone(), name, threads: 0 }
    }

    /// The memory of its device; `None` where that is the processor's.
    fn memory(&self) -> Option<DeviceMemory> {
        None
    }

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

    /// Evaluates `run.token`, chooses the next token from its logits, evaluates that one, and so on, without work of the host in
    /// between: `each` gets the chosen tokens in their order, possibly while later ones are evaluated already, and returns `false` to
    /// stop. At most `run.count` tokens are chosen.
    ///
    /// `None`: this program or this sampling has no such run, and nothing has happened. Otherwise the number of tokens that `each`
    /// got, which is also the number of cache rows that are valid from `run.position` on; rows behind them may hold anything. Only
    /// for a plan with T = R = 1 and the inputs of a model's graph whose first output is the logits. No output is valid afterwards.
    ///
    /// A logit that is NaN or +∞ is an error, as is a row of logits that are all −∞. Cancelling ends the run as `false` from `each`
    /// does, without an error. What `each` got before an error is valid.
    fn decode_many(
        &mut self,
        _states: &mut dyn States,
        _run: &DecodeRun<'_>,
        _each: &mut dyn FnMut(u32) -> bool,
    ) -> Option<Result<usize, BackendError>> {
        None
    }

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
    /// There is no such device, or it cannot be used.
    #[error("{reason}")]
    NoDevice {
        /// What was looked for and why it does not serve.
        reason: String,
        /// Whether there is a GPU, or a library for one, that one could expect to be used.
        present: bool,
    },
    /// A call to a device failed: the device is lost, or there is a defect. What uses it can only be dropped.
    #[error("{node}: {call}: {reason}")]
    Device {
        /// What was being done: a node, a weight, the run.
        node: String,
        /// The call.
        call: String,
        /// What the driver says.
        reason: String,
    },
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
