//! Finding and opening a driver's library.

use super::error::GpuError;
use libloading::Library;
use std::ffi::c_void;
use std::path::{Path, PathBuf};

/// A library that was opened. It stays in the process for good: a driver has threads and exit handlers of its own, and unloading
/// its code under them ends badly.
pub(super) struct Opened {
    library: &'static Library,
    /// The name or path that worked.
    pub name: String,
}

/// Where a library may be.
pub(super) struct Search {
    /// What it is called in messages.
    pub what: &'static str,
    /// File names, the preferred first; the loader's path is tried with each, then each folder.
    pub names: &'static [&'static str],
    /// Folders that are not on the loader's path.
    pub folders: Vec<PathBuf>,
    /// What to install if there is none.
    pub install: &'static str,
}

impl Search {
    /// The first library that opens. One that is there and does not open ends the search with what the loader said.
    pub fn open(&self) -> Result<Opened, GpuError> {
        let mut broken = None;
        for path in self.candidates() {
            // SAFETY: opening runs the library's initialisers. These are the vendors' libraries, found where the system's
            // administrator or the user's environment puts libraries; they may be opened at any time, from any thread.
            match unsafe { Library::new(&path) } {
                Ok(library) => {
                    return Ok(Opened { library: Box::leak(Box::new(library)), name: path.display().to_string() });
                }
                Err(e) => {
                    let reason = reason(&e);
                    if !is_absent(&path, &reason) && broken.is_none() {
                        broken = Some((path, reason));
                    }
                }
            }
        }
        Err(match broken {
            Some((path, reason)) => {
                GpuError::LibraryUnusable { library: path.display().to_string(), reason, advice: self.install }
            }
            None => GpuError::LibraryMissing { library: self.what, tried: self.tried(), install: self.install },
        })
    }

    fn candidates(&self) -> impl Iterator<Item = PathBuf> {
        let bare = self.names.iter().map(PathBuf::from);
        let placed = self.folders.iter().flat_map(|f| self.names.iter().map(move |n| f.join(n)));
        bare.chain(placed.filter(|p| p.exists()))
    }

    fn tried(&self) -> String {
        let mut tried = self.names.join(", ");
        for folder in &self.folders {
            tried.push_str(", ");
            tried.push_str(&folder.display().to_string());
        }
        tried
    }
}

/// A library at exactly this path.
pub(super) fn open_path(path: &Path, advice: &'static str) -> Result<Opened, GpuError> {
    // SAFETY: opening runs the library's initialisers; the user named this file as a HIP runtime.
    match unsafe { Library::new(path) } {
        Ok(library) => Ok(Opened { library: Box::leak(Box::new(library)), name: path.display().to_string() }),
        Err(e) => Err(GpuError::LibraryUnusable { library: path.display().to_string(), reason: reason(&e), advice }),
    }
}

impl Opened {
    /// The address of a function or object.
    pub fn symbol(&self, name: &str) -> Option<*mut c_void> {
        // SAFETY: a pointer to anything is a valid type for an address; whoever casts it says why that is right.
        let symbol = unsafe { self.library.get::<*mut c_void>(name) }.ok()?;
        // SAFETY: as above. The address stays valid because the library is never unloaded.
        let address = unsafe { symbol.try_as_raw_ptr() }?;
        (!address.is_null()).then_some(address)
    }

    /// The same, with an error that names the function.
    pub fn require(&self, name: &str, advice: &'static str) -> Result<*mut c_void, GpuError> {
        self.symbol(name).ok_or_else(|| GpuError::LibraryUnusable {
            library: self.name.clone(),
            reason: format!("it has no {name}"),
            advice,
        })
    }
}

/// What the loader said.
fn reason(error: &libloading::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

/// Whether the loader said that this file, and not one that it needs, is not there.
fn is_absent(path: &Path, reason: &str) -> bool {
    reason.starts_with(&*path.to_string_lossy()) && reason.contains("No such file")
}

/// `$variable/below`, and the usual place.
pub(super) fn folders(variable: &str, usual: &str, below: &[&str]) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = std::env::var_os(variable).into_iter().map(PathBuf::from).collect();
    if !roots.iter().any(|r| r == Path::new(usual)) {
        roots.push(PathBuf::from(usual));
    }
    roots.iter().flat_map(|r| below.iter().map(move |b| r.join(b))).collect()
}
