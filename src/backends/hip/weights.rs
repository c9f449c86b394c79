//! [`DeviceWeight`]: a weight in the forms that kernels read.

use super::device_error;
use super::ffi::{Buffer, Device};
use super::planes::{ALIGNMENT, PlaneLayout};
use super::upload::{Item, upload};
use super::view::DevicePtr;
use crate::backends::{BackendError, LoadParts, WeightSource, Weights};
use crate::graph::plan::WeightSlot;
use crate::tensor::{Bounds, DType};
use bytemuck::{Pod, Zeroable};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

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
    parts: LoadParts,
}

impl HipWeights {
    /// Packs and uploads what the slots' uses need.
    pub fn load(
        device: &Arc<Device>,
        slots: &[WeightSlot],
        source: &dyn WeightSource,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<HipWeights, BackendError> {
        let start = Instant::now();
        let mut items = Vec::with_capacity(slots.len());
        let mut total = 0;
        for slot in slots {
            let error = |reason: &str| BackendError::Weight { name: slot.name.clone(), reason: reason.to_string() };
            let bytes = source.bytes(&slot.name).ok_or_else(|| error("it is not in the file"))?;
            if Some(bytes.len()) != slot.ty.bytes(&NO_SYMBOLS) {
                return Err(error("its size is not what its type says"));
            }
            let placed = Placed::of(slot);
            let planes = placed.planes.map(|layout| (layout, total));
            let raw = placed.raw.map(|_| total + placed.planes.map_or(0, |layout| layout.bytes));
            items.push(Item { name: &slot.name, bytes, planes, raw });
            total += placed.bytes();
        }
        let buffer = Buffer::new(device, total).map_err(|e| device_error("weights", total, e))?;
        let allocating = start.elapsed();
        let parts = upload(&buffer, device, &items, source, progress)?;
        let weight = |(slot, item): (&WeightSlot, &Item<'_>)| {
            let [k, rows, ..] = slot.ty.shape.eval(&NO_SYMBOLS);
            let planes = item.planes.map(|(layout, at)| {
                let [quants, high, scales, supers] = layout.offsets.map(|offset| buffer.ptr() + (at + offset) as u64);
                let (rows, k, blocks) = (rows as i32, k as i32, (k / 32) as i32);
                Planes { quants, high, scales, supers, format: layout.format, rows, k, blocks }
            });
            let raw = item.raw.map(|at| buffer.ptr() + at as u64);
            (slot.name.clone(), DeviceWeight { dtype: slot.ty.dtype, planes, raw })
        };
        let weights = slots.iter().zip(&items).map(weight).collect();
        Ok(HipWeights { weights, buffer, parts: LoadParts { allocating, ..parts } })
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

    fn load_parts(&self) -> Option<LoadParts> {
        Some(self.parts)
    }
}
