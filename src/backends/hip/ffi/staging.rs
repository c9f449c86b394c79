//! [`Staging`]: pinned memory that is filled, copied to the device and filled again.

use super::device::Device;
use super::error::GpuError;
use super::event::Event;
use super::memory::{Buffer, Pinned};
use super::stream::Stream;
use std::ops::Range;
use std::sync::Arc;

/// Pinned memory for one piece after the other. With several of them in turns, one is copied while the next one is filled.
pub(crate) struct Staging {
    pinned: Pinned,
    /// Comes when what was sent last has been copied: its own event, so that nobody waits for what others have submitted since.
    copied: Event,
}

impl Staging {
    /// `bytes` of pinned memory.
    pub fn new(device: &Arc<Device>, bytes: usize) -> Result<Staging, GpuError> {
        Ok(Staging { pinned: Pinned::new(device, bytes)?, copied: Event::new(device, false)? })
    }

    /// The memory, with whatever is in it, once what was sent from it has been copied.
    pub fn memory(&mut self) -> Result<&mut [u8], GpuError> {
        self.copied.synchronize()?;
        self.pinned.as_mut_slice()
    }

    /// Copies parts of it to offsets of a buffer, beside the host, in the stream's order.
    pub fn send(&mut self, stream: &Stream, to: &Buffer, parts: &[(Range<usize>, usize)]) -> Result<(), GpuError> {
        for (part, offset) in parts {
            stream.upload(to, *offset, &self.pinned, part.clone())?;
        }
        stream.record(&mut self.copied)
    }
}
