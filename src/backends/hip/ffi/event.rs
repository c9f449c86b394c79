//! [`Event`]: a moment in a stream's work.

use super::Handle;
use super::device::Device;
use super::error::GpuError;
use super::gate::making;
use super::stream::Work;
use super::sys::hip;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A moment in a stream's work, once it was recorded.
pub(crate) struct Event {
    pub(super) device: Arc<Device>,
    pub(super) raw: Handle,
    /// The stream that it was recorded in last, and the ticket up to which work is done when it has come; none for a capture.
    pub(super) recorded: Option<(Weak<Work>, u64)>,
}

impl Event {
    /// An event; only one with `timing` tells time, and costs a little more.
    pub fn new(device: &Arc<Device>, timing: bool) -> Result<Event, GpuError> {
        device.enter()?;
        let mut raw = std::ptr::null_mut();
        let flags = if timing { 0 } else { hip::HIP_EVENT_DISABLE_TIMING };
        let _making = making();
        // SAFETY: it writes one handle; the device is current.
        let status = unsafe { (device.runtime.driver.hipEventCreateWithFlags)(&mut raw, flags) };
        device.check(status, "hipEventCreateWithFlags", format_args!("creating an event on {device}"))?;
        Ok(Event { device: device.clone(), raw: Handle(raw), recorded: None })
    }

    /// Waits until the moment has come; at once if it was never recorded. Who waits afterwards for what was submitted before the
    /// event finds it done.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        self.device.enter()?;
        // SAFETY: the event lives as long as `self`.
        let status = unsafe { (self.device.runtime.driver.hipEventSynchronize)(self.raw.0) };
        self.device.check(status, "hipEventSynchronize", format_args!("waiting for work on {}", self.device))?;
        if let Some((work, ticket)) = &self.recorded
            && let Some(work) = work.upgrade()
        {
            work.note_done(*ticket);
        }
        Ok(())
    }

    /// The time from `since` to this event. Both were made with timing, were recorded and have come.
    pub fn elapsed(&self, since: &Event) -> Result<Duration, GpuError> {
        if !self.device.is(&since.device) {
            return Err(GpuError::refused("measuring time", "the two events are of different devices"));
        }
        self.device.enter()?;
        let mut milliseconds = 0f32;
        // SAFETY: it writes one float; both events live.
        let status =
            unsafe { (self.device.runtime.driver.hipEventElapsedTime)(&mut milliseconds, since.raw.0, self.raw.0) };
        self.device.check(status, "hipEventElapsedTime", format_args!("measuring time on {}", self.device))?;
        Ok(Duration::from_nanos((f64::from(milliseconds).max(0.0) * 1e6) as u64))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.device.enter().is_ok() {
            let _making = making();
            // SAFETY: created by `new`, destroyed once; the driver keeps what pending work needs of it.
            let _ = unsafe { (self.device.runtime.driver.hipEventDestroy)(self.raw.0) };
        }
    }
}
