//! What the element-wise ops and references share: broadcasting and checked access to values.

use crate::ops::{BoundType, InferError, ReferenceError, TensorType, Types};
use crate::tensor::{DType, Dim, HostTensor};
use smallvec::smallvec;
use std::borrow::Cow;

/// The f32 values of operand `i`.
pub(super) fn values<'a>(operands: &[&'a HostTensor], i: usize) -> Result<Cow<'a, [f32]>, ReferenceError> {
    operands.get(i).and_then(|t| t.f32s()).ok_or(ReferenceError::Operand(i))
}

/// The i32 values of operand `i`.
pub(super) fn ints<'a>(operands: &[&'a HostTensor], i: usize) -> Result<&'a [i32], ReferenceError> {
    operands.get(i).and_then(|t| t.i32s()).ok_or(ReferenceError::Operand(i))
}

/// An f32 result of the bound type.
pub(super) fn result(out: BoundType, values: Vec<f32>) -> Result<Vec<HostTensor>, ReferenceError> {
    HostTensor::from_f32(out.ne, values).map(|t| vec![t]).ok_or(ReferenceError::Operand(0))
}

/// `operand` must be f32.
pub(super) fn expect_f32(name: &'static str, operand: &TensorType) -> Result<(), InferError> {
    if operand.dtype == DType::F32 { Ok(()) } else { Err(InferError::operand(name, operand, "f32 elements")) }
}

/// `operand` must be an i32 vector of `len`.
pub(super) fn expect_ids(name: &'static str, operand: &TensorType, len: Dim) -> Result<(), InferError> {
    if operand.dtype == DType::I32 && operand.shape.rank() == 1 && operand.shape.dim(0) == len {
        Ok(())
    } else {
        Err(InferError::operand(name, operand, format!("i32[{len}]")))
    }
}

/// Type of `a op b`, where each size of `b` equals that of `a` or is 1.
pub(super) fn infer_broadcast(operands: &[&TensorType]) -> Result<Types, InferError> {
    let (a, b) = (operands[0], operands[1]);
    expect_f32("a", a)?;
    expect_f32("b", b)?;
    if a.shape.dims4().iter().zip(b.shape.dims4()).any(|(&x, y)| y != x && y != Dim::ONE) {
        return Err(InferError::operand("b", b, format!("the shape of `a`, {}, or ones where it repeats", a.shape)));
    }
    Ok(smallvec![a.clone()])
}

/// `f(a, b)` for each element of `a`, `b` repeated where its size is 1.
pub(super) fn reference_broadcast(
    operands: &[&HostTensor],
    outs: &[BoundType],
    f: impl Fn(f32, f32) -> f32,
) -> Result<Vec<HostTensor>, ReferenceError> {
    let (a, b) = (values(operands, 0)?, values(operands, 1)?);
    let nb = operands[1].ne();
    let ne = outs[0].ne;
    let mut out = Vec::with_capacity(a.len());
    let pick = |i: usize, d: usize| if nb[d] == 1 { 0 } else { i };
    for i3 in 0..ne[3] {
        for i2 in 0..ne[2] {
            for i1 in 0..ne[1] {
                for i0 in 0..ne[0] {
                    let ia = ((i3 * ne[2] + i2) * ne[1] + i1) * ne[0] + i0;
                    let ib = ((pick(i3, 3) * nb[2] + pick(i2, 2)) * nb[1] + pick(i1, 1)) * nb[0] + pick(i0, 0);
                    out.push(f(a[ia], b[ib]));
                }
            }
        }
    }
    result(outs[0], out)
}

/// Declares a binary op with broadcasting of `b`.
macro_rules! binary_op {
    ($(#[$doc:meta])* $name:ident, $text:literal, $f:expr) => {
        $crate::ops::attrs::attributes! {
            $(#[$doc])*
            pub struct $name {}
        }

        impl $crate::ops::OpDef for $name {
            const NAME: &'static str = $text;
            const OPERANDS: &'static [&'static str] = &["a", "b"];

            fn infer(&self, operands: &[&$crate::ops::TensorType]) -> Result<$crate::ops::Types, $crate::ops::InferError> {
                $crate::ops::elementwise::infer_broadcast(operands)
            }

            fn reference(
                &self,
                operands: &[&$crate::tensor::HostTensor],
                outs: &[$crate::ops::BoundType],
            ) -> Result<Vec<$crate::tensor::HostTensor>, $crate::ops::ReferenceError> {
                $crate::ops::elementwise::reference_broadcast(operands, outs, $f)
            }

            fn in_place(&self) -> &'static [usize] {
                &[0]
            }

            fn cases() -> Vec<$crate::ops::Case> {
                use $crate::ops::{Case, Operand};
                use $crate::tensor::{Dim, Sym};
                vec![
                    Case::new($name {}, vec![Operand::f32(&[33, 3, 2]), Operand::f32(&[33, 3, 2])]),
                    Case::new($name {}, vec![Operand::f32(&[33, 3, 2]), Operand::f32(&[33])]),
                    Case::new($name {}, vec![Operand::f32(&[64, 3, 2]), Operand::f32(&[64])]),
                    Case::new($name {}, vec![Operand::f32(&[64, 3, 2]), Operand::f32(&[1, 3])]),
                    Case::new($name {}, vec![Operand::f32(&[5, 4, 3, 2]), Operand::f32(&[1, 4, 1, 2])]),
                    Case::new(
                        $name {},
                        vec![Operand::f32(&[Dim::from(64), Sym::T.into()]), Operand::f32(&[Dim::from(64), Sym::T.into()])],
                    ),
                ]
            }
        }
    };
}
pub(super) use binary_op;
