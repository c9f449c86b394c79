//! [`Bpe`]: byte-pair encoding of the words that a pre-tokenizer cuts.
//!
//! A word starts as single characters (of the byte-level alphabet, or of the text itself), and the adjacent pair that stands
//! first in the list of merges is joined, the leftmost of equals first. As in llama.cpp, a merge may lead to a text that is
//! no token: such a symbol ends as the tokens of its single bytes, and bytes without a token vanish.

use std::collections::HashMap;
use std::convert::Infallible;

use super::byte_level::{byte_to_char, occurs_in_utf8};
use super::error::TokenizerError;
use super::hash::FoldState;
use super::merge::{Join, Merger, Symbol};
use super::pretokenizer::{Pretokenizer, Splitter};
use super::vocab::Vocab;
use super::word_cache::WordCache;

const MERGES: &str = "tokenizer.ggml.merges";

pub(super) struct Bpe {
    pretokenizer: &'static Pretokenizer,
    splitter: Splitter,
    /// Symbol ids (in the vocabulary's table, where non-tokens follow the tokens) of a pair, to rank and joined symbol.
    merges: HashMap<u64, Join, FoldState>,
    /// The symbol of each byte's character; unused if words are merged as text.
    byte_symbols: [u32; 256],
    /// The tokens for single bytes of symbols that are no tokens.
    byte_tokens: [Option<u32>; 256],
}

impl Bpe {
    pub(super) fn new(
        pretokenizer: &'static Pretokenizer,
        merges: Option<&[String]>,
        vocab: &mut Vocab,
    ) -> Result<Bpe, TokenizerError> {
        let merges = match merges {
            Some(merges) => merges,
            None if pretokenizer.merges_optional => &[],
            None => return Err(TokenizerError::MissingKey { key: MERGES }),
        };
        if merges.len() > 1 << 28 {
            let reason = format!("{} merges are more than any vocabulary has", merges.len());
            return Err(TokenizerError::Malformed { key: MERGES, reason });
        }
        let mut byte_symbols = [0; 256];
        let mut buffer = [0; 4];
        for byte in 0..=255u8 {
            byte_symbols[usize::from(byte)] = vocab.table.insert(byte_to_char(byte).encode_utf8(&mut buffer)).0;
        }
        let byte_tokens: [Option<u32>; 256] = std::array::from_fn(|byte| match pretokenizer.byte_level {
            true => vocab.find(&[byte as u8]),
            false => vocab.find(format!("<0x{byte:02X}>").as_bytes()),
        });
        let missing = (0..=255).filter(|&byte| {
            let token = match pretokenizer.byte_level {
                true => Some(byte_symbols[usize::from(byte)]).filter(|&symbol| (symbol as usize) < vocab.len()),
                false => byte_tokens[usize::from(byte)],
            };
            token.is_none() && occurs_in_utf8(byte)
        });
        let missing = missing.count();
        if missing > 0 {
            vocab
                .warnings
                .push(format!("{missing} of 256 bytes have no token: they are left out of texts that contain them"));
        }
        let merges = merge_table(merges, vocab)?;
        Ok(Bpe { pretokenizer, splitter: Splitter::new(pretokenizer), merges, byte_symbols, byte_tokens })
    }

    pub(super) fn pretokenizer(&self) -> &'static Pretokenizer {
        self.pretokenizer
    }

    /// Appends the ids of `text`; if the pre-tokenizer works on escaped text, spaces are already ▁.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, merger: &mut Merger, out: &mut Vec<u32>) {
        let mut cache = WordCache::new();
        let mut spelling = String::new();
        for range in self.splitter.split(text) {
            let word = &text[range];
            let Ok(()) = cache.encode(word, out, |out| {
                self.encode_word(vocab, word, &mut spelling, merger, out);
                Ok::<_, Infallible>(())
            });
        }
    }

    fn encode_word(&self, vocab: &Vocab, word: &str, spelling: &mut String, merger: &mut Merger, out: &mut Vec<u32>) {
        let whole = self.pretokenizer.ignore_merges
            || self.pretokenizer.whole_newlines && word.bytes().all(|byte| byte == b'\n');
        if whole {
            let spelt = if self.pretokenizer.byte_level {
                spelling.clear();
                spelling.extend(word.bytes().map(byte_to_char));
                spelling.as_str()
            } else {
                word
            };
            if let Some(id) = vocab.find(spelt.as_bytes()) {
                out.push(id);
                return;
            }
        }
        merger.symbols.clear();
        if self.pretokenizer.byte_level {
            merger.symbols.extend(word.bytes().enumerate().map(|(start, byte)| {
                let start = start as u32;
                Symbol { id: self.byte_symbols[usize::from(byte)], start, end: start + 1 }
            }));
        } else {
            merger.symbols.extend(word.char_indices().map(|(start, c)| {
                let end = start + c.len_utf8();
                let id = vocab.table.find(&word.as_bytes()[start..end]).unwrap_or(u32::MAX);
                Symbol { id, start: start as u32, end: end as u32 }
            }));
        }
        merger.run(|left, right| self.merges.get(&pair_key(left.id, right.id)).copied());
        for symbol in &merger.symbols {
            if (symbol.id as usize) < vocab.len() {
                out.push(symbol.id);
            } else {
                let bytes = &word.as_bytes()[symbol.start as usize..symbol.end as usize];
                out.extend(bytes.iter().filter_map(|&byte| self.single_byte(byte)));
            }
        }
    }

    /// The token of a byte in a symbol that is no token. At byte level llama.cpp looks up the bytes of the symbol's
    /// spelling, of which only printable ASCII ones are tokens.
    fn single_byte(&self, byte: u8) -> Option<u32> {
        let reachable = !self.pretokenizer.byte_level || byte.is_ascii_graphic();
        self.byte_tokens[usize::from(byte)].filter(|_| reachable)
    }
}

fn pair_key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Merges by symbol ids. Texts that are no tokens are added to the table behind the tokens.
fn merge_table(merges: &[String], vocab: &mut Vocab) -> Result<HashMap<u64, Join, FoldState>, TokenizerError> {
    let mut table = HashMap::with_capacity_and_hasher(merges.len(), FoldState::new());
    let mut joined = String::new();
    for (rank, merge) in merges.iter().enumerate() {
        // The first text has at least one character, which may be a space.
        let skip = merge.chars().next().map_or(0, char::len_utf8);
        let Some(space) = merge[skip..].find(' ').map(|at| at + skip) else {
            let reason = format!("merge {rank} \"{}\" is not two texts with a space between", merge.escape_debug());
            return Err(TokenizerError::Malformed { key: MERGES, reason });
        };
        let (left, right) = (&merge[..space], &merge[space + 1..]);
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let key = pair_key(vocab.table.insert(left).0, vocab.table.insert(right).0);
        let id = vocab.table.insert(&joined).0;
        table.entry(key).or_insert(Join { rank: rank as u32, id });
    }
    Ok(table)
}
