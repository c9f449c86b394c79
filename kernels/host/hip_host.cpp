// HIP's entry points, with AMD's names and signatures, on host memory: what src/backends/hip/ffi loads from libamdhip64 on a machine that has
// one. Streams do their work at once. A module's image is "host:STEM", where STEM.hip is the file whose kernels it has.
//
// HIPHOST_MEMORY       bytes of device memory; the default is what the machine has
// HIPHOST_PINNED       bytes of pinned host memory; the default is no limit
// HIPHOST_LATE_COPIES  1: copies from the host are made when somebody waits for them, so that memory which is filled again too early shows
// HIPHOST_LOSE_AT      N: with the N-th copy from the host the device is lost; it, and all copies and waits after it, fail
// HIPHOST_THREADS      threads of the operating system that run blocks
//
// Each allocation ends at the end of a page, to 16 bytes; the page after it, and all of it once it is freed, cannot be touched.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <new>

#include "engine.h"

#define API extern "C" __attribute__((visibility("default")))

typedef int hipError_t;
namespace {

enum : hipError_t {
    hipSuccess = 0,
    hipErrorInvalidValue = 1,
    hipErrorOutOfMemory = 2,
    hipErrorInvalidConfiguration = 9,
    hipErrorInvalidDevice = 101,
    hipErrorFileNotFound = 301,
    hipErrorInvalidHandle = 400,
    hipErrorNotFound = 500,
    hipErrorNotReady = 600,
    hipErrorIllegalAddress = 700,
    hipErrorLaunchFailure = 719,
    hipErrorStreamCaptureUnsupported = 900,
    hipErrorStreamCaptureUnmatched = 903,
};
struct ErrorText {
    hipError_t code;
    const char *name, *text;
};
const ErrorText ERRORS[] = {
    {hipSuccess, "hipSuccess", "no error"},
    {hipErrorInvalidValue, "hipErrorInvalidValue", "invalid argument"},
    {hipErrorOutOfMemory, "hipErrorOutOfMemory", "out of memory"},
    {hipErrorInvalidConfiguration, "hipErrorInvalidConfiguration", "invalid configuration argument"},
    {hipErrorInvalidDevice, "hipErrorInvalidDevice", "invalid device ordinal"},
    {hipErrorFileNotFound, "hipErrorFileNotFound", "file not found"},
    {hipErrorInvalidHandle, "hipErrorInvalidHandle", "invalid resource handle"},
    {hipErrorNotFound, "hipErrorNotFound", "named symbol not found"},
    {hipErrorNotReady, "hipErrorNotReady", "device not ready"},
    {hipErrorIllegalAddress, "hipErrorIllegalAddress", "an illegal memory access was encountered"},
    {hipErrorLaunchFailure, "hipErrorLaunchFailure", "unspecified launch failure"},
    {hipErrorStreamCaptureUnsupported, "hipErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {hipErrorStreamCaptureUnmatched, "hipErrorStreamCaptureUnmatched", "capture was not initiated in this stream"},
};

// This thread's last error, and what is known of it beyond its code.
thread_local hipError_t last_error = hipSuccess;
thread_local std::string last_detail;

hipError_t error(hipError_t code, std::string detail = {}) {
    last_error = code;
    last_detail = std::move(detail);
    return code;
}

// ---- memory ---------------------------------------------------------------------------------------------------------------------

struct Allocation {
    size_t bytes;
    u8* map;
    size_t map_bytes;
};

std::mutex memory_lock;
std::map<u8*, Allocation>& allocations() {
    static auto* all = new std::map<u8*, Allocation>;
    return *all;
}
size_t memory_used = 0;

std::map<void*, size_t>& pinned() {
    static auto* all = new std::map<void*, size_t>;
    return *all;
}
size_t pinned_used = 0;

// A number from the environment.
size_t variable(const char* name, size_t otherwise) {
    const char* text = std::getenv(name);
    return text ? (size_t)std::strtoull(text, nullptr, 0) : otherwise;
}

size_t memory_total() {
    return variable("HIPHOST_MEMORY", (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE));
}

// Whether all these bytes are in one allocation.
bool on_device(const void* start, size_t bytes) {
    std::lock_guard<std::mutex> guard(memory_lock);
    auto after = allocations().upper_bound((u8*)start);
    if (after == allocations().begin()) return false;
    auto& [base, a] = *std::prev(after);
    size_t offset = (size_t)((u8*)start - base);
    return offset <= a.bytes && bytes <= a.bytes - offset;
}

// ---- streams, graphs ------------------------------------------------------------------------------------------------------------

struct Work {
    const host::Kernel* kernel = nullptr;  // a launch; else a copy, or a fill where there is no source
    host::Grid grid{};
    u32 dynamic_lds = 0;
    std::vector<u64> bytes;  // of the arguments
    std::vector<u32> offsets;
    void* to = nullptr;
    const void* from = nullptr;
    int value = 0;
    size_t count = 0;
};

struct Graph {
    std::vector<Work> works;
};

hipError_t run(const Work& work);

// Copies that wait until somebody waits for them.
struct Late {
    std::mutex lock;
    std::deque<Work> works;
    size_t submitted = 0, done = 0;

    // Does the first `count` of all that were ever submitted.
    void run_to(size_t count) {
        std::lock_guard<std::mutex> guard(lock);
        for (; done < count && !works.empty(); done++) {
            run(works.front());
            works.pop_front();
        }
    }
    void run_all() { run_to(SIZE_MAX); }
};

struct Stream {
    std::unique_ptr<Graph> capture;
    std::shared_ptr<Late> late = std::make_shared<Late>();
};
Stream null_stream;
Stream* stream_of(void* handle) { return handle ? (Stream*)handle : &null_stream; }

struct Event {
    bool recorded = false;
    std::chrono::steady_clock::time_point time;
    std::shared_ptr<Late> late;  // of the stream
    size_t position = 0;
};

std::atomic<size_t> copies_from_host{0};
bool is_lost() {
    static const size_t at = variable("HIPHOST_LOSE_AT", SIZE_MAX);
    return copies_from_host >= at;
}

struct Module {
    std::string stem;  // of any file where it is empty
};

hipError_t run_kernel(const host::Kernel& kernel, host::Grid grid, u32 dynamic_lds, void* const* args) {
    bool illegal_address = false;
    std::string failure = host::launch(kernel, grid, dynamic_lds, args, illegal_address);
    if (failure.empty()) return hipSuccess;
    return error(illegal_address ? hipErrorIllegalAddress : hipErrorLaunchFailure, failure);
}

hipError_t run(const Work& work) {
    if (work.kernel) {
        void* args[256];
        for (size_t i = 0; i < work.offsets.size(); i++) args[i] = (u8*)work.bytes.data() + work.offsets[i];
        return run_kernel(*work.kernel, work.grid, work.dynamic_lds, args);
    }
    if (work.from) {
        std::memmove(work.to, work.from, work.count);
    } else {
        std::memset(work.to, work.value, work.count);
    }
    return hipSuccess;
}

hipError_t submit(void* stream, Work work) {
    Stream* s = stream_of(stream);
    if (!s->capture) return s->late->run_all(), run(work);
    s->capture->works.push_back(std::move(work));
    return hipSuccess;
}

enum Side { HOST, DEVICE_SIDE, EITHER };

hipError_t copy(void* to, Side to_side, const void* from, Side from_side, size_t bytes, void* stream) {
    if (bytes == 0) return hipSuccess;
    if (!to || !from) return error(hipErrorInvalidValue, "a copy from or to address 0");
    char text[128];
    if (to_side == DEVICE_SIDE && !on_device(to, bytes)) {
        std::snprintf(text, sizeof text, "a copy of %zu bytes to %p, which is not all in one allocation", bytes, to);
        return error(hipErrorInvalidValue, text);
    }
    if (from_side == DEVICE_SIDE && !on_device(from, bytes)) {
        std::snprintf(text, sizeof text, "a copy of %zu bytes from %p, which is not all in one allocation", bytes, from);
        return error(hipErrorInvalidValue, text);
    }
    if (from_side == HOST) copies_from_host++;
    if (is_lost()) return error(hipErrorLaunchFailure, "the device was lost, as HIPHOST_LOSE_AT asks for");
    Work work;
    work.to = to;
    work.from = from;
    work.count = bytes;
    static const bool late = variable("HIPHOST_LATE_COPIES", 0) != 0;
    Stream* s = stream_of(stream);
    if (late && from_side == HOST && !s->capture) {
        std::lock_guard<std::mutex> guard(s->late->lock);
        s->late->works.push_back(std::move(work));
        s->late->submitted++;
        return hipSuccess;
    }
    return submit(stream, std::move(work));
}

hipError_t fill(void* to, int value, size_t bytes, void* stream) {
    if (bytes == 0) return hipSuccess;
    if (!on_device(to, bytes)) return error(hipErrorInvalidValue, "a fill of memory that is not all in one allocation");
    Work work;
    work.to = to;
    work.value = value;
    work.count = bytes;
    return submit(stream, std::move(work));
}

std::string stem_of(const char* file) {
    std::string name = file;
    name = name.substr(name.find_last_of('/') + 1);
    return name.substr(0, name.find('.'));
}

}  // namespace

std::string host::describe_address(const void* address) {
    char text[160];
    std::snprintf(text, sizeof text, "%p, outside all allocations", address);
    std::unique_lock<std::mutex> guard(memory_lock, std::try_to_lock);
    if (!guard || allocations().empty()) return text;
    u8* at = (u8*)address;
    auto after = allocations().upper_bound(at);
    if (after != allocations().begin()) {
        auto& [base, a] = *std::prev(after);
        if (at >= base + a.bytes && at < base + a.bytes + (1 << 20)) {
            std::snprintf(text, sizeof text, "%p, %zu bytes past the end of an allocation of %zu bytes", address,
                          (size_t)(at - base - a.bytes), a.bytes);
            return text;
        }
    }
    if (after != allocations().end() && after->first - at < (1 << 20)) {
        std::snprintf(text, sizeof text, "%p, %zu bytes before an allocation of %zu bytes", address, (size_t)(after->first - at),
                      after->second.bytes);
    }
    return text;
}

// ---- device ---------------------------------------------------------------------------------------------------------------------

API hipError_t hipInit(unsigned) { return hipSuccess; }
API hipError_t hipDriverGetVersion(int* version) { return *version = 60000000, hipSuccess; }
API hipError_t hipRuntimeGetVersion(int* version) { return *version = 60000000, hipSuccess; }
API hipError_t hipGetDeviceCount(int* count) { return *count = 1, hipSuccess; }
API hipError_t hipSetDevice(int device) { return device == 0 ? hipSuccess : error(hipErrorInvalidDevice); }
API hipError_t hipGetDevice(int* device) { return *device = 0, hipSuccess; }
API hipError_t hipDeviceGet(int* device, int ordinal) { return *device = 0, hipSetDevice(ordinal); }
API hipError_t hipDeviceGetName(char* name, int bytes, int device) {
    if (!name || bytes <= 0) return error(hipErrorInvalidValue);
    std::snprintf(name, (size_t)bytes, "host emulator");
    return hipSetDevice(device);
}
API hipError_t hipDeviceTotalMem(size_t* bytes, int device) { return *bytes = memory_total(), hipSetDevice(device); }
API hipError_t hipMemGetInfo(size_t* free, size_t* total) {
    std::lock_guard<std::mutex> guard(memory_lock);
    *total = memory_total();
    *free = *total - std::min(*total, memory_used);
    return hipSuccess;
}
// The numbers of hipDeviceAttribute_t since HIP 5.
API hipError_t hipDeviceGetAttribute(int* value, int attribute, int device) {
    switch (attribute) {
        case 5: case 60: *value = 1000000; break;           // ClockRate, MemoryClockRate, kHz
        case 16: *value = 1; break;                         // Integrated
        case 18: *value = 0; break;                         // KernelExecTimeout
        case 19: *value = 1 << 20; break;                   // L2CacheSize
        case 23: case 61: *value = 0; break;                // ComputeCapabilityMajor, Minor
        case 26: case 27: case 28: *value = 1024; break;    // MaxBlockDimX, Y, Z
        case 29: *value = 0x7fffffff; break;                // MaxGridDimX
        case 30: case 31: *value = 65535; break;            // MaxGridDimY, Z
        case 56: *value = (int)host::MAX_THREADS; break;    // MaxThreadsPerBlock
        case 57: *value = 2048; break;                      // MaxThreadsPerMultiProcessor
        case 59: *value = 64; break;                        // MemoryBusWidth
        case 63: *value = 4; break;                         // MultiprocessorCount
        case 67: case 68: case 69: *value = 0; break;       // PciBusId, PciDeviceId, PciDomainID
        case 74: case 75: case 76: *value = host::LDS_BYTES; break;  // shared memory: MaxPerBlock, PerBlockOptin, PerMultiprocessor
        case 87: *value = WAVE; break;                      // WarpSize
        default: return error(hipErrorInvalidValue, "the emulator does not know this attribute");
    }
    return hipSetDevice(device);
}

// hipDeviceProp_t of HIP 6, what is filled by name.
struct Properties {
    char name[256];
    char ids[16 + 8 + 4];
    size_t total_global_mem, shared_mem_per_block;
    int regs_per_block, warp_size;
    size_t mem_pitch;
    int max_threads_per_block, max_threads_dim[3], max_grid_size[3], clock_rate;
    size_t total_const_mem;
    int major, minor;
    size_t texture_alignment, texture_pitch_alignment;
    int device_overlap, multi_processor_count;
    u8 others_to_arch[1160 - 392];
    char gcn_arch_name[256];
    size_t max_shared_memory_per_multiprocessor;
    int clock_instruction_rate;
    u32 arch;
    void* flush[2];
    int last[6];
};
static_assert(offsetof(Properties, multi_processor_count) == 388 && offsetof(Properties, gcn_arch_name) == 1160);
static_assert(sizeof(Properties) == 1472);

API hipError_t hipGetDevicePropertiesR0600(Properties* p, int device) {
    *p = Properties{};
    std::snprintf(p->name, sizeof p->name, "host emulator");
    std::snprintf(p->gcn_arch_name, sizeof p->gcn_arch_name, "host%d", WAVE);
    p->total_global_mem = memory_total();
    p->shared_mem_per_block = p->max_shared_memory_per_multiprocessor = host::LDS_BYTES;
    p->warp_size = WAVE;
    p->max_threads_per_block = (int)host::MAX_THREADS;
    p->multi_processor_count = 4;
    return hipSetDevice(device);
}

// ---- errors ---------------------------------------------------------------------------------------------------------------------

API const char* hipGetErrorName(hipError_t code) {
    for (const ErrorText& e : ERRORS) {
        if (e.code == code) return e.name;
    }
    return "hipErrorUnknown";
}
// Of this thread's last error, also what happened: the kernel and the block. Valid until the thread's next error.
API const char* hipGetErrorString(hipError_t code) {
    if (code != hipSuccess && code == last_error && !last_detail.empty()) return last_detail.c_str();
    for (const ErrorText& e : ERRORS) {
        if (e.code == code) return e.text;
    }
    return "unknown error";
}
API hipError_t hipPeekAtLastError() { return last_error; }
API hipError_t hipGetLastError() {
    hipError_t code = last_error;
    last_error = hipSuccess;
    return code;
}

// ---- memory ---------------------------------------------------------------------------------------------------------------------

API hipError_t hipMalloc(void** out, size_t bytes) {
    if (!out) return error(hipErrorInvalidValue);
    *out = nullptr;
    if (bytes == 0) return hipSuccess;
    std::lock_guard<std::mutex> guard(memory_lock);
    size_t total = memory_total();
    if (bytes > total || memory_used > total - bytes) return error(hipErrorOutOfMemory);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t rounded = (bytes + 15) / 16 * 16;
    size_t map_bytes = (rounded + page - 1) / page * page + page;
    u8* map = (u8*)mmap(nullptr, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return error(hipErrorOutOfMemory);
    mprotect(map + map_bytes - page, page, PROT_NONE);
    u8* start = map + map_bytes - page - rounded;
    if (bytes <= (64 << 20)) std::memset(start, 0xff, bytes);
    allocations()[start] = Allocation{bytes, map, map_bytes};
    memory_used += bytes;
    *out = start;
    return hipSuccess;
}
API hipError_t hipFree(void* address) {
    if (!address) return hipSuccess;
    std::lock_guard<std::mutex> guard(memory_lock);
    auto found = allocations().find((u8*)address);
    if (found == allocations().end()) return error(hipErrorInvalidValue, "an address is freed that hipMalloc did not give");
    munmap(found->second.map, found->second.map_bytes);
    memory_used -= found->second.bytes;
    allocations().erase(found);
    return hipSuccess;
}
API hipError_t hipHostMalloc(void** out, size_t bytes, unsigned) {
    std::lock_guard<std::mutex> guard(memory_lock);
    size_t total = variable("HIPHOST_PINNED", SIZE_MAX);
    *out = nullptr;
    if (bytes > total || pinned_used > total - bytes) return error(hipErrorOutOfMemory);
    *out = std::aligned_alloc(4096, (std::max<size_t>(bytes, 1) + 4095) / 4096 * 4096);
    if (!*out) return error(hipErrorOutOfMemory);
    pinned()[*out] = bytes;
    pinned_used += bytes;
    return hipSuccess;
}
API hipError_t hipHostFree(void* address) {
    std::lock_guard<std::mutex> guard(memory_lock);
    auto found = pinned().find(address);
    if (found == pinned().end()) return error(hipErrorInvalidValue, "an address is freed that hipHostMalloc did not give");
    pinned_used -= found->second;
    pinned().erase(found);
    std::free(address);
    return hipSuccess;
}

API hipError_t hipMemcpyHtoDAsync(void* to, const void* from, size_t bytes, void* stream) {
    return copy(to, DEVICE_SIDE, from, HOST, bytes, stream);
}
API hipError_t hipMemcpyDtoHAsync(void* to, const void* from, size_t bytes, void* stream) {
    return copy(to, HOST, from, DEVICE_SIDE, bytes, stream);
}
API hipError_t hipMemcpyDtoDAsync(void* to, const void* from, size_t bytes, void* stream) {
    return copy(to, DEVICE_SIDE, from, DEVICE_SIDE, bytes, stream);
}
API hipError_t hipMemcpyAsync(void* to, const void* from, size_t bytes, int kind, void* stream) {
    // hipMemcpyKind: host to host, host to device, device to host, device to device, by the addresses.
    static const Side TO[] = {HOST, DEVICE_SIDE, HOST, DEVICE_SIDE, EITHER}, FROM[] = {HOST, HOST, DEVICE_SIDE, DEVICE_SIDE, EITHER};
    if (kind < 0 || kind > 4) return error(hipErrorInvalidValue);
    return copy(to, TO[kind], from, FROM[kind], bytes, stream);
}
API hipError_t hipMemcpy(void* to, const void* from, size_t bytes, int kind) { return hipMemcpyAsync(to, from, bytes, kind, nullptr); }
API hipError_t hipMemcpyHtoD(void* to, const void* from, size_t bytes) { return hipMemcpyHtoDAsync(to, from, bytes, nullptr); }
API hipError_t hipMemcpyDtoH(void* to, const void* from, size_t bytes) { return hipMemcpyDtoHAsync(to, from, bytes, nullptr); }
API hipError_t hipMemsetAsync(void* to, int value, size_t bytes, void* stream) { return fill(to, value, bytes, stream); }
API hipError_t hipMemset(void* to, int value, size_t bytes) { return fill(to, value, bytes, nullptr); }
API hipError_t hipMemsetD8Async(void* to, unsigned char value, size_t bytes, void* stream) { return fill(to, value, bytes, stream); }

// ---- streams and events ---------------------------------------------------------------------------------------------------------

API hipError_t hipStreamCreateWithFlags(void** stream, unsigned) { return *stream = new Stream, hipSuccess; }
API hipError_t hipStreamCreate(void** stream) { return hipStreamCreateWithFlags(stream, 0); }
API hipError_t hipStreamDestroy(void* stream) {
    if (!stream) return error(hipErrorInvalidHandle);
    stream_of(stream)->late->run_all();
    delete (Stream*)stream;
    return hipSuccess;
}
API hipError_t hipStreamSynchronize(void* stream) {
    if (stream_of(stream)->capture) return error(hipErrorStreamCaptureUnsupported);
    if (is_lost()) return error(hipErrorLaunchFailure, "the device was lost, as HIPHOST_LOSE_AT asks for");
    stream_of(stream)->late->run_all();
    return hipSuccess;
}
API hipError_t hipStreamQuery(void* stream) { return hipStreamSynchronize(stream); }
API hipError_t hipStreamWaitEvent(void*, void*, unsigned) { return hipSuccess; }
API hipError_t hipDeviceSynchronize() { return hipSuccess; }

API hipError_t hipEventCreateWithFlags(void** event, unsigned) { return *event = new Event, hipSuccess; }
API hipError_t hipEventCreate(void** event) { return hipEventCreateWithFlags(event, 0); }
API hipError_t hipEventDestroy(void* event) {
    if (!event) return error(hipErrorInvalidHandle);
    delete (Event*)event;
    return hipSuccess;
}
API hipError_t hipEventRecord(void* event, void* stream) {
    if (!event) return error(hipErrorInvalidHandle);
    std::shared_ptr<Late> late = stream_of(stream)->late;
    std::lock_guard<std::mutex> guard(late->lock);
    *(Event*)event = Event{true, std::chrono::steady_clock::now(), late, late->submitted};
    return hipSuccess;
}
API hipError_t hipEventSynchronize(void* event) {
    if (!event) return error(hipErrorInvalidHandle);
    if (is_lost()) return error(hipErrorLaunchFailure, "the device was lost, as HIPHOST_LOSE_AT asks for");
    if (((Event*)event)->late) ((Event*)event)->late->run_to(((Event*)event)->position);
    return hipSuccess;
}
API hipError_t hipEventQuery(void* event) { return hipEventSynchronize(event); }
API hipError_t hipEventElapsedTime(float* milliseconds, void* start, void* stop) {
    if (!start || !stop) return error(hipErrorInvalidHandle);
    const Event &a = *(Event*)start, &b = *(Event*)stop;
    if (!a.recorded || !b.recorded) return error(hipErrorInvalidHandle, "an event that was not recorded");
    *milliseconds = std::chrono::duration<float, std::milli>(b.time - a.time).count();
    return hipSuccess;
}

// ---- modules and launches -------------------------------------------------------------------------------------------------------

API hipError_t hipModuleLoadData(void** module, const void* image) {
    std::string stem;
    if (image && std::strncmp((const char*)image, "host:", 5) == 0) {
        stem = (const char*)image + 5;
        bool found = std::any_of(host::kernels().begin(), host::kernels().end(), [&](auto& k) { return stem_of(k.file) == stem; });
        if (!found) return error(hipErrorFileNotFound, "the emulator was compiled without " + stem + ".hip");
    }
    *module = new Module{stem};
    return hipSuccess;
}
API hipError_t hipModuleUnload(void* module) {
    if (!module) return error(hipErrorInvalidHandle);
    delete (Module*)module;
    return hipSuccess;
}
API hipError_t hipModuleGetFunction(void** function, void* module, const char* name) {
    if (!module || !name) return error(hipErrorInvalidHandle);
    const std::string& stem = ((Module*)module)->stem;
    for (host::Kernel& kernel : host::kernels()) {
        if (std::strcmp(kernel.name, name) == 0 && (stem.empty() || stem_of(kernel.file) == stem)) {
            *function = &kernel;
            return hipSuccess;
        }
    }
    return error(hipErrorNotFound, std::string("there is no kernel ") + name + (stem.empty() ? "" : " in " + stem + ".hip"));
}
API hipError_t hipFuncSetAttribute(const void* function, int attribute, int value) {
    // 8: most dynamic shared memory
    if (!function || (attribute == 8 && value > (int)host::LDS_BYTES)) return error(hipErrorInvalidValue);
    return hipSuccess;
}
API hipError_t hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int, size_t) { return *blocks = 1, hipSuccess; }

API hipError_t hipModuleLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                                     unsigned block_z, unsigned dynamic_lds, void* stream, void** params, void** extra) {
    if (!function) return error(hipErrorInvalidHandle);
    const host::Kernel& kernel = *(host::Kernel*)function;
    std::string who = std::string("kernel ") + kernel.name;
    if (extra || (kernel.count && !params)) return error(hipErrorInvalidValue, who + ": arguments come as kernelParams");
    if (block_x != (u32)kernel.threads || block_y != 1 || block_z != 1) {
        char text[96];
        std::snprintf(text, sizeof text, ": launched with blocks of %u x %u x %u threads, compiled for %d", block_x, block_y, block_z, kernel.threads);
        return error(hipErrorInvalidConfiguration, who + text);
    }
    if (!grid_x || !grid_y || !grid_z || grid_x > 0x7fffffffu || grid_y > 65535 || grid_z > 65535) {
        char text[96];
        std::snprintf(text, sizeof text, ": a grid of %u x %u x %u blocks", grid_x, grid_y, grid_z);
        return error(hipErrorInvalidConfiguration, who + text);
    }
    if (block_x > host::MAX_THREADS) return error(hipErrorInvalidConfiguration, who + ": more threads than a block may have, 1024");
    host::Grid grid{grid_x, grid_y, grid_z};
    if (!stream_of(stream)->capture) return stream_of(stream)->late->run_all(), run_kernel(kernel, grid, dynamic_lds, params);
    Work work;
    work.kernel = &kernel;
    work.grid = grid;
    work.dynamic_lds = dynamic_lds;
    for (u32 i = 0; i < kernel.count; i++) {
        u32 offset = (u32)(work.bytes.size() * 8 + 15) / 16 * 16;
        work.bytes.resize((offset + kernel.sizes[i] + 15) / 16 * 2);
        std::memcpy((u8*)work.bytes.data() + offset, params[i], kernel.sizes[i]);
        work.offsets.push_back(offset);
    }
    return submit(stream, std::move(work));
}

