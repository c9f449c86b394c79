//! Raw matrices: rows of blocks as a GGUF file has them, and the kernels that read each type (`kernels/common/blocks.h`).

use super::launch::Kernel;
use super::steps::StepArgs;
use super::view::{DevicePtr, DeviceView};
use crate::tensor::DType;
use bytemuck::{Pod, Zeroable};

/// `RawMatrix` of `kernels/common/blocks.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RawMatrix {
    pub data: DevicePtr,
    /// Bytes from a row to the next.
    pub row_bytes: i64,
    pub rows: i32,
    /// Elements of a row.
    pub k: i32,
}

const _: () = assert!(size_of::<RawMatrix>() == 24);

/// What there is for a type of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawType {
    /// `DTYPE_…` of blocks.h.
    pub number: i32,
    pub dequantize_f32: Kernel,
    pub dequantize_f16: Kernel,
    pub get_rows: Kernel,
    /// For one token, and for eight at a time.
    pub matvec: [Kernel; 2],
}

macro_rules! raw_types {
    ($( $file:literal: $( $variant:ident $name:literal $number:literal, )* )*) => {
        /// The kernels of a type; `None` for types that weights do not have.
        pub(crate) fn raw_type(dtype: DType) -> Option<RawType> {
            Some(match dtype {
                $( $( DType::$variant => RawType {
                    number: $number,
                    dequantize_f32: Kernel { file: "dequantize", name: concat!("dequantize_", $name, "_f32") },
                    dequantize_f16: Kernel { file: "dequantize", name: concat!("dequantize_", $name, "_f16") },
                    get_rows: Kernel { file: "get_rows", name: concat!("get_rows_", $name) },
                    matvec: [
                        Kernel { file: $file, name: concat!("matvec_raw_", $name, "_1") },
                        Kernel { file: $file, name: concat!("matvec_raw_", $name, "_8") },
                    ],
                }, )* )*
                _ => return None,
            })
        }
    };
}

raw_types! {
    "matvec_raw":
        F32 "f32" 0, F16 "f16" 1, Bf16 "bf16" 30, Q4_0 "q4_0" 2, Q4_1 "q4_1" 3, Q5_0 "q5_0" 6, Q5_1 "q5_1" 7, Q8_0 "q8_0" 8,
        Q1_0 "q1_0" 41, Q2_0 "q2_0" 42,
    "matvec_raw_codes":
        Iq4Nl "iq4_nl" 20, Mxfp4 "mxfp4" 39, Nvfp4 "nvfp4" 40, Mxfp6E2m3 "mxfp6_e2m3" 1000, Mxfp6E3m2 "mxfp6_e3m2" 1001,
    "matvec_raw_k":
        Q2K "q2_K" 10, Q3K "q3_K" 11, Q4K "q4_K" 12, Q5K "q5_K" 13, Q6K "q6_K" 14, Iq4Xs "iq4_xs" 23, Tq1_0 "tq1_0" 34,
        Tq2_0 "tq2_0" 35,
    "matvec_raw_iq":
        Iq2Xxs "iq2_xxs" 16, Iq2Xs "iq2_xs" 17, Iq3Xxs "iq3_xxs" 18, Iq1S "iq1_s" 19, Iq3S "iq3_s" 21, Iq2S "iq2_s" 22,
        Iq1M "iq1_m" 29,
}

/// The kernels of a type, or why there are none.
pub(super) fn kernels_of(dtype: DType) -> Result<RawType, String> {
    raw_type(dtype).ok_or_else(|| format!("device kernels do not read {dtype} blocks"))
}

/// Where the raw bytes of an operand are: a weight's or, of any other tensor, its own.
pub(super) fn raw_address(s: &StepArgs<'_>, operand: usize) -> Result<DevicePtr, String> {
    match s.weights.get(operand).copied().flatten() {
        Some(weight) => {
            weight.raw.ok_or_else(|| format!("the {} weight is on the device in planes only", weight.dtype))
        }
        None => Ok(s.operands[operand].view.ptr),
    }
}

