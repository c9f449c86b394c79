//! [`WordCache`]: a word that occurs again in a text is not encoded again.

use std::collections::HashMap;

use super::hash::FoldState;

/// Words up to this length are remembered.
const LONGEST: usize = 48;

/// Where the ids of each word stand in the output. Lives for one text.
pub(super) struct WordCache<'t> {
    places: HashMap<&'t [u8], (u32, u32), FoldState>,
}

impl<'t> WordCache<'t> {
    pub(super) fn new() -> WordCache<'t> {
        WordCache { places: HashMap::with_hasher(FoldState::new()) }
    }

    /// Appends the ids of `word` to `out`, by `encode` if the word is new.
    pub(super) fn encode<E>(
        &mut self,
        word: &'t str,
        out: &mut Vec<u32>,
        encode: impl FnOnce(&mut Vec<u32>) -> Result<(), E>,
    ) -> Result<(), E> {
        if word.len() > LONGEST {
            return encode(out);
        }
        if let Some(&(start, end)) = self.places.get(word.as_bytes()) {
            out.extend_from_within(start as usize..end as usize);
            return Ok(());
        }
        let start = out.len() as u32;
        encode(out)?;
        self.places.insert(word.as_bytes(), (start, out.len() as u32));
        Ok(())
    }
}
