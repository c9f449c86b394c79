//! GGUF files, versions 2 and 3, little-endian: a checked parser over a read-only map of the file, and a small writer.
//!
//! [`Gguf`] is an opened file: its header was parsed and every tensor's bytes lie inside the file. [`Header`] is the same
//! without the data, for looking at files that are incomplete. [`Writer`] makes files.
//!
//! The parser's invariant: no length, count, offset, alignment or size from the file is used before it is checked, and
//! memory is only reserved for bytes that the file has. Where llama.cpp accepts what the format forbids (NUL or invalid
//! UTF-8 in a name, an absurd alignment), this parser refuses. Bools that are neither 0 nor 1 and text values that are
//! not UTF-8 do not spoil the file: they become [`Value::Malformed`] and are refused when they are asked for.

mod error;
mod header;
mod map;
mod metadata;
mod reader;
mod sniff;
mod tensors;
mod value;
mod writer;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{GgufError, MetadataError};
pub use header::Header;
pub use metadata::Metadata;
pub use tensors::TensorInfo;
pub use value::{Array, Value, ValueType};
pub use writer::{TensorWriter, Writer};

use map::Map;

/// An opened GGUF file: the parsed header and the bytes of all tensors, mapped or owned.
///
/// # Files that change while they are mapped
///
/// [`Gguf::open`] maps the file; it does not copy it. The file must not be modified or truncated by anyone while it is
/// open: changed bytes show up in the tensors, and touching pages that a truncation removed kills the process with
/// SIGBUS. Replace a model by renaming a new file over the old one, which leaves the map intact. Use
/// [`Gguf::from_bytes`] where that cannot be promised.
pub struct Gguf {
    header: Header,
    bytes: Bytes,
    path: Option<PathBuf>,
}

enum Bytes {
    Mapped(Map),
    Owned(Arc<[u8]>),
    Static(&'static [u8]),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map.bytes(),
            Bytes::Owned(bytes) => bytes,
            Bytes::Static(bytes) => bytes,
        }
    }
}

impl Gguf {
    /// Maps the file, parses its header and checks that the data of every tensor is there.
    ///
    /// # Errors
    /// Every error names the path. See [`GgufError`] for the kinds.
    pub fn open(path: impl AsRef<Path>) -> Result<Gguf, GgufError> {
        let path = path.as_ref();
        let opened = Map::open(path).and_then(|map| {
            let header = Header::parse(map.bytes())?;
            header.check_data()?;
            Ok(Gguf { header, bytes: Bytes::Mapped(map), path: Some(path.to_path_buf()) })
        });
        opened.map_err(|error| error.in_file(path))
    }

    /// Parses a file held in memory (`Vec<u8>`, `Box<[u8]>` or `Arc<[u8]>`), with the same checks as [`Gguf::open`].
    ///
    /// # Errors
    /// See [`GgufError`].
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Gguf, GgufError> {
        Gguf::in_memory(Bytes::Owned(bytes.into()))
    }

    /// Parses a file that is part of the program, with the same checks as [`Gguf::open`] and without a copy. Tensors are
    /// aligned as far as `bytes` is.
    ///
    /// # Errors
    /// See [`GgufError`].
    pub fn from_static(bytes: &'static [u8]) -> Result<Gguf, GgufError> {
        Gguf::in_memory(Bytes::Static(bytes))
    }

    fn in_memory(bytes: Bytes) -> Result<Gguf, GgufError> {
        let header = Header::parse(bytes.as_slice())?;
        header.check_data()?;
        Ok(Gguf { header, bytes, path: None })
    }

    /// All that the file says before the tensor data.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The format's version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version()
    }

    /// What tensor offsets are multiples of, in bytes: a power of two, 32 unless `general.alignment` says otherwise.
    pub fn alignment(&self) -> u32 {
        self.header.alignment()
    }

    /// Bytes of the whole file.
    pub fn file_size(&self) -> u64 {
        self.header.file_size()
    }

    /// Where the file was opened; `None` for bytes from memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The keys and values.
    pub fn metadata(&self) -> &Metadata {
        self.header.metadata()
    }

    /// All tensors, in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        self.header.tensors()
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.tensor(name)
    }

    /// The bytes of a tensor of this file, [`TensorInfo::bytes`] long, rows in order without padding.
    ///
    /// The address is a multiple of the smaller of [`Gguf::alignment`] and 8 on 64-bit hosts. Files may choose alignment
    /// 1, so code that casts to wider elements must check or read unaligned. An info that does not come from this file
    /// gives whatever lies in its range, and an empty slice if that leaves the file.
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        let range = self.header.data_range(tensor);
        range.and_then(|range| self.bytes.as_slice().get(range)).unwrap_or_default()
    }
}

impl Gguf {
    /// Lets the pages of a part of a tensor leave memory after it was copied elsewhere. Its data can still be read, from the file again.
    pub fn release(&self, tensor: &TensorInfo, part: Range<usize>) {
        if let (Bytes::Mapped(map), Some(range)) = (&self.bytes, self.part(tensor, part)) {
            map.release(range);
        }
    }

    /// Says that a part of a tensor will be read next, so that the system fetches it meanwhile.
    pub fn prefetch(&self, tensor: &TensorInfo, part: Range<usize>) {
        if let (Bytes::Mapped(map), Some(range)) = (&self.bytes, self.part(tensor, part)) {
            map.prefetch(range);
        }
    }

    /// Where a part of a tensor stands in the file; what is beyond the tensor does not count.
    fn part(&self, tensor: &TensorInfo, part: Range<usize>) -> Option<Range<usize>> {
        let whole = self.header.data_range(tensor)?;
        let at = |offset: usize| whole.start.saturating_add(offset).min(whole.end);
        Some(at(part.start)..at(part.end))
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("path", &self.path)
            .field("version", &self.version())
            .field("file_size", &self.file_size())
            .field("keys", &self.metadata().len())
            .field("tensors", &self.tensors().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
