//! Tokenizers built from GGUF metadata: [`Tokenizer`] turns text into token ids and back, with the ids of llama.cpp.
//!
//! Three kinds are implemented here, without a tokenizer crate: SentencePiece-style merging by score (`llama`), byte-level
//! BPE behind a pre-tokenizer (`gpt2`), WordPiece (`bert`). What they share is a vocabulary with its token types and
//! special tokens; [`pretokenizer`] has the table of pre-tokenizers by name.
//!
//! Invariant: nothing here panics, prints, or takes quadratic time on any text or any metadata.

mod bpe;
mod byte_level;
mod error;
mod hash;
mod merge;
pub mod pretokenizer;
mod spec;
mod special;
mod spm;
mod stream;
mod string_table;
#[cfg(test)]
mod tests;
mod tokenizer;
mod vocab;
mod word_cache;
mod wordpiece;

pub use error::TokenizerError;
pub use spec::{TokenizerModel, VocabSpec};
pub use stream::StreamDecoder;
pub use tokenizer::{DecodeOptions, EncodeOptions, Tokenizer, TokenizerKind};
pub use vocab::TokenType;
