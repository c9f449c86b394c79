//! [`Blas`]: products of f16 matrices by rocBLAS or cuBLAS.

use super::Handle;
use super::error::{self, GpuError};
use super::gate::making;
use super::library::{self, Opened, Search};
use super::memory::Buffer;
use super::runtime::Platform;
use super::stream::{Stream, Work};
use super::sys::blas::{self, CuBlas, RocBlas};
use std::ffi::c_void;
use std::sync::Arc;

/// A vendor's matrix library on one stream.
///
/// The first product can take seconds: rocBLAS loads its kernels then.
pub(crate) struct Blas {
    work: Arc<Work>,
    functions: Functions,
    handle: Handle,
    /// The name or path of the library.
    pub(super) library: String,
    /// cuBLAS' scratch memory: its own would be allocated in a capture.
    _workspace: Option<Buffer>,
}

enum Functions {
    RocBlas(RocBlas),
    CuBlas(CuBlas),
}

/// A product: `out[t][row] = Σ_i w[row][i] · x[t][i]`, for `row < rows`, `t < tokens`, `i < k`, plus what was in `out` with
/// `accumulate`. The last index is the one whose elements lie side by side; sums are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GemmF16 {
    /// Address of `w`, f16.
    pub w: u64,
    /// Elements between rows of `w`, at least `k`.
    pub w_stride: usize,
    /// Address of `x`, f16.
    pub x: u64,
    /// Elements between tokens of `x`, at least `k`.
    pub x_stride: usize,
    /// Address of `out`, f32.
    pub out: u64,
    /// Elements between tokens of `out`, at least `rows`.
    pub out_stride: usize,
    pub rows: usize,
    pub tokens: usize,
    pub k: usize,
    pub accumulate: bool,
}

/// Bytes of scratch memory that cuBLAS gets; what it asks for on Hopper.
const CUBLAS_WORKSPACE: usize = 32 << 20;

impl Blas {
    /// Opens the library of the stream's platform; its products are work of that stream.
    pub fn open(stream: &Stream) -> Result<Blas, GpuError> {
        let device = stream.device();
        let platform = device.info().platform;
        let library = search(platform).open()?;
        let functions = Functions::load(platform, &library)?;
        device.enter()?;
        let mut raw = std::ptr::null_mut();
        let making_handle = making();
        // SAFETY: it writes one handle; the device is current.
        let status = unsafe {
            match &functions {
                Functions::RocBlas(f) => (f.rocblas_create_handle)(&mut raw),
                Functions::CuBlas(f) => (f.cublasCreate_v2)(&mut raw),
            }
        };
        drop(making_handle);
        check(status, functions.name("create_handle"), &format!("starting {} on {device}", library.name))?;
        let mut blas =
            Blas { work: stream.work.clone(), functions, handle: Handle(raw), library: library.name, _workspace: None };
        let raw_stream = stream.work.raw.0;
        let doing = format!("giving {} a stream of {device}", blas.library);
        // SAFETY: the stream is held as long as the handle.
        let status = unsafe {
            match &blas.functions {
                Functions::RocBlas(f) => (f.rocblas_set_stream)(raw, raw_stream),
                Functions::CuBlas(f) => (f.cublasSetStream_v2)(raw, raw_stream),
            }
        };
        check(status, blas.functions.name("set_stream"), &doing)?;
        if let Functions::CuBlas(f) = &blas.functions {
            let workspace = Buffer::new(device, CUBLAS_WORKSPACE)?;
            // SAFETY: the buffer is held as long as the handle, and has that many bytes.
            let status = unsafe { (f.cublasSetWorkspace_v2)(raw, workspace.ptr() as *mut c_void, workspace.len()) };
            check(status, "cublasSetWorkspace_v2", &doing)?;
            blas._workspace = Some(workspace);
        }
        Ok(blas)
    }

