//! [`upload`]: weights from their source to the device. Threads pack pieces of some megabytes into pinned memory, and a stream of its
//! own copies them, so that reading the file, packing and copying run at the same time.
//!
//! Each thread has two pieces of pinned memory in turns, which is all the host memory that loading takes beside the pages of the file
//! that are being read: those of a piece are given back when it is packed.

use super::ffi::{Buffer, Device, GpuError, Staging, Stream};
use super::planes::{ALIGNMENT, PlaneLayout};
use super::{device_error, run_error};
use crate::backends::{BackendError, LoadParts, WeightSource};
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of the device that a piece fills at most.
const PIECE: usize = 2 << 20;

/// Threads at most: more have nothing to do, as these pack faster than a link to a device copies.
const MOST_THREADS: usize = 16;

/// Pieces whose bytes the system is asked for before they are packed.
const AHEAD: usize = 64;

/// A weight on its way.
pub(crate) struct Item<'a> {
    pub name: &'a str,
    /// As the file has it.
    pub bytes: &'a [u8],
    /// The planes that are made of it, and where in the buffer they begin.
    pub planes: Option<(PlaneLayout, usize)>,
    /// Where in the buffer the file's bytes go.
    pub raw: Option<usize>,
}

/// A part of an item's bytes: whole units where there are planes.
struct Piece {
    item: usize,
    bytes: Range<usize>,
}

/// Bytes of pinned memory and where in the buffer they go.
type Parts = SmallVec<[(Range<usize>, usize); 5]>;

impl Item<'_> {
    /// Bytes of a unit, and of what it becomes on the device.
    fn unit(&self) -> (usize, usize) {
        let unit = self.planes.map_or(1, |(layout, _)| layout.unit_bytes);
        let packed: usize = self.planes.map_or(0, |(layout, _)| layout.unit.iter().sum());
        (unit, packed + if self.raw.is_some() { unit } else { 0 })
    }

    /// Its bytes in pieces that become at most `piece` bytes.
    fn pieces(&self, piece: usize) -> impl Iterator<Item = Range<usize>> {
        let (unit, becomes) = self.unit();
        let step = (piece / becomes.max(1)).max(1) * unit;
        let len = if becomes == 0 { 0 } else { self.bytes.len() };
        (0..len).step_by(step).map(move |first| first..(first + step).min(len))
    }

    /// Packs a piece into pinned memory.
    fn pack(&self, piece: &Range<usize>, memory: &mut [u8]) -> Parts {
        let bytes = &self.bytes[piece.clone()];
        let mut parts = Parts::new();
        let (mut rest, mut at) = (memory, 0);
        // The next `len` bytes, which go to `offset`; the part after them is aligned again.
        let mut next = |len: usize, offset: usize| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(ALIGNMENT));
            if len > 0 {
                parts.push((at..at + len, offset));
            }
            (rest, at) = (after, at + part.len());
            &mut part[..len]
        };
        if let Some((layout, offset)) = &self.planes {
            let units = piece.start / layout.unit_bytes..piece.end / layout.unit_bytes;
            let planes = layout.places(&units).map(|place| next(place.len(), offset + place.start));
            layout.pack(bytes, planes);
        }
        if let Some(offset) = self.raw {
            next(bytes.len(), offset + piece.start).copy_from_slice(bytes);
        }
        parts
    }
}

/// What the threads share.
struct Work<'a> {
    stream: Stream,
    buffer: &'a Buffer,
    items: &'a [Item<'a>],
    pieces: Vec<Piece>,
    /// Pinned memory of a piece.
    staging: usize,
    source: &'a dyn WeightSource,
    /// The piece that is taken next.
    next: AtomicUsize,
    /// Pieces of each item that are not packed yet.
    left: Vec<AtomicUsize>,
    stop: AtomicBool,
    /// What happened first.
    failed: Mutex<Option<BackendError>>,
    /// Of all threads together.
    packing: Mutex<Duration>,
    waiting: Mutex<Duration>,
}

/// Pinned memory of a piece: its parts, each at an aligned place.
fn staging_bytes(piece: usize) -> usize {
    piece + 16 * ALIGNMENT
}

