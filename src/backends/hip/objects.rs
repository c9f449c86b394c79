//! Device code.

/// The object of a file for a target.
pub(crate) fn object(file: &str, arch: &str) -> Option<Vec<u8>> {
    if arch.starts_with("host") {
        return Some(format!("host:{file}\0").into_bytes());
    }
    std::fs::read(format!("{}/{file}.{arch}", std::env::var("ROCMFORGE_OBJECTS").ok()?)).ok()
}

/// The target whose code runs on a device.
pub(crate) fn resolve(arch: &str) -> Result<&'static str, String> {
    ["host32", "host64", "sm_90"].into_iter().find(|a| *a == arch).ok_or_else(|| arch.to_string())
}
