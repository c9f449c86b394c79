//! [`Header`]: everything before the tensor data.

use std::ops::Range;
use std::path::Path;

use super::error::GgufError;
use super::map::Map;
use super::metadata::Metadata;
use super::reader::Cursor;
use super::sniff::looks_like;
use super::tensors::{TensorInfo, Tensors, end};
use super::value::Value;

pub(super) const MAGIC: &[u8; 4] = b"GGUF";
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// The alignment of files that do not say.
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;
/// A huge page of 2 MiB: no file has a reason for more.
const MAX_ALIGNMENT: u32 = 1 << 21;

/// The parsed header of a file: metadata and tensor list, fully checked, without the promise that the data are there.
///
/// For looking at files that are cut off, or at the first megabytes of a remote one. [`Gguf`](super::Gguf) opens complete
/// files.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    version: u32,
    alignment: u32,
    metadata: Metadata,
    tensors: Tensors,
    data_start: u64,
    needed_size: u64,
    file_size: u64,
}

impl Header {
    /// Parses the header at the beginning of `bytes`; what follows it may be missing.
    ///
    /// # Errors
    /// Any [`GgufError`] but `DataMissing`.
    pub fn parse(bytes: &[u8]) -> Result<Header, GgufError> {
        if !bytes.starts_with(MAGIC) {
            return Err(GgufError::NotGguf { looks_like: looks_like(bytes) });
        }
        let mut cursor = Cursor::new(bytes);
        cursor.take(MAGIC.len() as u64).map_err(|short| short.reading("the magic"))?;
        let version = parse_version(&mut cursor)?;
        let tensors = cursor.number().map_err(|short| short.reading("the number of tensors"))?;
        let entries = cursor.number().map_err(|short| short.reading("the number of metadata entries"))?;
        let metadata = Metadata::parse(&mut cursor, entries)?;
        let alignment = metadata.get(ALIGNMENT_KEY);
        let alignment = alignment.map_or(DEFAULT_ALIGNMENT, |value| {
            check_alignment(value).expect("`Metadata::parse` checked the alignment")
        });
        let tensors = Tensors::parse(&mut cursor, tensors, alignment)?;
        let header_end = cursor.offset();
        let data_start = header_end.checked_next_multiple_of(alignment.into());
        // No sum of places in the data can overflow if this one does not.
        let data_start =
            data_start.filter(|start| start.checked_add(tensors.data_bytes).is_some()).ok_or_else(|| {
                let (offset, left) = (header_end, cursor.left());
                GgufError::Truncated { what: "the tensor data".into(), offset, need: tensors.data_bytes, left }
            })?;
        // ggml asks for the padding before the data only if there are tensors.
        let needed_size = if tensors.infos.is_empty() { header_end } else { data_start + tensors.data_bytes };
        let file_size = bytes.len() as u64;
        Ok(Header { version, alignment, metadata, tensors, data_start, needed_size, file_size })
    }

    /// Parses the header of a file and ignores its data.
    ///
    /// # Errors
    /// As [`Header::parse`], with the path.
    pub fn read(path: impl AsRef<Path>) -> Result<Header, GgufError> {
        let path = path.as_ref();
        Map::open(path).and_then(|map| Header::parse(map.bytes())).map_err(|error| error.in_file(path))
    }

    /// The format's version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What tensor offsets are multiples of, in bytes: a power of two.
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    /// Bytes of the file or of the part of it that was parsed.
    pub fn file_size(&self) -> u64 {
        self.file_size
    }

    /// Where the tensor data begin in the file.
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// Bytes that the file has at least when it is complete.
    pub fn needed_size(&self) -> u64 {
        self.needed_size
    }

    /// The keys and values.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors.infos
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Checks that the file holds the data of every tensor, with the padding that the format asks for after each.
    ///
    /// # Errors
    /// [`GgufError::DataMissing`] names the first tensor that is not complete.
    pub fn check_data(&self) -> Result<(), GgufError> {
        let needed = self.needed_size;
        if needed <= self.file_size {
            return Ok(());
        }
        let padded_end = |tensor: &TensorInfo| {
            self.data_start.saturating_add(end(tensor, self.alignment).expect("`parse` added up the same sizes"))
        };
        let incomplete = self.tensors().iter().find(|tensor| padded_end(tensor) > self.file_size);
        let tensor = incomplete.expect("the last tensor ends where the data section does");
        let data_end = self.data_start + tensor.offset + tensor.bytes;
        let (part, end) = match data_end > self.file_size && tensor.bytes > 0 {
            true => ("the data of", data_end),
            false => ("the padding after", padded_end(tensor)),
        };
        Err(GgufError::DataMissing { part, tensor: tensor.name.clone(), end, file_size: self.file_size, needed })
    }

    /// The bytes of a tensor in the file; `None` if they do not fit the address space, which no tensor of an opened file does.
    pub(super) fn data_range(&self, tensor: &TensorInfo) -> Option<Range<usize>> {
        let start = self.data_start.checked_add(tensor.offset)?;
        let end = start.checked_add(tensor.bytes)?;
        Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }
}

fn parse_version(cursor: &mut Cursor<'_>) -> Result<u32, GgufError> {
    let version: u32 = cursor.number().map_err(|short| short.reading("the version"))?;
    match version {
        2 | 3 => Ok(version),
        // Byte-swapped versions have nothing in their lower half.
        _ if version != 0 && version & 0xffff == 0 => Err(GgufError::BigEndian { version: version.swap_bytes() }),
        _ => Err(GgufError::Version { version }),
    }
}

/// The alignment in a value of `general.alignment`, or what is wrong with it.
pub(super) fn check_alignment(value: &Value) -> Result<u32, String> {
    match *value {
        Value::U32(alignment) if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT => Ok(alignment),
        Value::U32(alignment) => {
            Err(format!("the alignment {alignment} is not a power of two from 1 to {MAX_ALIGNMENT}"))
        }
        ref other => Err(format!("the alignment must be a u32 but is {}", other.type_name())),
    }
}
