//! Test cases that an op file offers to every backend.

use crate::ops::{Op, TensorType};
use crate::tensor::{Bounds, DType, Dim, Shape};

/// How an operand's values are made.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// Pseudo-random values in [-1, 1), seeded by the operand's place.
    Uniform,
    /// These whole numbers, repeated.
    Ints(Vec<i32>),
}

/// An operand of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// Its type; symbolic sizes are bound by the case.
    pub ty: TensorType,
    /// Its values.
    pub fill: Fill,
    /// Whether it is a weight (read from a file) or a value of the run.
    pub weight: bool,
}

/// An op with operands; a backend must agree with the reference within `tolerance`.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The op.
    pub op: Op,
    /// Its operands.
    pub operands: Vec<Operand>,
    /// Values of the symbols.
    pub bounds: Bounds,
    /// Largest allowed difference, relative to the largest absolute value of the reference result.
    pub tolerance: f32,
}

impl Operand {
    /// Random f32 values.
    pub fn f32<D: Into<Dim> + Copy>(dims: &[D]) -> Operand {
        Operand { ty: TensorType::f32(Shape::new(dims)), fill: Fill::Uniform, weight: false }
    }

    /// These i32 values.
    pub fn i32<D: Into<Dim> + Copy>(dims: &[D], values: &[i32]) -> Operand {
        Operand { ty: TensorType::i32(Shape::new(dims)), fill: Fill::Ints(values.to_vec()), weight: false }
    }

    /// A weight of random values, rounded to `dtype`.
    pub fn weight(dtype: DType, dims: &[usize]) -> Operand {
        Operand { ty: TensorType::new(dtype, Shape::new(dims)), fill: Fill::Uniform, weight: true }
    }

    /// A value of the run of any type, random.
    pub fn typed<D: Into<Dim> + Copy>(dtype: DType, dims: &[D]) -> Operand {
        Operand { ty: TensorType::new(dtype, Shape::new(dims)), fill: Fill::Uniform, weight: false }
    }
}

impl Case {
    /// A case without symbolic sizes that allows rounding differences only.
    pub fn new(op: impl Into<Op>, operands: Vec<Operand>) -> Case {
        Case { op: op.into(), operands, bounds: Bounds { t: 3, s: 5, r: 2 }, tolerance: 2e-6 }
    }

    /// The case with these values of the symbols.
    pub fn bounds(self, t: usize, s: usize, r: usize) -> Case {
        Case { bounds: Bounds { t, s, r }, ..self }
    }

    /// The case with this tolerance.
    pub fn tolerance(self, tolerance: f32) -> Case {
        Case { tolerance, ..self }
    }
}
