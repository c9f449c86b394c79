//! Computes as fast as the machine can and touches no memory: the probe for the other limit that steps are measured against.

use super::isa::Level;
use super::lanes::{Kernel, LANES, Simd};

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Fused multiply-adds of f32.
    F32,
    /// Products of bf16 added up in f32, by the instruction that such products are made of.
    Bf16,
    /// Products of bytes, by the instruction that the kernels of quantized weights multiply with.
    Int8,
}

/// Runs `rounds` rounds of independent chains and returns how many operations that were: a product and a sum are two.
pub fn spin(level: Level, arithmetic: Arithmetic, rounds: usize) -> u64 {
    // SAFETY: the table is of an available level; the kernels read nothing but what is theirs.
    unsafe {
        match arithmetic {
            Arithmetic::F32 => (level.kernels().spin_f32)(rounds),
            Arithmetic::Bf16 => (level.kernels().spin_bf16)(rounds),
            Arithmetic::Int8 => (level.kernels().spin_int8)(rounds),
        }
    }
}

/// # Safety
/// The processor has the level.
pub(crate) unsafe fn floats<S: Simd>(rounds: usize) -> u64 {
    // SAFETY: the caller's promise. Registers bound the chains: a level with many of them has `ROWS` above 1.
    unsafe {
        if S::ROWS > 1 {
            S::assume().vectorize(Floats::<12>(rounds))
        } else {
            S::assume().vectorize(Floats::<6>(rounds))
        }
    }
}

/// # Safety
/// The processor has the level.
pub(crate) unsafe fn bf16<S: Simd>(rounds: usize) -> u64 {
    // SAFETY: as above.
    unsafe {
        if S::ROWS > 1 {
            S::assume().vectorize(Halves::<12>(rounds))
        } else {
            S::assume().vectorize(Halves::<6>(rounds))
        }
    }
}

/// # Safety
/// The processor has the level.
pub(crate) unsafe fn bytes<S: Simd>(rounds: usize) -> u64 {
    // SAFETY: as above.
    unsafe {
        if S::ROWS > 1 { S::assume().vectorize(Bytes::<12>(rounds)) } else { S::assume().vectorize(Bytes::<6>(rounds)) }
    }
}

/// Makes the compiler compute all chains.
#[inline(always)]
fn use_up<S: Simd, const CHAINS: usize>(s: S, chains: [S::F; CHAINS]) {
    let mut sum = s.splat(0.0);
    for chain in chains {
        sum = s.add(sum, chain);
    }
    let mut out = [0.0; LANES];
    // SAFETY: 16 floats.
    unsafe { s.store(out.as_mut_ptr(), sum) };
    std::hint::black_box(out);
}

struct Floats<const CHAINS: usize>(usize);

impl<const CHAINS: usize> Kernel for Floats<CHAINS> {
    type Output = u64;

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) -> u64 {
        let (factor, term) = (s.splat(0.5), s.splat(1.0));
        let mut chains = [s.splat(1.0); CHAINS];
        for _ in 0..self.0 {
            for chain in chains.iter_mut() {
                *chain = s.fma(*chain, factor, term);
            }
        }
        use_up(s, chains);
        (2 * LANES * CHAINS * self.0) as u64
    }
}

struct Halves<const CHAINS: usize>(usize);

impl<const CHAINS: usize> Kernel for Halves<CHAINS> {
    type Output = u64;

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) -> u64 {
        // 1.0 and 0.5 of bf16.
        let x = s.splat_i(std::hint::black_box(0x3f80_3f00));
        let mut chains = [s.splat(1.0); CHAINS];
        for _ in 0..self.0 {
            for chain in chains.iter_mut() {
                *chain = s.dot_bf16(*chain, x, x);
            }
        }
        use_up(s, chains);
        (2 * 2 * LANES * CHAINS * self.0) as u64
    }
}

struct Bytes<const CHAINS: usize>(usize);

impl<const CHAINS: usize> Kernel for Bytes<CHAINS> {
    type Output = u64;

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) -> u64 {
        let (zero, x) = ([0i32; LANES], std::hint::black_box([1i8; 4]));
        // SAFETY: an offset and a quad of activations are readable.
        unsafe {
            let mut chains = [s.dot_start::<8>(zero.as_ptr()); CHAINS];
            for _ in 0..self.0 {
                s.spin_bytes(&mut chains, x.as_ptr());
            }
            std::hint::black_box(chains);
        }
        (2 * 4 * LANES * CHAINS * self.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_counted_on_every_level() {
        for level in Level::available() {
            for arithmetic in [Arithmetic::F32, Arithmetic::Bf16, Arithmetic::Int8] {
                let (one, ten) = (spin(level, arithmetic, 1), spin(level, arithmetic, 10));
                assert!(one > 0 && ten == 10 * one, "{level}, {arithmetic:?}: {one} and {ten}");
            }
        }
    }
}
