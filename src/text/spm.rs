//! [`Spm`]: merging by score, as SentencePiece's BPE does it.
//!
//! The text, with ▁ for spaces, starts as characters. The adjacent pair whose joined text is the token of the highest score
//! is joined, the leftmost of equals first, until no pair is a token. A character without a token becomes the tokens of
//! its bytes.
//!
//! Joining never crosses a place where no token has those two characters next to each other. So the text is cut there, and
//! the stretches (words, mostly) are merged one by one, with the same result.

use std::collections::HashSet;

use super::byte_level::occurs_in_utf8;
use super::error::TokenizerError;
use super::hash::FoldState;
use super::merge::{Join, Merger, Symbol};
use super::spec::VocabSpec;
use super::vocab::Vocab;
use super::word_cache::WordCache;

/// A character that is no token.
const NO_TOKEN: u32 = u32::MAX;

pub(super) struct Spm {
    /// For each token how many distinct scores are higher.
    ranks: Vec<u32>,
    bytes: [Option<u32>; 256],
    inner_pairs: HashSet<u64, FoldState>,
}

impl Spm {
    pub(super) fn new(spec: &VocabSpec, vocab: &mut Vocab) -> Result<Spm, TokenizerError> {
        let ranks = match &spec.scores {
            Some(scores) => ranks(scores, vocab.len())?,
            None => {
                vocab.warnings.push("tokenizer.ggml.scores is absent: all tokens count alike".into());
                vec![0; vocab.len()]
            }
        };
        let bytes: [Option<u32>; 256] = std::array::from_fn(|byte| {
            let byte = byte as u8;
            let as_text = || vocab.find(&[byte]);
            vocab.find(format!("<0x{byte:02X}>").as_bytes()).or_else(as_text)
        });
        let missing = (0..=255).filter(|&byte| bytes[usize::from(byte)].is_none() && occurs_in_utf8(byte)).count();
        if missing > 0 {
            let what =
                format!("{missing} of 256 bytes have no token: texts with characters that need them cannot be encoded");
            vocab.warnings.push(what);
        }
        Ok(Spm { ranks, bytes, inner_pairs: inner_pairs(vocab) })
    }

    /// Appends the ids of `text`, whose spaces are already ▁.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        merger: &mut Merger,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut cache = WordCache::new();
        let mut start = 0;
        let mut previous = None;
        for (at, c) in text.char_indices() {
            if previous.is_some_and(|previous| !self.inner_pairs.contains(&pair_key(previous, c))) {
                let word = &text[start..at];
                cache.encode(word, out, |out| self.encode_word(vocab, word, merger, out))?;
                start = at;
            }
            previous = Some(c);
        }
        self.encode_word(vocab, &text[start..], merger, out)
    }

    fn encode_word(
        &self,
        vocab: &Vocab,
        word: &str,
        merger: &mut Merger,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let bytes = word.as_bytes();
        let slice = |start: u32, end: u32| &bytes[start as usize..end as usize];
        merger.symbols.clear();
        merger.symbols.extend(word.char_indices().map(|(start, c)| {
            let (start, end) = (start as u32, (start + c.len_utf8()) as u32);
            Symbol { id: vocab.find(slice(start, end)).unwrap_or(NO_TOKEN), start, end }
        }));
        merger.run(|left, right| {
            let id = vocab.find(slice(left.start, right.end))?;
            Some(Join { rank: self.ranks[id as usize], id })
        });
        for symbol in &merger.symbols {
            if symbol.id != NO_TOKEN {
                out.push(symbol.id);
                continue;
            }
            for &byte in slice(symbol.start, symbol.end) {
                out.push(self.bytes[usize::from(byte)].ok_or(TokenizerError::NoByteToken { byte })?);
            }
        }
        Ok(())
    }
}

/// The pairs of adjacent characters within tokens.
fn inner_pairs(vocab: &Vocab) -> HashSet<u64, FoldState> {
    let mut pairs = HashSet::with_hasher(FoldState::new());
    for token in (0..vocab.len() as u32).filter_map(|id| vocab.text(id)) {
        pairs.extend(token.chars().zip(token.chars().skip(1)).map(|(left, right)| pair_key(left, right)));
    }
    pairs
}

fn pair_key(left: char, right: char) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Scores as ranks: equal scores have equal ranks, the highest score has rank 0.
fn ranks(scores: &[f32], tokens: usize) -> Result<Vec<u32>, TokenizerError> {
    let malformed = |reason| TokenizerError::Malformed { key: "tokenizer.ggml.scores", reason };
    if scores.len() != tokens {
        return Err(malformed(format!("{} scores for {tokens} tokens", scores.len())));
    }
    if let Some(id) = scores.iter().position(|score| score.is_nan()) {
        return Err(malformed(format!("the score of token {id} is not a number")));
    }
    let mut order: Vec<u32> = (0..tokens as u32).collect();
    let score = |id: u32| scores[id as usize] + 0.0; // -0.0 becomes 0.0, so that total_cmp calls them equal
    order.sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)));
    let mut ranks = vec![0; tokens];
    let mut rank = 0;
    for pair in order.windows(2) {
        rank += u32::from(score(pair[0]) != score(pair[1]));
        ranks[pair[1] as usize] = rank;
    }
    Ok(ranks)
}
