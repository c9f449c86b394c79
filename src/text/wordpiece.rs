//! [`WordPiece`]: BERT's tokenizer. A text is cleaned, cut into words and punctuation, and each word into the longest tokens
//! from the left; a word that is not covered by tokens becomes the unknown token.
//!
//! GGUF files spell a word's beginning with ▁ and leave out BERT's `##`.

use regex_syntax::hir::HirKind;
use unicode_normalization::char::decompose_canonical;

use super::error::TokenizerError;
use super::spec::VocabSpec;
use super::vocab::Vocab;

/// What the cleaning needs to know of a character.
struct Categories {
    punctuation: Ranges,
    marks: Ranges,
    /// Control, format, private use, surrogates and unassigned.
    other: Ranges,
}

/// Sorted ranges of characters.
struct Ranges(Vec<(char, char)>);

impl Ranges {
    /// The characters of a general category, e.g. `\p{P}`.
    fn of(class: &str) -> Ranges {
        let hir = regex_syntax::parse(class).expect("a constant class");
        match hir.into_kind() {
            HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => {
                Ranges(class.ranges().iter().map(|range| (range.start(), range.end())).collect())
            }
            _ => Ranges(Vec::new()),
        }
    }

    fn contains(&self, c: char) -> bool {
        let after = self.0.partition_point(|&(start, _)| start <= c);
        after > 0 && c <= self.0[after - 1].1
    }
}

pub(super) struct WordPiece {
    lowercase: bool,
    strip_accents: bool,
    categories: Categories,
    unknown: u32,
    /// Lengths of tokens in bytes, longest first.
    lengths: Vec<usize>,
}

impl WordPiece {
    pub(super) fn new(spec: &VocabSpec, vocab: &Vocab) -> Result<WordPiece, TokenizerError> {
        let key = "tokenizer.ggml.unknown_token_id";
        let unknown = vocab.roles.unk.ok_or(TokenizerError::NoSpecialToken { which: "unknown", key })?;
        let lowercase = spec.lowercase.unwrap_or(true);
        Ok(WordPiece {
            lowercase,
            strip_accents: spec.strip_accents.unwrap_or(lowercase),
            categories: Categories {
                punctuation: Ranges::of(r"\p{P}"),
                marks: Ranges::of(r"\p{M}"),
                other: Ranges::of(r"\p{C}"),
            },
            unknown,
            lengths: vocab.table.lengths().collect(),
        })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) {
        let mut word = String::from('▁');
        let begin = word.len();
        for c in text.chars() {
            let c = if self.strip_accents { first_of_decomposition(c) } else { c };
            if c.is_whitespace() {
                self.finish_word(vocab, &mut word, begin, out);
                continue;
            }
            let dropped = c == '\0' || c == '\u{FFFD}' || self.categories.other.contains(c);
            if dropped || self.strip_accents && self.categories.marks.contains(c) {
                continue;
            }
            let alone = self.categories.punctuation.contains(c) || is_ascii_symbol(c) || is_chinese(c);
            if alone {
                self.finish_word(vocab, &mut word, begin, out);
            }
            word.push(if self.lowercase { c.to_lowercase().next().unwrap_or(c) } else { c });
            if alone {
                self.finish_word(vocab, &mut word, begin, out);
            }
        }
        self.finish_word(vocab, &mut word, begin, out);
    }

    /// Encodes `word`, which begins with ▁, and cuts it back to that.
    fn finish_word(&self, vocab: &Vocab, word: &mut String, begin: usize, out: &mut Vec<u32>) {
        if word.len() == begin {
            return;
        }
        let before = out.len();
        let mut rest = word.as_bytes();
        while !rest.is_empty() {
            let longest = self.lengths.iter().find_map(|&length| Some((length, vocab.find(rest.get(..length)?)?)));
            let Some((length, id)) = longest.filter(|&(length, _)| length > 0) else {
                out.truncate(before);
                out.push(self.unknown);
                break;
            };
            out.push(id);
            rest = &rest[length..];
        }
        word.truncate(begin);
    }
}

/// The first character of the canonical decomposition: the base letter. llama.cpp's tables have only this one.
fn first_of_decomposition(c: char) -> char {
    if c.is_ascii() {
        return c;
    }
    let mut first = None;
    decompose_canonical(c, |part| {
        first.get_or_insert(part);
    });
    first.unwrap_or(c)
}

fn is_ascii_symbol(c: char) -> bool {
    matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~')
}

/// The blocks that BERT sets apart, as its fast implementation has them.
fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}
