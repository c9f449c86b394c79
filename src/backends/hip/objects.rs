//! Device code that `build.rs` compiled and that the library carries: an object for each file of `kernels/` and each target.

use flate2::read::DeflateDecoder;
use std::io::Read;

// ARCHS and OBJECTS.
include!(concat!(env!("OUT_DIR"), "/objects.rs"));

/// The emulated devices (`kernels/host/`), whose library has the kernels itself.
const HOST: [&str; 2] = ["host32", "host64"];

/// Generic targets of AMD with the targets that run their code.
const FAMILIES: &[(&str, &[&str])] = &[
    ("gfx9-4-generic", &["gfx942", "gfx950"]),
    ("gfx10-3-generic", &["gfx1030", "gfx1031", "gfx1032", "gfx1033", "gfx1034", "gfx1035", "gfx1036"]),
    ("gfx11-generic", &["gfx1100", "gfx1101", "gfx1102", "gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153"]),
    ("gfx12-generic", &["gfx1200", "gfx1201"]),
];

/// The targets that there is device code for; none if the library was built without a device compiler.
pub(crate) fn archs() -> &'static [&'static str] {
    ARCHS
}

/// The object of `kernels/<file>.hip` for a target as [`resolve`] gave it.
pub(crate) fn object(file: &str, arch: &str) -> Option<Vec<u8>> {
    if HOST.contains(&arch) {
        // What the emulator takes as a module: the name of the file.
        return Some(format!("host:{file}\0").into_bytes());
    }
    let (_, _, packed) = OBJECTS.iter().find(|(f, a, _)| *f == file && *a == arch)?;
    let mut bytes = Vec::new();
    DeflateDecoder::new(*packed).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The target whose code runs on a device: its own, or the generic one of its family (AMD; `gfx90a:sramecc+:xnack-` is `gfx90a`), or
/// the highest of its major version that is not above it (NVIDIA). The error names the build that would serve the device.
pub(crate) fn resolve(arch: &str) -> Result<&'static str, String> {
    resolve_among(arch, archs())
}

fn resolve_among<'a>(arch: &str, there: &[&'a str]) -> Result<&'a str, String> {
    let name = arch.split(':').next().unwrap_or(arch);
    let exact = HOST.iter().chain(there).copied().find(|a| *a == name);
    let family = || {
        let (generic, _) = FAMILIES.iter().find(|(_, members)| members.contains(&name))?;
        there.iter().copied().find(|a| a == generic)
    };
    let older = || {
        let (major, minor) = compute_capability(name)?;
        let runs = |a: &&'a str| compute_capability(a).filter(|v| v.0 == major && v.1 <= minor);
        there.iter().copied().filter(|a| runs(a).is_some()).max_by_key(|a| compute_capability(a))
    };
    exact.or_else(family).or_else(older).ok_or_else(|| {
        let has = if there.is_empty() {
            "no device code: no device compiler was found when it was built".to_string()
        } else {
            format!("device code for {}", there.join(", "))
        };
        format!("this build has {has}; one made with ROCMFORGE_GPU_TARGETS={name} would serve this device")
    })
}

/// `sm_86` is (8, 6), `sm_120` is (12, 0).
fn compute_capability(name: &str) -> Option<(u32, u32)> {
    let number: u32 = name.strip_prefix("sm_")?.parse().ok()?;
    Some((number / 10, number % 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_there_for_every_target() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let mut files = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "hip") {
                continue;
            }
            files += 1;
            let stem = path.file_stem().unwrap().to_str().unwrap();
            for arch in archs() {
                let bytes = object(stem, arch).unwrap_or_else(|| panic!("{stem} for {arch}"));
                assert_eq!(&bytes[..4], b"\x7fELF", "{stem} for {arch}");
            }
        }
        assert_eq!(OBJECTS.len(), files * archs().len());
        assert_eq!(object("no such file", "gfx1100"), None);
        assert_eq!(object("add", "host64").unwrap(), b"host:add\0");
    }

    #[test]
    fn a_device_gets_its_own_code_or_its_familys() {
        let there = ["gfx1100", "gfx11-generic", "gfx9-4-generic", "sm_80", "sm_86", "sm_90"];
        for (arch, expected) in [
            ("gfx1100", "gfx1100"),
            ("gfx1100:xnack-", "gfx1100"),
            ("gfx1103", "gfx11-generic"),
            ("gfx942:sramecc+:xnack-", "gfx9-4-generic"),
            ("sm_80", "sm_80"),
            ("sm_89", "sm_86"),
            ("sm_90", "sm_90"),
            ("host32", "host32"),
        ] {
            assert_eq!(resolve_among(arch, &there), Ok(expected), "{arch}");
        }
    }

    #[test]
    fn what_cannot_run_names_the_build_that_could() {
        // gfx90a has other instructions than gfx942 and its family; sm_100 does not run sm_90's code, nor sm_75 sm_80's.
        for arch in ["gfx90a", "gfx1030", "gfx1201", "sm_100", "sm_75", "apple"] {
            let message = resolve_among(arch, &["gfx1100", "gfx9-4-generic", "sm_80", "sm_90"]).unwrap_err();
            assert_eq!(
                message,
                format!(
                    "this build has device code for gfx1100, gfx9-4-generic, sm_80, sm_90; \
                     one made with ROCMFORGE_GPU_TARGETS={arch} would serve this device"
                )
            );
        }
        assert!(resolve_among("gfx1100", &[]).unwrap_err().contains("no device compiler was found"));
    }
}
