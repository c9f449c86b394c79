//! [`VocabSpec`]: what a GGUF file says about its tokenizer, as plain data.

use std::borrow::Cow;

use super::error::TokenizerError;
use crate::models::gguf::{Metadata, MetadataError};

/// The value of `tokenizer.ggml.model`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenizerModel {
    /// `no_vocab` or `none`: the model is used with ids only.
    #[default]
    None,
    /// `llama`: merging by score, as SentencePiece does.
    Llama,
    /// `gpt2`: byte-level BPE.
    Gpt2,
    /// `gemma4`: BPE over text with ▁ for spaces.
    Gemma4,
    /// `bert`: WordPiece.
    Bert,
}

/// What a GGUF file says about its tokenizer. `None` is an absent key; an id of `u32::MAX` is "there is none".
///
/// [`Tokenizer::new`](super::Tokenizer::new) checks it; nothing here is trusted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VocabSpec<'a> {
    /// `tokenizer.ggml.model`.
    pub model: TokenizerModel,
    /// `tokenizer.ggml.pre`, the name of the pre-tokenizer.
    pub pre: Option<Cow<'a, str>>,
    /// `general.name`: some models are known by it to strip white space beside special tokens.
    pub name: Cow<'a, str>,
    /// `general.architecture`, for the same purpose.
    pub architecture: Cow<'a, str>,
    /// `tokenizer.ggml.tokens`.
    pub tokens: Cow<'a, [String]>,
    /// `tokenizer.ggml.scores`.
    pub scores: Option<Cow<'a, [f32]>>,
    /// `tokenizer.ggml.token_type`.
    pub token_types: Option<Cow<'a, [i32]>>,
    /// `tokenizer.ggml.merges`, best first, each two texts with a space between.
    pub merges: Option<Cow<'a, [String]>>,
    /// `tokenizer.ggml.bos_token_id`; for WordPiece files that lack it `cls_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`, end of a turn.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`, end of a message.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `tokenizer.ggml.seperator_token_id` (so spelt).
    pub sep: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `tokenizer.ggml.mask_token_id`.
    pub mask: Option<u32>,
    /// `tokenizer.ggml.fim_pre_token_id`, or the older `prefix_token_id`.
    pub fim_pre: Option<u32>,
    /// `tokenizer.ggml.fim_suf_token_id`, or the older `suffix_token_id`.
    pub fim_suf: Option<u32>,
    /// `tokenizer.ggml.fim_mid_token_id`, or the older `middle_token_id`.
    pub fim_mid: Option<u32>,
    /// `tokenizer.ggml.fim_pad_token_id`.
    pub fim_pad: Option<u32>,
    /// `tokenizer.ggml.fim_rep_token_id`.
    pub fim_rep: Option<u32>,
    /// `tokenizer.ggml.fim_sep_token_id`.
    pub fim_sep: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.ggml.normalizer.lowercase`, for WordPiece.
    pub lowercase: Option<bool>,
    /// `tokenizer.ggml.normalizer.strip_accents`, for WordPiece.
    pub strip_accents: Option<bool>,
}

impl<'a> VocabSpec<'a> {
    /// Reads the tokenizer's keys. Lists are borrowed.
    ///
    /// # Errors
    /// A tokenizer model that is not supported, a key of another type than it should have, a missing model or token list.
    pub fn from_metadata(meta: &'a Metadata) -> Result<VocabSpec<'a>, TokenizerError> {
        let model = match meta.str("tokenizer.ggml.model")? {
            None => return Err(TokenizerError::MissingKey { key: "tokenizer.ggml.model" }),
            Some("no_vocab" | "none") => return Ok(VocabSpec::default()),
            Some("llama") => TokenizerModel::Llama,
            Some("gpt2") => TokenizerModel::Gpt2,
            Some("gemma4") => TokenizerModel::Gemma4,
            Some("bert") => TokenizerModel::Bert,
            Some(other) => return Err(TokenizerError::UnsupportedModel { model: other.to_owned() }),
        };
        let key = "tokenizer.ggml.tokens";
        let tokens = meta.strings(key)?.ok_or(TokenizerError::MissingKey { key })?;
        let id = |key: &str| id(meta, key);
        let either = |key: &str, older: &str| Ok::<_, MetadataError>(id(key)?.or(id(older)?));
        Ok(VocabSpec {
            model,
            pre: meta.str("tokenizer.ggml.pre")?.map(Cow::Borrowed),
            name: meta.str("general.name")?.unwrap_or_default().into(),
            architecture: meta.str("general.architecture")?.unwrap_or_default().into(),
            tokens: Cow::Borrowed(tokens),
            scores: scores(meta)?,
            token_types: meta.i32s("tokenizer.ggml.token_type")?,
            merges: meta.strings("tokenizer.ggml.merges")?.map(Cow::Borrowed),
            bos: match model {
                TokenizerModel::Bert => either("tokenizer.ggml.bos_token_id", "tokenizer.ggml.cls_token_id")?,
                _ => id("tokenizer.ggml.bos_token_id")?,
            },
            eos: id("tokenizer.ggml.eos_token_id")?,
            eot: id("tokenizer.ggml.eot_token_id")?,
            eom: id("tokenizer.ggml.eom_token_id")?,
            unk: id("tokenizer.ggml.unknown_token_id")?,
            sep: id("tokenizer.ggml.seperator_token_id")?,
            pad: id("tokenizer.ggml.padding_token_id")?,
            mask: id("tokenizer.ggml.mask_token_id")?,
            fim_pre: either("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id")?,
            fim_suf: either("tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id")?,
            fim_mid: either("tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id")?,
            fim_pad: id("tokenizer.ggml.fim_pad_token_id")?,
            fim_rep: id("tokenizer.ggml.fim_rep_token_id")?,
            fim_sep: id("tokenizer.ggml.fim_sep_token_id")?,
            add_bos: meta.bool("tokenizer.ggml.add_bos_token")?,
            add_eos: meta.bool("tokenizer.ggml.add_eos_token")?,
            add_space_prefix: meta.bool("tokenizer.ggml.add_space_prefix")?,
            lowercase: meta.bool("tokenizer.ggml.normalizer.lowercase")?,
            strip_accents: meta.bool("tokenizer.ggml.normalizer.strip_accents")?,
        })
    }
}

/// A token id; -1 in a signed type counts as 2^32 - 1, "there is none".
fn id(meta: &Metadata, key: &str) -> Result<Option<u32>, MetadataError> {
    if matches!(meta.i32(key), Ok(Some(-1))) { Ok(Some(u32::MAX)) } else { meta.u32(key) }
}

/// Scores are floats; some converters wrote integers.
fn scores(meta: &Metadata) -> Result<Option<Cow<'_, [f32]>>, MetadataError> {
    const KEY: &str = "tokenizer.ggml.scores";
    match meta.f32s(KEY) {
        Ok(scores) => Ok(scores.map(Cow::Borrowed)),
        Err(wrong_type) => match meta.i32s(KEY) {
            Ok(Some(scores)) => Ok(Some(scores.iter().map(|&score| score as f32).collect())),
            _ => Err(wrong_type),
        },
    }
}
