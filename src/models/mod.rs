//! From a file to a graph: GGUF, the weight map, and one file an architecture.

pub mod gguf;
