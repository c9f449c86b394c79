//! [`Layout`]: where the elements of a value lie, with symbolic strides.

use crate::ops::{Op, Permute, Slice, TensorType};
use crate::tensor::{Bounds, Dim, Sym};
use smallvec::{SmallVec, smallvec};
use std::fmt;

/// A product of a number and powers of the symbols T, S and R.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Monomial {
    /// The number.
    pub factor: usize,
    /// The powers.
    pub powers: [u8; 3],
}

impl Monomial {
    /// A number.
    pub const fn fixed(factor: usize) -> Monomial {
        Monomial { factor, powers: [0; 3] }
    }

    /// Its value; saturates.
    pub fn eval(&self, bounds: &Bounds) -> usize {
        let mut value = self.factor;
        for (sym, &power) in Sym::ALL.into_iter().zip(&self.powers) {
            for _ in 0..power {
                value = value.saturating_mul(bounds.get(sym));
            }
        }
        value
    }

    fn times(mut self, dim: Dim) -> Monomial {
        match dim {
            Dim::Fixed(n) => self.factor = self.factor.saturating_mul(n),
            Dim::Sym(s) => self.powers[s as usize] += 1,
        }
        self
    }
}

impl fmt::Display for Monomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.factor)?;
        for (sym, &power) in Sym::ALL.into_iter().zip(&self.powers) {
            for _ in 0..power {
                write!(f, "·{sym}")?;
            }
        }
        Ok(())
    }
}

/// Strides in bytes and an offset from the start of the place.
///
/// `strides[0]` is the distance between elements of a row (between blocks for quantized types).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes to the first element: a sum.
    pub offset: SmallVec<[Monomial; 1]>,
    /// Bytes between neighbours in each dimension.
    pub strides: [Monomial; 4],
}

/// What an op needs of an operand's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Any,
    /// Elements of a row side by side.
    Rows,
    /// All elements side by side.
    Contiguous,
}

/// What `op` needs of operand `slot`.
pub(super) fn need(op: &Op, slot: usize) -> Need {
    match op {
        Op::Cont(_) => Need::Any,
        Op::Matmul(_) if slot == 0 => Need::Any,
        Op::QMatmul(_) | Op::QMatmulGroup(_) | Op::GluQMatmul(_) | Op::Quantize(_) | Op::Custom(_) | Op::GetRows(_) => {
            Need::Contiguous
        }
        // Not the caches.
        Op::QkvRopeAppend(op) if slot < op.k_state() => Need::Contiguous,
        _ => Need::Rows,
    }
}

impl Layout {
    /// Row after row without gaps; symbolic sizes are those of the run.
    pub fn contiguous(ty: &TensorType) -> Layout {
        let block = ty.dtype.block_bytes();
        let [d0, d1, d2, _] = ty.shape.dims4();
        // Rows of symbolic length are of plain elements: the verifier asks for whole blocks.
        let row = match d0 {
            Dim::Fixed(n) => Monomial::fixed((n / ty.dtype.block_len()).saturating_mul(block)),
            Dim::Sym(_) => Monomial::fixed(block).times(d0),
        };
        let plane = row.times(d1);
        Layout { offset: smallvec![], strides: [Monomial::fixed(block), row, plane, plane.times(d2)] }
    }

    /// Row after row with the sizes of `bounds`, whatever a run binds: the layout of a cache with its capacity.
    pub fn with_capacity(ty: &TensorType, bounds: &Bounds) -> Layout {
        let mut layout = Layout::contiguous(ty);
        for stride in &mut layout.strides {
            *stride = Monomial::fixed(stride.eval(bounds));
        }
        layout
    }

    /// The layout after a view op, if it can be expressed without a copy.
    pub(super) fn view(&self, op: &Op, from: &TensorType, to: &TensorType) -> Option<Layout> {
        match op {
            Op::Permute(Permute { axes }) => {
                let mut strides = self.strides;
                for (i, &axis) in axes.iter().enumerate() {
                    strides[axis] = self.strides[i];
                }
                Some(Layout { offset: self.offset.clone(), strides })
            }
            Op::Slice(Slice { dim, start, .. }) => {
                let mut layout = self.clone();
                let mut shift = self.strides[*dim];
                shift.factor = shift.factor.checked_mul(*start)?;
                if shift.factor > 0 {
                    layout.offset.push(shift);
                }
                Some(layout)
            }
            Op::Reshape(_) if self.is_contiguous(from) => {
                Some(Layout { offset: self.offset.clone(), ..Layout::contiguous(to) })
            }
            _ => None,
        }
    }

    /// Whether the layout needs `need` or better.
    pub(super) fn meets(&self, need: Need, ty: &TensorType) -> bool {
        match need {
            Need::Any => true,
            Need::Rows => self.strides[0] == Monomial::fixed(ty.dtype.block_bytes()) || ty.shape.row() == Dim::ONE,
            Need::Contiguous => self.is_contiguous(ty),
        }
    }

    /// Whether the elements lie side by side, apart from the offset.
    pub fn is_contiguous(&self, ty: &TensorType) -> bool {
        let dense = Layout::contiguous(ty);
        // The stride of a dimension of one element does not matter.
        (0..4).all(|i| self.strides[i] == dense.strides[i] || ty.shape.dim(i) == Dim::ONE)
    }

    /// The offset in bytes.
    pub fn offset(&self, bounds: &Bounds) -> usize {
        self.offset.iter().map(|m| m.eval(bounds)).sum()
    }

    /// The strides in bytes.
    pub fn strides(&self, bounds: &Bounds) -> [usize; 4] {
        self.strides.map(|s| s.eval(bounds))
    }
}