/// Fills `buffer` with `items`. `progress` gets bytes of the items that are on their way, in this thread; it returns `false` to cancel.
///
/// # Errors
/// [`BackendError::Cancelled`]; those of the device, where the first one ends all threads. Nothing is under way afterwards.
pub(crate) fn upload(
    buffer: &Buffer,
    device: &Arc<Device>,
    items: &[Item<'_>],
    source: &dyn WeightSource,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<LoadParts, BackendError> {
    upload_in_pieces(PIECE, buffer, device, items, source, progress)
}

fn upload_in_pieces(
    piece: usize,
    buffer: &Buffer,
    device: &Arc<Device>,
    items: &[Item<'_>],
    source: &dyn WeightSource,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<LoadParts, BackendError> {
    let doing = |e| run_error("weights", e);
    let of_item =
        |(item, i): (usize, &Item<'_>)| i.pieces(piece).map(move |bytes| Piece { item, bytes }).collect::<Vec<_>>();
    let pieces: Vec<Piece> = items.iter().enumerate().flat_map(of_item).collect();
    let left = items.iter().map(|item| AtomicUsize::new(item.pieces(piece).count())).collect();
    let work = Work {
        stream: Stream::new(device).map_err(doing)?,
        buffer,
        items,
        pieces,
        staging: staging_bytes(piece),
        source,
        next: AtomicUsize::new(0),
        left,
        stop: AtomicBool::new(false),
        failed: Mutex::default(),
        packing: Mutex::default(),
        waiting: Mutex::default(),
    };
    work.pieces.iter().take(AHEAD).for_each(|piece| work.prefetch(piece));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(MOST_THREADS).min(buffer.len().div_ceil(piece)).max(1);
    let (told, news) = mpsc::channel();
    let mut done = 0;
    let started = thread::scope(|scope| {
        let mut started = 0u32;
        for _ in 0..threads {
            let (work, told) = (&work, told.clone());
            let thread = thread::Builder::new().name("rocmforge load".to_string());
            match thread.spawn_scoped(scope, move || work.run(&told)) {
                Ok(_) => started += 1,
                Err(error) if started == 0 => return Err(BackendError::Threads(error.to_string())),
                // Fewer do it.
                Err(_) => break,
            }
        }
        drop(told);
        for bytes in news {
            done += bytes as u64;
            if !work.stop.load(Ordering::Relaxed) && !progress(done) {
                work.fail(BackendError::Cancelled);
            }
        }
        Ok(started)
    })?;
    let Work { stream, pieces, next, failed, packing, waiting, .. } = work;
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    if next.into_inner() < pieces.len() {
        let purpose = "copying weights to the device (pinned memory of the host)".to_string();
        return Err(BackendError::OutOfMemory { purpose, bytes: staging_bytes(piece) });
    }
    let start = Instant::now();
    stream.synchronize().map_err(doing)?;
    let mean = |sum: Mutex<Duration>| sum.into_inner().unwrap_or_else(PoisonError::into_inner) / started;
    Ok(LoadParts { packing: mean(packing), copying: mean(waiting) + start.elapsed(), ..LoadParts::default() })
}

impl Work<'_> {
    /// Packs and sends pieces until there are none, or somebody has failed.
    fn run(&self, told: &Sender<usize>) {
        if let Err(error) = self.send_pieces(told) {
            self.fail(error);
        }
    }

    fn send_pieces(&self, told: &Sender<usize>) -> Result<(), BackendError> {
        let mut slots: SmallVec<[Staging; 2]> = SmallVec::new();
        let mut most = 2;
        let (mut packing, mut waiting) = (Duration::ZERO, Duration::ZERO);
        for turn in 0.. {
            if self.stop.load(Ordering::Relaxed) || self.next.load(Ordering::Relaxed) >= self.pieces.len() {
                break;
            }
            if slots.len() < most {
                match Staging::new(self.stream.device(), self.staging) {
                    Ok(slot) => slots.push(slot),
                    Err(e) if e.is_out_of_memory() && !slots.is_empty() => most = slots.len(),
                    // Others may have some.
                    Err(e) if e.is_out_of_memory() => return Ok(()),
                    Err(e) => return Err(run_error("weights", e)),
                }
            }
            let taken = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = self.pieces.get(taken) else { break };
            if let Some(ahead) = self.pieces.get(taken + AHEAD) {
                self.prefetch(ahead);
            }
            let item = &self.items[piece.item];
            let failed = |e: GpuError| device_error(item.name, piece.bytes.len(), e);
            let at = turn % slots.len();
            let slot = &mut slots[at];
            let start = Instant::now();
            let memory = slot.memory().map_err(failed)?;
            let free = Instant::now();
            let parts = item.pack(&piece.bytes, memory);
            self.release(piece);
            (waiting, packing) = (waiting + (free - start), packing + free.elapsed());
            slot.send(&self.stream, self.buffer, &parts).map_err(failed)?;
            // Who listens does so until the last thread has ended.
            let _ = told.send(piece.bytes.len());
        }
        *self.packing.lock().unwrap_or_else(PoisonError::into_inner) += packing;
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) += waiting;
        Ok(())
    }

    fn prefetch(&self, piece: &Piece) {
        self.source.prefetch(self.items[piece.item].name, piece.bytes.clone());
    }

    /// Gives the pages of a piece back; with an item's last piece all of them, since pages around the others came with them.
    fn release(&self, piece: &Piece) {
        let last = self.left[piece.item].fetch_sub(1, Ordering::AcqRel) == 1;
        self.source.release(self.items[piece.item].name, if last { 0..usize::MAX } else { piece.bytes.clone() });
    }

    fn fail(&self, error: BackendError) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
