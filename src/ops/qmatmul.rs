//! `qmatmul`: out[n, m] = f(Σ_k w[k, n] · x[k, m] (+ bias[n])) (+ residual[n, m]), with `w` read in its stored type, f an activation
//! function where `act` names one, and `x` possibly normalised first.

use super::attrs::attributes;
use super::elementwise::{reference_broadcast, result, values};
use crate::ops::{
    Activation, BoundType, Case, InferError, Matmul, OpDef, Operand, ReferenceError, RmsNormMul, TensorType, Types,
    Unary,
};
use crate::tensor::{Bounds, DType, Dim, HostTensor, Shape, Sym};
use smallvec::smallvec;

attributes! {
    /// dequantize + matmul in one step, with the bias added, the activation function applied and the residual added to results that
    /// are still in cache.
    ///
    /// `w: [k, n]` of any type, `x: [k, …]` f32 or quantized by `quantize`, `bias: f32[n]`, `residual`: f32 of the result's shape
    /// → f32 `[n, …]`.
    pub struct QMatmul {
        /// Whether a bias is the next operand.
        pub bias: bool = false,
        /// The function of the product and bias, before the residual.
        pub act: Option<Activation> = None,
        /// Whether a residual is the last operand.
        pub residual: bool = false,
        /// The type to which f32 activations are rounded on the way in; f32 leaves them as they are.
        pub activation: DType = DType::F32,
        /// Where positive, `x` is normalised first, as `rms_norm_mul` with this `eps` does with the last operand `norm: f32[k]`.
        pub norm_eps: f32 = 0.0,
    }
}

/// `x` after the normalisation in front of the product, if there is one.
pub(super) fn normed(eps: f32, x: &HostTensor, norm: Option<&&HostTensor>) -> Result<HostTensor, ReferenceError> {
    let Some(norm) = norm.filter(|_| eps > 0.0) else { return Ok(x.clone()) };
    let out = BoundType { dtype: DType::F32, ne: x.ne() };
    RmsNormMul { eps }.reference(&[x, norm], &[out])?.pop().ok_or(ReferenceError::Operand(0))
}

/// Checks the operand of a normalisation in front of a product.
pub(super) fn check_norm(eps: f32, x: &TensorType, norm: &TensorType) -> Result<(), InferError> {
    if !(eps.is_finite() && eps >= 0.0) {
        return Err(InferError::attribute("norm_eps", format!("{eps} is no positive number")));
    }
    if eps > 0.0 && x.dtype != DType::F32 {
        return Err(InferError::operand("x", x, "f32 elements, which are normalised"));
    }
    let row = TensorType::f32(Shape::new(&[x.shape.row()]));
    if eps > 0.0 && *norm != row { Err(InferError::operand("norm", norm, row.to_string())) } else { Ok(()) }
}

/// f32 activations may be rounded to q8_a or bf16 on the way in.
pub(super) fn check_activation(activation: DType, x: &TensorType) -> Result<(), InferError> {
    if activation == DType::F32 {
        return Ok(());
    }
    if !matches!(activation, DType::Q8A | DType::Bf16) || x.dtype != DType::F32 {
        return Err(InferError::attribute(
            "activation",
            format!("f32 activations can be rounded to q8_a or bf16, not {x} to {activation}"),
        ));
    }
    crate::ops::Quantize { to: activation }.infer(&[x]).map(|_| ())
}

/// The activations as the product sees them, in f32.
fn rounded(activation: DType, x: &HostTensor) -> Result<HostTensor, ReferenceError> {
    let mut values = x.f32s().ok_or(ReferenceError::Operand(1))?.into_owned();
    if activation != DType::F32 {
        let rounded =
            HostTensor::quantized(activation, x.ne(), &values).map_err(|e| ReferenceError::Value(e.to_string()))?;
        values = rounded.f32s().ok_or(ReferenceError::Operand(1))?.into_owned();
    }
    HostTensor::from_f32(x.ne(), values).ok_or(ReferenceError::Operand(1))
}

