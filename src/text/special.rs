//! [`SpecialTokens`]: finding the tokens that are matched as whole strings before anything else looks at the text.
//!
//! As in llama.cpp, longer tokens are matched first, each from the left, in what the ones before left over.

use std::collections::HashMap;
use std::ops::Range;

use super::hash::FoldState;
use super::vocab::Vocab;

/// A stretch of the text, or a token found in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fragment {
    Text(Range<usize>),
    Token(u32),
}

struct Special {
    id: u32,
    text: Box<str>,
    /// Control and unknown tokens are found only when the caller wants special tokens parsed.
    only_when_parsing: bool,
    strip_left: bool,
    strip_right: bool,
}

/// The control, user-defined and unknown tokens of a vocabulary, ready for searching.
pub(super) struct SpecialTokens {
    /// Longest first.
    tokens: Vec<Special>,
    /// Indices into `tokens` by their first two bytes.
    by_start: HashMap<u64, Vec<u32>, FoldState>,
    /// `starts[first byte]`: does any token begin with it?
    starts: [bool; 256],
    /// Indices of the tokens of one byte, which `by_start` has no key for.
    single: HashMap<u64, u32, FoldState>,
}

impl SpecialTokens {
    pub(super) fn new(vocab: &Vocab) -> SpecialTokens {
        let mut tokens: Vec<Special> = vocab
            .special_ids()
            .map(|id| Special {
                id,
                text: vocab.text(id).unwrap_or_default().into(),
                only_when_parsing: vocab.is_control_or_unknown(id),
                strip_left: vocab.strips_left(id),
                strip_right: vocab.strips_right(id),
            })
            .collect();
        tokens.sort_by_key(|token| (usize::MAX - token.text.len(), token.id));
        let mut by_start: HashMap<u64, Vec<u32>, FoldState> = HashMap::with_hasher(FoldState::new());
        let mut single = HashMap::with_hasher(FoldState::new());
        let mut starts = [false; 256];
        for (index, token) in tokens.iter().enumerate() {
            match *token.text.as_bytes() {
                [] => continue,
                [only] => drop(single.insert(u64::from(only), index as u32)),
                [first, second, ..] => by_start.entry(start_key(first, second)).or_default().push(index as u32),
            }
            starts[usize::from(token.text.as_bytes()[0])] = true;
        }
        SpecialTokens { tokens, by_start, starts, single }
    }

    /// Cuts `text` at special tokens. User-defined tokens are always found, the others if `parse_special`.
    pub(super) fn partition(&self, text: &str, parse_special: bool) -> Vec<Fragment> {
        let mut fragments = Vec::new();
        if !text.is_empty() {
            fragments.push(Fragment::Text(0..text.len()));
        }
        for index in self.present(text.as_bytes(), parse_special) {
            fragments = split_at(&self.tokens[index as usize], text, fragments);
        }
        fragments
    }

    /// The tokens that occur anywhere in the text, in matching order.
    fn present(&self, text: &[u8], parse_special: bool) -> Vec<u32> {
        let mut found = Vec::new();
        let mut open: HashMap<u64, Vec<u32>, FoldState> = HashMap::with_hasher(FoldState::new());
        let mut single_seen = [false; 256];
        let wanted = |index: u32| parse_special || !self.tokens[index as usize].only_when_parsing;
        for (at, &first) in text.iter().enumerate() {
            if !self.starts[usize::from(first)] {
                continue;
            }
            if !single_seen[usize::from(first)] {
                single_seen[usize::from(first)] = true;
                found.extend(self.single.get(&u64::from(first)).copied().filter(|&index| wanted(index)));
            }
            let Some(&second) = text.get(at + 1) else { break };
            let key = start_key(first, second);
            let Some(all) = self.by_start.get(&key) else { continue };
            let left = open.entry(key).or_insert_with(|| all.iter().copied().filter(|&index| wanted(index)).collect());
            left.retain(|&index| {
                let occurs = text[at..].starts_with(self.tokens[index as usize].text.as_bytes());
                if occurs {
                    found.push(index);
                }
                !occurs
            });
        }
        found.sort_unstable();
        found
    }
}

fn start_key(first: u8, second: u8) -> u64 {
    u64::from(first) << 8 | u64::from(second)
}

fn split_at(special: &Special, text: &str, fragments: Vec<Fragment>) -> Vec<Fragment> {
    let mut out = Vec::with_capacity(fragments.len() + 2);
    for fragment in fragments {
        let Fragment::Text(mut range) = fragment else {
            out.push(fragment);
            continue;
        };
        while let Some(at) = text[range.clone()].find(&*special.text).map(|at| range.start + at) {
            let after = at + special.text.len();
            let left = &text[range.start..at];
            let left = if special.strip_left { left.trim_end_matches(is_c_space) } else { left };
            if !left.is_empty() {
                out.push(Fragment::Text(range.start..range.start + left.len()));
            }
            out.push(Fragment::Token(special.id));
            let right = &text[after..range.end];
            let right = if special.strip_right { right.trim_start_matches(is_c_space) } else { right };
            range.start = range.end - right.len();
        }
        if !range.is_empty() {
            out.push(Fragment::Text(range));
        }
    }
    out
}

/// `isspace` of the C locale.
fn is_c_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}
