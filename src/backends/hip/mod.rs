//! The HIP backend: plans as kernel launches on AMD devices, and with the same kernels on NVIDIA's.

#![allow(dead_code)] // while it is put together

mod arch;
mod ffi;
mod gemm_choice;
mod launch;
mod raw;
mod steps;
mod view;
mod weights;

pub use arch::Arch;