impl OpDef for QMatmul {
    const NAME: &'static str = "qmatmul";
    const OPERANDS: &'static [&'static str] = &["w", "x", "bias?", "residual?", "norm?"];

    fn check_arity(&self, found: usize) -> Result<(), InferError> {
        let norm = self.norm_eps > 0.0;
        let expected = 2 + self.bias as usize + self.residual as usize + norm as usize;
        if found == expected {
            return Ok(());
        }
        let names = [("w", true), ("x", true), ("bias", self.bias), ("residual", self.residual), ("norm", norm)];
        let names: Vec<_> = names.iter().filter(|n| n.1).map(|n| n.0).collect();
        Err(InferError::Arity { expected: format!("({})", names.join(", ")), found })
    }

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
        let (w, x) = (operands[0], operands[1]);
        if w.shape.rank() > 2 {
            return Err(InferError::operand("w", w, "a matrix [k, n]"));
        }
        if !w.dtype.is_weight() {
            return Err(InferError::operand("w", w, "a type of weights"));
        }
        if !matches!(x.dtype, DType::F32 | DType::F16 | DType::Bf16 | DType::Q8A) {
            return Err(InferError::operand("x", x, "f32, f16, bf16 or q8_a elements"));
        }
        check_norm(self.norm_eps, x, operands[operands.len() - 1])?;
        check_activation(self.activation, x)?;
        if w.shape.row() != x.shape.row() {
            return Err(InferError::operand("x", x, format!("rows of {} elements as in `w`, {w}", w.shape.row())));
        }
        let out = TensorType::f32(x.shape.with_dim(0, w.shape.dim(1)));
        if self.bias && *operands[2] != TensorType::f32(Shape::new(&[w.shape.dim(1)])) {
            return Err(InferError::operand("bias", operands[2], format!("f32[{}]", w.shape.dim(1))));
        }
        let residual = operands[1 + self.bias as usize + self.residual as usize];
        if self.residual && *residual != out {
            return Err(InferError::operand("residual", residual, out.to_string()));
        }
        Ok(smallvec![out])
    }

    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let dense = |i: usize| {
            let values = values(operands, i)?.into_owned();
            HostTensor::from_f32(operands[i].ne(), values).ok_or(ReferenceError::Operand(i))
        };
        let x = normed(self.norm_eps, operands[1], operands.last())?;
        let (w, x) = (dense(0)?, rounded(self.activation, &x)?);
        // Rows of x beyond the second dimension are just more rows.
        let x = x.reshaped([x.ne()[0], x.rows(), 1, 1]).ok_or(ReferenceError::Operand(1))?;
        let product =
            Matmul {}.reference(&[&w, &x], &[BoundType { dtype: DType::F32, ne: [w.ne()[1], x.rows(), 1, 1] }])?;
        let mut out = result(outs[0], values(&[&product[0]], 0)?.into_owned())?;
        if self.bias {
            out = reference_broadcast(&[&out[0], operands[2]], outs, |a, b| a + b)?;
        }
        if let Some(kind) = self.act {
            out = Unary { kind }.reference(&[&out[0]], outs)?;
        }
        if self.residual {
            out = reference_broadcast(&[&out[0], operands[2 + self.bias as usize]], outs, |a, b| a + b)?;
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
                        QMatmul { bias: false, act: None, residual: false, activation: DType::F32, norm_eps: 0.0 },
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
                    QMatmul { bias: true, act: None, residual: true, activation: DType::F32, norm_eps: 0.0 },
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
        // Square roots of random sums are not numbers.
        for (i, &act) in Activation::ALL.iter().filter(|&&act| act != Activation::Sqrt).enumerate() {
            let (bias, residual) = (i % 2 == 0, i % 3 == 0);
            let mut operands = vec![Operand::weight(DType::Q8_0, &[64, 40]), Operand::f32(&[Dim::from(64), t])];
            operands.extend(bias.then(|| Operand::f32(&[40])));
            operands.extend(residual.then(|| Operand::f32(&[Dim::from(40), t])));
            let op = QMatmul { bias, act: Some(act), residual, activation: DType::F32, norm_eps: 0.0 };
            cases.push(Case::new(op, operands).bounds(3, 5, 1).tolerance(1e-5));
        }
        cases.push(
            Case::new(
                QMatmul { bias: true, act: None, residual: true, activation: DType::F32, norm_eps: 0.0 },
                vec![
                    Operand::weight(DType::Q5K, &[K, 130]),
                    Operand::f32(&[Dim::from(K), t]),
                    Operand::f32(&[130]),
                    Operand::f32(&[Dim::from(130), t]),
                ],
            )
            .bounds(67, 5, 1)
            .tolerance(1e-5),
        );
        cases.push(
            Case::new(
                QMatmul {
                    bias: true,
                    act: Some(Activation::Gelu),
                    residual: true,
                    activation: DType::F32,
                    norm_eps: 0.0,
                },
                vec![
                    Operand::weight(DType::Q5_0, &[K, 130]),
                    Operand::f32(&[Dim::from(K), t]),
                    Operand::f32(&[130]),
                    Operand::f32(&[Dim::from(130), t]),
                ],
            )
            .bounds(9, 5, 1)
            .tolerance(1e-5),
        );
        for dtype in [DType::Q8_0, DType::Q4_0, DType::Q4K, DType::Q6K] {
            cases.push(
                Case::new(
                    QMatmul { bias: false, act: None, residual: false, activation: DType::Q8A, norm_eps: 0.0 },
                    vec![Operand::weight(dtype, &[1024, 40]), Operand::f32(&[Dim::from(1024), t])],
                )
                .bounds(2, 5, 1)
                .tolerance(1e-5),
            );
            cases.push(
                Case::new(
                    QMatmul { bias: false, act: None, residual: false, activation: DType::F32, norm_eps: 0.0 },
                    vec![Operand::weight(dtype, &[1024, 40]), Operand::typed(DType::Q8A, &[Dim::from(1024), t])],
                )
                .bounds(11, 5, 1)
                .tolerance(1e-5),
            );
            cases.push(
                Case::new(
                    QMatmul { bias: false, act: None, residual: true, activation: DType::Q8A, norm_eps: 1e-5 },
                    vec![
                        Operand::weight(dtype, &[1024, 40]),
                        Operand::f32(&[Dim::from(1024), t]),
                        Operand::f32(&[Dim::from(40), t]),
                        Operand::f32(&[1024]),
                    ],
                )
                .bounds(2, 5, 1)
                // An element may round to the next integer.
                .tolerance(2e-3),
            );
        }
        let bf16 = |activation, norm_eps| QMatmul { bias: false, act: None, residual: false, activation, norm_eps };
        for (op, x, tokens, tolerance) in [
            (bf16(DType::Bf16, 0.0), DType::F32, 1, 1e-5),
            (bf16(DType::Bf16, 0.0), DType::F32, 5, 1e-5),
            (bf16(DType::F32, 0.0), DType::Bf16, 19, 1e-5),
            // An element may round to its neighbour.
            (bf16(DType::Bf16, 1e-5), DType::F32, 3, 2e-3),
        ] {
            let mut operands =
                vec![Operand::weight(DType::Bf16, &[1000, 37]), Operand::typed(x, &[Dim::from(1000), t])];
            operands.extend((op.norm_eps > 0.0).then(|| Operand::f32(&[1000])));
            cases.push(Case::new(op, operands).bounds(tokens, 5, 1).tolerance(tolerance));
        }
        cases.push(
            Case::new(
                QMatmul { bias: false, act: None, residual: false, activation: DType::F32, norm_eps: 1e-5 },
                vec![Operand::weight(DType::F16, &[256, 40]), Operand::f32(&[Dim::from(256), t]), Operand::f32(&[256])],
            )
            .bounds(1, 5, 1)
            .tolerance(1e-5),
        );
        cases
    }
}
