//! [`Tokenizer`]: the public face of the tokenizers.

use super::bpe::Bpe;
use super::error::TokenizerError;
use super::merge::Merger;
use super::pretokenizer::{self, Pretokenizer};
use super::spec::{TokenizerModel, VocabSpec};
use super::special::{Fragment, SpecialTokens};
use super::spm::Spm;
use super::stream::StreamDecoder;
use super::vocab::{Roles, Spelling, TokenType, Vocab};
use super::wordpiece::WordPiece;
use crate::models::gguf::Metadata;

/// How a tokenizer works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenizerKind {
    /// The file has no tokenizer: encoding and decoding are errors.
    None,
    /// Merging by score, as SentencePiece does.
    SentencePiece,
    /// Byte-pair encoding of the words of a pre-tokenizer.
    Bpe,
    /// Longest tokens first, as BERT does.
    WordPiece,
}

/// How to encode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Begin with BOS (for WordPiece `[CLS]`); `None`: if the model wants it.
    pub add_bos: Option<bool>,
    /// End with EOS (for WordPiece `[SEP]`); `None`: if the model wants it.
    pub add_eos: Option<bool>,
    /// Recognise control tokens such as `<|im_end|>` in the text. Leave it off for text from outside, which could
    /// otherwise impersonate the system. User-defined tokens are always recognised.
    pub parse_special: bool,
}

/// How to decode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Render control and unknown tokens as their text, instead of as nothing.
    pub special: bool,
    /// Drop the spaces before punctuation and contractions, as llama.cpp's `llama_detokenize` does for models whose
    /// pre-tokenizer asks for it. `None`: for WordPiece only. It changes text that had such spaces, so it is not lossless.
    pub clean_spaces: Option<bool>,
    /// The ids continue a text: the space that a SentencePiece tokenizer puts before a text is not there to be removed.
    pub continuation: bool,
}

enum Encoder {
    None,
    Spm(Box<Spm>),
    Bpe(Box<Bpe>),
    WordPiece(WordPiece),
}

