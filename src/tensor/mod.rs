//! Element types, shapes and quantized block formats. Depends on nothing else in the crate.

mod dtype;
pub mod quant;
mod shape;

pub use dtype::DType;
pub use shape::{Bounds, Dim, Shape, Sym};
