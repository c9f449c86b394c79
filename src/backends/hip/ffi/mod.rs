//! The only place of the HIP backend with `unsafe`: the driver behind safe owners.
//!
//! Three layers. `sys` holds tables of function pointers with AMD's names and signatures, filled at run time from AMD's HIP
//! runtime or, with the same signatures, from NVIDIA's driver. `Runtime::check` turns what they answer into [`GpuError`]. The
//! owners ([`Device`], [`Buffer`], [`Pinned`], [`Stream`], [`Event`], [`Staging`], [`Module`], [`Graph`], [`Blas`]) free what they hold
//! when dropped, after the work that uses it. `gate` keeps captures apart from whatever else the process makes and frees.
//!
//! What safe callers cannot do: reach host memory that a copy in flight reads or writes, free memory or code under work that
//! was submitted, mix devices. What they can do, because a device address is a number: launch a kernel with wrong arguments.
//! Launches are made in `steps/` only, by functions that are tested against the references, and see no host address.

#![allow(unsafe_code)]

mod blas;
mod device;
mod error;
mod event;
mod gate;
mod graph;
mod library;
mod memory;
mod module;
mod runtime;
mod staging;
mod stream;
mod sys;
#[cfg(test)]
mod tests;

#[cfg(test)]
#[path = "../../../../tests/support/emulator.rs"]
#[allow(dead_code)]
pub(crate) mod emulator;

pub(crate) use blas::{Blas, GemmF16};
pub(crate) use device::{Device, DeviceInfo};
pub(crate) use error::GpuError;
pub(crate) use event::Event;
pub(crate) use graph::Graph;
pub(crate) use memory::{Buffer, Pinned};
pub(crate) use module::{Function, Module};
pub(crate) use runtime::Runtime;
pub(crate) use staging::Staging;
pub(crate) use stream::Stream;

/// A handle of the driver: a stream, an event, a module.
#[derive(Clone, Copy, Debug)]
struct Handle(*mut std::ffi::c_void);

// SAFETY: a handle is a name that the driver looks up. It is not dereferenced here, and the driver's functions that take one may be called
// from any thread, at the same time.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}
