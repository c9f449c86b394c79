//! `quantize` to the 16-bit floats, and `dequantize` of the plain types: conversions, one item a thread.

use super::StepArgs;
use super::cont;
use super::elementwise::{Items, Kernels};
use crate::backends::hip::launch::Launches;
use crate::tensor::DType;

const TO_F16: Kernels = Kernels { file: "quantize", one: "quantize_f16", four: "quantize_f16x4" };
const TO_BF16: Kernels = Kernels { file: "quantize", one: "quantize_bf16", four: "quantize_bf16x4" };
const OF_F16: Kernels = Kernels { file: "quantize", one: "dequantize_f16", four: "dequantize_f16x4" };
const OF_BF16: Kernels = Kernels { file: "quantize", one: "dequantize_bf16", four: "dequantize_bf16x4" };

pub(super) fn launches(to: DType, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let kernels = match to {
        DType::F16 => &TO_F16,
        DType::Bf16 => &TO_BF16,
        to => return Err(format!("it rounds to f16 and bf16, not {to}: kernels round to int8 blocks on their way in")),
    };
    if s.operands[0].dtype != DType::F32 || s.results[0].dtype != to {
        return Err(format!("it rounds f32 to {to}, not {} to {}", s.operands[0].dtype, s.results[0].dtype));
    }
    Items::of(&[s.operands[0], s.results[0]])?.launch(kernels, out).map(|_| ())
}

/// `dequantize` of f32, f16 and bf16.
pub(super) fn widen(s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let kernels = match s.operands[0].dtype {
        DType::F32 => return cont::launches(s, out),
        DType::F16 => &OF_F16,
        DType::Bf16 => &OF_BF16,
        from => return Err(format!("{from} is no plain floating-point type")),
    };
    Items::of(&[s.operands[0], s.results[0]])?.launch(kernels, out).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{dense, step};
    use super::*;

    #[test]
    fn rows_are_rounded_by_four_and_blocks_are_refused() {
        let x = dense(DType::F32, [4096, 7, 1, 1]);
        let out = step(&[x], &[dense(DType::F16, [4096, 7, 1, 1])], |s, out| launches(DType::F16, s, out)).unwrap();
        assert_eq!((out.list[0].kernel.name, out.list[0].grid), ("quantize_f16x4", [28, 1, 1]));
        let refused = step(&[x], &[dense(DType::Q8A, [4096, 7, 1, 1])], |s, out| launches(DType::Q8A, s, out));
        assert!(refused.unwrap_err().contains("q8_a"));
    }

    #[test]
    fn plain_types_widen_and_f32_is_copied() {
        let result = dense(DType::F32, [40, 5, 1, 1]);
        let name = |dtype| step(&[dense(dtype, [40, 5, 1, 1])], &[result], widen).map(|out| out.list[0].kernel.name);
        assert_eq!(name(DType::Bf16), Ok("dequantize_bf16x4"));
        assert_eq!(name(DType::F32), Ok("cont_16"));
    }
}
