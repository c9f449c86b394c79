//! [`Kernels`]: the device code of a device, loaded file by file when a step first needs it.

use super::ffi::{Device, Function, GpuError, Module};
use super::launch::Kernel;
use super::objects;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Loaded device code.
pub(crate) struct Kernels {
    device: Arc<Device>,
    /// The target whose objects the device runs.
    target: &'static str,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, Arc<Module>>,
    functions: HashMap<Kernel, Arc<Function>>,
}

impl Kernels {
    /// For a device that runs the objects of `target`.
    pub fn new(device: Arc<Device>, target: &'static str) -> Kernels {
        Kernels { device, target, loaded: Mutex::default() }
    }

    /// A kernel.
    ///
    /// # Errors
    /// If the library has no object of its file for the device, or the driver refuses it.
    pub fn get(&self, kernel: Kernel) -> Result<Arc<Function>, GpuError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.functions.get(&kernel) {
            return Ok(Arc::clone(function));
        }
        let module = match loaded.modules.get(kernel.file) {
            Some(module) => Arc::clone(module),
            None => {
                let image = objects::object(kernel.file, self.target).ok_or_else(|| {
                    let reason = format!("this build has no device code of {}.hip for {}", kernel.file, self.target);
                    GpuError::refused(&format!("loading {}", kernel.name), reason)
                })?;
                let module = Module::load(&self.device, &image)?;
                loaded.modules.insert(kernel.file, Arc::clone(&module));
                module
            }
        };
        let function = Arc::new(module.function(kernel.name)?);
        loaded.functions.insert(kernel, Arc::clone(&function));
        Ok(function)
    }
}
