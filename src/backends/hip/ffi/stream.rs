//! [`Stream`]: work on a device, in order, beside the host.

use super::Handle;
use super::device::Device;
use super::error::GpuError;
use super::event::Event;
use super::gate::{Capturing, making};
use super::graph::{Captured, Graph};
use super::memory::{Buffer, Pinned, PinnedMemory};
use super::module::Function;
use super::runtime::Own;
use super::staging::Staging;
use super::sys::cuda::{CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, CUlaunchAttribute, CUlaunchConfig};
use super::sys::hip;
use smallvec::SmallVec;
use std::ffi::c_void;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Work that runs in order. Several threads may submit to one stream; what they submit is in the order of the calls.
pub(crate) struct Stream {
    pub(super) work: Arc<Work>,
    /// Two pieces in turns.
    staging: Mutex<Option<[Staging; 2]>>,
}

/// A stream and how far it is. Work is numbered by tickets.
pub(super) struct Work {
    pub device: Arc<Device>,
    pub raw: Handle,
    /// The ticket of what was submitted last.
    submitted: AtomicU64,
    /// The ticket up to which all is known to be done.
    done: AtomicU64,
    /// What a capture under way has met. Locked while something is submitted.
    capture: Mutex<Option<Captured>>,
    /// Held from the beginning of a capture to its end.
    alone: Mutex<Option<Capturing>>,
}

/// Bytes of a piece of the memory that [`Stream::upload_now`] copies through.
const STAGING_BYTES: usize = 4 << 20;

impl Stream {
    /// A stream that waits for no other.
    pub fn new(device: &Arc<Device>) -> Result<Stream, GpuError> {
        device.enter()?;
        let mut raw = std::ptr::null_mut();
        let making_stream = making();
        // SAFETY: it writes one handle; the device is current.
        let status =
            unsafe { (device.runtime.driver.hipStreamCreateWithFlags)(&mut raw, hip::HIP_STREAM_NON_BLOCKING) };
        drop(making_stream);
        device.check(status, "hipStreamCreateWithFlags", format_args!("creating a stream on {device}"))?;
        let work = Arc::new(Work {
            device: device.clone(),
            raw: Handle(raw),
            submitted: AtomicU64::new(0),
            done: AtomicU64::new(0),
            capture: Mutex::new(None),
            alone: Mutex::new(None),
        });
        device.register(&work);
        Ok(Stream { work, staging: Mutex::new(None) })
    }

    /// Its device.
    pub fn device(&self) -> &Arc<Device> {
        &self.work.device
    }

    /// Sets bytes of a buffer.
    pub fn memset(&self, buffer: &Buffer, range: Range<usize>, value: u8) -> Result<(), GpuError> {
        let doing = "setting device memory";
        let (at, count) = (buffer.part(&range, doing)?, range.len());
        self.same_device(&buffer.device, doing)?;
        if count == 0 {
            return Ok(());
        }
        let submit = self.submit()?;
        // SAFETY: the range is within the buffer, which is not freed before this stream is done.
        let status = unsafe { (self.work.device.runtime.driver.hipMemsetD8Async)(at, value, count, self.work.raw.0) };
        drop(submit);
        self.check(status, "hipMemsetD8Async", doing)
    }

    /// Copies `range` of pinned memory to `offset` of a buffer, beside the host.
    pub fn upload(&self, to: &Buffer, offset: usize, from: &Pinned, range: Range<usize>) -> Result<(), GpuError> {
        let doing = "copying to the device";
        let source = from.part(&range, doing)?;
        let target = to.part(&span(offset, range.len()), doing)?;
        self.same_device(&to.device, doing)?;
        self.same_device(&from.memory.device, doing)?;
        if range.is_empty() {
            return Ok(());
        }
        let mut submit = self.submit()?;
        submit.uses(&from.memory, false);
        let driver = &self.work.device.runtime.driver;
        // SAFETY: both ranges are within their memory. The buffer is not freed before this stream is done; neither is the pinned memory, nor
        // can it be written before, since the use was noted.
        let status = unsafe { (driver.hipMemcpyHtoDAsync)(target, source, range.len(), self.work.raw.0) };
        drop(submit);
        self.check(status, "hipMemcpyHtoDAsync", doing)
    }

