//! A compute-graph runtime for language models.
//!
//! A model is written as a graph of plain ops, passes fuse it, a planner computes buffer lifetimes and one arena, and a
//! backend lowers the plan. `ARCHITECTURE.md` has the map.
//!
//! The library never prints, never exits, never panics on a user's input and holds no global state. (The module `cli`, which
//! only the feature `cli` compiles, is the programs.)

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod backends;
#[cfg(feature = "cli")]
pub mod cli;
pub mod engine;
pub mod graph;
pub mod models;
pub mod ops;
pub mod tensor;
pub mod text;
