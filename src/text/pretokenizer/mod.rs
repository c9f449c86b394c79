//! Pre-tokenizers: how a text is cut into words before byte-pair encoding, by the names of `tokenizer.ggml.pre`.
//!
//! A pre-tokenizer is a list of [`Stage`]s. Each cuts every piece that the stage before left, in isolation: what a stage
//! matches becomes a piece, and so does what lies between matches. The [`table`](known) states what llama.cpp does, which
//! for some models is not what the model's own tokenizer does.
//!
//! Regexes run on a finite automaton, so no text takes more than linear time. The one thing that an automaton cannot express,
//! `\s+(?!\S)|\s+` at the end of most patterns, is [`Spaces::LeaveOne`].

mod splitter;
mod table;

pub(super) use splitter::Splitter;
pub use table::{find, known};

/// One step of cutting.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// Matches of a regex.
    Regex(&'static str),
    /// Matches of a regex that does not match at white space, and runs of white space.
    Words(&'static str, Spaces),
    /// In each piece, a cut before every group of three ASCII digits that ends a run of digits.
    DigitTriples,
    /// Numbers in groups of three from the right. The text before a number stays joined to its first group, as in llama.cpp.
    NumberTriples,
}

/// How a run of white space is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spaces {
    /// `\s+(?!\S)|\s+`: all but the last character if something follows.
    LeaveOne,
    /// `\s{512}(?!\S)|\s{256}(?!\S)|…|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}`: the largest power of two that leaves one.
    PowersOfTwo,
}

/// A pre-tokenizer and the defaults that its name implies.
#[derive(Clone, Copy, Debug)]
pub struct Pretokenizer {
    /// The names in `tokenizer.ggml.pre`.
    pub names: &'static [&'static str],
    /// What cuts the text, in order.
    pub stages: &'static [Stage],
    /// A word that is a token is taken whole, even if merges would not lead to it.
    pub ignore_merges: bool,
    /// Whether texts begin with BOS when `tokenizer.ggml.add_bos_token` does not say.
    pub add_bos: bool,
    /// Texts begin with BOS even if `tokenizer.ggml.add_bos_token` is false: files of this family have it wrong.
    pub always_bos: bool,
    /// Whether llama.cpp's detokenizer drops spaces before punctuation.
    pub clean_spaces: bool,
    /// Words are spelt in the byte-level alphabet. If not, they are merged as text, with ▁ for a space.
    pub byte_level: bool,
    /// A word of newlines that is a token is taken whole.
    pub whole_newlines: bool,
    /// The file may come without merges.
    pub merges_optional: bool,
}
