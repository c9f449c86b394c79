//! [`DeviceView`]: a bound tensor as kernels take it (`View` in `kernels/common/portable.h`).

use crate::tensor::DType;
use bytemuck::{Pod, Zeroable};

/// An address in device memory.
pub(crate) type DevicePtr = u64;

/// `View` of `kernels/common/portable.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct View {
    pub ptr: DevicePtr,
    pub ne: [i32; 4],
    pub nb: [i64; 4],
}

/// A view with its element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceView {
    pub view: View,
    pub dtype: DType,
    pub form: Form,
}

/// How what a view shows lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Elements, or blocks as a file has them.
    Whole,
    /// Whole rows of a cache of blocks ([`super::states`]): the view is that of the codes, a byte an element, `nb[0]` between blocks;
    /// the scales of its first row are at `scales`.
    Planes { scales: DevicePtr },
    /// Parts of such rows, which no kernel reads.
    PartsOfRows,
}

impl DeviceView {
    /// Elements in dimension `dim`.
    pub fn ne(&self, dim: usize) -> usize {
        self.view.ne[dim] as usize
    }

    /// Rows: elements of all dimensions but the first.
    pub fn rows(&self) -> usize {
        self.ne(1) * self.ne(2) * self.ne(3)
    }

    /// All elements.
    pub fn elements(&self) -> usize {
        self.ne(0) * self.rows()
    }

    /// Whether the elements lie side by side.
    pub fn is_contiguous(&self) -> bool {
        let Some(row) = self.dtype.row_bytes(self.ne(0)) else { return false };
        let dense = [self.dtype.block_bytes() as i64, row as i64, (row * self.ne(1)) as i64];
        let dense = [dense[0], dense[1], dense[2], dense[2] * self.ne(2) as i64];
        (0..4).all(|i| self.view.nb[i] == dense[i] || self.ne(i) == 1)
    }
}
