//! [`Level`]: the instruction set levels that kernels are instantiated for.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// An instruction set level. Of the levels of one architecture the higher compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Plain Rust, on every machine; the yardstick for the others.
    Portable,
    /// AVX2, FMA and F16C (x86-64).
    Avx2,
    /// AVX-512 F, BW, VL, DQ and VNNI beside AVX2's (x86-64).
    Avx512,
    /// The dot products of bf16 (AVX512_BF16) beside AVX-512's (x86-64).
    Avx512Bf16,
    /// NEON (AArch64, where every processor has it).
    Neon,
    /// The dot products of bytes (FEAT_DotProd) beside NEON (AArch64).
    NeonDotprod,
}

/// A level's name that is none of `portable`, `avx2`, `avx512`, `avx512-bf16`, `neon`, `neon-dotprod`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown instruction set level `{0}`: use portable, avx2, avx512, avx512-bf16, neon or neon-dotprod")]
pub struct UnknownLevel(String);

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Level; 6] =
        [Level::Portable, Level::Avx2, Level::Avx512, Level::Avx512Bf16, Level::Neon, Level::NeonDotprod];

    /// Whether this machine's processor and operating system have the level.
    pub fn is_available(self) -> bool {
        match self {
            Level::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Level::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => Level::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "aarch64")]
            Level::NeonDotprod => Level::Neon.is_available() && std::arch::is_aarch64_feature_detected!("dotprod"),
            #[allow(unreachable_patterns)] // The levels of other architectures.
            _ => false,
        }
    }

    /// The levels that this machine has, lowest first. Never empty.
    pub fn available() -> Vec<Level> {
        Level::ALL.into_iter().filter(|l| l.is_available()).collect()
    }

    /// The level that is the fastest on this machine: the highest that it has. Dot products of bf16 only where they are faster than products of f32,
    /// which they are on AMD's processors. (Measured: twice as fast on Zen 4, half as fast on Intel's Emerald Rapids.)
    pub fn best() -> Level {
        let fast = |l: &Level| *l != Level::Avx512Bf16 || is_amd();
        Level::ALL.into_iter().rev().find(|l| l.is_available() && fast(l)).unwrap_or(Level::Portable)
    }

    /// This level, or the best one there is if this machine lacks it.
    pub fn or_best(self) -> Level {
        if self.is_available() { self } else { Level::best() }
    }

    /// Whether the level has dot products of bf16: products with weights of bf16 then take activations of bf16.
    pub const fn has_bf16_dots(self) -> bool {
        matches!(self, Level::Avx512Bf16)
    }

    /// The level's name: `portable`, `avx2`, `avx512`, `avx512-bf16`, `neon` or `neon-dotprod`.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Avx512Bf16 => "avx512-bf16",
            Level::Neon => "neon",
            Level::NeonDotprod => "neon-dotprod",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(s: &str) -> Result<Self, UnknownLevel> {
        Level::ALL.into_iter().find(|l| l.name().eq_ignore_ascii_case(s)).ok_or_else(|| UnknownLevel(s.into()))
    }
}

/// How far ahead a kernel that streams memory once should prefetch, in bytes; 0 where the processor's own prefetching does
/// better alone. (Measured: Intel's Emerald Rapids gains 10–35 % on decoding products, AMD's Zen 3 35 %, Zen 5 up to 8 %; Zen 4 loses
/// 7–18 %.)
pub(crate) fn prefetch_distance() -> usize {
    /// A fact about the processor; asking it each time would cost a trip to a hypervisor.
    static DISTANCE: OnceLock<usize> = OnceLock::new();
    *DISTANCE.get_or_init(|| match Level::best() {
        Level::Avx512 | Level::Avx512Bf16 if is_zen4() => 0,
        Level::Avx2 | Level::Avx512 | Level::Avx512Bf16 => 4096,
        _ => 0,
    })
}

/// Whether AMD made the processor.
#[cfg(target_arch = "x86_64")]
fn is_amd() -> bool {
    /// As above.
    static AMD: OnceLock<bool> = OnceLock::new();
    *AMD.get_or_init(|| {
        let id = std::arch::x86_64::__cpuid(0);
        [id.ebx, id.edx, id.ecx] == [b"Auth", b"enti", b"cAMD"].map(|part| u32::from_le_bytes(*part))
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn is_amd() -> bool {
    false
}

/// Whether an AMD processor with AVX-512 is older than Zen 5, whose family is 26.
#[cfg(target_arch = "x86_64")]
fn is_zen4() -> bool {
    let version = std::arch::x86_64::__cpuid(1).eax;
    let family = match version >> 8 & 15 {
        15 => 15 + (version >> 20 & 255),
        family => family,
    };
    is_amd() && family < 26
}

#[cfg(not(target_arch = "x86_64"))]
fn is_zen4() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_levels() {
        for l in Level::ALL {
            assert_eq!(l.to_string().parse::<Level>(), Ok(l));
        }
        assert!("sse9".parse::<Level>().unwrap_err().to_string().contains("sse9"));
    }

    #[test]
    fn levels_belong_to_an_architecture() {
        let levels = Level::available();
        assert_eq!(levels.contains(&Level::Neon), cfg!(target_arch = "aarch64"), "{levels:?}");
        assert!(!(levels.contains(&Level::Neon) && levels.contains(&Level::Avx2)), "{levels:?}");
        for level in Level::ALL {
            let usable = level.or_best();
            assert!(
                if levels.contains(&level) { usable == level } else { usable == Level::best() },
                "{level}: {usable}"
            );
        }
    }

    #[test]
    fn the_best_level_is_the_last_available_that_is_fast() {
        let levels = Level::available();
        assert_eq!(levels[0], Level::Portable);
        let last = *levels.last().unwrap();
        let slow = last == Level::Avx512Bf16 && !is_amd();
        assert_eq!(Level::best(), if slow { Level::Avx512 } else { last });
    }
}
