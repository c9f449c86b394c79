//! [`TensorType`]: element type and shape of a value in a graph.

use crate::ops::BoundType;
use crate::tensor::{Bounds, DType, Shape};
use smallvec::SmallVec;
use std::fmt;

/// Element type and shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// The element type.
    pub dtype: DType,
    /// The shape, `ne[0]` first.
    pub shape: Shape,
}

/// The types of an op's results; most ops have one.
pub type Types = SmallVec<[TensorType; 1]>;

impl TensorType {
    /// A type.
    pub fn new(dtype: DType, shape: Shape) -> TensorType {
        TensorType { dtype, shape }
    }

    /// An f32 tensor.
    pub fn f32(shape: Shape) -> TensorType {
        TensorType { dtype: DType::F32, shape }
    }

    /// An i32 tensor.
    pub fn i32(shape: Shape) -> TensorType {
        TensorType { dtype: DType::I32, shape }
    }

    /// Bytes of a contiguous tensor of this type under `bounds`; `None` on overflow or partial blocks.
    pub fn bytes(&self, bounds: &Bounds) -> Option<usize> {
        let [row, rest @ ..] = self.shape.eval(bounds);
        rest.iter().try_fold(self.dtype.row_bytes(row)?, |n, &d| n.checked_mul(d))
    }

    /// The type with its sizes bound.
    pub fn bind(&self, bounds: &Bounds) -> BoundType {
        BoundType { dtype: self.dtype, ne: self.shape.eval(bounds) }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}
