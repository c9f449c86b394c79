//! [`quantize`] and [`quantize_file`]: convert the tensors and write the result.

use super::{PlannedTensor, QuantizeError, QuantizePlan};
use crate::models::gguf::{Gguf, TensorWriter, Writer};
use crate::tensor::DType;
use crate::tensor::quant::{DequantFn, QuantError, QuantFn, dequantizer, quantizer};
use rayon::prelude::*;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Elements that a thread converts at a time; a multiple of all block lengths.
const PIECE: usize = 8192;
/// Pieces that are converted before they are written: at most 16 MiB of output.
const PIECES: usize = 512;
/// What ggml writes as `general.quantization_version`.
const QUANTIZATION_VERSION: u32 = 2;

/// Writes the quantized file to `out` and returns it, flushed. Metadata is copied; `general.file_type` and
/// `general.quantization_version` are set. `threads` 0 takes one a processor. `progress` gets bytes of the source done and in
/// all; it returns `false` to cancel.
///
/// # Errors
/// [`QuantizeError`]. What was written until then is no complete file.
pub fn quantize<W: Write>(
    source: &Gguf,
    plan: &QuantizePlan,
    threads: usize,
    out: W,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<W, QuantizeError> {
    // Scoped, so that the threads are joined.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    let written = pool.build_scoped(|thread| thread.run(), |pool| write(pool, source, plan, out, progress));
    written.map_err(|error| QuantizeError::Threads { threads, reason: error.to_string() })?
}

fn write<W: Write>(
    pool: &rayon::ThreadPool,
    source: &Gguf,
    plan: &QuantizePlan,
    out: W,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<W, QuantizeError> {
    let mut writer = Writer::with_metadata(source.metadata())?;
    writer.set("general.quantization_version", QUANTIZATION_VERSION)?;
    writer.set("general.file_type", plan.options.to.file_type)?;
    for tensor in &plan.tensors {
        writer.tensor(&tensor.name, tensor.to, &tensor.shape)?;
    }
    let mut writer = writer.start(out)?;
    let mut buffer = Vec::new();
    let mut done = 0;
    for (info, tensor) in source.tensors().iter().zip(&plan.tensors) {
        let bytes = source.data(info);
        let mut released = 0;
        convert_tensor(pool, tensor, bytes, &mut buffer, &mut writer, &mut |part| {
            source.release(info, released..part);
            released = part;
            if progress(done + part as u64, plan.bytes_before) { Ok(()) } else { Err(QuantizeError::Cancelled) }
        })?;
        done += info.bytes;
    }
    Ok(writer.finish()?)
}

/// [`quantize`] into a file, which appears under its name only when it is complete: it is written beside it under another
/// name, which goes away if anything fails. A file of that name is replaced; a symbolic link is followed.
///
/// # Errors
/// [`QuantizeError`], also when `path` is the source or no file.
pub fn quantize_file(
    source: &Gguf,
    plan: &QuantizePlan,
    threads: usize,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<(), QuantizeError> {
    write_new(path, source.path(), |out| quantize(source, plan, threads, out, progress))
}

/// Writes a file that appears under its name only when `write` has written all of it. `source` is a file that it must not be.
///
/// # Errors
/// Those of `write`; [`QuantizeError::Io`] if the file cannot be made, [`QuantizeError::NotAFile`], [`QuantizeError::SameFile`].
pub(crate) fn write_new(
    path: &Path,
    source: Option<&Path>,
    write: impl FnOnce(BufWriter<File>) -> Result<BufWriter<File>, QuantizeError>,
) -> Result<(), QuantizeError> {
    let target = target(path, source)?;
    let (file, temporary) = Temporary::create(&target)?;
    let out = write(BufWriter::with_capacity(1 << 20, file))?;
    // Some file systems report a full disk only now.
    out.get_ref().sync_all().map_err(|error| QuantizeError::Io { doing: "write", path: target.clone(), error })?;
    drop(out);
    temporary.rename(&target)
}

/// The file that `path` stands for, if it may be written.
fn target(path: &Path, source: Option<&Path>) -> Result<PathBuf, QuantizeError> {
    let found = match fs::metadata(path) {
        // A dangling link leads to a file that can be made.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(fs::read_link(path)
                .map_or_else(|_| path.to_path_buf(), |link| path.parent().unwrap_or(Path::new("")).join(link)));
        }
        found => found.and_then(|found| Ok((found, path.canonicalize()?))),
    };
    let (found, whole) = found.map_err(|error| QuantizeError::Io { doing: "create", path: path.into(), error })?;
    if found.is_dir() {
        return Err(QuantizeError::NotAFile { path: path.into(), what: "a directory" });
    }
    if !found.is_file() {
        return Err(QuantizeError::NotAFile { path: path.into(), what: "a device, pipe or socket" });
    }
    if source.and_then(|source| source.canonicalize().ok()).is_some_and(|source| source == whole) {
        return Err(QuantizeError::SameFile { path: path.into() });
    }
    Ok(whole)
}

/// A file that is removed unless it is renamed.
struct Temporary(Option<PathBuf>);

impl Temporary {
    /// A new file in the folder of `target`.
    fn create(target: &Path) -> Result<(File, Temporary), QuantizeError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let mut number = 0;
        loop {
            let path = target.with_file_name(format!(".{name}.{}-{number}.part", std::process::id()));
            match File::create_new(&path) {
                Ok(file) => return Ok((file, Temporary(Some(path)))),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 1000 => number += 1,
                Err(error) => return Err(QuantizeError::Io { doing: "create", path: target.into(), error }),
            }
        }
    }

    fn rename(mut self, target: &Path) -> Result<(), QuantizeError> {
        let error = |error: io::Error| QuantizeError::Io { doing: "create", path: target.into(), error };
        if let Some(path) = &self.0 {
            fs::rename(path, target).map_err(error)?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Nobody is left to hear of a failure.
            let _ = fs::remove_file(path);
        }
    }
}

