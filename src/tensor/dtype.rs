//! [`DType`]: the closed list of element types, with their block geometry and GGUF numbers.

use std::fmt;

macro_rules! dtypes {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal, $ggml:expr, $block:literal, $bytes:literal; )*) => {
        /// The type of a tensor's elements. Quantized types store a *block* of consecutive elements of a row together.
        ///
        /// Names, numbers and block layouts are ggml's where ggml has the type.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DType { $( $(#[$doc])* $variant, )* }

        impl DType {
            /// Every type, in declaration order.
            pub const ALL: &'static [DType] = &[$( DType::$variant, )*];

            /// The name used in dumps and messages, e.g. `q4_0`.
            pub const fn name(self) -> &'static str { match self { $( DType::$variant => $name, )* } }

            /// The number of the type in a GGUF file; `None` for types that GGUF has no number for.
            pub const fn ggml_id(self) -> Option<u32> { match self { $( DType::$variant => $ggml, )* } }

            /// Elements in a block (1 for plain types).
            pub const fn block_len(self) -> usize { match self { $( DType::$variant => $block, )* } }

            /// Bytes of a block.
            pub const fn block_bytes(self) -> usize { match self { $( DType::$variant => $bytes, )* } }
        }
    };
}

dtypes! {
    /// IEEE single precision.
    F32 = "f32", Some(0), 1, 4;
    /// IEEE half precision.
    F16 = "f16", Some(1), 1, 2;
    /// bfloat16: the upper half of an f32.
    Bf16 = "bf16", Some(30), 1, 2;
    /// IEEE double precision (stored in some files, computed with nowhere).
    F64 = "f64", Some(28), 1, 8;
    /// Signed bytes.
    I8 = "i8", Some(24), 1, 1;
    /// 16-bit signed integers.
    I16 = "i16", Some(25), 1, 2;
    /// 32-bit signed integers: token ids, positions, slots.
    I32 = "i32", Some(26), 1, 4;
    /// 64-bit signed integers.
    I64 = "i64", Some(27), 1, 8;
    /// 4-bit, one f16 scale per 32.
    Q4_0 = "q4_0", Some(2), 32, 18;
    /// 4-bit, f16 scale and minimum per 32.
    Q4_1 = "q4_1", Some(3), 32, 20;
    /// 5-bit, one f16 scale per 32.
    Q5_0 = "q5_0", Some(6), 32, 22;
    /// 5-bit, f16 scale and minimum per 32.
    Q5_1 = "q5_1", Some(7), 32, 24;
    /// 8-bit, one f16 scale per 32.
    Q8_0 = "q8_0", Some(8), 32, 34;
    /// 8-bit, f16 scale and f16 scaled sum per 32: ggml's activation format for types with a minimum.
    Q8_1 = "q8_1", Some(9), 32, 36;
    /// 2-bit super-blocks of 256 with 4-bit scales and minimums per 16.
    Q2K = "q2_K", Some(10), 256, 84;
    /// 3-bit super-blocks of 256 with 6-bit scales per 16.
    Q3K = "q3_K", Some(11), 256, 110;
    /// 4-bit super-blocks of 256 with 6-bit scales and minimums per 32.
    Q4K = "q4_K", Some(12), 256, 144;
    /// 5-bit super-blocks of 256 with 6-bit scales and minimums per 32.
    Q5K = "q5_K", Some(13), 256, 176;
    /// 6-bit super-blocks of 256 with 8-bit scales per 16.
    Q6K = "q6_K", Some(14), 256, 210;
    /// 8-bit super-blocks of 256 with one f32 scale: ggml's activation format for K-quants.
    Q8K = "q8_K", Some(15), 256, 292;
    /// 2.06 bits: codebook of 8 values, super-blocks of 256.
    Iq2Xxs = "iq2_xxs", Some(16), 256, 66;
    /// 2.31 bits: codebook of 8 values, super-blocks of 256.
    Iq2Xs = "iq2_xs", Some(17), 256, 74;
    /// 3.06 bits: codebook of 4 values, super-blocks of 256.
    Iq3Xxs = "iq3_xxs", Some(18), 256, 98;
    /// 1.56 bits: codebook of 8 ternary values, super-blocks of 256.
    Iq1S = "iq1_s", Some(19), 256, 50;
    /// 4-bit with a non-linear table, one f16 scale per 32.
    Iq4Nl = "iq4_nl", Some(20), 32, 18;
    /// 3.44 bits: codebook of 4 values with signs, super-blocks of 256.
    Iq3S = "iq3_s", Some(21), 256, 110;
    /// 2.56 bits: codebook of 8 values with signs, super-blocks of 256.
    Iq2S = "iq2_s", Some(22), 256, 82;
    /// 4-bit with a non-linear table, super-blocks of 256 with 6-bit scales per 32.
    Iq4Xs = "iq4_xs", Some(23), 256, 136;
    /// 1.75 bits: codebook of 8 ternary values, super-blocks of 256.
    Iq1M = "iq1_m", Some(29), 256, 56;
    /// Ternary, 1.69 bits: five values a byte.
    Tq1_0 = "tq1_0", Some(34), 256, 54;
    /// Ternary, 2.06 bits: four values a byte.
    Tq2_0 = "tq2_0", Some(35), 256, 66;
    /// OCP microscaling FP4 (E2M1) with an E8M0 scale per 32.
    Mxfp4 = "mxfp4", Some(39), 32, 17;
    /// NVIDIA FP4 (E2M1) with UE4M3 scales per 16, four groups a block.
    Nvfp4 = "nvfp4", Some(40), 64, 36;
    /// 1-bit, one f16 scale per 128.
    Q1_0 = "q1_0", Some(41), 128, 18;
    /// 2-bit, one f16 scale per 64.
    Q2_0 = "q2_0", Some(42), 64, 18;
    /// Activations quantized for integer kernels: f32 scale, scaled sum, three offset sums (all, first and second 16), 32
    /// int8 values. Made at run time only; it has no GGUF number.
    Q8A = "q8_a", None, 32, 52;
    /// OCP microscaling FP6 (E2M3) with an E8M0 scale per 32.
    Mxfp6E2m3 = "mxfp6_e2m3", None, 32, 25;
    /// OCP microscaling FP6 (E3M2) with an E8M0 scale per 32.
    Mxfp6E3m2 = "mxfp6_e3m2", None, 32, 25;
}

