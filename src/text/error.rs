//! [`TokenizerError`]: why a tokenizer could not be built, or could not do what was asked.

use crate::models::gguf::MetadataError;

/// Why a tokenizer could not be built, or could not encode or decode. Messages name the metadata key or the token id.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file says that it has no tokenizer (`tokenizer.ggml.model` is `no_vocab` or `none`).
    #[error("this file has no tokenizer (tokenizer.ggml.model is \"no_vocab\"): give token ids instead of text")]
    NoTokenizer,
    /// A key that every file with a tokenizer has is absent.
    #[error("metadata key {key} is missing: the file has no usable tokenizer, convert the model again")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// A key has another type than it should.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A tokenizer model of llama.cpp that is not implemented here, or one that nobody knows.
    #[error("tokenizer.ggml.model \"{model}\" is not supported; supported are llama, gpt2, gemma4, bert and no_vocab")]
    UnsupportedModel {
        /// The value of `tokenizer.ggml.model`.
        model: String,
    },
    /// A pre-tokenizer that is not in the table.
    #[error("tokenizer.ggml.pre \"{name}\" is not a known pre-tokenizer; known are {known}")]
    UnknownPretokenizer {
        /// The value of `tokenizer.ggml.pre`.
        name: String,
        /// All names in the table, separated by commas.
        known: String,
    },
    /// A value that cannot be right.
    #[error("metadata key {key}: {reason}")]
    Malformed {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A special token's id lies outside the vocabulary.
    #[error("metadata key {key} is {id}, but the vocabulary has only {vocab_size} tokens")]
    SpecialOutOfRange {
        /// The key.
        key: &'static str,
        /// Its value.
        id: u32,
        /// Tokens in the vocabulary.
        vocab_size: usize,
    },
    /// A token is to be added to every text, and the vocabulary does not say which.
    #[error("a {which} token was asked for, but the vocabulary has none ({key} is not set)")]
    NoSpecialToken {
        /// `BOS`, `EOS` or `separator`.
        which: &'static str,
        /// The key that would name it.
        key: &'static str,
    },
    /// A character has no token, and neither have its bytes.
    #[error("the text has a character that this vocabulary cannot express: there is no token for byte 0x{byte:02X}")]
    NoByteToken {
        /// The first byte without a token.
        byte: u8,
    },
    /// An id that is to be decoded lies outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab_size} tokens")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Tokens in the vocabulary.
        vocab_size: usize,
    },
    /// A text so long that its offsets do not fit in 32 bits.
    #[error("a text of {bytes} bytes is too long for one call, the most is {}: cut it", u32::MAX / 8)]
    TextTooLong {
        /// Its length.
        bytes: usize,
    },
}
