//! The plan: pure data that says how a graph will run. Steps in order, buffers with lifetimes and arena offsets, aliases,
//! in-place reuse, bytes and flops per step, the decision log of the passes, and the memory bill.
//!
//! What a plan predicts is what a program allocates, byte for byte.

mod arena;
mod bill;
mod build;
mod check;
mod layout;
mod print;

pub use bill::MemoryBill;
pub use build::{PlanError, plan};
pub use check::{CheckError, check};
pub use layout::{Layout, Monomial};
pub use print::print;

use super::passes::{Capabilities, Decision};
use super::{NodeId, Value};
use crate::ops::{Op, TensorType};
use crate::tensor::Bounds;
use smallvec::SmallVec;
use std::fmt;

/// What a plan is made for. Backends implement it; it is pure data about a machine, no device is needed.
pub trait Target: Capabilities {
    /// A name, e.g. `cpu`.
    fn name(&self) -> &str;
    /// Alignment of buffers in the arena, in bytes; a power of two.
    fn alignment(&self) -> usize;
    /// Memory that a weight takes with these uses.
    fn weight_memory(&self, weight: &WeightSlot) -> WeightMemory;
    /// Bytes of scratch memory that running the steps takes beside the arena.
    fn scratch_bytes(&self, plan: &Plan) -> usize;
}

/// Memory that a weight takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightMemory {
    /// Bytes allocated for it.
    pub allocated: usize,
    /// Bytes of the mapped file that are read while running.
    pub mapped: usize,
}

macro_rules! plan_id {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// As an index.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }
    };
}

plan_id!(
    /// A buffer of the arena, printed `b3`.
    BufferId,
    "b"
);
plan_id!(
    /// A weight, printed `w3`.
    WeightId,
    "w"
);
plan_id!(
    /// A state, printed `k3`.
    StateId,
    "k"
);

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In a buffer of the arena.
    Arena(BufferId),
    /// In a weight.
    Weight(WeightId),
    /// In a state.
    State(StateId),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Arena(b) => b.fmt(f),
            Place::Weight(w) => w.fmt(f),
            Place::State(s) => s.fmt(f),
        }
    }
}

/// A value as a step reads or writes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// The value in the graph.
    pub value: Value,
    /// Where it lies.
    pub place: Place,
    /// Its type.
    pub ty: TensorType,
    /// Where its elements lie within the place.
    pub layout: Layout,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The node it computes.
    pub node: NodeId,
    /// The node's label.
    pub label: Option<String>,
    /// What it does.
    pub op: Op,
    /// What it reads.
    pub operands: SmallVec<[Operand; 6]>,
    /// What it writes.
    pub results: SmallVec<[Operand; 1]>,
    /// The operand whose buffer the first result took over.
    pub in_place: Option<usize>,
    /// Bytes read at the plan's bounds.
    pub bytes_read: u64,
    /// Bytes written at the plan's bounds.
    pub bytes_written: u64,
    /// Floating-point operations at the plan's bounds.
    pub flops: u64,
}

impl Step {
    /// How messages call it.
    pub fn describe(&self) -> String {
        match &self.label {
            Some(label) => format!("{} \"{label}\"", self.node),
            None => format!("{} ({})", self.node, self.op.name()),
        }
    }
}

/// A buffer of the arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Bytes at the plan's bounds.
    pub bytes: usize,
    /// Offset in the arena.
    pub offset: usize,
    /// The step that writes it first; 0 for inputs.
    pub first: usize,
    /// The last step that reads it; the number of steps for outputs.
    pub last: usize,
    /// The value it was made for.
    pub value: Value,
}

/// A weight that steps read.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightSlot {
    /// Its name in the file.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
    /// Whether a `qmatmul` multiplies by it.
    pub matmul: bool,
    /// Whether a `get_rows` takes rows of it.
    pub rows: bool,
    /// Whether anything else reads its elements.
    pub direct: bool,
}

/// A state that steps read and write.
#[derive(Clone, Debug, PartialEq)]
pub struct StateSlot {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
    /// Bytes at the plan's bounds.
    pub bytes: usize,
}

/// A named value that a run binds or returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The value.
    pub operand: Operand,
}

/// The arena and how good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arena {
    /// Its size.
    pub bytes: usize,
    /// The largest sum of bytes that live at once: no arena can be smaller.
    pub lower_bound: usize,
    /// Alignment of its buffers.
    pub alignment: usize,
}

/// How a graph will run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The graph's name.
    pub name: String,
    /// The target's name.
    pub target: String,
    /// The largest values of the symbols.
    pub bounds: Bounds,
    /// What runs, in order.
    pub steps: Vec<Step>,
    /// Buffers of the arena.
    pub buffers: Vec<Buffer>,
    /// The arena.
    pub arena: Arena,
    /// Weights.
    pub weights: Vec<WeightSlot>,
    /// States.
    pub states: Vec<StateSlot>,
    /// Inputs.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
    /// What the passes decided.
    pub decisions: Vec<Decision>,
    /// The memory that running takes.
    pub bill: MemoryBill,
}