impl DType {
    /// The type with this GGUF number.
    pub fn from_ggml_id(id: u32) -> Option<DType> {
        DType::ALL.iter().copied().find(|t| t.ggml_id() == Some(id))
    }

    /// The type with this [`name`](DType::name), ignoring case.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.iter().copied().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    /// Whether elements are stored in blocks that must be dequantized.
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Whether weights come in this type: floats that models are stored in, and quantized types that are not for activations.
    pub const fn is_weight(self) -> bool {
        match self {
            DType::F32 | DType::F16 | DType::Bf16 => true,
            DType::Q8A | DType::Q8K | DType::Q8_1 => false,
            other => other.is_quantized(),
        }
    }

    /// Bytes of a row of `len` elements; `None` if `len` is no multiple of the block or the product overflows.
    pub const fn row_bytes(self, len: usize) -> Option<usize> {
        if !len.is_multiple_of(self.block_len()) {
            return None;
        }
        (len / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Mean bits an element takes.
    pub fn bits_per_element(self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block_len() as f64
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_lead_back_to_the_type() {
        for &t in DType::ALL {
            assert_eq!(DType::from_name(t.name()), Some(t));
            if let Some(id) = t.ggml_id() {
                assert_eq!(DType::from_ggml_id(id), Some(t));
            }
        }
    }

    #[test]
    fn row_bytes_refuses_partial_blocks_and_overflow() {
        assert_eq!(DType::Q4_0.row_bytes(64), Some(36));
        assert_eq!(DType::Q4_0.row_bytes(33), None);
        assert_eq!(DType::F32.row_bytes(usize::MAX), None);
    }
}
