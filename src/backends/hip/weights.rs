//! [`DeviceWeight`]: a weight in the forms that kernels read.

use super::ffi::{Buffer, Stream};
use super::planes::{ALIGNMENT, PlaneLayout};
use super::view::DevicePtr;
use super::{Turn, device_error};
use crate::backends::{BackendError, WeightSource, Weights};
use crate::graph::plan::WeightSlot;
use crate::tensor::{Bounds, DType};
use bytemuck::{Pod, Zeroable};
use std::collections::HashMap;

/// `Planes` of `kernels/common/planes.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Planes {
    pub quants: DevicePtr,
    pub high: DevicePtr,
    pub scales: DevicePtr,
    pub supers: DevicePtr,
    /// `FORMAT_…` of planes.h.
    pub format: i32,
    pub rows: i32,
    /// Elements of a row.
    pub k: i32,
    /// Blocks of 32 elements of a row.
    pub blocks: i32,
}

/// A weight on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceWeight {
    pub dtype: DType,
    /// For matmuls, where the type has planes.
    pub planes: Option<Planes>,
    /// The bytes of the file: for `get_rows`, for ops that read elements, and for matmuls of types without planes.
    pub raw: Option<DevicePtr>,
}

/// Device memory that a slot's uses take: the planes, and the file's bytes where something reads those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    planes: Option<PlaneLayout>,
    /// Bytes of the raw copy and of what it takes with its alignment.
    raw: Option<usize>,
}

impl Placed {
    fn of(slot: &WeightSlot) -> Placed {
        let [k, rows, ..] = slot.ty.shape.eval(&NO_SYMBOLS);
        let planes = if slot.matmul { PlaneLayout::of(slot.ty.dtype, rows, k) } else { None };
        let raw = slot.rows || slot.direct || (slot.matmul && planes.is_none());
        Placed { planes, raw: if raw { slot.ty.bytes(&NO_SYMBOLS) } else { None } }
    }

    fn bytes(&self) -> usize {
        self.planes.map_or(0, |p| p.bytes) + self.raw.map_or(0, |bytes| bytes.next_multiple_of(ALIGNMENT))
    }
}

/// Weights have no symbolic sizes.
const NO_SYMBOLS: Bounds = Bounds { t: 1, s: 1, r: 1 };

/// Bytes of device memory that a weight takes.
pub(crate) fn device_bytes(slot: &WeightSlot) -> usize {
    Placed::of(slot).bytes()
}

/// All weights of a model in one allocation.
pub(crate) struct HipWeights {
    weights: HashMap<String, DeviceWeight>,
    buffer: Buffer,
}

impl HipWeights {
    /// Packs and uploads what the slots' uses need. Packing a weight overlaps with the upload of the one before.
    pub fn load(
        stream: &Stream,
        turn: &Turn,
        slots: &[WeightSlot],
        source: &dyn WeightSource,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<HipWeights, BackendError> {
        let total = slots.iter().map(device_bytes).sum();
        let buffer = Buffer::new(stream.device(), total).map_err(|e| device_error("weights", total, e))?;
        let mut weights = HashMap::new();
        let (mut at, mut done) = (0, 0);
        for slot in slots {
            let error = |reason: &str| BackendError::Weight { name: slot.name.clone(), reason: reason.to_string() };
            let bytes = source.bytes(&slot.name).ok_or_else(|| error("it is not in the file"))?;
            if Some(bytes.len()) != slot.ty.bytes(&NO_SYMBOLS) {
                return Err(error("its size is not what its type says"));
            }
            let [k, rows, ..] = slot.ty.shape.eval(&NO_SYMBOLS);
            let placed = Placed::of(slot);
            let upload = |at: usize, bytes: &[u8]| {
                let _turn = turn.take();
                stream.upload_now(&buffer, at, bytes).map_err(|e| device_error(&slot.name, bytes.len(), e))
            };
            let base = |at: usize| buffer.ptr() + at as u64;
            let dtype = slot.ty.dtype;
            let mut weight = DeviceWeight { dtype, planes: None, raw: None };
            if let Some(layout) = placed.planes {
                let mut packed = vec![0; layout.bytes];
                layout.pack(dtype, rows, bytes, &mut packed);
                upload(at, &packed)?;
                let [quants, high, scales, supers] = layout.offsets.map(|o| base(at + o));
                let (rows, k, blocks) = (rows as i32, k as i32, (k / 32) as i32);
                weight.planes = Some(Planes { quants, high, scales, supers, format: layout.format, rows, k, blocks });
                at += layout.bytes;
            }
            if let Some(size) = placed.raw {
                upload(at, bytes)?;
                weight.raw = Some(base(at));
                at += size.next_multiple_of(ALIGNMENT);
            }
            weights.insert(slot.name.clone(), weight);
            source.release(&slot.name, 0..usize::MAX);
            done += bytes.len() as u64;
            if !progress(done) {
                return Err(BackendError::Cancelled);
            }
        }
        let _turn = turn.take();
        stream.synchronize().map_err(|e| device_error("weights", total, e))?;
        Ok(HipWeights { weights, buffer })
    }

    /// A loaded weight.
    pub fn get(&self, name: &str) -> Option<&DeviceWeight> {
        self.weights.get(name)
    }
}

impl Weights for HipWeights {
    fn allocated(&self) -> usize {
        self.buffer.len()
    }
}
