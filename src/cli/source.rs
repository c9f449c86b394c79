//! [`ModelSource`]: where a model comes from.

use super::Failure;
use super::io::{is_dash, read_bytes};
#[cfg(feature = "bundled-model")]
use crate::models::bundled;
use crate::models::gguf::{Gguf, Header};
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A GGUF file.
    Path(PathBuf),
    /// A GGUF file from stdin.
    Stdin,
    /// The model that the program carries.
    #[cfg(feature = "bundled-model")]
    Bundled,
}

impl ModelSource {
    /// From what `--model` says. Tells the user where that is nothing.
    pub fn from_option(path: Option<&Path>) -> Result<ModelSource, Failure> {
        let source = ModelSource::quietly_from_option(path)?;
        #[cfg(feature = "bundled-model")]
        if source == ModelSource::Bundled {
            eprintln!(
                "note: no --model was given, so the bundled one runs: {}, a tiny teller of stories",
                bundled::NAME
            );
        }
        Ok(source)
    }

    /// From what `--model` says.
    pub fn quietly_from_option(path: Option<&Path>) -> Result<ModelSource, Failure> {
        match path {
            Some(path) if is_dash(path) => Ok(ModelSource::Stdin),
            Some(path) => Ok(ModelSource::Path(path.to_path_buf())),
            None => ModelSource::bundled(),
        }
    }

    #[cfg(feature = "bundled-model")]
    fn bundled() -> Result<ModelSource, Failure> {
        Ok(ModelSource::Bundled)
    }

    #[cfg(not(feature = "bundled-model"))]
    fn bundled() -> Result<ModelSource, Failure> {
        Err(Failure::new("no model was given, and this program was built without the bundled one")
            .hint("give a GGUF file with --model FILE"))
    }

    /// The opened file, checked.
    pub fn gguf(&self) -> Result<Gguf, Failure> {
        match self {
            ModelSource::Path(path) => Ok(Gguf::open(path)?),
            ModelSource::Stdin => {
                Gguf::from_bytes(read_bytes(Path::new("-"))?).map_err(|error| self.name(error.into()))
            }
            #[cfg(feature = "bundled-model")]
            ModelSource::Bundled => Ok(bundled::open()?),
        }
    }

    /// The header alone, also of a file whose tensor data is not complete.
    pub fn header(&self) -> Result<Header, Failure> {
        match self {
            ModelSource::Path(path) => Ok(Header::read(path)?),
            ModelSource::Stdin => Header::parse(&read_bytes(Path::new("-"))?).map_err(|error| self.name(error.into())),
            #[cfg(feature = "bundled-model")]
            ModelSource::Bundled => Ok(self.gguf()?.header().clone()),
        }
    }

    /// The opened file, which must have weights.
    pub fn weights(&self) -> Result<Gguf, Failure> {
        let gguf = self.gguf()?;
        if gguf.tensors().is_empty() {
            return Err(Failure::new(format!("{self} has no tensors, only a vocabulary"))
                .hint("it can tokenize and detokenize; this needs a file with weights"));
        }
        Ok(gguf)
    }

    /// A failure with the name of the file.
    pub fn name(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Error { message, hint } => Failure::Error { message: format!("{self}: {message}"), hint },
            other => other,
        }
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelSource::Path(path) => path.display().fmt(f),
            ModelSource::Stdin => f.write_str("stdin"),
            #[cfg(feature = "bundled-model")]
            ModelSource::Bundled => f.write_str("the bundled model"),
        }
    }
}