fn convert_tensor<W: Write>(
    pool: &rayon::ThreadPool,
    tensor: &PlannedTensor,
    bytes: &[u8],
    buffer: &mut Vec<u8>,
    writer: &mut TensorWriter<W>,
    progress: &mut dyn FnMut(usize) -> Result<(), QuantizeError>,
) -> Result<(), QuantizeError> {
    let (from, to) = (tensor.from, tensor.to);
    let size = |dtype: DType, elements: usize| elements / dtype.block_len() * dtype.block_bytes();
    let (batch_from, batch_to) = (size(from, PIECE * PIECES), size(to, PIECE * PIECES));
    let convert = Conversion::new(from, to)?;
    for (index, batch) in bytes.chunks(batch_from).enumerate() {
        if from == to {
            writer.write(batch)?;
        } else {
            let elements = batch.len() / from.block_bytes() * from.block_len();
            let needed = size(to, elements);
            resize(buffer, needed.min(batch_to))?;
            let (pieces_from, pieces_to) = (size(from, PIECE), size(to, PIECE));
            let failed = pool.install(|| {
                let pieces = batch.par_chunks(pieces_from).zip(buffer.par_chunks_mut(pieces_to)).enumerate();
                pieces
                    .map_init(
                        || vec![0.0; PIECE],
                        |values, (piece, (src, dst))| {
                            let failed = convert.run(src, dst, values)?;
                            Some((piece * PIECE + failed, values[failed]))
                        },
                    )
                    .flatten()
                    .min_by_key(|(at, _)| *at)
            });
            if let Some((at, value)) = failed {
                let index = (index * PIECE * PIECES + at) as u64;
                return Err(QuantizeError::Value { tensor: tensor.name.clone(), index, value, dtype: to });
            }
            writer.write(buffer)?;
        }
        progress(index * batch_from + batch.len())?;
    }
    Ok(())
}

fn resize(buffer: &mut Vec<u8>, bytes: usize) -> Result<(), QuantizeError> {
    let more = bytes.saturating_sub(buffer.len());
    buffer.try_reserve(more).map_err(|_| QuantizeError::OutOfMemory { bytes })?;
    buffer.resize(bytes, 0);
    Ok(())
}

/// From one type to another, by way of f32.
struct Conversion {
    from: DType,
    dequantize: DequantFn,
    quantize: QuantFn,
    /// Values whose magnitude is not below this cannot be converted.
    limit: Option<f32>,
}

impl Conversion {
    fn new(from: DType, to: DType) -> Result<Conversion, QuantizeError> {
        Ok(Conversion {
            from,
            dequantize: dequantizer(from).expect("every type can be converted to f32"),
            quantize: quantizer(to).ok_or(QuantError::NoQuantizer(to))?,
            limit: match to {
                // Half a step above the largest f16.
                DType::F16 => Some(65520.0),
                to if to.is_quantized() => Some(f32::INFINITY),
                _ => None,
            },
        })
    }

    /// Converts a piece; the index of the first value that cannot be converted, if there is one.
    fn run(&self, src: &[u8], dst: &mut [u8], values: &mut [f32]) -> Option<usize> {
        let values = &mut values[..src.len() / self.from.block_bytes() * self.from.block_len()];
        (self.dequantize)(src, values);
        let below = |limit: f32| values.iter().position(|v| v.is_nan() || v.abs() >= limit);
        let failed = self.limit.and_then(below);
        if failed.is_none() {
            (self.quantize)(values, dst);
        }
        failed
    }
}
