//! [`Writer`]: makes a GGUF file from metadata, a list of tensors and their data in order.

use std::io::{self, Write};

use super::error::{GgufError, Quoted};
use super::header::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, check_alignment};
use super::metadata::Metadata;
use super::reader::{Number, check_name};
use super::tensors::{MAX_NAME, TensorInfo, Tensors, end};
use super::value::{Value, put_text};
use crate::tensor::DType;

/// The version that is written.
const VERSION: u32 = 3;

/// Collects metadata and tensor infos; [`Writer::start`] writes them and takes the data.
///
/// ```
/// use rocmforge::models::gguf::{Gguf, Writer};
/// use rocmforge::tensor::DType;
///
/// let mut writer = Writer::new();
/// writer.set("general.architecture", "llama")?;
/// writer.tensor("token_embd.weight", DType::F32, &[2, 1])?;
/// let mut data = writer.start(Vec::new())?;
/// data.write(&[0; 8])?;
/// let gguf = Gguf::from_bytes(data.finish()?)?;
/// assert_eq!(gguf.metadata().str("general.architecture"), Ok(Some("llama")));
/// # Ok::<(), rocmforge::models::gguf::GgufError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Writer {
    entries: Vec<(String, Value)>,
    tensors: Vec<TensorInfo>,
}

impl Writer {
    /// A file without keys and tensors.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// A file with the keys of another. Keys whose values were malformed are refused.
    ///
    /// # Errors
    /// [`GgufError::Unwritable`].
    pub fn with_metadata(metadata: &Metadata) -> Result<Writer, GgufError> {
        let mut writer = Writer::new();
        for (key, value) in metadata.iter() {
            check_entry(key, value)?;
            writer.entries.push((key.to_owned(), value.clone()));
        }
        Ok(writer)
    }

    /// Sets a key, in place if it is already there. `general.alignment` sets the alignment of the data.
    ///
    /// # Errors
    /// [`GgufError::Unwritable`] for a key or value that no reader would accept.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<&mut Writer, GgufError> {
        let value = value.into();
        check_entry(key, &value)?;
        match self.entries.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key.to_owned(), value)),
        }
        Ok(self)
    }

    /// Adds a tensor behind the others. `shape` is in ggml's order, the row's length first.
    ///
    /// # Errors
    /// [`GgufError::Unwritable`] for a name, type or shape that a file cannot hold.
    pub fn tensor(&mut self, name: &str, dtype: DType, shape: &[u64]) -> Result<&mut Writer, GgufError> {
        let refuse = |problem| GgufError::Unwritable { what: format!("tensor {}", Quoted(name)), problem };
        check_name(name.as_bytes(), MAX_NAME).map_err(|problem| refuse(format!("its name {problem}")))?;
        if dtype.ggml_id().is_none() {
            return Err(refuse(format!("the type {dtype} has no number in GGUF")));
        }
        let bytes = TensorInfo::size(dtype, shape).map_err(&refuse)?;
        self.tensors.push(TensorInfo { name: name.to_owned(), dtype, shape: shape.to_vec(), offset: 0, bytes });
        Ok(self)
    }

    /// Writes the header. The tensors' data follow through the result, in the order in which the tensors were added.
    ///
    /// # Errors
    /// [`GgufError::DuplicateTensor`], [`GgufError::Unwritable`] if the sizes add up beyond 64 bits, or the output's error.
    pub fn start<W: Write>(mut self, mut out: W) -> Result<TensorWriter<W>, GgufError> {
        let alignment = match self.entries.iter().find(|(key, _)| key == ALIGNMENT_KEY) {
            Some((key, value)) => check_alignment(value).map_err(|problem| unwritable_key(key, problem))?,
            None => DEFAULT_ALIGNMENT,
        };
        let mut data_bytes = 0u64;
        for tensor in &mut self.tensors {
            tensor.offset = data_bytes;
            data_bytes = end(tensor, alignment).ok_or_else(|| GgufError::Unwritable {
                what: format!("tensor {}", Quoted(&tensor.name)),
                problem: "the sizes of all tensors add up beyond 64 bits".into(),
            })?;
        }
        let tensors = Tensors::new(self.tensors, data_bytes)?;
        let header = header_bytes(&self.entries, &tensors.infos)?;
        out.write_all(&header).map_err(io_error)?;
        // Without tensors there is no data section to align.
        if !tensors.infos.is_empty() {
            write_padding(&mut out, header.len() as u64, alignment)?;
        }
        let mut writer = TensorWriter { out, tensors: tensors.infos, next: 0, written: 0, alignment };
        writer.skip_complete()?;
        Ok(writer)
    }
}

