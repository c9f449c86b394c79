//! HIP's entry points, as in AMD's `hip_runtime_api.h`.
#![allow(non_camel_case_types)]

use super::{Status, table};
use std::ffi::{c_char, c_uint, c_void};

pub type hipError_t = Status;
pub type hipDevice_t = i32;
pub type hipDeviceptr_t = *mut c_void;
pub type hipStream_t = *mut c_void;
pub type hipEvent_t = *mut c_void;
pub type hipModule_t = *mut c_void;
pub type hipFunction_t = *mut c_void;
pub type hipGraph_t = *mut c_void;
pub type hipGraphExec_t = *mut c_void;

pub const HIP_ERROR_OUT_OF_MEMORY: hipError_t = 2;
pub const HIP_ERROR_NO_DEVICE: hipError_t = 100;
pub const HIP_ERROR_INVALID_DEVICE: hipError_t = 101;
pub const HIP_STREAM_NON_BLOCKING: c_uint = 1;
pub const HIP_EVENT_DISABLE_TIMING: c_uint = 2;
/// Calls that are not safe in a capture are allowed in this thread and others.
pub const HIP_STREAM_CAPTURE_MODE_RELAXED: c_uint = 2;

// hipDeviceAttribute_t, unchanged from HIP 5 to 7.
pub const HIP_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: i32 = 63;
pub const HIP_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: i32 = 74;
pub const HIP_DEVICE_ATTRIBUTE_WARP_SIZE: i32 = 87;

/// Where `gcnArchName` (256 bytes) begins in `hipDeviceProp_tR0600`, the struct since HIP 6.
pub const GCN_ARCH_NAME_R0600: usize = 1160;
/// Where it begins in the struct of HIP 4 and 5.
pub const GCN_ARCH_NAME_R0000: usize = 396;
/// More than any of the structs of device properties, 1472 bytes so far.
pub const DEVICE_PROPERTIES_BYTES: usize = 16 << 10;

table! {
    /// Functions that the CUDA driver has with the same signature, the same meaning and the same numbers of flags:
    /// `cuda::name_of` has the names there.
    Driver {
        fn hipInit(flags: c_uint) -> hipError_t;
        fn hipDriverGetVersion(version: *mut i32) -> hipError_t;
        fn hipGetDeviceCount(count: *mut i32) -> hipError_t;
        fn hipDeviceGet(device: *mut hipDevice_t, ordinal: i32) -> hipError_t;
        fn hipDeviceGetName(name: *mut c_char, len: i32, device: hipDevice_t) -> hipError_t;
        fn hipDeviceGetAttribute(value: *mut i32, attribute: i32, device: hipDevice_t) -> hipError_t;
        fn hipMemGetInfo(free: *mut usize, total: *mut usize) -> hipError_t;
        fn hipMalloc(ptr: *mut hipDeviceptr_t, bytes: usize) -> hipError_t;
        fn hipFree(ptr: hipDeviceptr_t) -> hipError_t;
        fn hipHostMalloc(ptr: *mut *mut c_void, bytes: usize, flags: c_uint) -> hipError_t;
        fn hipHostFree(ptr: *mut c_void) -> hipError_t;
        fn hipMemcpyHtoDAsync(dst: hipDeviceptr_t, src: *const c_void, bytes: usize, stream: hipStream_t) -> hipError_t;
        fn hipMemcpyDtoHAsync(dst: *mut c_void, src: hipDeviceptr_t, bytes: usize, stream: hipStream_t) -> hipError_t;
        fn hipMemsetD8Async(dst: hipDeviceptr_t, value: u8, count: usize, stream: hipStream_t) -> hipError_t;
        fn hipStreamCreateWithFlags(stream: *mut hipStream_t, flags: c_uint) -> hipError_t;
        fn hipStreamDestroy(stream: hipStream_t) -> hipError_t;
        fn hipStreamSynchronize(stream: hipStream_t) -> hipError_t;
        fn hipEventCreateWithFlags(event: *mut hipEvent_t, flags: c_uint) -> hipError_t;
        fn hipEventDestroy(event: hipEvent_t) -> hipError_t;
        fn hipEventRecord(event: hipEvent_t, stream: hipStream_t) -> hipError_t;
        fn hipEventSynchronize(event: hipEvent_t) -> hipError_t;
        fn hipEventElapsedTime(milliseconds: *mut f32, start: hipEvent_t, stop: hipEvent_t) -> hipError_t;
        fn hipModuleLoadData(module: *mut hipModule_t, image: *const c_void) -> hipError_t;
        fn hipModuleUnload(module: hipModule_t) -> hipError_t;
        fn hipModuleGetFunction(function: *mut hipFunction_t, module: hipModule_t, name: *const c_char) -> hipError_t;
        fn hipModuleLaunchKernel(
            function: hipFunction_t,
            grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
            block_x: c_uint, block_y: c_uint, block_z: c_uint,
            shared_bytes: c_uint,
            stream: hipStream_t,
            parameters: *mut *mut c_void,
            extra: *mut *mut c_void,
        ) -> hipError_t;
        fn hipStreamBeginCapture(stream: hipStream_t, mode: c_uint) -> hipError_t;
        fn hipStreamEndCapture(stream: hipStream_t, graph: *mut hipGraph_t) -> hipError_t;
        fn hipGraphInstantiateWithFlags(exec: *mut hipGraphExec_t, graph: hipGraph_t, flags: u64) -> hipError_t;
        fn hipGraphLaunch(exec: hipGraphExec_t, stream: hipStream_t) -> hipError_t;
        fn hipGraphDestroy(graph: hipGraph_t) -> hipError_t;
        fn hipGraphExecDestroy(exec: hipGraphExec_t) -> hipError_t;
    }
}

table! {
    /// Functions that only HIP has in this form.
    Hip {
        fn hipSetDevice(device: i32) -> hipError_t;
        fn hipRuntimeGetVersion(version: *mut i32) -> hipError_t;
        fn hipGetErrorName(error: hipError_t) -> *const c_char;
        fn hipGetErrorString(error: hipError_t) -> *const c_char;
    }
}

/// `hipGetDevicePropertiesR0600` and `hipGetDeviceProperties`.
pub type GetDeviceProperties = unsafe extern "C" fn(properties: *mut c_void, device: i32) -> hipError_t;
