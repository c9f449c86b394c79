//! [`StringTable`]: strings numbered in the order in which they came, found again by content.

use super::hash::FoldState;

const EMPTY: u32 = u32::MAX;

/// An arena of distinct strings with an open-addressing index. Ids are `0..len()`.
#[derive(Debug)]
pub(super) struct StringTable {
    text: String,
    /// `ends[i]` is where string `i` ends in `text`; it begins where the one before ends.
    ends: Vec<usize>,
    /// Ids by hash, a power of two of them, at most half full.
    slots: Vec<u32>,
    /// `lengths[n]`: some string is `n` bytes long. Spares hashing long slices that cannot be found.
    lengths: Vec<bool>,
    state: FoldState,
}

impl StringTable {
    pub(super) fn with_capacity(strings: usize) -> StringTable {
        StringTable {
            text: String::new(),
            ends: Vec::with_capacity(strings),
            slots: vec![EMPTY; (strings.max(4) * 2).next_power_of_two()],
            lengths: Vec::new(),
            state: FoldState::new(),
        }
    }

    /// The string with this id.
    pub(super) fn get(&self, id: u32) -> Option<&str> {
        let end = *self.ends.get(id as usize)?;
        Some(&self.text[self.start(id)..end])
    }

    /// The id of a string that is in the table.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<u32> {
        if !self.lengths.get(bytes.len()).copied().unwrap_or(false) {
            return None;
        }
        match self.slots[self.slot(bytes)] {
            EMPTY => None,
            id => Some(id),
        }
    }

    /// The id of `string`, which is added if it is new: then the flag is true.
    pub(super) fn insert(&mut self, string: &str) -> (u32, bool) {
        if self.ends.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let slot = self.slot(string.as_bytes());
        if self.slots[slot] != EMPTY {
            return (self.slots[slot], false);
        }
        let id = u32::try_from(self.ends.len()).expect("callers bound the number of strings far below u32::MAX");
        self.text.push_str(string);
        self.ends.push(self.text.len());
        if self.lengths.len() <= string.len() {
            self.lengths.resize(string.len() + 1, false);
        }
        self.lengths[string.len()] = true;
        self.slots[slot] = id;
        (id, true)
    }

    /// The lengths in bytes that strings have, longest first.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.lengths.len()).rev().filter(|&length| self.lengths[length])
    }

    fn start(&self, id: u32) -> usize {
        if id == 0 { 0 } else { self.ends[id as usize - 1] }
    }

    /// The slot that holds `bytes`, or the empty one where it would go.
    fn slot(&self, bytes: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.state.hash_bytes(bytes) as usize & mask;
        loop {
            let id = self.slots[slot];
            if id == EMPTY || self.text.as_bytes()[self.start(id)..self.ends[id as usize]] == *bytes {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }

    fn grow(&mut self) {
        self.slots = vec![EMPTY; self.slots.len() * 2];
        for id in 0..self.ends.len() as u32 {
            let slot = self.slot(&self.text.as_bytes()[self.start(id)..self.ends[id as usize]]);
            self.slots[slot] = id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_inserted_and_nothing_else() {
        let mut table = StringTable::with_capacity(0);
        for i in 0..1000u32 {
            assert_eq!(table.insert(&format!("token {i}")), (i, true));
        }
        assert_eq!(table.insert("token 7"), (7, false));
        assert_eq!(table.find(b"token 999"), Some(999));
        assert_eq!(table.find(b"token 1000"), None);
        assert_eq!(table.find(b""), None);
        assert_eq!(table.get(12), Some("token 12"));
        assert_eq!(table.get(1000), None);
        assert_eq!(table.lengths().collect::<Vec<_>>(), [9, 8, 7]);
    }
}
