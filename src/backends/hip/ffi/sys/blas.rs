//! Matrix products: rocBLAS' entry points as in `rocblas-functions.h`, cuBLAS' as in `cublas_api.h`.
#![allow(non_camel_case_types)]

use super::{Status, table};
use std::ffi::c_void;

pub type rocblas_handle = *mut c_void;
pub type cublasHandle_t = *mut c_void;

pub const ROCBLAS_OPERATION_NONE: i32 = 111;
pub const ROCBLAS_OPERATION_TRANSPOSE: i32 = 112;
pub const ROCBLAS_DATATYPE_F16_R: i32 = 150;
pub const ROCBLAS_DATATYPE_F32_R: i32 = 151;
pub const ROCBLAS_GEMM_ALGO_STANDARD: i32 = 0;

pub const CUBLAS_OP_N: i32 = 0;
pub const CUBLAS_OP_T: i32 = 1;
pub const CUDA_R_32F: i32 = 0;
pub const CUDA_R_16F: i32 = 2;
pub const CUBLAS_COMPUTE_32F: i32 = 68;
pub const CUBLAS_GEMM_DEFAULT: i32 = -1;

table! {
    /// librocblas.
    RocBlas {
        fn rocblas_create_handle(handle: *mut rocblas_handle) -> Status;
        fn rocblas_destroy_handle(handle: rocblas_handle) -> Status;
        fn rocblas_set_stream(handle: rocblas_handle, stream: *mut c_void) -> Status;
        fn rocblas_gemm_ex(
            handle: rocblas_handle,
            trans_a: i32, trans_b: i32,
            m: i32, n: i32, k: i32,
            alpha: *const c_void,
            a: *const c_void, a_type: i32, lda: i32,
            b: *const c_void, b_type: i32, ldb: i32,
            beta: *const c_void,
            c: *const c_void, c_type: i32, ldc: i32,
            d: *mut c_void, d_type: i32, ldd: i32,
            compute_type: i32,
            algo: i32,
            solution_index: i32,
            flags: u32,
        ) -> Status;
    }
}

table! {
    /// libcublas.
    CuBlas {
        fn cublasCreate_v2(handle: *mut cublasHandle_t) -> Status;
        fn cublasDestroy_v2(handle: cublasHandle_t) -> Status;
        fn cublasSetStream_v2(handle: cublasHandle_t, stream: *mut c_void) -> Status;
        fn cublasSetWorkspace_v2(handle: cublasHandle_t, workspace: *mut c_void, bytes: usize) -> Status;
        fn cublasGemmEx(
            handle: cublasHandle_t,
            trans_a: i32, trans_b: i32,
            m: i32, n: i32, k: i32,
            alpha: *const c_void,
            a: *const c_void, a_type: i32, lda: i32,
            b: *const c_void, b_type: i32, ldb: i32,
            beta: *const c_void,
            c: *mut c_void, c_type: i32, ldc: i32,
            compute_type: i32,
            algo: i32,
        ) -> Status;
    }
}
