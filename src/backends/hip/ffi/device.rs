//! [`Device`]: one device, made current by whoever uses it.

use super::error::GpuError;
use super::gate::making;
use super::runtime::{Own, Platform, Runtime};
use super::stream::Work;
use super::sys::{cuda, hip};
use std::ffi::{CStr, c_void};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What is known of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Whose driver runs it.
    pub platform: Platform,
    /// Its number there.
    pub ordinal: usize,
    /// Its name as sold.
    pub name: String,
    /// What its kernels are compiled for, without features: `gfx1100`, `sm_90`.
    pub arch: String,
    /// Bytes of memory.
    pub total_memory: u64,
    /// Bytes that were free when the device was opened.
    pub free_memory: u64,
    /// Lanes of a wave.
    pub wave: usize,
    /// Compute units, streaming multiprocessors.
    pub units: usize,
    /// Bytes of LDS that a block may have.
    pub lds_per_block: usize,
    /// The version of the driver, for people.
    pub driver: String,
}

/// A device that is open. Every use of it makes it current in the thread that uses it.
pub(crate) struct Device {
    pub(super) runtime: Arc<Runtime>,
    info: DeviceInfo,
    context: Context,
    /// What may have work under way.
    work: Mutex<Vec<Weak<Work>>>,
    /// Whether a kernel may start before the one before it has ended.
    pub(super) dependent_launches: bool,
}

/// CUDA's context, which HIP has not.
enum Context {
    Hip { ordinal: i32 },
    Cuda { context: *mut c_void, device: i32 },
}

