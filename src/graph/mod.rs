//! The graph of a model: ids, nodes and edges, builder, text form, verifier, interpreter, passes, planner.

mod builder;
#[allow(clippy::module_inception)]
mod graph;
mod ids;
mod interpret;
pub mod passes;
pub mod plan;
pub mod text;
mod verify;
pub mod view;

pub use builder::{BuildError, Builder};
pub use graph::{EditError, Graph, Node};
pub use ids::{NodeId, Value};
pub use interpret::{InterpretError, Interpreter, Values, WeightValues};
pub use verify::{VerifyError, verify};
