//! Compilers of device code: clang with AMD's target, and nvcc.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One of them.
pub struct Compiler {
    pub program: PathBuf,
    pub amd: bool,
    /// What it says of itself.
    pub version: String,
    /// The targets that it lists.
    targets: Vec<String>,
}

impl Compiler {
    /// Whether it compiles for a target.
    pub fn knows(&self, arch: &str) -> bool {
        self.targets.iter().any(|t| t == arch)
    }

    /// What it is told, besides the files.
    pub fn flags(&self, arch: &str) -> Vec<String> {
        let common = ["-O3", "-std=c++17"].map(str::to_string);
        let own = if self.amd {
            // Generic targets came with version 6 of code objects.
            let version = if arch.ends_with("-generic") { 6 } else { 5 };
            vec![
                "-x".into(),
                "hip".into(),
                format!("--offload-arch={arch}"),
                "--cuda-device-only".into(),
                "--no-gpu-bundle-output".into(),
                "-nogpuinc".into(),
                "-nogpulib".into(),
                format!("-mcode-object-version={version}"),
            ]
        } else {
            vec!["-x".into(), "cu".into(), format!("-arch={arch}"), "-cubin".into()]
        };
        own.into_iter().chain(common).collect()
    }

    /// Compiles a file.
    pub fn command(&self, arch: &str, folder: &Path, source: &Path, object: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.flags(arch)).arg("-I").arg(folder).arg(source).arg("-o").arg(object);
        command
    }
}

/// The first that works of AMD's, and of NVIDIA's.
pub fn find() -> Vec<Compiler> {
    let amd = candidates("HIPCC", &["hipcc", "amdclang++"], &["/opt/rocm/bin", "/opt/rocm/llvm/bin"])
        .into_iter()
        .chain((19..=30).rev().flat_map(|v| [format!("clang++-{v}"), format!("clang-{v}")]).filter_map(|n| on_path(&n)))
        .chain(["clang++", "clang"].into_iter().filter_map(on_path))
        .find_map(amd);
    let nvidia = candidates("ROCMFORGE_NVCC", &[], &[])
        .into_iter()
        .chain(candidates("NVCC", &["nvcc"], &["/usr/local/cuda/bin"]))
        .find_map(nvidia);
    amd.into_iter().chain(nvidia).collect()
}

/// The program that an environment variable names, then names on the path, then in folders.
fn candidates(variable: &str, names: &[&str], folders: &[&str]) -> Vec<PathBuf> {
    let named = std::env::var(variable).ok().filter(|v| !v.is_empty());
    let named = named.and_then(|v| if v.contains('/') { Some(PathBuf::from(v)) } else { on_path(&v) });
    let found = names.iter().filter_map(|n| on_path(n));
    let there = folders.iter().flat_map(|f| names.iter().map(move |n| Path::new(f).join(n))).filter(|p| p.exists());
    named.into_iter().chain(found).chain(there).collect()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path: OsString = std::env::var_os("PATH")?;
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path).map(|folder| folder.join(&name)).find(|p| p.is_file())
}

fn said(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(text)
}

/// A clang of version 19 or later, or AMD's, that has the target.
fn amd(program: PathBuf) -> Option<Compiler> {
    let version = said(&program, &["--version"])?;
    let number = version.split("clang version ").nth(1)?.split('.').next()?;
    // Debian's clang-16 does not know gfx12 and gfx942; AMD's 17 does not know gfx12.
    if number.parse::<u32>().ok()? < 19 {
        return None;
    }
    let list = said(&program, &["--target=amdgcn-amd-amdhsa", "-nogpulib", "--print-supported-cpus"])?;
    let targets: Vec<String> = list.split_whitespace().filter(|w| w.starts_with("gfx")).map(str::to_string).collect();
    (!targets.is_empty()).then_some(Compiler { program, amd: true, version, targets })
}

fn nvidia(program: PathBuf) -> Option<Compiler> {
    let version = said(&program, &["--version"])?;
    let list = said(&program, &["--list-gpu-code"])?;
    let targets: Vec<String> = list.split_whitespace().filter(|w| w.starts_with("sm_")).map(str::to_string).collect();
    (!targets.is_empty()).then_some(Compiler { program, amd: false, version, targets })
}