/// An operand as a matrix of raw rows.
pub(super) fn raw_matrix(s: &StepArgs<'_>, operand: usize) -> Result<RawMatrix, String> {
    let view = &s.operands[operand];
    let row_bytes = row_stride(view)?;
    Ok(RawMatrix { data: raw_address(s, operand)?, row_bytes, rows: view.rows() as i32, k: view.view.ne[0] })
}

/// Bytes from a row to the next, where the elements of a row lie side by side and all rows are equally far apart.
pub(super) fn row_stride(view: &DeviceView) -> Result<i64, String> {
    let (ne, nb) = (view.view.ne, view.view.nb);
    let dense = ne[0] == 1 || nb[0] == view.dtype.block_bytes() as i64;
    // A dimension of one element has no stride that matters; the rows' is that of the first dimension with more.
    let stride = (1..4).find(|&d| ne[d] != 1).map_or(nb[1], |d| nb[d]);
    let mut next = stride;
    for d in 1..4 {
        if ne[d] == 1 {
            continue;
        }
        if nb[d] != next {
            return Err(format!("rows of {} are not equally far apart: sizes {ne:?}, strides {nb:?}", view.dtype));
        }
        next = nb[d] * i64::from(ne[d]);
    }
    if dense {
        Ok(stride)
    } else {
        Err(format!("elements of a row of {} do not lie side by side: stride {}", view.dtype, nb[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::steps::testing::dense;
    use super::*;

    /// Name, number, elements and bytes of every `X(…)` line of blocks.h.
    fn types_of_the_header() -> Vec<(String, [usize; 3])> {
        let header = include_str!("../../../kernels/common/blocks.h");
        let lines = header.lines().filter_map(|l| l.trim().strip_prefix("X(")?.split_once(')'));
        lines
            .map(|(fields, _)| {
                let fields: Vec<&str> = fields.split(", ").collect();
                let number = |i: usize| fields[i].parse().unwrap();
                (fields[0].to_string(), [number(1), number(2), number(3)])
            })
            .collect()
    }

    #[test]
    fn the_header_has_the_types_and_geometry_of_dtype() {
        let header = types_of_the_header();
        let weights: Vec<DType> = DType::ALL.iter().copied().filter(|t| t.is_weight()).collect();
        assert_eq!(header.len(), weights.len());
        for dtype in weights {
            let raw = raw_type(dtype).unwrap_or_else(|| panic!("{dtype} has no kernels"));
            let [number, block, bytes] = header.iter().find(|(name, _)| name == dtype.name()).unwrap().1;
            assert_eq!((number as i32, block, bytes), (raw.number, dtype.block_len(), dtype.block_bytes()), "{dtype}");
            assert!(raw.number >= 1000 || dtype.ggml_id() == Some(raw.number as u32), "{dtype}");
            assert_eq!(raw.get_rows.name, format!("get_rows_{dtype}"));
        }
    }

    /// Each list of types is instantiated in the file that [`raw_type`] names.
    #[test]
    fn files_instantiate_the_lists_that_their_types_are_in() {
        let header = include_str!("../../../kernels/common/blocks.h");
        for dtype in DType::ALL.iter().copied().filter(|t| t.is_weight()) {
            let place = header.find(&format!("X({dtype}, ")).unwrap();
            let list = &header[..place][header[..place].rfind("FOR_EACH_").unwrap()..];
            let list = &list[..list.find('(').unwrap()];
            let raw = raw_type(dtype).unwrap();
            for kernel in [raw.matvec[0], raw.get_rows, raw.dequantize_f32] {
                let path = format!("{}/kernels/{}.hip", env!("CARGO_MANIFEST_DIR"), kernel.file);
                let source = std::fs::read_to_string(&path).unwrap();
                assert!(source.contains(&format!("{list}(")), "{path} lacks {list} for {dtype}");
            }
        }
    }

    #[test]
    fn rows_must_be_equally_far_apart() {
        let mut view = dense(DType::F32, [8, 3, 2, 1]);
        assert_eq!(row_stride(&view), Ok(32));
        view.view.nb[2] = 128;
        assert!(row_stride(&view).is_err());
        view.view.ne[1] = 1; // rows are those of the third dimension now
        assert_eq!(row_stride(&view), Ok(128));
        view.view.nb[0] = 8;
        assert!(row_stride(&view).unwrap_err().contains("side by side"));
    }
}
