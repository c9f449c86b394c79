//! [`DeviceWeight`]: a weight in the forms that kernels read.

use super::view::DevicePtr;
use crate::tensor::DType;
use bytemuck::{Pod, Zeroable};

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
    pub rows: usize,
    /// Elements of a row.
    pub k: usize,
    /// For matmuls, where the type has planes.
    pub planes: Option<Planes>,
    /// The bytes of the file: for `get_rows`, for ops that read elements, and for matmuls of types without planes.
    pub raw: Option<DevicePtr>,
}
