//! How a product of many tokens is computed: [`choose`], a pure function of the shape and the device, by a table of measurements.

use super::arch::{Arch, Matrix};

/// Formats as in `kernels/common/planes.h`.
pub(crate) const F32: i32 = 0;
pub(crate) const F16: i32 = 1;
pub(crate) const BF16: i32 = 2;
/// A matrix in the blocks of the file.
pub(crate) const RAW: i32 = -1;

/// The rectangle of results that a block of `gemm` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tile {
    Large,
    Small,
}

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// `gemm`, which expands the weights by itself.
    Direct(Tile),
    /// The weights as f16 into scratch memory, then `gemm`.
    Scratch(Tile),
    /// The BLAS library; weights that are not f16 into scratch memory before.
    Library,
}

/// `GemmShape` of `kernels/gemm.hip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Rows of w and rows of x that a block multiplies.
    pub n: usize,
    pub t: usize,
    /// Bytes of LDS.
    pub lds: usize,
}

impl Tile {
    /// Its size on a device.
    pub fn shape(self, arch: &Arch) -> Shape {
        let (k, stages) = if arch.matrix == Matrix::Mma { (64, 3) } else { (32, 2) };
        let side = match (self, arch.matrix) {
            (Tile::Small, _) | (_, Matrix::None) => 64,
            (Tile::Large, _) => 128,
        };
        Shape { n: side, t: side, lds: 2 * side * (k + 8) * 2 * stages }
    }
}

/// From how many tokens on the library takes less time, where it is there: weights that have to be expanded for it, and f16 weights.
struct LibraryFrom {
    matrix: Matrix,
    expanded: usize,
    halves: usize,
}

/// On an H200 cuBLAS takes a half or less of the time of `gemm` for f16 weights of any number of tokens; with weights to be expanded first it
/// wins from 128 tokens (28672 × 4096 of Q4_K and 512 tokens: 245 to 570 µs; 14336 × 4096: 94 to 153 µs for 256, 79 to 69 µs for 64). Not
/// measured for AMD: rocBLAS where the kernels have no matrix instructions, or are the less tuned ones.
const LIBRARY: &[LibraryFrom] = &[
    LibraryFrom { matrix: Matrix::Mma, expanded: 96, halves: 9 },
    LibraryFrom { matrix: Matrix::Mfma, expanded: 256, halves: 64 },
    LibraryFrom { matrix: Matrix::Wmma, expanded: usize::MAX, halves: usize::MAX },
    LibraryFrom { matrix: Matrix::None, expanded: 128, halves: 64 },
];

/// Whether the library would ever be used on such a device; no library knows the emulator's addresses.
pub(crate) fn wants_library(arch: &Arch) -> bool {
    !arch.name.starts_with("host") && LIBRARY.iter().any(|l| l.matrix == arch.matrix && l.halves < usize::MAX)
}

/// How to multiply `n` rows of `k` elements with `t` tokens; `library` says whether the BLAS library is there.
pub(crate) fn choose(arch: &Arch, format: i32, n: usize, k: usize, t: usize, library: bool) -> Variant {
    if library && n * k >= SMALLEST_OF_LIBRARY {
        let from = LIBRARY.iter().find(|l| l.matrix == arch.matrix);
        if from.is_some_and(|l| t >= if format == F16 { l.halves } else { l.expanded }) {
            return Variant::Library;
        }
    }
    let tile = tile(arch, n, t);
    if matches!(format, F32 | BF16 | RAW) { Variant::Scratch(tile) } else { Variant::Direct(tile) }
}

/// Matrices of fewer elements are not worth a call of the library.
const SMALLEST_OF_LIBRARY: usize = 1 << 20;

/// Large tiles where they keep all compute units busy and little of them lies beyond the last token.
fn tile(arch: &Arch, n: usize, t: usize) -> Tile {
    let large = Tile::Large.shape(arch);
    let filled = t.div_ceil(large.t) * large.t;
    let blocks = n.div_ceil(large.n) * t.div_ceil(large.t);
    if large.lds <= arch.lds && blocks >= arch.units && t * 4 >= filled * 3 { Tile::Large } else { Tile::Small }
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q4_K: i32 = 8;

    fn on(arch: &str, format: i32, n: usize, t: usize, library: bool) -> Variant {
        choose(&Arch::of(arch).unwrap(), format, n, 4096, t, library)
    }

    #[test]
    fn large_tiles_are_for_many_rows_and_full_tiles_of_tokens() {
        assert_eq!(on("sm_90", Q4_K, 28672, 512, false), Variant::Direct(Tile::Large));
        assert_eq!(on("sm_90", Q4_K, 1024, 512, false), Variant::Direct(Tile::Small));
        assert_eq!(on("gfx1100", Q4_K, 28672, 17, false), Variant::Direct(Tile::Small));
        assert_eq!(on("gfx1100", Q4_K, 28672, 129, false), Variant::Direct(Tile::Small));
    }

    #[test]
    fn types_without_a_kernel_go_through_scratch_memory() {
        for format in [RAW, F32, BF16] {
            assert_eq!(on("gfx942", format, 4096, 64, false), Variant::Scratch(Tile::Small));
        }
    }

    #[test]
    fn the_library_is_for_many_tokens_where_it_is_there() {
        assert_eq!(on("sm_90", F16, 4096, 512, true), Variant::Library);
        assert_eq!(on("sm_90", F16, 4096, 512, false), Variant::Direct(Tile::Small));
        assert_eq!(on("sm_90", Q4_K, 4096, 64, true), Variant::Direct(Tile::Small));
        assert_eq!(on("sm_90", F16, 64, 512, true), Variant::Direct(Tile::Small));
        assert_eq!(on("gfx1100", F16, 4096, 512, true), Variant::Direct(Tile::Large));
    }

    #[test]
    fn blocks_fit_into_the_memory_of_a_compute_unit() {
        for name in ["gfx1030", "gfx1100", "gfx1201", "gfx942", "sm_80", "sm_90"] {
            let arch = Arch::of(name).unwrap();
            assert!(Tile::Large.shape(&arch).lds <= arch.lds && Tile::Small.shape(&arch).lds <= arch.lds, "{name}");
        }
        let less = Arch { lds: 48 << 10, ..Arch::of("sm_80").unwrap() };
        assert_eq!(choose(&less, Q4_K, 28672, 4096, 512, false), Variant::Direct(Tile::Small));
    }
}
