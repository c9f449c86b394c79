//! [`StreamDecoder`]: text from ids as they come, never half a character.

use std::ops::Deref;

use super::error::TokenizerError;
use super::tokenizer::{DecodeOptions, Tokenizer};

/// Turns token ids into text one at a time. A character whose bytes are spread over several tokens comes out with the last
/// of them, so every piece is valid UTF-8; bytes that can no longer become a character come out as U+FFFD.
///
/// `T` is a reference to the tokenizer or an owner such as `Arc<Tokenizer>`. All pieces and [`finish`](Self::finish)
/// joined are [`Tokenizer::decode`] with the same options and `clean_spaces` off.
#[derive(Clone, Debug)]
pub struct StreamDecoder<T> {
    tokenizer: T,
    options: DecodeOptions,
    at_start: bool,
    pending: Vec<u8>,
}

impl<T: Deref<Target = Tokenizer>> StreamDecoder<T> {
    /// A decoder at the start of a text, or at a later place if `options.continuation`.
    pub fn new(tokenizer: T, options: DecodeOptions) -> Self {
        StreamDecoder { tokenizer, options, at_start: true, pending: Vec::new() }
    }

    /// Takes the next id and returns the text that is complete now, possibly none.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        self.tokenizer.render_next(id, self.at_start, &self.options, &mut self.pending)?;
        self.at_start = false;
        Ok(self.take_complete())
    }

    /// Returns what is left, with U+FFFD for an incomplete character, and makes the decoder ready for another text.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        self.at_start = true;
        rest
    }

    fn take_complete(&mut self) -> String {
        let mut text = String::new();
        let mut done = 0;
        loop {
            let rest = &self.pending[done..];
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    done = self.pending.len();
                    break;
                }
                Err(error) => error,
            };
            text.push_str(&String::from_utf8_lossy(&rest[..error.valid_up_to()]));
            done += error.valid_up_to();
            let Some(broken) = error.error_len() else { break };
            text.push(char::REPLACEMENT_CHARACTER);
            done += broken;
        }
        self.pending.drain(..done);
        text
    }
}