    /// Copies `range` of a buffer to `offset` of pinned memory, beside the host.
    pub fn download(&self, to: &mut Pinned, offset: usize, from: &Buffer, range: Range<usize>) -> Result<(), GpuError> {
        let doing = "copying from the device";
        let source = from.part(&range, doing)?;
        let target = to.part(&span(offset, range.len()), doing)?;
        self.same_device(&from.device, doing)?;
        self.same_device(&to.memory.device, doing)?;
        if range.is_empty() {
            return Ok(());
        }
        let mut submit = self.submit()?;
        submit.uses(&to.memory, true);
        let driver = &self.work.device.runtime.driver;
        // SAFETY: as in `upload`; nothing borrows the pinned memory now, and who borrows it later waits for this copy.
        let status = unsafe { (driver.hipMemcpyDtoHAsync)(target, source, range.len(), self.work.raw.0) };
        drop(submit);
        self.check(status, "hipMemcpyDtoHAsync", doing)
    }

    /// Copies bytes from any memory to `offset` of a buffer. They are read when it returns; the copy is in the stream's order.
    ///
    /// The first call allocates 8 MiB of pinned memory, which stays until the stream is dropped.
    pub fn upload_now(&self, to: &Buffer, offset: usize, bytes: &[u8]) -> Result<(), GpuError> {
        to.part(&span(offset, bytes.len()), "copying to the device")?;
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let piece = || Staging::new(&self.work.device, STAGING_BYTES);
        let staging = match &mut *staging {
            Some(staging) => staging,
            none => none.insert([piece()?, piece()?]),
        };
        for (i, chunk) in bytes.chunks(STAGING_BYTES).enumerate() {
            let [piece, _] = &mut *staging;
            piece.memory()?[..chunk.len()].copy_from_slice(chunk);
            piece.send(self, to, &[(0..chunk.len(), offset + i * STAGING_BYTES)])?;
            staging.swap(0, 1);
        }
        Ok(())
    }

