//! Device kernels: every file for every target, in parallel, compressed, and kept in a cache by content.

#[path = "compilers.rs"]
mod compilers;

use compilers::Compiler;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// AMD's targets: those that have tests, and the families' generic ones for the cards beside them. Not gfx9-generic (Vega): it has no dot
/// products of bytes.
const AMD: &[&str] = &[
    "gfx1030",
    "gfx1100",
    "gfx1151",
    "gfx1200",
    "gfx1201",
    "gfx90a",
    "gfx942",
    "gfx950",
    "gfx10-3-generic",
    "gfx11-generic",
    "gfx12-generic",
    "gfx9-4-generic",
];
const NVIDIA: &[&str] = &["sm_80", "sm_90"];

/// One kernel file for one target.
struct Job<'a> {
    source: &'a Source,
    arch: &'a str,
    compiler: &'a Compiler,
    object: PathBuf,
}

/// A kernel file with what it includes.
struct Source {
    path: PathBuf,
    stem: String,
    /// Texts by path, in the order of paths.
    texts: BTreeMap<PathBuf, String>,
}

/// Compiles what is missing and writes `$OUT_DIR/objects.rs`.
pub fn build() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let folder = root.join("kernels");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=kernels");
    for name in ["ROCMFORGE_GPU_TARGETS", "ROCMFORGE_NVCC", "NVCC", "HIPCC"] {
        println!("cargo::rerun-if-env-changed={name}");
    }

    let cache = target_folder(&out).join("gpu-kernels");
    let sources = sources(&folder);
    let compilers = compilers::find();
    let archs = archs(&compilers);
    std::fs::create_dir_all(&cache).unwrap_or_else(|e| stop(&format!("{}: {e}", cache.display())));

    let mut jobs = Vec::new();
    for (arch, compiler) in &archs {
        for source in &sources {
            let name = format!("{}.{arch}.{}.z", source.stem, key(source, arch, compiler, &folder));
            jobs.push(Job { source, arch, compiler, object: cache.join(name) });
        }
    }
    compile(&jobs, &folder, &cache);
    write_index(&jobs, &archs, &out, &cache);
}

/// Ends the build with a message.
fn stop(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(1);
}

/// The folder that all profiles, features and versions of a build share.
fn target_folder(out: &Path) -> PathBuf {
    // TARGET/PROFILE/build/PACKAGE-HASH/out
    let build = out.ancestors().find(|a| a.file_name() == Some(OsStr::new("build")));
    build.and_then(|b| b.ancestors().nth(2)).unwrap_or(out).to_path_buf()
}

/// The targets to compile for, with what compiles each.
fn archs(compilers: &[Compiler]) -> Vec<(String, &Compiler)> {
    let asked = std::env::var("ROCMFORGE_GPU_TARGETS").unwrap_or_default();
    let serving = |arch: &str| compilers.iter().find(|c| c.knows(arch));
    match asked.trim() {
        "none" => Vec::new(),
        "" | "all" => {
            if !compilers.iter().any(|c| c.amd) {
                println!(
                    "cargo::warning=no kernels for AMD devices: there is no hipcc, no amdclang++ and no clang of version 19 or \
                     later. Install one and touch build.rs, or set ROCMFORGE_GPU_TARGETS=none to build without device kernels"
                );
            }
            let known = AMD.iter().chain(NVIDIA);
            known.filter_map(|arch| serving(arch).map(|c| (arch.to_string(), c))).collect()
        }
        list => list
            .split(',')
            .map(str::trim)
            .filter(|arch| !arch.is_empty())
            .map(|arch| match serving(arch) {
                Some(compiler) => (arch.to_string(), compiler),
                None => stop(&format!(
                    "ROCMFORGE_GPU_TARGETS asks for {arch}, which no compiler that was found knows ({})",
                    compilers.iter().map(|c| c.program.display().to_string()).collect::<Vec<_>>().join(", ")
                )),
            })
            .collect(),
    }
}

/// The files of `kernels/` with the headers that they reach.
fn sources(folder: &Path) -> Vec<Source> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| stop(&format!("{}: {e}", folder.display())));
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|p| p.extension() == Some(OsStr::new("hip")));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let mut texts = BTreeMap::new();
            read_with_headers(&path, folder, &mut texts);
            let stem = path.file_stem().expect("it has an extension").to_string_lossy().into_owned();
            Source { path, stem, texts }
        })
        .collect()
}

fn read_with_headers(path: &Path, folder: &Path, texts: &mut BTreeMap<PathBuf, String>) {
    if texts.contains_key(path) {
        return;
    }
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let names: Vec<String> = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("#include \"")?.split('"').next())
        .map(str::to_string)
        .collect();
    texts.insert(path.to_path_buf(), text);
    let beside = path.parent().unwrap_or(folder);
    for name in names {
        for place in [beside, folder] {
            read_with_headers(&place.join(&name), folder, texts);
        }
    }
}

