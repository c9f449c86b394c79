//! NVIDIA's driver, as in `cuda.h`: the names of the functions that HIP copied, and those that differ.
#![allow(non_camel_case_types)]

use super::{Status, table};
use std::ffi::{c_char, c_uint, c_void};

pub type CUresult = Status;
pub type CUdevice = i32;
pub type CUcontext = *mut c_void;
pub type CUfunction = *mut c_void;

// CUdevice_attribute
pub const CU_DEVICE_ATTRIBUTE_WARP_SIZE: i32 = 10;
pub const CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: i32 = 16;
pub const CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: i32 = 75;
pub const CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: i32 = 76;
pub const CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: i32 = 97;

pub const CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: i32 = 8;
pub const CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION: i32 = 6;

/// `CUlaunchConfig`.
#[repr(C)]
pub struct CUlaunchConfig {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_bytes: c_uint,
    pub stream: *mut c_void,
    pub attributes: *mut CUlaunchAttribute,
    pub count: c_uint,
}

/// `CUlaunchAttribute`: its value is a union of 64 bytes, of which the attribute used here takes the first four.
#[repr(C, align(8))]
pub struct CUlaunchAttribute {
    pub id: i32,
    pub pad: i32,
    pub value: [i32; 16],
}

const _: () = assert!(size_of::<CUlaunchConfig>() == 56 && size_of::<CUlaunchAttribute>() == 72);

table! {
    /// Functions that only CUDA has in this form.
    Cuda {
        fn cuGetErrorName(error: CUresult, name: *mut *const c_char) -> CUresult;
        fn cuGetErrorString(error: CUresult, text: *mut *const c_char) -> CUresult;
        fn cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice) -> CUresult;
        fn cuDevicePrimaryCtxRelease_v2(device: CUdevice) -> CUresult;
        fn cuCtxSetCurrent(context: CUcontext) -> CUresult;
        fn cuFuncSetAttribute(function: CUfunction, attribute: i32, value: i32) -> CUresult;
    }
}

/// `cuLaunchKernelEx`, since CUDA 11.8.
pub type LaunchKernelEx = unsafe extern "C" fn(
    config: *const CUlaunchConfig,
    function: CUfunction,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> CUresult;

/// What the driver calls a function of HIP's.
pub fn name_of(hip: &'static str) -> &'static str {
    match hip {
        "hipInit" => "cuInit",
        "hipDriverGetVersion" => "cuDriverGetVersion",
        "hipGetDeviceCount" => "cuDeviceGetCount",
        "hipDeviceGet" => "cuDeviceGet",
        "hipDeviceGetName" => "cuDeviceGetName",
        "hipDeviceGetAttribute" => "cuDeviceGetAttribute",
        "hipMemGetInfo" => "cuMemGetInfo_v2",
        "hipMalloc" => "cuMemAlloc_v2",
        "hipFree" => "cuMemFree_v2",
        "hipHostMalloc" => "cuMemHostAlloc",
        "hipHostFree" => "cuMemFreeHost",
        "hipMemcpyHtoDAsync" => "cuMemcpyHtoDAsync_v2",
        "hipMemcpyDtoHAsync" => "cuMemcpyDtoHAsync_v2",
        "hipMemsetD8Async" => "cuMemsetD8Async",
        "hipStreamCreateWithFlags" => "cuStreamCreate",
        "hipStreamDestroy" => "cuStreamDestroy_v2",
        "hipStreamSynchronize" => "cuStreamSynchronize",
        "hipEventCreateWithFlags" => "cuEventCreate",
        "hipEventDestroy" => "cuEventDestroy_v2",
        "hipEventRecord" => "cuEventRecord",
        "hipEventSynchronize" => "cuEventSynchronize",
        "hipEventElapsedTime" => "cuEventElapsedTime",
        "hipModuleLoadData" => "cuModuleLoadData",
        "hipModuleUnload" => "cuModuleUnload",
        "hipModuleGetFunction" => "cuModuleGetFunction",
        "hipModuleLaunchKernel" => "cuLaunchKernel",
        "hipStreamBeginCapture" => "cuStreamBeginCapture_v2",
        "hipStreamEndCapture" => "cuStreamEndCapture",
        "hipGraphInstantiateWithFlags" => "cuGraphInstantiateWithFlags",
        "hipGraphLaunch" => "cuGraphLaunch",
        "hipGraphDestroy" => "cuGraphDestroy",
        "hipGraphExecDestroy" => "cuGraphExecDestroy",
        other => other,
    }
}
