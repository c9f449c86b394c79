//! Element types, shapes and quantized block formats. Depends on nothing else in the crate.

mod dtype;
mod host;
pub mod quant;
mod shape;

pub use dtype::DType;
pub use host::HostTensor;
pub use shape::{Bounds, Dim, Shape, Sym};
