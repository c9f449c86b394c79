//! The emulated HIP devices: libraries with HIP's entry points that run `kernels/*.hip` on the host.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The libraries whose waves have 32 and 64 lanes, built when a kernel has changed; `None` without a C++ compiler, which is said once.
///
/// # Panics
/// If a kernel does not compile.
pub fn libraries() -> Option<&'static [PathBuf; 2]> {
    static LIBRARIES: OnceLock<Option<[PathBuf; 2]>> = OnceLock::new();
    LIBRARIES.get_or_init(|| build("hip-emulator", &[])).as_ref()
}

/// As [`libraries`], with more sources than `kernels/*.hip`, in a folder of the target folder of this name.
pub fn build(folder: &str, sources: &[&Path]) -> Option<[PathBuf; 2]> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "g++".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        // Not `eprintln`, which the test harness keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "no C++ compiler ({}): the emulator is skipped", compiler.display());
        return None;
    }
    // A test program is target/PROFILE/deps/PROGRAM.
    let program = std::env::current_exe().unwrap();
    let out = program.ancestors().nth(3).unwrap().join(folder);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/host/build.sh");
    let built = Command::new("bash").arg(script).arg(&out).args(sources).output().expect("bash builds the emulator");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some([out.join("libhiphost32.so"), out.join("libhiphost64.so")])
}