/// A name for all that an object depends on.
fn key(source: &Source, arch: &str, compiler: &Compiler, folder: &Path) -> String {
    // The other platforms' headers are behind `#if`.
    let other = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == if compiler.amd { "nvidia.h" } else { "amd.h" } || name == "host.h" || name.ends_with("_host.h")
    };
    let mut hash = Fnv128(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    hash.add(&compiler.version);
    compiler.flags(arch).iter().for_each(|flag| hash.add(flag));
    for (path, text) in source.texts.iter().filter(|(path, _)| !other(path)) {
        hash.add(&path.strip_prefix(folder).unwrap_or(path).to_string_lossy());
        hash.add(text);
    }
    format!("{:032x}", hash.0)
}

/// The hash of Fowler, Noll and Vo (1a), in 128 bits.
struct Fnv128(u128);

impl Fnv128 {
    fn add(&mut self, text: &str) {
        for byte in text.bytes().chain([0]) {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    }
}

/// Runs the jobs whose object is not there, on all cores.
fn compile(jobs: &[Job<'_>], folder: &Path, cache: &Path) {
    let mut missing: Vec<&Job<'_>> = jobs.iter().filter(|job| !job.object.exists()).collect();
    // The longest first, by the only measure there is before: NVIDIA's compiler is slow, and a long text takes longer.
    missing.sort_by_key(|job| {
        std::cmp::Reverse((!job.compiler.amd, job.source.texts.values().map(String::len).sum::<usize>()))
    });
    let threads = std::env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok());
    let threads: usize = threads.or_else(|| Some(std::thread::available_parallelism().ok()?.get())).unwrap_or(1);
    let (next, failed, times) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(missing.len()) {
            scope.spawn(|| {
                while let Some(job) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let start = Instant::now();
                    let result = compile_one(job, folder, cache);
                    let took = start.elapsed().as_millis();
                    times.lock().expect("no thread panics with it").push((took, &job.source.stem, job.arch));
                    if let Err(message) = result
                        && !failed.swap(true, Ordering::Relaxed)
                    {
                        eprintln!("kernels/{}.hip for {}: {message}", job.source.stem, job.arch);
                    }
                }
            });
        }
    });
    for (took, stem, arch) in times.into_inner().expect("no thread panics with it") {
        println!("compiled {stem} for {arch} in {took} ms");
    }
    if failed.into_inner() {
        stop("a device kernel does not compile");
    }
}

fn compile_one(job: &Job<'_>, folder: &Path, cache: &Path) -> Result<(), String> {
    let temporary = |what: &str| cache.join(format!("{}.{}.{}.{what}", job.source.stem, job.arch, std::process::id()));
    let raw = temporary("raw");
    let command = job.compiler.command(job.arch, folder, &job.source.path, &raw).output();
    let output = command.map_err(|e| format!("{}: {e}", job.compiler.program.display()))?;
    if !output.status.success() {
        let _ = std::fs::remove_file(&raw);
        return Err(format!(
            "{} failed ({})\n{}{}",
            job.compiler.program.display(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let pack = || {
        let bytes = std::fs::read(&raw)?;
        let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&bytes)?;
        // Under its name only when it is whole: another build may look for it.
        let whole = temporary("z");
        std::fs::write(&whole, packed.finish()?)?;
        std::fs::rename(&whole, &job.object)?;
        std::fs::remove_file(&raw)
    };
    pack().map_err(|e| format!("{}: {e}", job.object.display()))
}

/// `objects.rs` for the crate, and `index.tsv` in the cache for `tools/kernel-resources.py`.
fn write_index(jobs: &[Job<'_>], archs: &[(String, &Compiler)], out: &Path, cache: &Path) {
    let names: Vec<&str> = archs.iter().map(|(arch, _)| arch.as_str()).collect();
    let mut code = format!("const ARCHS: &[&str] = &{names:?};\n");
    code += "const OBJECTS: &[(&str, &str, &[u8])] = &[\n";
    let mut index = String::new();
    for job in jobs {
        let path = job.object.to_str().unwrap_or_else(|| stop("the target folder's path is not Unicode"));
        writeln!(code, "    ({:?}, {:?}, include_bytes!({path:?})),", job.source.stem, job.arch).expect("to a string");
        let name = job.object.file_name().expect("it was joined").to_string_lossy();
        writeln!(index, "{}\t{}\t{name}", job.source.stem, job.arch).expect("to a string");
    }
    code += "];\n";
    let write = |path: PathBuf, text: &str| {
        std::fs::write(&path, text).unwrap_or_else(|e| stop(&format!("{}: {e}", path.display())));
    };
    write(out.join("objects.rs"), &code);
    if !jobs.is_empty() {
        write(cache.join("index.tsv"), &index);
    }
}
