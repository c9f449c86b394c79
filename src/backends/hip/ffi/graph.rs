//! [`Graph`]: work that was captured once and is submitted with one call.

use super::Handle;
use super::device::Device;
use super::error::GpuError;
use super::gate::making;
use super::memory::PinnedMemory;
use super::module::Module;
use std::sync::Arc;

/// Captured work. Its kernels' buffers must not be dropped before it: only their addresses are known here.
pub(crate) struct Graph {
    device: Arc<Device>,
    exec: Handle,
    pub(super) captured: Captured,
}

/// What captured work uses.
#[derive(Default)]
pub(super) struct Captured {
    /// Pinned memory, with whether it is written.
    pub host: Vec<(Arc<PinnedMemory>, bool)>,
    pub modules: Vec<Arc<Module>>,
}

impl Graph {
    /// Makes a captured graph ready to run; `raw` is used up.
    pub(super) fn new(device: &Arc<Device>, raw: *mut std::ffi::c_void, captured: Captured) -> Result<Graph, GpuError> {
        let driver = &device.runtime.driver;
        let mut exec = std::ptr::null_mut();
        let _making = making();
        // SAFETY: the graph was just captured; it writes one handle.
        let status = unsafe { (driver.hipGraphInstantiateWithFlags)(&mut exec, raw, 0) };
        // SAFETY: what was instantiated is independent of the graph, which nobody else has.
        let _ = unsafe { (driver.hipGraphDestroy)(raw) };
        device.check(status, "hipGraphInstantiateWithFlags", format_args!("making a graph ready on {device}"))?;
        Ok(Graph { device: device.clone(), exec: Handle(exec), captured })
    }

    pub(super) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(super) fn raw(&self) -> Handle {
        self.exec
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // Where waiting fails the device is lost, and runs the graph no more.
        let _ = self.device.synchronize();
        if self.device.enter().is_ok() {
            let _making = making();
            // SAFETY: instantiated by `new`, destroyed once, after it ran.
            let _ = unsafe { (self.device.runtime.driver.hipGraphExecDestroy)(self.exec.0) };
        }
    }
}
