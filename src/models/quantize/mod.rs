//! Making a smaller file of a model: [`QuantizePlan`] says which tensor gets which type, [`quantize_file`] writes the result.
//!
//! The plan is made from the header alone. Types are those that have a quantizer, and the usual mixes of them
//! ([`Quantization::ALL`]); which tensor gets which type in a mix follows llama.cpp, so that a file of a given name is the
//! same thing everywhere. Writing streams: a few megabytes of a tensor are in memory at a time, whatever the model's size.

mod mix;
mod plan;
mod write;

pub use mix::{Quantization, QuantizationNameError};
pub use plan::{PlannedTensor, QuantizeOptions, QuantizePlan};
pub(crate) use write::write_new;
pub use write::{quantize, quantize_file};

use super::gguf::{GgufError, MetadataError};
use crate::tensor::DType;
use crate::tensor::quant::QuantError;
use std::io;
use std::path::PathBuf;

/// Why a file was not quantized. No file is left under the final name then, unless one was there before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The source cannot be read, or the result cannot be written.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A hyperparameter that decides about types is malformed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The wanted type has no quantizer.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The source has only a vocabulary.
    #[error("the file has no tensors: there is nothing to quantize")]
    NoTensors,
    /// The source is one of several files that make up a model.
    #[error("the file is one of {count} parts of a model: merge them first (`llama-gguf-split --merge`)")]
    Split {
        /// How many parts there are.
        count: u64,
    },
    /// Rounding twice loses more than rounding once.
    #[error(
        "tensor \"{tensor}\" is {dtype} already: quantizing it again loses more than quantizing an F16 or F32 file"
    )]
    Requantize {
        /// The first such tensor.
        tensor: String,
        /// Its type.
        dtype: DType,
    },
    /// A value that the wanted type cannot hold.
    #[error("tensor \"{tensor}\": element {index} is {value}, which {dtype} cannot hold")]
    Value {
        /// The tensor.
        tensor: String,
        /// Counted from 0, rows one after the other.
        index: u64,
        /// The element.
        value: f32,
        /// The wanted type.
        dtype: DType,
    },
    /// Source and result are one file.
    #[error("{}: the result would replace the file that is read", path.display())]
    SameFile {
        /// The file.
        path: PathBuf,
    },
    /// The result would replace something that is no file.
    #[error("{} is {what}, not a file that can be replaced", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}: {error}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Its answer.
        error: io::Error,
    },
    /// Memory is short.
    #[error("out of memory: converting a tensor needs {bytes} bytes")]
    OutOfMemory {
        /// How much.
        bytes: usize,
    },
    /// No threads can be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for; 0 is one a processor.
        threads: usize,
        /// Why not.
        reason: String,
    },
    /// The progress callback asked to stop.
    #[error("cancelled")]
    Cancelled,
}