    /// Submits a product to the stream. Addresses and strides are trusted like the arguments of a kernel.
    pub fn gemm_f16(&mut self, stream: &Stream, gemm: &GemmF16) -> Result<(), GpuError> {
        let doing = || format!("a product of {} rows, {} tokens, k {}", gemm.rows, gemm.tokens, gemm.k);
        if !Arc::ptr_eq(&self.work, &stream.work) {
            return Err(GpuError::refused(&doing(), "it was started for another stream"));
        }
        if gemm.w_stride < gemm.k || gemm.x_stride < gemm.k || gemm.out_stride < gemm.rows {
            return Err(GpuError::refused(&doing(), format!("its rows overlap: {gemm:?}")));
        }
        let sizes = [gemm.rows, gemm.tokens, gemm.k, gemm.w_stride, gemm.x_stride, gemm.out_stride];
        if sizes.contains(&0) {
            return Err(GpuError::refused(&doing(), "a size is zero"));
        }
        let mut int = [0i32; 6];
        for (to, from) in int.iter_mut().zip(sizes) {
            *to = i32::try_from(from).map_err(|_| GpuError::refused(&doing(), "a size is over 2³¹"))?;
        }
        let [rows, tokens, k, w_stride, x_stride, out_stride] = int;
        let (w, x, out) = (gemm.w as *const c_void, gemm.x as *const c_void, gemm.out as *mut c_void);
        let alpha = 1f32;
        let beta = if gemm.accumulate { 1f32 } else { 0f32 };
        let (alpha, beta) = ((&raw const alpha).cast::<c_void>(), (&raw const beta).cast::<c_void>());
        let submit = stream.submit()?;
        // The libraries count columns first: out is rows × tokens, w is k × rows and transposed, x is k × tokens.
        // SAFETY: the handle lives and nobody else uses it (`&mut self`); the addresses and strides are the caller's; alpha and beta are read
        // before the call returns, which is the libraries' default.
        let status = unsafe {
            match &self.functions {
                Functions::RocBlas(f) => (f.rocblas_gemm_ex)(
                    self.handle.0,
                    blas::ROCBLAS_OPERATION_TRANSPOSE,
                    blas::ROCBLAS_OPERATION_NONE,
                    rows,
                    tokens,
                    k,
                    alpha,
                    w,
                    blas::ROCBLAS_DATATYPE_F16_R,
                    w_stride,
                    x,
                    blas::ROCBLAS_DATATYPE_F16_R,
                    x_stride,
                    beta,
                    out,
                    blas::ROCBLAS_DATATYPE_F32_R,
                    out_stride,
                    out,
                    blas::ROCBLAS_DATATYPE_F32_R,
                    out_stride,
                    blas::ROCBLAS_DATATYPE_F32_R,
                    blas::ROCBLAS_GEMM_ALGO_STANDARD,
                    0,
                    0,
                ),
                Functions::CuBlas(f) => (f.cublasGemmEx)(
                    self.handle.0,
                    blas::CUBLAS_OP_T,
                    blas::CUBLAS_OP_N,
                    rows,
                    tokens,
                    k,
                    alpha,
                    w,
                    blas::CUDA_R_16F,
                    w_stride,
                    x,
                    blas::CUDA_R_16F,
                    x_stride,
                    beta,
                    out,
                    blas::CUDA_R_32F,
                    out_stride,
                    blas::CUBLAS_COMPUTE_32F,
                    blas::CUBLAS_GEMM_DEFAULT,
                ),
            }
        };
        drop(submit);
        check(status, self.functions.name("gemm_ex"), &doing())
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        let _ = self.work.synchronize();
        if self.work.device.enter().is_ok() {
            let _making = making();
            // SAFETY: created by `open`, destroyed once, after its work.
            let _ = unsafe {
                match &self.functions {
                    Functions::RocBlas(f) => (f.rocblas_destroy_handle)(self.handle.0),
                    Functions::CuBlas(f) => (f.cublasDestroy_v2)(self.handle.0),
                }
            };
        }
    }
}

impl Functions {
    fn load(platform: Platform, library: &Opened) -> Result<Functions, GpuError> {
        let advice = install(platform);
        // SAFETY: the library is the platform's, so a function of this name has the signature of the vendor's header, which the table
        // repeats; an opened library is never unloaded.
        unsafe {
            Ok(match platform {
                Platform::Hip => Functions::RocBlas(RocBlas::fill(|name| library.require(name, advice))?),
                Platform::Cuda => Functions::CuBlas(CuBlas::fill(|name| library.require(name, advice))?),
            })
        }
    }

    fn name(&self, what: &str) -> &'static str {
        match (self, what) {
            (Functions::RocBlas(_), "create_handle") => "rocblas_create_handle",
            (Functions::RocBlas(_), "set_stream") => "rocblas_set_stream",
            (Functions::RocBlas(_), _) => "rocblas_gemm_ex",
            (Functions::CuBlas(_), "create_handle") => "cublasCreate_v2",
            (Functions::CuBlas(_), "set_stream") => "cublasSetStream_v2",
            (Functions::CuBlas(_), _) => "cublasGemmEx",
        }
    }
}

/// The libraries have numbers of their own for errors.
fn check(status: i32, call: &'static str, doing: &str) -> Result<(), GpuError> {
    if status == 0 {
        return Ok(());
    }
    let doing = doing.to_string();
    if status == error::ROCBLAS_MEMORY_ERROR && call.starts_with("rocblas")
        || status == error::CUBLAS_ALLOC_FAILED && call.starts_with("cublas")
    {
        return Err(GpuError::OutOfMemory { doing, device: "the device".to_string() });
    }
    Err(GpuError::Call { doing, call, name: "an error".to_string(), code: status })
}

fn install(platform: Platform) -> &'static str {
    match platform {
        Platform::Hip => "install rocBLAS (ROCm's rocblas, Debian's librocblas0), or set ROCM_PATH to where ROCm is",
        Platform::Cuda => "install cuBLAS (NVIDIA's cuda-libraries or libcublas), or set CUDA_PATH to where CUDA is",
    }
}

fn search(platform: Platform) -> Search {
    let install = install(platform);
    match platform {
        Platform::Hip => Search {
            what: "rocBLAS",
            names: &["librocblas.so", "librocblas.so.5", "librocblas.so.4", "librocblas.so.3", "librocblas.so.0"],
            folders: library::folders("ROCM_PATH", "/opt/rocm", &["lib", "lib64"]),
            install,
        },
        Platform::Cuda => Search {
            what: "cuBLAS",
            names: &["libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so"],
            folders: library::folders("CUDA_PATH", "/usr/local/cuda", &["lib64", "lib"]),
            install,
        },
    }
}
