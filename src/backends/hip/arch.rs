//! [`Arch`]: what is known of a device without having one.

/// Matrix instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Matrix {
    /// None.
    None,
    /// RDNA3 and RDNA4: WMMA 16×16×16.
    Wmma,
    /// CDNA: MFMA 16×16×16.
    Mfma,
    /// NVIDIA: mma.sync 16×8×16.
    Mma,
}

/// A device's facts that lowering depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arch {
    /// The compiler's name of the target: `gfx1100`, `sm_90`.
    pub name: String,
    /// Lanes of a wave.
    pub wave: usize,
    /// Compute units (streaming multiprocessors).
    pub units: usize,
    /// LDS bytes that a block may take.
    pub lds: usize,
    pub(crate) matrix: Matrix,
    /// Whether the vendor's BLAS library is there.
    pub(crate) blas: bool,
}

impl Arch {
    /// The facts of a target by name, with the compute units of its largest common card; `None` for a name that there is no kernel for.
    pub fn of(name: &str) -> Option<Arch> {
        let (wave, units, lds, matrix) = match name {
            "gfx1030" => (32, 80, 64 << 10, Matrix::None),
            "gfx1100" => (32, 96, 64 << 10, Matrix::Wmma),
            "gfx1151" => (32, 40, 64 << 10, Matrix::Wmma),
            "gfx1200" => (32, 32, 64 << 10, Matrix::Wmma),
            "gfx1201" => (32, 64, 64 << 10, Matrix::Wmma),
            "gfx90a" => (64, 104, 64 << 10, Matrix::Mfma),
            "gfx942" => (64, 304, 64 << 10, Matrix::Mfma),
            "gfx950" => (64, 256, 64 << 10, Matrix::Mfma),
            "sm_80" => (32, 108, 160 << 10, Matrix::Mma),
            "sm_90" => (32, 132, 224 << 10, Matrix::Mma),
            _ => return None,
        };
        Some(Arch { name: name.to_string(), wave, units, lds, matrix, blas: false })
    }
}
