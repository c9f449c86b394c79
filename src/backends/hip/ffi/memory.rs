//! [`Buffer`], memory of a device, and [`Pinned`], memory of the host that a device copies from and to.

use super::device::Device;
use super::error::GpuError;
use super::gate::making;
use super::stream::Work;
use smallvec::SmallVec;
use std::ffi::c_void;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Device memory. Dropping it waits for all work on its device first.
pub(crate) struct Buffer {
    pub(super) device: Arc<Device>,
    ptr: u64,
    len: usize,
}

impl Buffer {
    /// `bytes` of memory, with whatever was in it; 256-byte aligned on devices, 16-byte in the emulator. Zero bytes are no memory, at address 0.
    pub fn new(device: &Arc<Device>, bytes: usize) -> Result<Buffer, GpuError> {
        let mut ptr: *mut c_void = std::ptr::null_mut();
        if bytes > 0 {
            device.enter()?;
            let _making = making();
            // SAFETY: it writes one address; the device is current.
            let status = unsafe { (device.runtime.driver.hipMalloc)(&mut ptr, bytes) };
            device.check(status, "hipMalloc", format_args!("allocating {bytes} bytes"))?;
        }
        Ok(Buffer { device: device.clone(), ptr: ptr as u64, len: bytes })
    }

    /// Its address on the device.
    pub fn ptr(&self) -> u64 {
        self.ptr
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The address of a part of it, or an error if it is not within.
    pub(super) fn part(&self, range: &Range<usize>, doing: &str) -> Result<*mut c_void, GpuError> {
        if range.start > range.end || range.end > self.len {
            let reason = format!("bytes {}..{} are not within {} bytes", range.start, range.end, self.len);
            return Err(GpuError::refused(doing, reason));
        }
        Ok((self.ptr + range.start as u64) as *mut c_void)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        // Where waiting fails the device is lost, and runs nothing that could use the memory.
        let _ = self.device.synchronize();
        if self.device.enter().is_ok() {
            let _making = making();
            // SAFETY: allocated by `new` on this device, freed once, and no work that was submitted uses it any more.
            let _ = unsafe { (self.device.runtime.driver.hipFree)(self.ptr as *mut c_void) };
        }
    }
}

/// Host memory that does not move, for copies that run beside the host.
///
/// A copy borrows it only for the call, and notes the stream here. Reading waits for copies that write it, and writing for all:
/// after the stream was synchronised that costs no call of the driver.
pub(crate) struct Pinned {
    pub(super) memory: Arc<PinnedMemory>,
}

/// The memory of a [`Pinned`], also held by graphs that copy from or to it.
pub(super) struct PinnedMemory {
    pub device: Arc<Device>,
    ptr: NonNull<u8>,
    len: usize,
    uses: Mutex<SmallVec<[Use; 4]>>,
}

// SAFETY: it owns its memory; what is shared of it is read only, or behind the lock.
unsafe impl Send for PinnedMemory {}
// SAFETY: as above. The bytes are reached through `Pinned` only: by `&mut`, or by `&` for reading.
unsafe impl Sync for PinnedMemory {}

/// A copy that may be under way.
#[derive(Clone)]
struct Use {
    work: Arc<Work>,
    ticket: u64,
    /// Whether it writes the memory.
    writes: bool,
}

impl Pinned {
    /// `bytes` zeros. Zero bytes are no memory.
    pub fn new(device: &Arc<Device>, bytes: usize) -> Result<Pinned, GpuError> {
        let mut ptr = NonNull::<u8>::dangling();
        if bytes > 0 {
            device.enter()?;
            let mut raw: *mut c_void = std::ptr::null_mut();
            let making_memory = making();
            // SAFETY: it writes one address; the device is current.
            let status = unsafe { (device.runtime.driver.hipHostMalloc)(&mut raw, bytes, 0) };
            drop(making_memory);
            device.check(status, "hipHostMalloc", format_args!("allocating {bytes} bytes of pinned host memory"))?;
            let Some(memory) = NonNull::new(raw.cast::<u8>()) else {
                return Err(GpuError::refused("allocating pinned host memory", "the driver gave no address"));
            };
            ptr = memory;
            // SAFETY: the driver gave `bytes` bytes of host memory at this address to nobody else.
            unsafe { ptr.as_ptr().write_bytes(0, bytes) };
        }
        let memory = PinnedMemory { device: device.clone(), ptr, len: bytes, uses: Mutex::default() };
        Ok(Pinned { memory: Arc::new(memory) })
    }

    /// The bytes, after the copies that write them.
    pub fn as_slice(&self) -> Result<&[u8], GpuError> {
        self.memory.wait(false)?;
        // SAFETY: `len` initialised bytes (or none, at a dangling address) that live as long as `self`. Nothing writes them while this is
        // borrowed: copies that were submitted are done, and to submit one that writes takes `&mut Pinned`.
        Ok(unsafe { std::slice::from_raw_parts(self.memory.ptr.as_ptr(), self.memory.len) })
    }

    /// The bytes for writing, after all copies.
    pub fn as_mut_slice(&mut self) -> Result<&mut [u8], GpuError> {
        self.memory.wait(true)?;
        // SAFETY: as in `as_slice`; nothing reads them either, since to submit a copy takes a borrow of `self`, which is borrowed mutably. The
        // graphs that hold the memory cannot run without one.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.memory.ptr.as_ptr(), self.memory.len) })
    }

    pub(super) fn part(&self, range: &Range<usize>, doing: &str) -> Result<*mut c_void, GpuError> {
        if range.start > range.end || range.end > self.memory.len {
            let reason =
                format!("bytes {}..{} are not within {} bytes of host memory", range.start, range.end, self.memory.len);
            return Err(GpuError::refused(doing, reason));
        }
        Ok(self.memory.address().wrapping_add(range.start).cast())
    }
}

impl PinnedMemory {
    /// Where it is.
    pub fn address(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// Notes a copy that is about to be submitted.
    pub fn note(&self, work: &Arc<Work>, ticket: u64, writes: bool) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        match uses.iter_mut().find(|u| Arc::ptr_eq(&u.work, work) && u.writes == writes) {
            Some(known) => known.ticket = known.ticket.max(ticket),
            None => uses.push(Use { work: work.clone(), ticket, writes }),
        }
    }

    /// Waits for copies that write it, or for all.
    fn wait(&self, all: bool) -> Result<(), GpuError> {
        // The lock is not held while waiting, so that another thread can submit meanwhile.
        let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for u in uses.iter().filter(|u| all || u.writes) {
            u.work.wait_for(u.ticket)?;
        }
        if !uses.is_empty() {
            self.uses.lock().unwrap_or_else(PoisonError::into_inner).retain(|u| !u.work.is_done(u.ticket));
        }
        Ok(())
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        // Where waiting fails the device is lost, and copies no more.
        let _ = self.wait(true);
        if self.device.enter().is_ok() {
            let _making = making();
            // SAFETY: allocated by `Pinned::new`, freed once, and no copy uses it any more.
            let _ = unsafe { (self.device.runtime.driver.hipHostFree)(self.ptr.as_ptr().cast()) };
        }
    }
}