// SAFETY: the context is a handle; the driver allows any thread to make it current, also several at a time.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Device {
    /// Opens device `ordinal` of a runtime.
    pub fn open(runtime: &Arc<Runtime>, ordinal: usize) -> Result<Arc<Device>, GpuError> {
        if ordinal >= runtime.device_count() {
            let there = runtime.device_count();
            return Err(GpuError::refused(
                &format!("opening {} device {ordinal}", runtime.platform()),
                format!("there are {there} devices, counted from 0"),
            ));
        }
        let (context, id) = Context::open(runtime, ordinal as i32)?;
        let empty = DeviceInfo {
            platform: runtime.platform(),
            ordinal,
            name: String::new(),
            arch: String::new(),
            total_memory: 0,
            free_memory: 0,
            wave: 0,
            units: 0,
            lds_per_block: 0,
            driver: runtime.version(),
        };
        let work = Mutex::default();
        let mut device = Device { runtime: runtime.clone(), info: empty, context, work, dependent_launches: false };
        device.describe(id)?;
        Ok(Arc::new(device))
    }

    /// What it is.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Free and all bytes of memory, now.
    pub fn memory(&self) -> Result<(u64, u64), GpuError> {
        self.enter()?;
        let (mut free, mut total) = (0usize, 0usize);
        // SAFETY: it writes two numbers.
        let status = unsafe { (self.runtime.driver.hipMemGetInfo)(&mut free, &mut total) };
        self.check(status, "hipMemGetInfo", format_args!("asking for the free memory of {self}"))?;
        Ok((free as u64, total as u64))
    }

    /// Waits until all work that was submitted to streams of this device is done.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        let work: Vec<Arc<Work>> = self.lock_work().iter().filter_map(Weak::upgrade).collect();
        work.iter().try_for_each(|w| w.synchronize())
    }

    /// Makes it current in this thread.
    pub(super) fn enter(&self) -> Result<(), GpuError> {
        match (&self.runtime.own, &self.context) {
            (Own::Hip { hip, .. }, Context::Hip { ordinal }) => {
                // SAFETY: the ordinal was checked against the count.
                let status = unsafe { (hip.hipSetDevice)(*ordinal) };
                self.check(status, "hipSetDevice", format_args!("making {self} current"))
            }
            (Own::Cuda { cuda, .. }, Context::Cuda { context, .. }) => {
                // SAFETY: the context is retained until this device is dropped.
                let status = unsafe { (cuda.cuCtxSetCurrent)(*context) };
                self.check(status, "cuCtxSetCurrent", format_args!("making {self} current"))
            }
            _ => Err(GpuError::refused("making a device current", "it belongs to another platform")),
        }
    }

    pub(super) fn check(&self, status: i32, call: &'static str, doing: fmt::Arguments<'_>) -> Result<(), GpuError> {
        if status == 0 {
            return Ok(());
        }
        let mut error = self.runtime.check(status, call, doing);
        if let Err(GpuError::OutOfMemory { device, .. }) = &mut error {
            let (mut free, mut total) = (0usize, 0usize);
            // SAFETY: it writes two numbers; the device is current, since the call that failed was made on it.
            let status = unsafe { (self.runtime.driver.hipMemGetInfo)(&mut free, &mut total) };
            *device = match status {
                0 => format!("{self} ({free} of {total} bytes are free)"),
                _ => self.to_string(),
            };
        }
        error
    }

    /// Whether two values are of one device.
    pub(super) fn is(&self, other: &Device) -> bool {
        self.info.platform == other.info.platform && self.info.ordinal == other.info.ordinal
    }

    pub(super) fn register(&self, work: &Arc<Work>) {
        let mut list = self.lock_work();
        list.retain(|w| w.strong_count() > 0);
        list.push(Arc::downgrade(work));
    }

    fn lock_work(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Work>>> {
        // The list is whole at every moment, so a panic elsewhere does not spoil it.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&mut self, id: i32) -> Result<(), GpuError> {
        let mut name = [0u8; 256];
        // SAFETY: it writes at most 256 bytes, zero included.
        let status = unsafe { (self.runtime.driver.hipDeviceGetName)(name.as_mut_ptr().cast(), name.len() as i32, id) };
        self.check(status, "hipDeviceGetName", format_args!("asking for the name of {self}"))?;
        self.info.name = text(&name).trim().to_string();
        (self.info.free_memory, self.info.total_memory) = self.memory()?;
        let attributes = match self.info.platform {
            Platform::Hip => [
                hip::HIP_DEVICE_ATTRIBUTE_WARP_SIZE,
                hip::HIP_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                hip::HIP_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK,
            ],
            Platform::Cuda => [
                cuda::CU_DEVICE_ATTRIBUTE_WARP_SIZE,
                cuda::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                cuda::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            ],
        };
        self.info.wave = self.attribute(attributes[0], id)?;
        self.info.units = self.attribute(attributes[1], id)?;
        self.info.lds_per_block = self.attribute(attributes[2], id)?;
        match &self.runtime.own {
            Own::Hip { .. } => self.info.arch = self.gfx(id)?,
            Own::Cuda { launch_ex, .. } => {
                let major = self.attribute(cuda::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, id)?;
                let minor = self.attribute(cuda::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, id)?;
                self.info.arch = format!("sm_{major}{minor}");
                self.dependent_launches = major >= 9 && launch_ex.is_some();
            }
        }
        Ok(())
    }

    fn attribute(&self, attribute: i32, id: i32) -> Result<usize, GpuError> {
        let mut value = 0;
        // SAFETY: it writes one int.
        let status = unsafe { (self.runtime.driver.hipDeviceGetAttribute)(&mut value, attribute, id) };
        self.check(status, "hipDeviceGetAttribute", format_args!("asking for attribute {attribute} of {self}"))?;
        Ok(usize::try_from(value).unwrap_or(0))
    }

    /// The name of the instruction set, which HIP tells only in a struct whose layout changed; else from the kernel's topology.
    fn gfx(&self, id: i32) -> Result<String, GpuError> {
        let Own::Hip { properties, .. } = &self.runtime.own else { return Ok(String::new()) };
        for get in properties {
            let mut bytes = vec![0u64; hip::DEVICE_PROPERTIES_BYTES / 8];
            // SAFETY: it writes a struct of device properties, and the memory is several times as large as any layout of it.
            let status = unsafe { get(bytes.as_mut_ptr().cast(), id) };
            let bytes: &[u8] = bytemuck::cast_slice(&bytes);
            let places = [hip::GCN_ARCH_NAME_R0600, hip::GCN_ARCH_NAME_R0000];
            let found = places.iter().find_map(|&at| arch_name(&bytes[at..at + 256]));
            if let (0, Some(arch)) = (status, found) {
                return Ok(arch);
            }
        }
        topology_arch().ok_or_else(|| {
            GpuError::refused(
                &format!("asking for the instruction set of {self}"),
                "the HIP runtime does not tell it in a known place, nor does /sys/class/kfd/kfd/topology",
            )
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} device {}", self.info.platform, self.info.ordinal)?;
        if !self.info.name.is_empty() {
            write!(f, " ({})", self.info.name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let (Own::Cuda { cuda, .. }, Context::Cuda { device, .. }) = (&self.runtime.own, &self.context) {
            let _making = making();
            // SAFETY: it was retained once when the device was opened, and all that lives in it holds this device.
            let _ = unsafe { (cuda.cuDevicePrimaryCtxRelease_v2)(*device) };
        }
    }
}

impl Context {
    /// The context, and the driver's number of the device.
    fn open(runtime: &Runtime, ordinal: i32) -> Result<(Context, i32), GpuError> {
        let name = |what: &str| format!("{what} {} device {ordinal}", runtime.platform());
        let mut device = ordinal;
        match &runtime.own {
            Own::Hip { hip, .. } => {
                // SAFETY: the ordinal was checked against the count.
                let status = unsafe { (hip.hipSetDevice)(ordinal) };
                runtime.check(status, "hipSetDevice", format_args!("{}", name("opening")))?;
                // SAFETY: it writes one int.
                let status = unsafe { (runtime.driver.hipDeviceGet)(&mut device, ordinal) };
                runtime.check(status, "hipDeviceGet", format_args!("{}", name("opening")))?;
                Ok((Context::Hip { ordinal }, device))
            }
            Own::Cuda { cuda, .. } => {
                // SAFETY: it writes one int.
                let status = unsafe { (runtime.driver.hipDeviceGet)(&mut device, ordinal) };
                runtime.check(status, "hipDeviceGet", format_args!("{}", name("opening")))?;
                let mut context = std::ptr::null_mut();
                let retaining = making();
                // SAFETY: it writes one pointer; the device is the driver's own number.
                let status = unsafe { (cuda.cuDevicePrimaryCtxRetain)(&mut context, device) };
                drop(retaining);
                runtime.check(status, "cuDevicePrimaryCtxRetain", format_args!("{}", name("opening")))?;
                let held = Context::Cuda { context, device };
                // SAFETY: the context was just retained.
                let status = unsafe { (cuda.cuCtxSetCurrent)(context) };
                if let Err(e) = runtime.check(status, "cuCtxSetCurrent", format_args!("{}", name("opening"))) {
                    // SAFETY: retained above, and not kept.
                    let _ = unsafe { (cuda.cuDevicePrimaryCtxRelease_v2)(device) };
                    return Err(e);
                }
                Ok((held, device))
            }
        }
    }
}

/// A C string in a buffer.
fn text(bytes: &[u8]) -> String {
    CStr::from_bytes_until_nul(bytes).map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

/// `gfx90a` of `gfx90a:sramecc+:xnack-`; nothing if that is not what stands there.
pub(super) fn arch_name(bytes: &[u8]) -> Option<String> {
    let text = text(bytes);
    let name = text.split(':').next().unwrap_or_default();
    let known = ["gfx", "host"].iter().any(|prefix| name.len() > prefix.len() && name.starts_with(prefix));
    (known && name.bytes().all(|b| b.is_ascii_alphanumeric())).then(|| name.to_string())
}

/// The instruction set of this machine's AMD devices as the kernel tells it, if they all have the same.
fn topology_arch() -> Option<String> {
    let nodes = std::fs::read_dir("/sys/class/kfd/kfd/topology/nodes").ok()?;
    let files = nodes.filter_map(|node| std::fs::read_to_string(node.ok()?.path().join("properties")).ok());
    let mut found: Vec<String> = files.filter_map(|text| topology_node(&text)).collect();
    found.dedup();
    (found.len() == 1).then(|| found.remove(0))
}

/// `gfx90a` of `gfx_target_version 90010`; nothing for a processor.
pub(super) fn topology_node(properties: &str) -> Option<String> {
    let line = properties.lines().find_map(|l| l.strip_prefix("gfx_target_version "))?;
    let version: u32 = line.trim().parse().ok()?;
    let (major, minor, step) = (version / 10_000, version / 100 % 100, version % 100);
    (version != 0).then(|| format!("gfx{major}{minor:x}{step:x}"))
}
