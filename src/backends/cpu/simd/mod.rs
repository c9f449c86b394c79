//! The SIMD layer: kernels per instruction set level, the thread pool, aligned memory. Unsafe code is allowed here.
//!
//! Kernels are written once over `lanes::Simd` and instantiated for each [`Level`]; `Level::kernels` is the table of function
//! pointers through which they are called. Kernels take raw pointers and strides: whoever calls them has proved that the
//! buffers are large enough and that what threads write does not overlap. What they compute does not depend on how the work
//! is divided: each module says what its results depend on.

#![allow(unsafe_code)]

pub mod activations;
pub mod attention;
pub mod bandwidth;
mod isa;
mod lanes;
mod math;
pub mod matmul;
pub mod memory;
pub mod packed;
pub mod peak;
pub mod pool;
pub(crate) mod program;
pub(crate) mod steps;
mod throttle;
pub mod vector;

use crate::tensor::DType;
pub use isa::{Level, UnknownLevel};
use lanes::Simd;
use vector::{Binary, Norm, RopePairs, Unary};

/// The kernels of a level.
pub(crate) struct Kernels {
    /// [`activations::quantize`].
    pub quantize: unsafe fn(*const f32, usize, *mut u8),
    /// [`matmul::run`].
    pub matmul: unsafe fn(&matmul::Args),
    /// [`matmul::run_bf16`].
    pub matmul_bf16: unsafe fn(&matmul::Args),
    /// [`attention::run`].
    pub attention: unsafe fn(&attention::AttentionArgs, usize, usize, *mut f32),
    /// [`attention::run_partials`].
    pub attention_partials: unsafe fn(&attention::AttentionArgs, usize, usize, usize, *mut f32, *mut f32),
    /// [`attention::run_merge`].
    pub attention_merge: unsafe fn(&attention::AttentionArgs, usize, usize, usize, *const f32, *mut f32),
    /// [`vector::unary`] and so on, without the level.
    pub unary: unsafe fn(Unary, *const f32, *mut f32, usize),
    pub binary: unsafe fn(Binary, *const f32, *const f32, *mut f32, usize),
    pub norm: unsafe fn(Norm, *const f32, *const f32, *const f32, *mut f32, usize),
    pub softmax: unsafe fn(f32, *const f32, *const f32, *mut f32, usize),
    pub rope: unsafe fn(RopePairs, *const f32, *const f32, *const f32, usize, *mut f32, usize),
    pub convert: unsafe fn(DType, DType, *const u8, *mut u8, usize),
    /// [`peak::floats`], [`peak::bf16`] and [`peak::bytes`].
    pub spin_f32: unsafe fn(usize) -> u64,
    pub spin_bf16: unsafe fn(usize) -> u64,
    pub spin_int8: unsafe fn(usize) -> u64,
}

const fn table<S: Simd>() -> Kernels {
    Kernels {
        quantize: activations::quantize::<S>,
        matmul: matmul::run::<S>,
        matmul_bf16: matmul::run_bf16::<S>,
        attention: attention::run::<S>,
        attention_partials: attention::run_partials::<S>,
        attention_merge: attention::run_merge::<S>,
        unary: vector::table::unary::<S>,
        binary: vector::table::binary::<S>,
        norm: vector::table::norm::<S>,
        softmax: vector::table::softmax::<S>,
        rope: vector::table::rope::<S>,
        convert: vector::table::convert::<S>,
        spin_f32: peak::floats::<S>,
        spin_bf16: peak::bf16::<S>,
        spin_int8: peak::bytes::<S>,
    }
}

static PORTABLE: Kernels = table::<lanes::Portable>();
#[cfg(target_arch = "x86_64")]
static AVX2: Kernels = table::<lanes::Avx2>();
#[cfg(target_arch = "x86_64")]
static AVX512: Kernels = table::<lanes::Avx512<false>>();
/// Where no weights of bf16 are multiplied, AVX-512's.
#[cfg(target_arch = "x86_64")]
static AVX512_BF16: Kernels = Kernels {
    matmul_bf16: matmul::run_bf16::<lanes::Avx512<true>>,
    spin_bf16: peak::bf16::<lanes::Avx512<true>>,
    ..table::<lanes::Avx512<false>>()
};
#[cfg(target_arch = "aarch64")]
static NEON: Kernels = table::<lanes::Neon<false>>();
#[cfg(target_arch = "aarch64")]
static NEON_DOTPROD: Kernels = table::<lanes::Neon<true>>();

impl Level {
    /// The level's functions; those of the best level there is if this machine lacks it.
    pub(crate) fn kernels(self) -> &'static Kernels {
        match self.or_best() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &AVX2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &AVX512,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => &AVX512_BF16,
            #[cfg(target_arch = "aarch64")]
            Level::Neon => &NEON,
            #[cfg(target_arch = "aarch64")]
            Level::NeonDotprod => &NEON_DOTPROD,
            _ => &PORTABLE,
        }
    }
}
