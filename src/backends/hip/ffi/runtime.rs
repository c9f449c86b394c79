//! [`Runtime`]: one platform's driver, loaded and checked.

use super::error::{self, GpuError};
use super::library::{self, Opened, Search};
use super::sys::cuda::{self, Cuda, LaunchKernelEx};
use super::sys::hip::{self, Driver, GetDeviceProperties, Hip};
use super::sys::{Status, cuda::name_of};
use std::ffi::{CStr, c_char, c_void};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Whose driver it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Platform {
    /// AMD's HIP runtime, or whatever exports its functions.
    Hip,
    /// NVIDIA's CUDA driver.
    Cuda,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Platform::Hip => "HIP",
            Platform::Cuda => "CUDA",
        })
    }
}

/// The environment variable that names a file to open as the HIP runtime, instead of those that are searched for.
pub(super) const HIP_LIBRARY: &str = "ROCMFORGE_HIP_LIBRARY";

/// A driver with its functions.
pub(crate) struct Runtime {
    pub(super) driver: Driver,
    pub(super) own: Own,
    library: String,
    /// Devices; at least one.
    devices: usize,
}

/// What the platforms do each in its own way.
pub(super) enum Own {
    Hip { hip: Hip, properties: Vec<GetDeviceProperties> },
    Cuda { cuda: Cuda, launch_ex: Option<LaunchKernelEx> },
}

impl Runtime {
    /// Every platform with a driver and a device, and for each other the reason why not.
    pub fn open() -> Vec<Result<Arc<Runtime>, GpuError>> {
        let hip = match std::env::var_os(HIP_LIBRARY) {
            Some(path) => library::open_path(
                &PathBuf::from(path),
                "ROCMFORGE_HIP_LIBRARY names it; unset that to use the system's",
            ),
            None => search(Platform::Hip).open(),
        };
        let cuda = search(Platform::Cuda).open();
        vec![
            hip.and_then(|library| Runtime::new(Platform::Hip, library)),
            cuda.and_then(|library| Runtime::new(Platform::Cuda, library)),
        ]
    }

    /// The runtime of one HIP library, e.g. the emulator's.
    pub fn open_library(path: &std::path::Path) -> Result<Arc<Runtime>, GpuError> {
        let library = library::open_path(path, "it is the library that was asked for")?;
        Runtime::new(Platform::Hip, library)
    }

    /// A runtime over a library.
    pub(super) fn new(platform: Platform, library: Opened) -> Result<Arc<Runtime>, GpuError> {
        let advice = error::install(platform);
        // SAFETY: the library is that platform's, so a function of this name has the signature of the vendor's header, which the
        // table repeats; an opened library is never unloaded.
        let driver = unsafe {
            Driver::fill(|name| match platform {
                Platform::Hip => library.require(name, advice),
                Platform::Cuda => library.require(name_of(name), advice),
            })
        }?;
        let own = match platform {
            Platform::Hip => {
                // SAFETY: as above.
                let hip = unsafe { Hip::fill(|name| library.require(name, advice)) }?;
                let names = ["hipGetDevicePropertiesR0600", "hipGetDeviceProperties"];
                let properties = names.iter().filter_map(|name| library.symbol(name));
                // SAFETY: as above: both take a pointer to a struct and a device's number.
                let properties =
                    properties.map(|f| unsafe { std::mem::transmute::<*mut c_void, GetDeviceProperties>(f) });
                Own::Hip { hip, properties: properties.collect() }
            }
            Platform::Cuda => {
                // SAFETY: as above.
                let cuda = unsafe { Cuda::fill(|name| library.require(name, advice)) }?;
                let launch_ex = library.symbol("cuLaunchKernelEx");
                // SAFETY: as above.
                let launch_ex = launch_ex.map(|f| unsafe { std::mem::transmute::<*mut c_void, LaunchKernelEx>(f) });
                Own::Cuda { cuda, launch_ex }
            }
        };
        let mut runtime = Runtime { driver, own, library: library.name, devices: 0 };
        runtime.devices = runtime.start()?;
        Ok(Arc::new(runtime))
    }

    /// Initialises the driver; how many devices it has.
    fn start(&self) -> Result<usize, GpuError> {
        let none = || GpuError::NoDevice { library: self.library.clone(), advice: error::no_device(self.platform()) };
        // SAFETY: any thread may call it, any number of times.
        let status = unsafe { (self.driver.hipInit)(0) };
        // AMD's runtime says that device 0 is invalid where it finds none.
        if status == hip::HIP_ERROR_NO_DEVICE || status == hip::HIP_ERROR_INVALID_DEVICE {
            return Err(none());
        }
        self.check(status, "hipInit", format_args!("starting {}", self.library))?;
        let mut count = 0;
        // SAFETY: it writes one int.
        let status = unsafe { (self.driver.hipGetDeviceCount)(&mut count) };
        if status == hip::HIP_ERROR_NO_DEVICE || status == 0 && count <= 0 {
            return Err(none());
        }
        self.check(status, "hipGetDeviceCount", format_args!("counting the devices of {}", self.library))?;
        Ok(count as usize)
    }

