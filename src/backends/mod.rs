//! What runs a plan: the `Backend` and `Program` traits and their implementations.

pub mod cpu;
