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
            // The emulator of `kernels/host/`, with the matrix instructions of gfx12 and of CDNA (`kernels/common/matrix.h`).
            "host32" => (32, 4, 64 << 10, Matrix::Wmma),
            "host64" => (64, 4, 64 << 10, Matrix::Mfma),
            _ => return None,
        };
        Some(Arch { name: name.to_string(), wave, units, lds, matrix, blas: false })
    }

    /// The facts of a device that is there, whose code is that of target `objects`.
    pub(crate) fn of_device(name: &str, objects: &str, wave: usize, units: usize, lds: usize) -> Result<Arch, String> {
        let like = Arch::of(name).or_else(|| Arch::of(objects)).or_else(|| Arch::of(family(objects)?));
        let like = like.ok_or_else(|| format!("nothing is known of {name}, whose code would be that of {objects}"))?;
        if like.wave != wave {
            return Err(format!("waves of {wave} lanes, where the kernels for {objects} have {}", like.wave));
        }
        Ok(Arch { name: name.to_string(), units, lds: lds.max(48 << 10), ..like })
    }
}

/// A member of a generic target's family.
fn family(generic: &str) -> Option<&'static str> {
    Some(match generic {
        "gfx9-4-generic" => "gfx942",
        "gfx9-generic" => "gfx90a",
        "gfx10-3-generic" => "gfx1030",
        "gfx11-generic" => "gfx1100",
        "gfx12-generic" => "gfx1201",
        _ => return None,
    })
}