fn header_bytes(entries: &[(String, Value)], tensors: &[TensorInfo]) -> Result<Vec<u8>, GgufError> {
    let mut out = MAGIC.to_vec();
    VERSION.put(&mut out);
    (tensors.len() as u64).put(&mut out);
    (entries.len() as u64).put(&mut out);
    for (key, value) in entries {
        put_text(key.as_bytes(), &mut out);
        value.put(&mut out).map_err(|problem| unwritable_key(key, problem))?;
    }
    for tensor in tensors {
        put_text(tensor.name.as_bytes(), &mut out);
        (tensor.shape.len() as u32).put(&mut out);
        tensor.shape.iter().for_each(|n| n.put(&mut out));
        tensor.dtype.ggml_id().expect("`tensor` refused types without a number").put(&mut out);
        tensor.offset.put(&mut out);
    }
    Ok(out)
}

/// Writes zeros up to the next multiple of `alignment` behind `written` bytes.
fn write_padding(out: &mut impl Write, written: u64, alignment: u32) -> Result<(), GgufError> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut padding = written.next_multiple_of(alignment.into()) - written;
    while padding > 0 {
        let piece = padding.min(ZEROS.len() as u64);
        out.write_all(&ZEROS[..piece as usize]).map_err(io_error)?;
        padding -= piece;
    }
    Ok(())
}

fn check_entry(key: &str, value: &Value) -> Result<(), GgufError> {
    let refuse = |problem| unwritable_key(key, problem);
    if key.is_empty() {
        return Err(refuse("is empty".into()));
    }
    check_name(key.as_bytes(), super::metadata::MAX_KEY).map_err(refuse)?;
    if key == ALIGNMENT_KEY {
        check_alignment(value).map_err(refuse)?;
    }
    match value {
        Value::Malformed { problem, .. } => Err(refuse(format!("its value was read as malformed: {problem}"))),
        _ => Ok(()),
    }
}

fn unwritable_key(key: &str, problem: String) -> GgufError {
    GgufError::Unwritable { what: format!("metadata key {}", Quoted(key)), problem }
}

fn io_error(error: io::Error) -> GgufError {
    GgufError::Io { doing: "write the file", error }
}

/// Takes the tensors' data, in order and in pieces of any size, and pads after each.
#[derive(Debug)]
pub struct TensorWriter<W> {
    out: W,
    tensors: Vec<TensorInfo>,
    /// The tensor whose data come next.
    next: usize,
    /// Bytes of it already written.
    written: u64,
    alignment: u32,
}

impl<W: Write> TensorWriter<W> {
    /// The tensor whose data, or the rest of them, are expected; `None` when all are written.
    pub fn expected(&self) -> Option<&TensorInfo> {
        self.tensors.get(self.next)
    }

    /// Writes a piece of the expected tensor's data. It may not reach into the next tensor.
    ///
    /// # Errors
    /// [`GgufError::Unwritable`] if there are more bytes than the tensor has left, or the output's error.
    pub fn write(&mut self, data: &[u8]) -> Result<(), GgufError> {
        let Some(tensor) = self.tensors.get(self.next) else {
            if data.is_empty() {
                return Ok(());
            }
            let problem = format!("{} bytes after the last tensor", data.len());
            return Err(GgufError::Unwritable { what: "tensor data".into(), problem });
        };
        let left = tensor.bytes - self.written;
        if data.len() as u64 > left {
            let problem = format!("{} bytes were given, {left} of its {} are left", data.len(), tensor.bytes);
            return Err(GgufError::Unwritable { what: format!("tensor {}", Quoted(&tensor.name)), problem });
        }
        self.out.write_all(data).map_err(io_error)?;
        self.written += data.len() as u64;
        self.skip_complete()
    }

    /// Moves on from tensors whose data are all written, padding after each.
    fn skip_complete(&mut self) -> Result<(), GgufError> {
        while let Some(tensor) = self.tensors.get(self.next).filter(|tensor| tensor.bytes == self.written) {
            write_padding(&mut self.out, tensor.bytes, self.alignment)?;
            self.next += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Flushes and gives the output back.
    ///
    /// # Errors
    /// [`GgufError::Unwritable`] if data are missing, or the output's error.
    pub fn finish(mut self) -> Result<W, GgufError> {
        if let Some(tensor) = self.expected() {
            let problem = format!("{} of its {} bytes were not given", tensor.bytes - self.written, tensor.bytes);
            return Err(GgufError::Unwritable { what: format!("tensor {}", Quoted(&tensor.name)), problem });
        }
        self.out.flush().map_err(io_error)?;
        Ok(self.out)
    }
}
