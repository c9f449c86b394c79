//! [`Module`]: compiled kernels on a device, and [`Function`]: one of them.

use super::Handle;
use super::device::Device;
use super::error::GpuError;
use super::gate::making;
use super::runtime::Own;
use super::sys::cuda::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Kernels of one file, loaded. Dropping it waits for all work on its device first.
pub(crate) struct Module {
    pub(super) device: Arc<Device>,
    raw: Handle,
    /// AMD's runtime reads the image when a function is first used.
    _image: Vec<u64>,
}

/// A kernel. It keeps its module.
pub(crate) struct Function {
    pub(super) module: Arc<Module>,
    pub(super) raw: Handle,
    name: String,
    /// Bytes of dynamic LDS that a launch may ask for without more ado.
    lds: AtomicU32,
}

impl Module {
    /// Loads a code object (AMD), a cubin or PTX (NVIDIA).
    pub fn load(device: &Arc<Device>, image: &[u8]) -> Result<Arc<Module>, GpuError> {
        let doing = || format!("loading a kernel image of {} bytes on {device}", image.len());
        if image.starts_with(b"\x7fELF") && !elf_is_whole(image) {
            return Err(GpuError::refused(&doing(), "the file is cut off"));
        }
        // A copy that is aligned and ends in zero, which is how a driver knows the end of what is not ELF.
        let mut copy = vec![0u64; image.len() / 8 + 1];
        bytemuck::cast_slice_mut(&mut copy)[..image.len()].copy_from_slice(image);
        device.enter()?;
        let mut raw = std::ptr::null_mut();
        let _making = making();
        // SAFETY: the image is an ELF file whose tables lie within it, or text that ends in zero; the copy lives as long as the module.
        let status = unsafe { (device.runtime.driver.hipModuleLoadData)(&mut raw, copy.as_ptr().cast()) };
        device.check(status, "hipModuleLoadData", format_args!("{}", doing()))?;
        Ok(Arc::new(Module { device: device.clone(), raw: Handle(raw), _image: copy }))
    }

    /// The kernel of this name.
    pub fn function(self: &Arc<Module>, name: &str) -> Result<Function, GpuError> {
        let device = &self.device;
        let doing = format!("looking for kernel {name} on {device}");
        let c_name = CString::new(name).map_err(|_| GpuError::refused(&doing, "a name has no zero bytes"))?;
        device.enter()?;
        let mut raw = std::ptr::null_mut();
        let _making = making();
        // SAFETY: it writes one handle; the module is loaded, and the name ends in zero.
        let status = unsafe { (device.runtime.driver.hipModuleGetFunction)(&mut raw, self.raw.0, c_name.as_ptr()) };
        device.check(status, "hipModuleGetFunction", format_args!("{doing}"))?;
        Ok(Function { module: self.clone(), raw: Handle(raw), name: name.to_string(), lds: AtomicU32::new(0) })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // Where waiting fails the device is lost, and runs nothing that is in the module.
        let _ = self.device.synchronize();
        if self.device.enter().is_ok() {
            let _making = making();
            // SAFETY: loaded by `load`, unloaded once; functions and graphs hold the module, and no work uses it any more.
            let _ = unsafe { (self.device.runtime.driver.hipModuleUnload)(self.raw.0) };
        }
    }
}

impl Function {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets launches ask for up to `bytes` of dynamic LDS. A launch does it itself; done before, the launch costs less.
    pub fn allow_lds(&self, bytes: u32) -> Result<(), GpuError> {
        if bytes <= self.lds.load(Ordering::Relaxed) {
            return Ok(());
        }
        let device = &self.module.device;
        let most = device.info().lds_per_block;
        let doing = format!("giving {} {bytes} bytes of LDS on {device}", self.name);
        if bytes as usize > most {
            return Err(GpuError::refused(&doing, format!("a block has at most {most}")));
        }
        if let Own::Cuda { cuda, .. } = &device.runtime.own {
            device.enter()?;
            let attribute = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let _making = making();
            // SAFETY: the function lives as long as its module.
            let status = unsafe { (cuda.cuFuncSetAttribute)(self.raw.0, attribute, bytes as i32) };
            device.check(status, "cuFuncSetAttribute", format_args!("{doing}"))?;
        }
        self.lds.fetch_max(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// Whether a 64-bit little-endian ELF file has all of its header, program headers and section headers.
pub(super) fn elf_is_whole(image: &[u8]) -> bool {
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let field = image.get(at..at + bytes)?;
        Some(field.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    };
    let table = |offset: usize, size: usize, count: usize| -> Option<u64> {
        number(offset, 8)?.checked_add(number(size, 2)? * number(count, 2)?)
    };
    let ends = [table(0x20, 0x36, 0x38), table(0x28, 0x3a, 0x3c)];
    image.len() >= 64 && ends.iter().all(|end| end.is_some_and(|end| end <= image.len() as u64))
}
