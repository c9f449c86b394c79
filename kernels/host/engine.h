// What the two halves of the emulator say to each other: blocks (engine.cpp) and the HIP entry points (hip_host.cpp).
#pragma once
#include <cstddef>
#include <string>
#include <vector>

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
#include "../common/host.h"

namespace host {

constexpr u32 LDS_BYTES = 64 << 10;
constexpr u32 MAX_THREADS = 1024;

struct Grid {
    u32 x, y, z;
};

// All kernels of the library.
std::vector<Kernel>& kernels();

// Runs all blocks. Empty, or what went wrong, beginning with the kernel's name; `illegal_address` tells whether it was memory.
std::string launch(const Kernel& kernel, Grid grid, u32 dynamic_lds, void* const* args, bool& illegal_address);

// Where an address lies, as an end of a sentence: "64 bytes past the end of an allocation of 4096 bytes".
std::string describe_address(const void* address);

}  // namespace host
