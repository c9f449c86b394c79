//! [`GgufError`]: why a file was refused. [`MetadataError`]: why a value in it was.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::value::ValueType;

/// Why a file could not be read or written. Messages name the key, tensor or field and the byte offset in the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// An error of the file at `path`.
    #[error("{}: {error}", path.display())]
    InFile {
        /// As it was given.
        path: PathBuf,
        /// What is wrong with it; never another `InFile`.
        error: Box<GgufError>,
    },
    /// The operating system refused.
    #[error("cannot {doing}: {error}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Its answer.
        error: io::Error,
    },
    /// The path leads to something that cannot be mapped.
    #[error("is not a file but {what}")]
    NotAFile {
        /// What it is.
        what: &'static str,
    },
    /// The file does not begin with `GGUF`.
    #[error("not a GGUF file: it {looks_like}")]
    NotGguf {
        /// What the content looks like instead, and what to do.
        looks_like: String,
    },
    /// The file was written for big-endian machines.
    #[error(
        "this GGUF is big-endian (version {version} in the other byte order); only little-endian files are read: convert \
         it with gguf-py's gguf_convert_endian.py"
    )]
    BigEndian {
        /// The version, read in the right order.
        version: u32,
    },
    /// A version that is not 2 or 3.
    #[error("GGUF version {version} is not supported, only 2 and 3 are ({})", if *version < 2 { "get a newer conversion of the model" } else { "written by a newer program, or damaged" })]
    Version {
        /// The version.
        version: u32,
    },
    /// The file ends inside the header.
    #[error("the file is cut off: {what} needs {need} bytes at byte {offset}, only {left} are left")]
    Truncated {
        /// What was being read.
        what: String,
        /// Where.
        offset: u64,
        /// Bytes it takes.
        need: u64,
        /// Bytes there are.
        left: u64,
    },
    /// A count that the file is too small for.
    #[error("{what}: a count of {count} at byte {offset} is impossible, at most {most} fit in the {left} bytes left")]
    Count {
        /// What is counted.
        what: String,
        /// How many are claimed.
        count: u64,
        /// Where they would begin.
        offset: u64,
        /// How many could be there.
        most: u64,
        /// Bytes there are.
        left: u64,
    },
    /// A metadata key or the form of its value.
    #[error("metadata key {key} at byte {offset}: {problem}")]
    Key {
        /// The key quoted, or its number if it has no readable name.
        key: String,
        /// Where the entry begins.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// Two entries with one key.
    #[error("metadata key {} occurs twice, as entries {first} and {second}", Quoted(key))]
    DuplicateKey {
        /// The key.
        key: String,
        /// Counted from 0.
        first: usize,
        /// Counted from 0.
        second: usize,
    },
    /// A tensor's name, shape, type or offset.
    #[error("tensor {tensor} at byte {offset}: {problem}")]
    Tensor {
        /// The name quoted, or its number if it has no readable name.
        tensor: String,
        /// Where the entry begins.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// Two tensors with one name.
    #[error("tensor {} occurs twice, as entries {first} and {second}", Quoted(name))]
    DuplicateTensor {
        /// The name.
        name: String,
        /// Counted from 0.
        first: usize,
        /// Counted from 0.
        second: usize,
    },
    /// The header is good but the file ends before the data does.
    #[error(
        "the file is cut off: {part} tensor {} ends at byte {end}, the file at byte {file_size}, and {needed} are needed; \
         the download or copy is incomplete",
        Quoted(tensor)
    )]
    DataMissing {
        /// "the data of" or "the padding after".
        part: &'static str,
        /// The first tensor that is not complete.
        tensor: String,
        /// Where it should end.
        end: u64,
        /// Where the file ends.
        file_size: u64,
        /// Bytes of the complete file.
        needed: u64,
    },
    /// Another process writes to the file.
    #[error("{what}: the file changed while it was read")]
    Changed {
        /// What was different when it was read again.
        what: String,
    },
    /// Memory for values that are in the file could not be had.
    #[error("out of memory: {what} needs {bytes} bytes")]
    OutOfMemory {
        /// What the memory was for.
        what: String,
        /// How much.
        bytes: u64,
    },
    /// The writer was given something that a file cannot hold, or tensor data in the wrong amount.
    #[error("cannot write {what}: {problem}")]
    Unwritable {
        /// The key or tensor.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl GgufError {
    /// The same error, naming the file.
    pub(super) fn in_file(self, path: &Path) -> GgufError {
        GgufError::InFile { path: path.to_path_buf(), error: Box::new(self) }
    }
}

/// Why a metadata value could not be had in the wanted type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// A required key is not there.
    #[error("metadata key {} is missing (wanted {wanted})", Quoted(key))]
    Missing {
        /// The key.
        key: String,
        /// The type that was asked for.
        wanted: &'static str,
    },
    /// The value has another type.
    #[error("metadata key {} is {found}, wanted {wanted}", Quoted(key))]
    Type {
        /// The key.
        key: String,
        /// The type in the file, e.g. `string` or `array of u32`.
        found: String,
        /// The type that was asked for.
        wanted: &'static str,
    },
    /// The value is a number outside of the wanted type.
    #[error("metadata key {} is {value}, which does not fit {wanted}", Quoted(key))]
    Range {
        /// The key.
        key: String,
        /// The number in the file, with its place in an array.
        value: String,
        /// The type that was asked for.
        wanted: &'static str,
    },
    /// The file stores bytes that are no value of their type.
    #[error("metadata key {} is a malformed {kind}: {problem}", Quoted(key))]
    Malformed {
        /// The key.
        key: String,
        /// The type in the file.
        kind: ValueType,
        /// What is wrong.
        problem: String,
    },
}

/// Writes a name from a file in backticks: control characters escaped, long ones cut.
pub(super) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 100;
        write!(f, "`")?;
        for c in self.0.chars().take(MOST) {
            write!(f, "{}", c.escape_debug())?;
        }
        write!(f, "{}", if self.0.chars().nth(MOST).is_some() { "…`" } else { "`" })
    }
}