    /// Waits until all that was submitted is done. A kernel's failure is told here.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        if self.work.lock().is_some() {
            return Err(GpuError::refused("waiting for a stream", "it is being captured"));
        }
        self.work.synchronize()
    }

    /// Runs a kernel over `grid` blocks of `threads` threads, each block with `lds` bytes of dynamic LDS; nothing if there are no blocks.
    ///
    /// `args` holds the values of the kernel's parameters; parameter `i` begins at `offsets[i]`. With `dependent`, on a device that
    /// can, the kernel may start before the one before it has ended, and waits for it itself (`pdl_wait()`).
    ///
    /// The parameters are trusted to be those of the kernel, and their addresses to be those of buffers that are not dropped
    /// before the work is done: waiting on drop takes care of the latter, except for graphs.
    #[allow(clippy::too_many_arguments)] // a launch is that many numbers
    pub fn launch(
        &self,
        function: &Function,
        grid: [u32; 3],
        threads: u32,
        lds: u32,
        args: &[u8],
        offsets: &[u16],
        dependent: bool,
    ) -> Result<(), GpuError> {
        let device = &self.work.device;
        self.same_device(&function.module.device, "launching a kernel")?;
        if let Some(at) = offsets.iter().find(|&&at| at as usize >= args.len()) {
            let reason = format!("a parameter at byte {at} is not within {} bytes", args.len());
            return Err(GpuError::refused(&format!("launching {}", function.name()), reason));
        }
        if grid.contains(&0) {
            return Ok(());
        }
        if lds > 0 {
            function.allow_lds(lds)?;
        }
        let mut submit = self.submit()?;
        submit.runs(function);
        // The driver reads the values through these pointers and keeps none; the emulator wants them aligned.
        let mut values: SmallVec<[u128; 24]> = SmallVec::from_elem(0, args.len().div_ceil(16));
        bytemuck::cast_slice_mut(&mut values)[..args.len()].copy_from_slice(args);
        let first = values.as_ptr().cast::<u8>();
        let mut parameters: SmallVec<[*mut c_void; 24]> =
            offsets.iter().map(|&at| first.wrapping_add(at as usize).cast_mut().cast()).collect();
        let (parameters, stream) = (parameters.as_mut_ptr(), self.work.raw.0);
        let none = std::ptr::null_mut();
        let (status, call) = match &device.runtime.own {
            Own::Cuda { launch_ex: Some(launch), .. } if dependent && device.dependent_launches => {
                let mut value = [0; 16];
                value[0] = 1;
                let id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
                let mut attribute = CUlaunchAttribute { id, pad: 0, value };
                let block = [threads, 1, 1];
                let config =
                    CUlaunchConfig { grid, block, shared_bytes: lds, stream, attributes: &mut attribute, count: 1 };
                // SAFETY: the function's module is held; every parameter points into `values`, whose layout is the kernel's by this method's
                // contract; config and attribute live through the call.
                (unsafe { launch(&config, function.raw.0, parameters, none) }, "cuLaunchKernelEx")
            }
            _ => {
                let [x, y, z] = grid;
                let launch = device.runtime.driver.hipModuleLaunchKernel;
                // SAFETY: as above.
                let status = unsafe { launch(function.raw.0, x, y, z, threads, 1, 1, lds, stream, parameters, none) };
                (status, "hipModuleLaunchKernel")
            }
        };
        drop(submit);
        if status == 0 {
            return Ok(());
        }
        let doing = format_args!(
            "launching {} over {grid:?} blocks of {threads} threads with {lds} bytes of LDS",
            function.name()
        );
        device.check(status, call, doing)
    }

    /// From here on what is submitted is not run but noted, until [`Stream::end_capture`].
    pub fn begin_capture(&self) -> Result<(), GpuError> {
        let mut capture = self.work.lock();
        if capture.is_some() {
            return Err(GpuError::refused("capturing a stream", "a capture is under way already"));
        }
        // Whoever waits for copies of before must not find a capture.
        self.work.synchronize()?;
        self.work.device.enter()?;
        let begin = self.work.device.runtime.driver.hipStreamBeginCapture;
        let alone = Capturing::begin();
        // SAFETY: the stream lives as long as `self`.
        let status = unsafe { begin(self.work.raw.0, hip::HIP_STREAM_CAPTURE_MODE_RELAXED) };
        self.check(status, "hipStreamBeginCapture", "capturing a stream")?;
        *capture = Some(Captured::default());
        *self.work.alone.lock().unwrap_or_else(PoisonError::into_inner) = Some(alone);
        Ok(())
    }

    /// What was noted, ready to run.
    pub fn end_capture(&self) -> Result<Graph, GpuError> {
        let mut capture = self.work.lock();
        let Some(captured) = capture.take() else {
            return Err(GpuError::refused("ending a capture", "none is under way"));
        };
        self.work.device.enter()?;
        let graph = self.work.end_capture()?;
        drop(capture);
        Graph::new(&self.work.device, graph, captured)
    }

    /// Runs a graph that copies nothing from or to host memory.
    pub fn replay(&self, graph: &Graph) -> Result<(), GpuError> {
        self.replay_with(graph, &mut [])
    }

    /// Runs a graph. `host` has all pinned memory that it copies from or to, so that nobody reads or writes that meanwhile.
    pub fn replay_with(&self, graph: &Graph, host: &mut [&mut Pinned]) -> Result<(), GpuError> {
        let doing = "running a graph";
        self.same_device(graph.device(), doing)?;
        let missing = |m: &Arc<PinnedMemory>| !host.iter().any(|p| Arc::ptr_eq(&p.memory, m));
        if graph.captured.host.iter().any(|(memory, _)| missing(memory)) {
            return Err(GpuError::refused(doing, "it copies from or to pinned memory that was not handed over"));
        }
        let mut submit = self.submit()?;
        if submit.capture.is_some() {
            return Err(GpuError::refused(doing, "the stream is being captured"));
        }
        for (memory, writes) in &graph.captured.host {
            submit.uses(memory, *writes);
        }
        // SAFETY: the graph lives, with the modules and the pinned memory that it uses; uses of the latter were noted.
        let status = unsafe { (self.work.device.runtime.driver.hipGraphLaunch)(graph.raw().0, self.work.raw.0) };
        drop(submit);
        self.check(status, "hipGraphLaunch", doing)
    }

    /// Lets the event come when all that was submitted so far is done.
    pub fn record(&self, event: &mut Event) -> Result<(), GpuError> {
        self.same_device(&event.device, "recording an event")?;
        event.recorded = None;
        let submit = self.submit()?;
        // SAFETY: both handles live.
        let status = unsafe { (self.work.device.runtime.driver.hipEventRecord)(event.raw.0, self.work.raw.0) };
        let recorded = submit.capture.is_none().then(|| (Arc::downgrade(&self.work), submit.ticket));
        drop(submit);
        self.check(status, "hipEventRecord", "recording an event")?;
        event.recorded = recorded;
        Ok(())
    }

    /// Takes a ticket, and makes the device current. Until it is dropped nobody else submits to this stream.
    pub(super) fn submit(&self) -> Result<Submit<'_>, GpuError> {
        self.work.device.enter()?;
        let capture = self.work.lock();
        // What is captured does not run, so nobody needs to wait for it.
        let ticket = match &*capture {
            Some(_) => self.work.submitted.load(Ordering::Acquire),
            None => self.work.submitted.load(Ordering::Acquire) + 1,
        };
        Ok(Submit { work: &self.work, capture, ticket })
    }

    fn same_device(&self, other: &Device, doing: &str) -> Result<(), GpuError> {
        if self.work.device.is(other) {
            return Ok(());
        }
        Err(GpuError::refused(doing, format!("the stream is of {}, the rest of {other}", self.work.device)))
    }

    fn check(&self, status: i32, call: &'static str, doing: &str) -> Result<(), GpuError> {
        self.work.device.check(status, call, format_args!("{doing} on {}", self.work.device))
    }
}

