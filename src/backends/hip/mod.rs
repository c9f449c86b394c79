//! The HIP backend: plans as kernel launches on AMD devices, and with the same kernels on NVIDIA's.
//!
//! `target` and `steps` are pure: what a plan will launch is known without a device. `ffi` is the driver behind safe owners.

mod arch;
mod devices;
mod ffi;
mod gemm_choice;
mod kernels;
mod launch;
mod objects;
mod planes;
mod program;
mod raw;
mod states;
mod steps;
mod target;
mod upload;
mod view;
mod weights;

pub use arch::Arch;
pub use devices::{Gpu, gpus};
pub use target::HipTarget;

use super::{Backend, BackendError, DeviceInfo, DeviceMemory, LoadedWeights, Program, States, WeightSource};
use crate::graph::plan::{Plan, Target, WeightSlot};
use ffi::{Blas, Device, GpuError, Runtime, Stream};
use kernels::Kernels;
use program::HipProgram;
use states::HipStates;
use std::any::Any;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use weights::HipWeights;

/// Runs plans on a GPU.
#[derive(Clone)]
pub struct HipBackend {
    target: HipTarget,
    arch: Arc<Arch>,
    kernels: Arc<Kernels>,
    blas: Arc<Mutex<Option<Blas>>>,
    stream: Arc<Stream>,
    turn: Turn,
}

/// Programs of a backend share its stream and take turns: what one captures must not have another's work in it. Nobody holds it while
/// a caller's function runs.
#[derive(Clone, Default)]
struct Turn(Arc<Mutex<()>>);

impl Turn {
    fn take(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HipBackend {
    /// Opens a GPU: the one with this number among all that the drivers of this machine list, or the first.
    ///
    /// # Errors
    /// [`BackendError::NoDevice`] that says what is missing: a driver, a device, or device code for it in this build.
    pub fn open(ordinal: Option<usize>) -> Result<HipBackend, BackendError> {
        let mut reasons = Vec::new();
        let (mut before, mut present) = (0, false);
        for runtime in Runtime::open() {
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    present |= !matches!(error, GpuError::LibraryMissing { .. });
                    reasons.push(error.to_string());
                    continue;
                }
            };
            let count = runtime.device_count();
            let wanted = ordinal.unwrap_or(before);
            if wanted >= before && wanted < before + count {
                let device = Device::open(&runtime, wanted - before).map_err(|e| run_error("opening a GPU", e))?;
                return HipBackend::on(device);
            }
            present |= count > 0;
            before += count;
        }
        if before > 0 {
            let last = before - 1;
            reasons.push(format!("there is no GPU {}; they are numbered 0 to {last}", ordinal.unwrap_or(0)));
        }
        Err(BackendError::NoDevice { reason: reasons.join("; "), present })
    }

    /// Opens the first device of a HIP library, e.g. of the emulator that tests use.
    ///
    /// # Errors
    /// As [`HipBackend::open`].
    pub fn open_library(path: &Path) -> Result<HipBackend, BackendError> {
        let runtime = Runtime::open_library(path).map_err(|e| run_error("opening a HIP library", e))?;
        HipBackend::on(Device::open(&runtime, 0).map_err(|e| run_error("opening a GPU", e))?)
    }

    fn on(device: Arc<Device>) -> Result<HipBackend, BackendError> {
        let info = device.info();
        let failed = |reason| BackendError::NoDevice { reason: format!("{}: {reason}", info.name), present: true };
        let objects = objects::resolve(&info.arch).map_err(failed)?;
        let mut arch =
            Arch::of_device(&info.arch, objects, info.wave, info.units, info.lds_per_block).map_err(failed)?;
        let stream = Stream::new(&device).map_err(|e| run_error("opening a GPU", e))?;
        // Without the library products run on the kernels of this crate.
        let blas = if gemm_choice::wants_library(&arch) { Blas::open(&stream).ok() } else { None };
        arch.blas = blas.is_some();
        Ok(HipBackend {
            blas: Arc::new(Mutex::new(blas)),
            target: HipTarget::new(arch.clone()),
            arch: Arc::new(arch),
            kernels: Arc::new(Kernels::new(device, objects)),
            stream: Arc::new(stream),
            turn: Turn::default(),
        })
    }

    /// The GPU.
    fn info(&self) -> &ffi::DeviceInfo {
        self.stream.device().info()
    }
}

impl Backend for HipBackend {
    fn device(&self) -> DeviceInfo {
        let info = self.info();
        DeviceInfo { id: info.arch.clone(), name: info.name.clone(), threads: 0 }
    }

    fn memory(&self) -> Option<DeviceMemory> {
        let (free, total) = self.stream.device().memory().ok()?;
        Some(DeviceMemory { free, total })
    }

    fn target(&self) -> &dyn Target {
        &self.target
    }

    fn load(
        &self,
        weights: &[WeightSlot],
        source: Arc<dyn WeightSource>,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<LoadedWeights, BackendError> {
        Ok(Arc::new(HipWeights::load(self.stream.device(), weights, &*source, progress)?))
    }

    fn states(&self, plan: &Plan) -> Result<Box<dyn States>, BackendError> {
        Ok(Box::new(HipStates::new(&self.stream, &self.turn, plan)?))
    }

    fn lower(&self, plan: &Plan, weights: &LoadedWeights) -> Result<Box<dyn Program>, BackendError> {
        let weights: Arc<dyn Any + Send + Sync> = Arc::clone(weights) as _;
        let weights = weights.downcast::<HipWeights>().map_err(|_| BackendError::Foreign("weights"))?;
        Ok(Box::new(HipProgram::new(plan, weights, &self.arch, &self.kernels, &self.blas, &self.stream, &self.turn)?))
    }
}

/// An allocation that failed.
fn device_error(purpose: &str, bytes: usize, error: GpuError) -> BackendError {
    if error.is_out_of_memory() {
        return BackendError::OutOfMemory { purpose: format!("{purpose} (device memory)"), bytes };
    }
    run_error(purpose, error)
}

/// A call of the driver that failed.
fn run_error(doing: &str, error: GpuError) -> BackendError {
    let reason = error.to_string();
    match error {
        GpuError::Lost { call, .. } | GpuError::Call { call, .. } => {
            BackendError::Device { node: doing.to_string(), call: call.to_string(), reason }
        }
        _ => BackendError::Device { node: doing.to_string(), call: "the driver".to_string(), reason },
    }
}
