//! `matmul`: out[n, m] = Σ_k a[k, n] · b[k, m], ggml's `mul_mat`: both operands hold rows of length k.

use super::attrs::attributes;
use super::elementwise::{expect_f32, result, values};
use crate::ops::{BoundType, Case, InferError, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{Bounds, Dim, HostTensor, Shape, Sym};
use smallvec::smallvec;

attributes! {
    /// `a: [k, n, p2, p3]`, `b: [k, m, q2, q3]` → `[n, m, q2, q3]`, where q2 and q3 are multiples of p2 and p3: slice i of `a`
    /// serves q/p consecutive slices of `b` (grouped-query attention).
    pub struct Matmul {}
}

impl OpDef for Matmul {
    const NAME: &'static str = "matmul";
    const OPERANDS: &'static [&'static str] = &["a", "b"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let (a, b) = (operands[0], operands[1]);
        expect_f32("a", a)?;
        expect_f32("b", b)?;
        if a.shape.row() != b.shape.row() {
            return Err(InferError::operand("b", b, format!("rows of {} elements as in `a`, {a}", a.shape.row())));
        }
        for i in 2..4 {
            let repeats = match (a.shape.dim(i), b.shape.dim(i)) {
                (Dim::Fixed(p), Dim::Fixed(q)) => p > 0 && q % p == 0,
                (p, q) => p == q || p == Dim::ONE,
            };
            if !repeats {
                return Err(InferError::operand(
                    "b",
                    b,
                    format!("dimension {i} a multiple of that of `a`, {}", a.shape.dim(i)),
                ));
            }
        }
        Ok(smallvec![TensorType::f32(Shape::new(&[a.shape.dim(1), b.shape.dim(1), b.shape.dim(2), b.shape.dim(3)]))])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let (a, b) = (values(operands, 0)?, values(operands, 1)?);
        let ([k, n, p2, p3], [_, m, q2, q3]) = (operands[0].ne(), operands[1].ne());
        let mut out = Vec::with_capacity(n * m * q2 * q3);
        for i3 in 0..q3 {
            for i2 in 0..q2 {
                let a_slice = (i3 * p3 / q3) * p2 + i2 * p2 / q2;
                for i1 in 0..m {
                    let row_b = &b[((i3 * q2 + i2) * m + i1) * k..][..k];
                    for i0 in 0..n {
                        let row_a = &a[(a_slice * n + i0) * k..][..k];
                        let sum: f64 = row_a.iter().zip(row_b).map(|(&x, &y)| x as f64 * y as f64).sum();
                        out.push(sum as f32);
                    }
                }
            }
        }
        result(outs[0], out)
    }

    fn flops(&self, operands: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
        let k = operands[0].shape.row().eval(bounds) as u64;
        k.saturating_mul(2).saturating_mul(outs[0].shape.elements(bounds).unwrap_or(0) as u64)
    }

    fn cases() -> Vec<Case> {
        let t = Dim::from(Sym::T);
        vec![
            Case::new(Matmul {}, vec![Operand::f32(&[7, 5]), Operand::f32(&[7, 3])]),
            Case::new(Matmul {}, vec![Operand::f32(&[64, 33]), Operand::f32(&[Dim::from(64), t])]),
            Case::new(Matmul {}, vec![Operand::f32(&[16, 5, 2]), Operand::f32(&[16, 3, 6])]),
            Case::new(
                Matmul {},
                vec![
                    Operand::f32(&[Dim::from(Sym::S), 8.into(), 2.into()]),
                    Operand::f32(&[Sym::S.into(), t, 4.into()]),
                ],
            ),
        ]
    }
}
