//! Graphs and plans for people and other programs: listings, diffs, explanations, JSON, pictures, a page.
//!
//! Everything here is text made from data; nothing is read or printed.

mod diff;
#[cfg(feature = "cli")]
pub mod document;
pub mod dot;
pub mod explain;
mod fold;
#[cfg(feature = "cli")]
pub mod html;
mod kind;
pub mod layout;
pub mod listing;
pub mod measured;
pub mod picture;
mod stages;
pub mod summary;
pub mod svg;
pub mod units;

pub use diff::diff;
pub use fold::{Fold, Layers, Run, layer_of_label};
pub use kind::Kind;
pub use measured::{Measured, MeasuredStep};
pub use stages::{Stage, Stages};
