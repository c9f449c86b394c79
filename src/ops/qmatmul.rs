//! `qmatmul`: out[n, m] = Σ_k w[k, n] · x[k, m] (+ bias[n]) (+ residual[n, m]), with `w` read in its stored type.

use super::attrs::attributes;
use super::elementwise::{reference_broadcast, result, values};
use crate::ops::{BoundType, Case, InferError, Matmul, OpDef, Operand, ReferenceError, TensorType, Types};
use crate::tensor::{Bounds, DType, Dim, HostTensor, Shape, Sym};
use smallvec::smallvec;

attributes! {
    /// dequantize + matmul in one step, with the bias and the residual added where the sum is still in registers.
    ///
    /// `w: [k, n]` of any type, `x: [k, …]` f32 or quantized by `quantize`, `bias: f32[n]`, `residual`: f32 of the result's shape
    /// → f32 `[n, …]`.
    pub struct QMatmul {
        /// Whether a bias is the next operand.
        pub bias: bool = false,
        /// Whether a residual is the last operand.
        pub residual: bool = false,
    }
}

impl QMatmul {
    fn check_arity(&self, found: usize) -> Result<(), InferError> {
        let expected = 2 + self.bias as usize + self.residual as usize;
        if found == expected {
            return Ok(());
        }
        let names = [("w", true), ("x", true), ("bias", self.bias), ("residual", self.residual)];
        let names: Vec<_> = names.iter().filter(|n| n.1).map(|n| n.0).collect();
        Err(InferError::Arity { expected: format!("({})", names.join(", ")), found })
    }
}

impl OpDef for QMatmul {
    const NAME: &'static str = "qmatmul";
    const OPERANDS: &'static [&'static str] = &["w", "x", "bias?", "residual?"];

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        self.check_arity(operands.len())?;
        let (w, x) = (operands[0], operands[1]);
        if w.shape.rank() > 2 {
            return Err(InferError::operand("w", w, "a matrix [k, n]"));
        }
        if !w.dtype.is_weight() {
            return Err(InferError::operand("w", w, "a type of weights"));
        }
        if x.dtype != DType::F32 && x.dtype != DType::Q8A {
            return Err(InferError::operand("x", x, "f32 or q8_a elements"));
        }
        if w.shape.row() != x.shape.row() {
            return Err(InferError::operand("x", x, format!("rows of {} elements as in `w`, {w}", w.shape.row())));
        }
        let out = TensorType::f32(x.shape.with_dim(0, w.shape.dim(1)));
        if self.bias && *operands[2] != TensorType::f32(Shape::new(&[w.shape.dim(1)])) {
            return Err(InferError::operand("bias", operands[2], format!("f32[{}]", w.shape.dim(1))));
        }
        if self.residual && operands[operands.len() - 1] != &out {
            return Err(InferError::operand("residual", operands[operands.len() - 1], out.to_string()));
        }
        Ok(smallvec![out])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let dense = |i: usize| {
            let values = values(operands, i)?.into_owned();
            HostTensor::from_f32(operands[i].ne(), values).ok_or(ReferenceError::Operand(i))
        };
        let (w, x) = (dense(0)?, dense(1)?);
        // Rows of x beyond the second dimension are just more rows.
        let x = x.reshaped([x.ne()[0], x.rows(), 1, 1]).ok_or(ReferenceError::Operand(1))?;
        let product =
            Matmul {}.reference(&[&w, &x], &[BoundType { dtype: DType::F32, ne: [w.ne()[1], x.rows(), 1, 1] }])?;
        let mut out = result(outs[0], values(&[&product[0]], 0)?.into_owned())?;
        for &term in &operands[2..] {
            out = reference_broadcast(&[&out[0], term], outs, |a, b| a + b)?;
        }
        Ok(out)
    }

    fn flops(&self, operands: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
        Matmul {}.flops(operands, outs, bounds)
    }

    fn cases() -> Vec<Case> {
        let t = Dim::from(Sym::T);
        // Long enough for the integer kernels of every backend.
        const K: usize = 1024;
        let mut cases = Vec::new();
        for &dtype in DType::ALL {
            if !dtype.is_weight() || !crate::tensor::quant::can_quantize(dtype) {
                continue;
            }
            for (tokens, n) in [(1, 33), (3, 17), (19, 48)] {
                cases.push(
                    Case::new(
                        QMatmul { bias: false, residual: false },
                        vec![Operand::weight(dtype, &[K, n]), Operand::f32(&[Dim::from(K), t])],
                    )
                    .bounds(tokens, 5, 1)
                    .tolerance(1e-5),
                );
            }
        }
        for dtype in [DType::F32, DType::Q8_0] {
            cases.push(
                Case::new(
                    QMatmul { bias: true, residual: true },
                    vec![
                        Operand::weight(dtype, &[64, 24]),
                        Operand::f32(&[Dim::from(64), t]),
                        Operand::f32(&[24]),
                        Operand::f32(&[Dim::from(24), t]),
                    ],
                )
                .tolerance(1e-5),
            );
        }
        for dtype in [DType::Q8_0, DType::Q4_0, DType::Q4K, DType::Q6K] {
            cases.push(
                Case::new(
                    QMatmul { bias: false, residual: false },
                    vec![Operand::weight(dtype, &[1024, 40]), Operand::typed(DType::Q8A, &[Dim::from(1024), t])],
                )
                .bounds(11, 5, 1)
                .tolerance(1e-5),
            );
        }
        cases
    }
}