    /// Whose it is.
    pub fn platform(&self) -> Platform {
        match self.own {
            Own::Hip { .. } => Platform::Hip,
            Own::Cuda { .. } => Platform::Cuda,
        }
    }

    /// Devices, at least one.
    pub fn device_count(&self) -> usize {
        self.devices
    }

    /// `Ok` for success, else the error that `call` answered with while `doing` something.
    pub(super) fn check(&self, status: Status, call: &'static str, doing: fmt::Arguments<'_>) -> Result<(), GpuError> {
        if status == 0 {
            return Ok(());
        }
        Err(self.failure(status, call, doing))
    }

    #[cold]
    fn failure(&self, code: Status, call: &'static str, doing: fmt::Arguments<'_>) -> GpuError {
        let doing = doing.to_string();
        let call = match self.platform() {
            Platform::Hip => call,
            Platform::Cuda => cuda::name_of(call),
        };
        if code == hip::HIP_ERROR_OUT_OF_MEMORY {
            return GpuError::OutOfMemory { doing, device: "the device".to_string() };
        }
        let name = self.error_name(code);
        match error::is_fatal(code) {
            true => GpuError::Lost { doing, call, name, code },
            false => GpuError::Call { doing, call, name, code },
        }
    }

    /// `hipErrorIllegalAddress: an illegal memory access was encountered`.
    fn error_name(&self, code: Status) -> String {
        let (mut name, mut text): (*const c_char, *const c_char) = (std::ptr::null(), std::ptr::null());
        match &self.own {
            // SAFETY: they take any number.
            Own::Hip { hip, .. } => unsafe {
                name = (hip.hipGetErrorName)(code);
                text = (hip.hipGetErrorString)(code);
            },
            // SAFETY: they take any number, and write one pointer.
            Own::Cuda { cuda, .. } => unsafe {
                let _ = (cuda.cuGetErrorName)(code, &mut name);
                let _ = (cuda.cuGetErrorString)(code, &mut text);
            },
        }
        let read = |text: *const c_char| {
            // SAFETY: not null, then it is one of the driver's texts, which end in zero; this thread makes no other call meanwhile.
            (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        match (read(name), read(text)) {
            (Some(name), Some(text)) if name != text => format!("{name}: {text}"),
            (Some(name), _) => name,
            (None, text) => text.unwrap_or_else(|| "an unknown error".to_string()),
        }
    }

    /// The version of the driver for people: `HIP 6.2.41133`, `CUDA 13.0, driver 580.65.06`.
    pub(super) fn version(&self) -> String {
        let mut version = 0;
        let (status, module) = match &self.own {
            // SAFETY: it writes one int.
            Own::Hip { hip, .. } => (unsafe { (hip.hipRuntimeGetVersion)(&mut version) }, "amdgpu"),
            // SAFETY: it writes one int.
            Own::Cuda { .. } => (unsafe { (self.driver.hipDriverGetVersion)(&mut version) }, "nvidia"),
        };
        let mut text = match (status, self.platform()) {
            (0, Platform::Hip) => {
                format!("HIP {}.{}.{}", version / 10_000_000, version / 100_000 % 100, version % 100_000)
            }
            (0, Platform::Cuda) => format!("CUDA {}.{}", version / 1000, version % 1000 / 10),
            (_, platform) => platform.to_string(),
        };
        if let Ok(kernel) = std::fs::read_to_string(format!("/sys/module/{module}/version")) {
            text.push_str(", driver ");
            text.push_str(kernel.trim());
        }
        text
    }
}

/// Where a platform's library is looked for.
pub(super) fn search(platform: Platform) -> Search {
    let install = error::install(platform);
    match platform {
        Platform::Hip => Search {
            what: "the HIP runtime",
            names: &["libamdhip64.so", "libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5"],
            folders: library::folders("ROCM_PATH", "/opt/rocm", &["lib", "lib64"]),
            install,
        },
        Platform::Cuda => Search {
            what: "NVIDIA's driver library",
            names: &["libcuda.so.1", "libcuda.so"],
            folders: Vec::new(),
            install,
        },
    }
}
