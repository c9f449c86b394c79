//! Errors of reading a model's hyperparameters and tensors.

use super::gguf::MetadataError;
use crate::graph::BuildError;

/// Why a file does not make a model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// The file's architecture is not one of ours.
    #[error("unknown architecture \"{name}\" (general.architecture); known are {}", known())]
    UnknownArchitecture {
        /// Its name.
        name: String,
    },
    /// A metadata key is missing or of the wrong type.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A metadata value that cannot be.
    #[error("metadata key \"{key}\" is {value}: {reason}")]
    Value {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// Why it cannot be.
        reason: String,
    },
    /// A tensor that the architecture needs is not in the file.
    #[error("tensor \"{name}\" of shape {expected} is missing: it is {purpose}")]
    MissingTensor {
        /// The tensor.
        name: String,
        /// The shape it should have.
        expected: String,
        /// What it is for.
        purpose: &'static str,
    },
    /// A tensor of another shape than the hyperparameters say.
    #[error("tensor \"{name}\" has shape {found}, expected {expected}: it is {purpose}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// Its shape in the file.
        found: String,
        /// The shape it should have.
        expected: String,
        /// What it is for.
        purpose: &'static str,
    },
    /// A tensor of an element type that cannot serve.
    #[error("tensor \"{name}\" has type {found}, expected {expected}")]
    TensorType {
        /// The tensor.
        name: String,
        /// Its type in the file.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Something that the file asks for and the architecture here does not have.
    #[error("{0}")]
    Unsupported(String),
    /// The ops did not fit together.
    #[error(transparent)]
    Build(#[from] BuildError),
}

fn known() -> String {
    super::architectures().collect::<Vec<_>>().join(", ")
}
