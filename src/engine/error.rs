//! Errors of the engine.

use super::SamplerError;
use crate::backends::BackendError;
use crate::graph::plan::PlanError;
use crate::models::ModelError;
use crate::models::gguf::GgufError;
use crate::text::TokenizerError;

/// Why a model cannot be opened or a session cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The file is no usable GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The file holds no model that we can build.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The vocabulary cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The graph cannot be planned.
    #[error(transparent)]
    Plan(Box<PlanError>),
    /// The backend cannot prepare or run the plan.
    #[error(transparent)]
    Backend(BackendError),
    /// Text was asked of a model whose file has no tokenizer.
    #[error("this file has no tokenizer (tokenizer.ggml.model): give token ids instead of text")]
    NoTokenizer,
    /// No tokens were given.
    #[error("the prompt is empty: there is nothing to evaluate")]
    EmptyPrompt,
    /// A token id that the vocabulary does not have.
    #[error("token id {id} (at index {index}) is not in the vocabulary of {vocabulary} tokens")]
    TokenOutOfVocabulary {
        /// The id.
        id: u32,
        /// Where it stands among the given ids.
        index: usize,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// The tokens do not fit into the context.
    #[error("{needed} tokens do not fit into the context of {context}")]
    ContextFull {
        /// Tokens there would be.
        needed: usize,
        /// Tokens that fit.
        context: usize,
    },
    /// No token can be chosen.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// An option that cannot be.
    #[error("{name}: {reason}")]
    Option {
        /// The option.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// [`Cancel`](super::Cancel) was used. What was evaluated before stays in the cache.
    #[error("cancelled")]
    Cancelled,
}

impl From<PlanError> for EngineError {
    fn from(error: PlanError) -> EngineError {
        EngineError::Plan(Box::new(error))
    }
}

impl From<BackendError> for EngineError {
    fn from(error: BackendError) -> EngineError {
        match error {
            BackendError::Cancelled => EngineError::Cancelled,
            error => EngineError::Backend(error),
        }
    }
}