/// A model's tokenizer, built from GGUF metadata. Its ids are those of llama.cpp.
///
/// ```no_run
/// # use rocmforge::{models::gguf::Gguf, text::{EncodeOptions, DecodeOptions, Tokenizer}};
/// let gguf = Gguf::open("model.gguf")?;
/// let tokenizer = Tokenizer::from_gguf(gguf.metadata())?;
/// let ids = tokenizer.encode("Hello", EncodeOptions::default())?;
/// let text = tokenizer.decode(&ids, DecodeOptions::default())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tokenizer {
    vocab: Vocab,
    special: SpecialTokens,
    encoder: Encoder,
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: bool,
    /// Spaces are written as ▁ before encoding.
    escape_spaces: bool,
}

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file describes.
    ///
    /// # Errors
    /// Metadata that is missing, malformed or contradictory, and kinds of tokenizers and pre-tokenizers that are not
    /// known; the message names the key.
    pub fn from_gguf(meta: &Metadata) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::new(&VocabSpec::from_metadata(meta)?)
    }

    /// Builds a tokenizer from plain data.
    ///
    /// # Errors
    /// As [`from_gguf`](Self::from_gguf).
    pub fn new(spec: &VocabSpec<'_>) -> Result<Tokenizer, TokenizerError> {
        match spec.model {
            TokenizerModel::None => Ok(Tokenizer::without_vocab()),
            TokenizerModel::Llama => {
                let mut vocab = Vocab::new(spec, Spelling::Escaped)?;
                let spm = Spm::new(spec, &mut vocab)?;
                let defaults = Defaults { add_bos: true, add_eos: false, add_space_prefix: true, escape_spaces: true };
                Tokenizer::assemble(spec, vocab, Encoder::Spm(Box::new(spm)), defaults)
            }
            TokenizerModel::Gpt2 | TokenizerModel::Gemma4 => {
                let (pretokenizer, warning) = choose_pretokenizer(spec)?;
                let spelling = if pretokenizer.byte_level { Spelling::ByteLevel } else { Spelling::Escaped };
                let mut vocab = Vocab::new(spec, spelling)?;
                vocab.warnings.extend(warning);
                let bpe = Bpe::new(pretokenizer, spec.merges.as_deref(), &mut vocab)?;
                let defaults = Defaults {
                    add_bos: pretokenizer.add_bos,
                    add_eos: false,
                    add_space_prefix: false,
                    escape_spaces: !pretokenizer.byte_level,
                };
                Tokenizer::assemble(spec, vocab, Encoder::Bpe(Box::new(bpe)), defaults)
            }
            TokenizerModel::Bert => {
                let vocab = Vocab::new(spec, Spelling::Escaped)?;
                let word_piece = WordPiece::new(spec, &vocab)?;
                let defaults = Defaults { add_bos: true, add_eos: true, add_space_prefix: false, escape_spaces: false };
                Tokenizer::assemble(spec, vocab, Encoder::WordPiece(word_piece), defaults)
            }
        }
    }

    fn without_vocab() -> Tokenizer {
        let vocab = Vocab::empty();
        Tokenizer {
            special: SpecialTokens::new(&vocab),
            vocab,
            encoder: Encoder::None,
            add_bos: false,
            add_eos: false,
            add_space_prefix: false,
            escape_spaces: false,
        }
    }

    fn assemble(
        spec: &VocabSpec,
        vocab: Vocab,
        encoder: Encoder,
        defaults: Defaults,
    ) -> Result<Tokenizer, TokenizerError> {
        let word_piece = matches!(encoder, Encoder::WordPiece(_));
        let mut tokenizer = Tokenizer {
            special: SpecialTokens::new(&vocab),
            vocab,
            encoder,
            // llama.cpp puts WordPiece between its markers whatever the file says.
            add_bos: if word_piece { true } else { spec.add_bos.unwrap_or(defaults.add_bos) },
            add_eos: if word_piece { true } else { spec.add_eos.unwrap_or(defaults.add_eos) },
            add_space_prefix: spec.add_space_prefix.unwrap_or(defaults.add_space_prefix),
            escape_spaces: defaults.escape_spaces,
        };
        let always_bos = matches!(&tokenizer.encoder, Encoder::Bpe(bpe) if bpe.pretokenizer().always_bos);
        tokenizer.add_bos |= always_bos;
        if tokenizer.add_bos && tokenizer.begin().is_err() && spec.add_bos != Some(true) {
            tokenizer
                .vocab
                .warnings
                .push("the model's texts begin with BOS, but the file names none: it is left out".into());
            tokenizer.add_bos = false;
        }
        if tokenizer.add_bos {
            tokenizer.begin()?;
        }
        if tokenizer.add_eos {
            tokenizer.end()?;
        }
        Ok(tokenizer)
    }

    /// The kind of the tokenizer.
    pub fn kind(&self) -> TokenizerKind {
        match self.encoder {
            Encoder::None => TokenizerKind::None,
            Encoder::Spm(_) => TokenizerKind::SentencePiece,
            Encoder::Bpe(_) => TokenizerKind::Bpe,
            Encoder::WordPiece(_) => TokenizerKind::WordPiece,
        }
    }

    /// What is odd about the file though the tokenizer works: to be shown to the user.
    pub fn warnings(&self) -> &[String] {
        &self.vocab.warnings
    }

    /// The number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The raw text of a token as it stands in the file.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.vocab.text(id)
    }

    /// The id of the token with exactly this raw text.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.vocab.find(text.as_bytes())
    }

    /// What a token is for.
    pub fn token_type(&self, id: u32) -> Option<TokenType> {
        self.vocab.token_type(id)
    }

    /// The bytes that a token renders as, special tokens included. They need not be UTF-8.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.vocab.render(id, true, &mut bytes).ok()?;
        Some(bytes)
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.roles().bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.roles().eos
    }

    /// The token that ends a turn of a conversation.
    pub fn eot(&self) -> Option<u32> {
        self.roles().eot
    }

    /// The token for what no token expresses.
    pub fn unk(&self) -> Option<u32> {
        self.roles().unk
    }

    /// The token between two texts.
    pub fn sep(&self) -> Option<u32> {
        self.roles().sep
    }

    /// The token that fills up a batch.
    pub fn pad(&self) -> Option<u32> {
        self.roles().pad
    }

    fn roles(&self) -> &Roles {
        &self.vocab.roles
    }

    /// Whether a model that generates this token has finished.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.vocab.ends_generation(id)
    }

    /// The tokens that end a generation, ascending.
    pub fn end_of_generation(&self) -> &[u32] {
        self.vocab.end_of_generation()
    }

    /// Whether texts begin with BOS by default.
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether texts end with EOS (for WordPiece: with the separator) by default.
    pub fn adds_eos(&self) -> bool {
        self.add_eos
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// A file without a tokenizer; BOS or EOS wanted by `opts` where there is none; a character that the vocabulary cannot
    /// express; a text of more than half a gigabyte.
    pub fn encode(&self, text: &str, opts: EncodeOptions) -> Result<Vec<u32>, TokenizerError> {
        if matches!(self.encoder, Encoder::None) {
            return Err(TokenizerError::NoTokenizer);
        }
        // Symbols have 32-bit offsets, and ▁ takes three bytes.
        if text.len() > (u32::MAX / 8) as usize {
            return Err(TokenizerError::TextTooLong { bytes: text.len() });
        }
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        if opts.add_bos.unwrap_or(self.add_bos) {
            ids.push(self.begin()?);
        }
        let mut merger = Merger::default();
        let mut prefix = self.add_space_prefix;
        for fragment in self.special.partition(text, opts.parse_special) {
            match fragment {
                Fragment::Token(id) => {
                    ids.push(id);
                    prefix = self.add_space_prefix;
                }
                Fragment::Text(range) => {
                    self.encode_text(&text[range], prefix, &mut merger, &mut ids)?;
                    prefix = false;
                }
            }
        }
        if opts.add_eos.unwrap_or(self.add_eos) {
            ids.push(self.end()?);
        }
        Ok(ids)
    }

    fn encode_text(
        &self,
        text: &str,
        prefix: bool,
        merger: &mut Merger,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let escaped = |prefix: bool| {
            let mut escaped = String::with_capacity(text.len() + text.len() / 2 + 3);
            if prefix {
                escaped.push('▁');
            }
            escaped.extend(text.chars().map(|c| if c == ' ' { '▁' } else { c }));
            escaped
        };
        match &self.encoder {
            Encoder::None => return Err(TokenizerError::NoTokenizer),
            Encoder::Spm(spm) => spm.encode(&self.vocab, &escaped(prefix), merger, ids)?,
            Encoder::Bpe(bpe) if self.escape_spaces => bpe.encode(&self.vocab, &escaped(false), merger, ids),
            Encoder::Bpe(bpe) => bpe.encode(&self.vocab, text, merger, ids),
            Encoder::WordPiece(word_piece) => word_piece.encode(&self.vocab, text, ids),
        }
        Ok(())
    }

    /// The token that begins a text.
    fn begin(&self) -> Result<u32, TokenizerError> {
        let none = TokenizerError::NoSpecialToken { which: "BOS", key: "tokenizer.ggml.bos_token_id" };
        self.roles().bos.ok_or(none)
    }

    /// The token that ends a text: EOS, for WordPiece the separator.
    fn end(&self) -> Result<u32, TokenizerError> {
        let (id, which, key) = match self.encoder {
            Encoder::WordPiece(_) => (self.roles().sep, "separator", "tokenizer.ggml.seperator_token_id"),
            _ => (self.roles().eos, "EOS", "tokenizer.ggml.eos_token_id"),
        };
        id.ok_or(TokenizerError::NoSpecialToken { which, key })
    }

    /// The text of ids. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// As [`decode_bytes`](Self::decode_bytes).
    pub fn decode(&self, ids: &[u32], opts: DecodeOptions) -> Result<String, TokenizerError> {
        let bytes = self.decode_bytes(ids, opts)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// The bytes of ids.
    ///
    /// # Errors
    /// An id outside the vocabulary, or a file without a tokenizer.
    pub fn decode_bytes(&self, ids: &[u32], opts: DecodeOptions) -> Result<Vec<u8>, TokenizerError> {
        let mut bytes = Vec::new();
        for (index, &id) in ids.iter().enumerate() {
            self.render_next(id, index == 0, &opts, &mut bytes)?;
        }
        let clean = opts.clean_spaces.unwrap_or(self.kind() == TokenizerKind::WordPiece);
        Ok(if clean && self.wants_clean_spaces() { clean_spaces(&bytes) } else { bytes })
    }

    /// A decoder that takes one id after the other.
    pub fn stream(&self, opts: DecodeOptions) -> StreamDecoder<&Tokenizer> {
        StreamDecoder::new(self, opts)
    }

    /// Appends what an id renders as, at the start of a text without the space that encoding put there.
    pub(super) fn render_next(
        &self,
        id: u32,
        first: bool,
        opts: &DecodeOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), TokenizerError> {
        if matches!(self.encoder, Encoder::None) {
            return Err(TokenizerError::NoTokenizer);
        }
        let start = out.len();
        self.vocab.render(id, opts.special, out)?;
        if first && !opts.continuation && self.add_space_prefix && out.get(start) == Some(&b' ') {
            out.remove(start);
        }
        Ok(())
    }

    fn wants_clean_spaces(&self) -> bool {
        match &self.encoder {
            Encoder::None | Encoder::Spm(_) => false,
            Encoder::Bpe(bpe) => bpe.pretokenizer().clean_spaces,
            Encoder::WordPiece(_) => true,
        }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("kind", &self.kind())
            .field("vocab_size", &self.vocab_size())
            .finish_non_exhaustive()
    }
}

/// What a kind of tokenizer does when the file does not say.
struct Defaults {
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: bool,
    escape_spaces: bool,
}

/// The pre-tokenizer of a BPE file, with a warning if the file names none.
fn choose_pretokenizer(spec: &VocabSpec) -> Result<(&'static Pretokenizer, Option<String>), TokenizerError> {
    let given = if spec.model == TokenizerModel::Gemma4 { Some("gemma4") } else { spec.pre.as_deref() };
    let name = given.filter(|name| !name.is_empty());
    let warning = name.is_none().then(|| {
        "tokenizer.ggml.pre is absent: the default pre-tokenizer is used, and the model may answer badly; convert it again"
            .to_owned()
    });
    let name = name.unwrap_or("default");
    let found = pretokenizer::find(name).ok_or_else(|| TokenizerError::UnknownPretokenizer {
        name: name.chars().take(100).collect(),
        known: pretokenizer::known().collect::<Vec<_>>().join(", "),
    })?;
    Ok((found, warning))
}

/// What llama.cpp's detokenizer does to spaces, in its three passes: no space before `?!.,`; an apostrophe between two
/// spaces loses both; no space before `'s`, `'m`, `'re`, `'ve`.
fn clean_spaces(text: &[u8]) -> Vec<u8> {
    let drop_space = |text: &[u8], drops: &dyn Fn(&[u8]) -> bool| {
        let mut out = Vec::with_capacity(text.len());
        for (at, &byte) in text.iter().enumerate() {
            if at > 0 && text[at - 1] == b' ' && drops(&text[at..]) {
                out.pop();
            }
            out.push(byte);
        }
        out
    };
    let text = drop_space(text, &|rest| matches!(rest[0], b'?' | b'!' | b'.' | b','));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    let mut skipped = false;
    while at < text.len() {
        let between_spaces = at > 0 && !skipped && text[at - 1] == b' ' && text[at..].starts_with(b"' ");
        if between_spaces {
            out.pop();
        }
        out.push(text[at]);
        at += 1 + usize::from(between_spaces);
        skipped = between_spaces;
    }
    drop_space(&out, &|rest| matches!(rest, [b'\'', b's' | b'm', ..] | [b'\'', b'r' | b'v', b'e', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_before_punctuation_are_cleaned_as_llama_cpp_does() {
        let cleaned = |text: &str| String::from_utf8(clean_spaces(text.as_bytes())).unwrap();
        assert_eq!(cleaned("a , b . c ! d ?"), "a, b. c! d?");
        assert_eq!(cleaned("it ' s , we 're , I 'm , don 't 'll"), "it's, we're, I'm, don 't 'll");
        assert_eq!(cleaned(" ' ' x"), "'' x");
        assert_eq!(cleaned(""), "");
        assert_eq!(cleaned(" ."), ".");
    }
}
