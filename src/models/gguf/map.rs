//! [`Map`]: a file mapped read-only. The only unsafe code of the parser.

use std::fs::{self, File};
use std::path::Path;

use memmap2::Mmap;

use super::error::GgufError;

/// The bytes of a regular file, mapped read-only.
pub(super) struct Map {
    /// `None` for an empty file: there is nothing to map.
    map: Option<Mmap>,
}

impl Map {
    /// Maps a regular file. Directories, pipes and devices are refused before they are opened, because opening a pipe waits
    /// for a writer.
    pub(super) fn open(path: &Path) -> Result<Map, GgufError> {
        let kind = fs::metadata(path).map_err(|error| GgufError::Io { doing: "open the file", error })?.file_type();
        if kind.is_dir() {
            return Err(GgufError::NotAFile { what: "a directory; give the path of the .gguf file in it" });
        }
        if !kind.is_file() {
            return Err(GgufError::NotAFile { what: "a device, pipe or socket" });
        }
        let file = File::open(path).map_err(|error| GgufError::Io { doing: "open the file", error })?;
        let size = file.metadata().map_err(|error| GgufError::Io { doing: "read the file's size", error })?.len();
        if size == 0 {
            return Ok(Map { map: None });
        }
        Ok(Map { map: Some(map_file(&file).map_err(|error| GgufError::Io { doing: "map the file", error })?) })
    }

    /// Tells the system that this range is not needed soon: its pages leave memory and come back from the file when read again, some
    /// rows of it and not megabytes around them. Only a hint; whatever the answer, the bytes stay what they are.
    #[allow(unsafe_code)]
    pub(super) fn release(&self, range: std::ops::Range<usize>) {
        #[cfg(unix)]
        if let Some(map) = &self.map
            && range.start < range.end
            && range.end <= map.len()
        {
            #[cfg(target_os = "linux")]
            let _ = map.advise_range(memmap2::Advice::NoHugePage, range.start, range.end - range.start);
            // SAFETY: dropping the pages of a read-only mapping of a file loses nothing: they are read from the file again, with
            // the same bytes, when a slice of the map is next used.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.end - range.start)
            };
        }
    }

    /// Tells the system that this range is read next, so that it comes from the disk while other bytes are used. Only a hint.
    pub(super) fn prefetch(&self, range: std::ops::Range<usize>) {
        #[cfg(unix)]
        if let Some(map) = &self.map
            && range.start < range.end
            && range.end <= map.len()
        {
            let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, range.end - range.start);
        }
    }

    /// The file's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

#[allow(unsafe_code)]
fn map_file(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is private to this process, read-only, and owned by the `Map` that all slices of it borrow, so it
    // outlives them. What no program can enforce on a shared file system is that no other process writes to or truncates
    // the file; `Gguf` states that as the caller's obligation, and offers `from_bytes` for those who cannot meet it.
    unsafe { Mmap::map(file) }
}
