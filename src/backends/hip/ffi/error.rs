//! [`GpuError`]: what a driver answered, and what to do about it.

use super::runtime::Platform;

/// Why a device, or its library, did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No library of this platform is installed where the loader looks.
    #[error("{library} is not installed (tried {tried}); {install}")]
    LibraryMissing {
        /// What was looked for.
        library: &'static str,
        /// Names and paths that were tried.
        tried: String,
        /// What to install.
        install: &'static str,
    },
    /// A library is there and cannot be used.
    #[error("{library} cannot be used: {reason}; {advice}")]
    LibraryUnusable {
        /// Its name or path.
        library: String,
        /// What the loader said, or the function that it lacks.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// The library works and knows of no device.
    #[error("{library} is installed but reports no device ({advice})")]
    NoDevice {
        /// Its name or path.
        library: String,
        /// What to look at.
        advice: &'static str,
    },
    /// Not enough memory.
    #[error("{doing}: out of memory on {device}; a smaller context or a smaller model needs less")]
    OutOfMemory {
        /// What was being done, with the number of bytes.
        doing: String,
        /// The device with its free memory.
        device: String,
    },
    /// The device, or this process' context on it, is gone; every later call fails too.
    #[error("{doing}: the device failed: {call} answered {code}, {name}; the program must be started again")]
    Lost {
        /// What was being done.
        doing: String,
        /// The driver's function.
        call: &'static str,
        /// The driver's name of the error, and what it says about it.
        name: String,
        /// Its number.
        code: i32,
    },
    /// Any other answer that is not success.
    #[error("{doing}: {call} answered {code}, {name}")]
    Call {
        /// What was being done.
        doing: String,
        /// The driver's function.
        call: &'static str,
        /// The driver's name of the error, and what it says about it.
        name: String,
        /// Its number.
        code: i32,
    },
    /// Arguments that were refused before the driver saw them.
    #[error("{doing}: {reason}")]
    Refused {
        /// What was being done.
        doing: String,
        /// Why not.
        reason: String,
    },
}

impl GpuError {
    /// Whether it is a lack of memory: the caller may free some and try again.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, GpuError::OutOfMemory { .. })
    }

    pub(in crate::backends::hip) fn refused(doing: &str, reason: impl Into<String>) -> GpuError {
        GpuError::Refused { doing: doing.to_string(), reason: reason.into() }
    }
}

/// What is to be done where a platform's library is not there.
pub(super) fn install(platform: Platform) -> &'static str {
    match platform {
        Platform::Hip => {
            "for AMD GPUs install the HIP runtime (ROCm's hip-runtime-amd, Debian's libamdhip64-5), or set ROCM_PATH to where ROCm is"
        }
        Platform::Cuda => "for NVIDIA GPUs install NVIDIA's driver, which brings libcuda",
    }
}

/// What is to be looked at where a platform's library finds no device.
pub(super) fn no_device(platform: Platform) -> &'static str {
    match platform {
        Platform::Hip => {
            "is the amdgpu driver loaded, is the user in the render group, does HIP_VISIBLE_DEVICES or ROCR_VISIBLE_DEVICES hide it?"
        }
        Platform::Cuda => "is the nvidia driver loaded, is /dev/nvidia0 there, does CUDA_VISIBLE_DEVICES hide it?",
    }
}

/// Codes after which a context does not work any more; HIP and CUDA number them alike.
pub(super) fn is_fatal(code: i32) -> bool {
    // ECC, illegal address, time out, assert, hardware stack, illegal instruction, misaligned, address space, program counter, launch failure
    matches!(code, 4 | 53 | 214 | 220 | 700 | 702 | 709 | 710 | 714..=719)
}

/// `rocblas_status_memory_error`.
pub(super) const ROCBLAS_MEMORY_ERROR: i32 = 5;
/// `CUBLAS_STATUS_ALLOC_FAILED`.
pub(super) const CUBLAS_ALLOC_FAILED: i32 = 3;
