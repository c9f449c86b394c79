//! The SIMD layer: kernels per instruction set level, the thread pool. Unsafe code is allowed here.
