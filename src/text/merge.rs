//! The merge loop that BPE and SentencePiece share: join the best adjacent pair until no pair joins.
//!
//! A pair's rank says how good it is, lower first; among equal ranks the leftmost pair goes first. Short sequences are
//! scanned, long ones use a heap (O(n log n)).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A piece of the text while it is being merged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Symbol {
    /// The symbol's id; what ids mean is the caller's matter.
    pub(super) id: u32,
    /// First byte in the text.
    pub(super) start: u32,
    /// One past the last byte.
    pub(super) end: u32,
}

/// What comes of joining two symbols.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Join {
    /// Lower ranks are joined first.
    pub(super) rank: u32,
    /// The id of the joined symbol.
    pub(super) id: u32,
}

/// A join that was possible when it was put on the heap. Ordered by rank, then from the left.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    right: u32,
    left_id: u32,
    right_id: u32,
    id: u32,
}

const NONE: u32 = u32::MAX;
/// Up to this many symbols, scanning all ranks beats keeping a heap.
const SCAN_LIMIT: usize = 24;

/// Buffers of the merge loop, kept from word to word.
#[derive(Default)]
pub(super) struct Merger {
    /// The caller's symbols in, the merged ones out.
    pub(super) symbols: Vec<Symbol>,
    /// Scan: the rank and result of joining symbol `i` with `i + 1`.
    joins: Vec<Option<Join>>,
    /// Heap: neighbours of each symbol, [`NONE`] at the ends.
    links: Vec<(u32, u32)>,
    heap: BinaryHeap<Reverse<Candidate>>,
}

impl Merger {
    /// Joins `symbols` in place. `join` gives the rank and the id of the joined pair, or `None` if it does not join.
    pub(super) fn run(&mut self, join: impl Fn(Symbol, Symbol) -> Option<Join>) {
        if self.symbols.len() <= SCAN_LIMIT { self.scan(join) } else { self.with_heap(join) }
    }

    fn scan(&mut self, join: impl Fn(Symbol, Symbol) -> Option<Join>) {
        let symbols = &mut self.symbols;
        let joins = &mut self.joins;
        joins.clear();
        joins.extend(symbols.windows(2).map(|pair| join(pair[0], pair[1])));
        let best = |joins: &[Option<Join>]| {
            let possible = joins.iter().enumerate().filter_map(|(i, join)| join.map(|join| (i, join)));
            possible.min_by_key(|&(i, join)| (join.rank, i))
        };
        while let Some((i, Join { id, .. })) = best(joins) {
            symbols[i] = Symbol { id, end: symbols[i + 1].end, ..symbols[i] };
            symbols.remove(i + 1);
            joins.remove(i);
            if i > 0 {
                joins[i - 1] = join(symbols[i - 1], symbols[i]);
            }
            if i < joins.len() {
                joins[i] = join(symbols[i], symbols[i + 1]);
            }
        }
    }

    fn with_heap(&mut self, join: impl Fn(Symbol, Symbol) -> Option<Join>) {
        let Merger { symbols, links, heap, .. } = self;
        let count = symbols.len() as u32;
        links.clear();
        links.extend((0..count).map(|i| (i.checked_sub(1).unwrap_or(NONE), if i + 1 < count { i + 1 } else { NONE })));
        heap.clear();
        let candidate = |symbols: &[Symbol], left: u32, right: u32| {
            let (l, r) = (symbols[left as usize], symbols[right as usize]);
            join(l, r)
                .map(|Join { rank, id }| Reverse(Candidate { rank, left, right, left_id: l.id, right_id: r.id, id }))
        };
        heap.extend((1..count).filter_map(|right| candidate(symbols, right - 1, right)));
        while let Some(Reverse(Candidate { left, right, left_id, right_id, id, .. })) = heap.pop() {
            // A symbol that was joined since has another end; one that was absorbed is empty.
            let (l, r) = (symbols[left as usize], symbols[right as usize]);
            let stale = l.id != left_id || r.id != right_id || l.start == l.end || r.start == r.end || l.end != r.start;
            if stale {
                continue;
            }
            symbols[left as usize] = Symbol { id, end: r.end, ..l };
            symbols[right as usize].end = r.start;
            let (before, after) = (links[left as usize].0, links[right as usize].1);
            links[left as usize].1 = after;
            if after != NONE {
                links[after as usize].0 = left;
                heap.extend(candidate(symbols, left, after));
            }
            if before != NONE {
                heap.extend(candidate(symbols, before, left));
            }
        }
        symbols.retain(|symbol| symbol.start != symbol.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A left id, a right id, and what comes of them.
    type Table = [(u32, u32, Join)];

    /// Merges a text whose ids are byte values.
    fn merged(text: &[u8], table: &Table, heap: bool) -> Vec<u32> {
        let symbol = |i: usize| Symbol { id: u32::from(text[i]), start: i as u32, end: i as u32 + 1 };
        let mut merger = Merger { symbols: (0..text.len()).map(symbol).collect(), ..Merger::default() };
        let join = |l: Symbol, r: Symbol| table.iter().find(|row| (row.0, row.1) == (l.id, r.id)).map(|row| row.2);
        if heap {
            merger.with_heap(join)
        } else {
            merger.scan(join)
        }
        merger.symbols.iter().map(|symbol| symbol.id).collect()
    }

    #[test]
    fn scan_and_heap_agree_on_all_short_texts() {
        let (a, b) = (u32::from(b'a'), u32::from(b'b'));
        let table = [(a, a, 1, 300), (300, 300, 2, 301), (a, b, 0, 302), (b, 302, 1, 303), (300, b, 3, 304)];
        let table = table.map(|(left, right, rank, id)| (left, right, Join { rank, id }));
        for length in 0..10 {
            for bits in 0..1u32 << length {
                let text: Vec<u8> = (0..length).map(|i| if bits >> i & 1 == 0 { b'a' } else { b'b' }).collect();
                assert_eq!(merged(&text, &table, false), merged(&text, &table, true), "{text:?}");
            }
        }
    }

    #[test]
    fn equal_ranks_go_from_the_left() {
        let a = u32::from(b'a');
        let table = [(a, a, Join { rank: 0, id: 300 })];
        assert_eq!(merged(b"aaa", &table, false), [300, a]);
        assert_eq!(merged(b"aaa", &table, true), [300, a]);
    }
}
