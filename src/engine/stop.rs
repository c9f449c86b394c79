//! [`StopStrings`]: finds the strings that end a text while it streams, and holds back what may become one.

/// Looks for stop strings in a text that comes in pieces.
///
/// Text that could be the beginning of a stop string is held back until it is certain; no part of a stop string is
/// ever given out. Of several stop strings the one that is complete first counts.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    found: Option<usize>,
}

impl StopStrings {
    /// Looks for `stops`; empty strings are ignored.
    pub fn new(stops: impl IntoIterator<Item = String>) -> StopStrings {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        StopStrings { stops, ..StopStrings::default() }
    }

    /// The stop string that was found.
    pub fn found(&self) -> Option<&str> {
        self.found.map(|index| self.stops[index].as_str())
    }

    /// Takes the next piece and returns the text that is certain now. After a stop string was found, nothing comes.
    pub fn push(&mut self, piece: &str) -> String {
        if self.found.is_some() {
            return String::new();
        }
        let from = self.held.len();
        self.held.push_str(piece);
        if let Some((start, index)) = self.first_complete(from) {
            self.found = Some(index);
            self.held.truncate(start);
            return std::mem::take(&mut self.held);
        }
        let keep = self.held.len() - self.longest_beginning();
        let rest = self.held.split_off(keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Returns what was held back: the text has ended.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Start and index of the stop string that ends first; of those that end together, the longest. It ends after `from`.
    fn first_complete(&self, from: usize) -> Option<(usize, usize)> {
        let ends = self.stops.iter().enumerate().filter_map(|(index, stop)| {
            // What was held is shorter than a stop string, so a search of all of it stays short.
            let start = self.held.find(stop.as_str())?;
            let end = start + stop.len();
            debug_assert!(end > from, "a complete stop string was held back");
            Some((end, start, index))
        });
        ends.min().map(|(_, start, index)| (start, index))
    }

    /// Length of the longest end of the held text that begins a stop string.
    fn longest_beginning(&self) -> usize {
        let beginning = |stop: &String| {
            let longest = self.held.len().min(stop.len() - 1);
            (1..=longest).rev().find(|&n| self.held.as_bytes()[self.held.len() - n..] == stop.as_bytes()[..n])
        };
        self.stops.iter().filter_map(beginning).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, Option<String>) {
        let mut finder = StopStrings::new(stops.iter().map(|s| s.to_string()));
        let mut out: Vec<String> = pieces.iter().map(|piece| finder.push(piece)).collect();
        out.push(finder.finish());
        (out, finder.found().map(str::to_string))
    }

    #[test]
    fn without_stops_all_text_passes_at_once() {
        assert_eq!(run(&[], &["a", "b"]), (vec!["a".into(), "b".into(), "".into()], None));
        assert_eq!(run(&[""], &["a"]), (vec!["a".into(), "".into()], None));
    }

    #[test]
    fn a_stop_split_over_pieces_is_never_given_out() {
        let (out, found) = run(&["\nUser:"], &["Hi", "!\n", "Us", "er", ": x", "y"]);
        assert_eq!(out, ["Hi", "!", "", "", "", "", ""]);
        assert_eq!(found.as_deref(), Some("\nUser:"));
    }

    #[test]
    fn what_only_looked_like_a_stop_comes_later() {
        let (out, found) = run(&["\nUser:"], &["a\nUs", "e it\n", "b"]);
        assert_eq!(out, ["a", "\nUse it", "\nb", ""]);
        assert_eq!(found, None);
        assert_eq!(run(&["END"], &["the EN"]).0, ["the ", "EN"]);
    }

    #[test]
    fn overlapping_beginnings() {
        let (out, found) = run(&["aab"], &["a", "a", "a", "b", "c"]);
        assert_eq!(out.concat(), "a");
        assert_eq!(found.as_deref(), Some("aab"));
    }

    #[test]
    fn the_first_to_be_complete_counts() {
        let (out, found) = run(&["abcd", "bc"], &["xabcd"]);
        assert_eq!((out.concat().as_str(), found.as_deref()), ("xa", Some("bc")));
        let (out, found) = run(&["c", "abc"], &["xabc"]);
        assert_eq!((out.concat().as_str(), found.as_deref()), ("x", Some("abc")));
    }

    #[test]
    fn cuts_at_characters() {
        let (out, found) = run(&["é!"], &["caf", "é", "?", "é", "!"]);
        assert_eq!(out, ["caf", "", "é?", "", "", ""]);
        assert_eq!(found.as_deref(), Some("é!"));
    }

    #[test]
    fn any_cutting_gives_the_same_text() {
        let text = "one two\n\nthree STOP four";
        for stops in [&["STOP"][..], &["\n\n"], &["ree ST", "P f"], &["nothing"]] {
            let whole = run(stops, &[text]);
            for size in 1..6 {
                let pieces: Vec<&str> = text.as_bytes().chunks(size).map(|c| std::str::from_utf8(c).unwrap()).collect();
                let cut = run(stops, &pieces);
                assert_eq!((cut.0.concat(), cut.1), (whole.0.concat(), whole.1.clone()), "{stops:?} {size}");
            }
        }
    }
}
