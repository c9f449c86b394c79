//! The programs: one file a subcommand, its arguments beside its behaviour. The binaries in `src/bin/` parse and dispatch.
//!
//! Texts and data go to stdout, everything else to stderr. A [`Failure`] becomes one `error:` line and a `hint:` line.
//! This module is compiled with the feature `cli` only and is no part of the library's interface.

pub mod args;
pub mod bench;
pub mod detokenize;
pub mod devices;
mod failure;
mod format;
pub mod generate;
pub mod graph_dump;
pub mod inspect;
mod interrupt;
mod io;
pub mod logits;
pub mod perplexity;
mod profile;
mod progress;
pub mod quantize;
pub mod sampling;
mod source;
pub mod synthetic;
pub mod tokenize;
pub mod verify;

pub use failure::{Failure, finish, parse};