// ---- graphs ---------------------------------------------------------------------------------------------------------------------

API hipError_t hipStreamBeginCapture(void* stream, int) {
    if (!stream || ((Stream*)stream)->capture) return error(hipErrorStreamCaptureUnsupported);
    ((Stream*)stream)->capture.reset(new Graph);
    return hipSuccess;
}
API hipError_t hipStreamEndCapture(void* stream, void** graph) {
    if (!stream || !((Stream*)stream)->capture) return error(hipErrorStreamCaptureUnmatched);
    *graph = ((Stream*)stream)->capture.release();
    return hipSuccess;
}
// hipStreamCaptureStatus: 0 none, 1 active.
API hipError_t hipStreamIsCapturing(void* stream, int* status) { return *status = stream_of(stream)->capture ? 1 : 0, hipSuccess; }
API hipError_t hipGraphInstantiate(void** exec, void* graph, void**, char*, size_t) {
    if (!graph) return error(hipErrorInvalidHandle);
    *exec = new Graph(*(Graph*)graph);
    return hipSuccess;
}
API hipError_t hipGraphInstantiateWithFlags(void** exec, void* graph, unsigned long long) {
    return hipGraphInstantiate(exec, graph, nullptr, nullptr, 0);
}
API hipError_t hipGraphLaunch(void* exec, void* stream) {
    if (!exec) return error(hipErrorInvalidHandle);
    if (stream_of(stream)->capture) return error(hipErrorStreamCaptureUnsupported);
    stream_of(stream)->late->run_all();
    for (const Work& work : ((Graph*)exec)->works) {
        if (hipError_t code = run(work)) return code;
    }
    return hipSuccess;
}
API hipError_t hipGraphExecDestroy(void* exec) { return delete (Graph*)exec, hipSuccess; }
API hipError_t hipGraphDestroy(void* graph) { return delete (Graph*)graph, hipSuccess; }
