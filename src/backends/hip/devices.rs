//! [`gpus`]: the GPUs that the drivers of this machine list, and why others cannot be used.

use super::ffi::{Device, DeviceInfo, Runtime};
use super::objects;

/// A GPU, numbered as [`HipBackend::open`](super::HipBackend::open) does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its number.
    pub number: usize,
    /// Whose driver runs it: `HIP` or `CUDA`.
    pub platform: String,
    /// Its name as sold.
    pub name: String,
    /// Its instruction set: `gfx1100`, `sm_90`.
    pub arch: String,
    /// Bytes of memory.
    pub total_memory: u64,
    /// Bytes that are free now.
    pub free_memory: u64,
    /// Lanes of a wave.
    pub wave: usize,
    /// Compute units, streaming multiprocessors.
    pub units: usize,
    /// Bytes of LDS that a block may have.
    pub lds: usize,
    /// The version of the driver, for people.
    pub driver: String,
    /// The target whose kernels it would run, or why this build has none for it.
    pub kernels: Result<String, String>,
}

/// All GPUs; an error is a platform, or a GPU of it, that cannot be used, with what is missing and what to do.
pub fn gpus() -> Vec<Result<Gpu, String>> {
    let mut found = Vec::new();
    let mut number = 0;
    for runtime in Runtime::open() {
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                found.push(Err(error.to_string()));
                continue;
            }
        };
        for ordinal in 0..runtime.device_count() {
            let device = Device::open(&runtime, ordinal).map_err(|e| format!("gpu:{number}: {e}"));
            found.push(device.map(|d| gpu(number, d.info())));
            number += 1;
        }
    }
    found
}

fn gpu(number: usize, info: &DeviceInfo) -> Gpu {
    Gpu {
        number,
        platform: info.platform.to_string(),
        name: info.name.clone(),
        arch: info.arch.clone(),
        total_memory: info.total_memory,
        free_memory: info.free_memory,
        wave: info.wave,
        units: info.units,
        lds: info.lds_per_block,
        driver: info.driver.clone(),
        kernels: objects::resolve(&info.arch).map(str::to_string),
    }
}