/// Something that is being submitted.
pub(super) struct Submit<'a> {
    work: &'a Arc<Work>,
    capture: MutexGuard<'a, Option<Captured>>,
    ticket: u64,
}

impl Drop for Submit<'_> {
    /// Only what the driver has got counts as submitted: who waits meanwhile must not take it for done.
    fn drop(&mut self) {
        // The lock is still held.
        self.work.submitted.store(self.ticket, Ordering::Release);
    }
}

impl Submit<'_> {
    /// Notes that it copies from or to pinned memory.
    fn uses(&mut self, memory: &Arc<PinnedMemory>, writes: bool) {
        match &mut *self.capture {
            Some(captured) => captured.host.push((memory.clone(), writes)),
            None => memory.note(self.work, self.ticket, writes),
        }
    }

    /// Notes that it runs a kernel.
    fn runs(&mut self, function: &Function) {
        if let Some(captured) = &mut *self.capture
            && !captured.modules.iter().any(|m| Arc::ptr_eq(m, &function.module))
        {
            captured.modules.push(function.module.clone());
        }
    }
}

impl Work {
    /// Waits until all that was submitted is done; without a call of the driver if that is known. A stream that is being captured
    /// has nothing to wait for.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        self.wait_for(self.submitted.load(Ordering::Acquire))
    }

    /// Waits until `ticket` is done.
    pub fn wait_for(&self, ticket: u64) -> Result<(), GpuError> {
        if self.is_done(ticket) {
            return Ok(());
        }
        let device = &self.device;
        device.enter()?;
        let submitted = self.submitted.load(Ordering::Acquire);
        // SAFETY: the stream lives as long as `self`.
        let status = unsafe { (device.runtime.driver.hipStreamSynchronize)(self.raw.0) };
        device.check(status, "hipStreamSynchronize", format_args!("waiting for work on {device}"))?;
        self.note_done(submitted);
        Ok(())
    }

    /// Notes that all up to `ticket` is done.
    pub fn note_done(&self, ticket: u64) {
        self.done.fetch_max(ticket, Ordering::AcqRel);
    }

    /// Whether `ticket` is known to be done.
    pub fn is_done(&self, ticket: u64) -> bool {
        self.done.load(Ordering::Acquire) >= ticket
    }

    /// The driver's graph of what was captured.
    fn end_capture(&self) -> Result<*mut c_void, GpuError> {
        let mut graph = std::ptr::null_mut();
        // SAFETY: it writes one handle; the stream lives, and is being captured.
        let status = unsafe { (self.device.runtime.driver.hipStreamEndCapture)(self.raw.0, &mut graph) };
        *self.alone.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.device.check(status, "hipStreamEndCapture", format_args!("ending a capture on {}", self.device))?;
        Ok(graph)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Captured>> {
        self.capture.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = self.synchronize();
        if self.device.enter().is_ok() {
            if self.lock().take().is_some()
                && let Ok(graph) = self.end_capture()
            {
                // SAFETY: the graph was just captured and nobody has it.
                let _ = unsafe { (self.device.runtime.driver.hipGraphDestroy)(graph) };
            }
            let _making = making();
            // SAFETY: created by `Stream::new`, destroyed once, after its work.
            let _ = unsafe { (self.device.runtime.driver.hipStreamDestroy)(self.raw.0) };
        }
    }
}

/// `len` bytes from `offset` on.
fn span(offset: usize, len: usize) -> Range<usize> {
    offset..offset.saturating_add(len)
}
