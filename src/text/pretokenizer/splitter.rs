//! [`Splitter`]: the stages of a [`Pretokenizer`] with their regexes compiled.

use std::ops::Range;

use regex_automata::Input;
use regex_automata::meta::Regex;

use super::{Pretokenizer, Spaces, Stage};

enum Compiled {
    Regex(Regex),
    /// Pattern 0 is the words, pattern 1 a run of white space.
    Words(Regex, Spaces),
    DigitTriples,
    /// Finds numbers.
    NumberTriples(Regex),
}

/// Cuts texts into words.
pub(crate) struct Splitter {
    stages: Vec<Compiled>,
}

impl Splitter {
    pub(crate) fn new(pretokenizer: &Pretokenizer) -> Splitter {
        let compile = |patterns: &[&str]| Regex::new_many(patterns).expect("the table's patterns are tested");
        let stages = pretokenizer.stages.iter().map(|stage| match *stage {
            Stage::Regex(pattern) => Compiled::Regex(compile(&[pattern])),
            Stage::Words(pattern, spaces) => Compiled::Words(compile(&[pattern, r"\s+"]), spaces),
            Stage::DigitTriples => Compiled::DigitTriples,
            Stage::NumberTriples => Compiled::NumberTriples(compile(&[r"\p{N}+"])),
        });
        Splitter { stages: stages.collect() }
    }

    /// The words of `text` in order; joined they are `text`, and none is empty.
    pub(crate) fn split(&self, text: &str) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        if !text.is_empty() {
            pieces.push(0..text.len());
        }
        for stage in &self.stages {
            let mut out = Pieces { ranges: Vec::with_capacity(pieces.len()), base: 0, done: 0 };
            for piece in pieces {
                out.base = piece.start;
                out.done = piece.start;
                stage.split(&text[piece.clone()], &mut out);
                out.until(piece.end - piece.start);
            }
            pieces = out.ranges;
        }
        pieces
    }
}

/// The pieces made so far. Offsets are given relative to the piece that is being cut.
struct Pieces {
    ranges: Vec<Range<usize>>,
    base: usize,
    done: usize,
}

impl Pieces {
    /// Ends a piece at `end`, if that makes one.
    fn until(&mut self, end: usize) {
        let end = self.base + end;
        if end > self.done {
            self.ranges.push(self.done..end);
            self.done = end;
        }
    }
}

impl Compiled {
    fn split(&self, text: &str, out: &mut Pieces) {
        match self {
            Compiled::Regex(regex) => {
                for found in regex.find_iter(text) {
                    out.until(found.start());
                    out.until(found.end());
                }
            }
            Compiled::Words(regex, spaces) => words(regex, *spaces, text, out),
            Compiled::DigitTriples => digit_triples(text, out),
            Compiled::NumberTriples(numbers) => {
                for found in numbers.find_iter(text) {
                    triples(&text[found.range()], found.start(), out);
                    out.until(found.end());
                }
            }
        }
    }
}

/// Words and runs of white space.
fn words(regex: &Regex, spaces: Spaces, text: &str, out: &mut Pieces) {
    let mut at = 0;
    while let Some(found) = regex.search(&Input::new(text).range(at..)) {
        out.until(found.start());
        at = found.end();
        if found.pattern().as_usize() == 1 && spaces == Spaces::PowersOfTwo {
            at = powers_of_two(&text[found.range()], found.start(), at == text.len(), out);
        } else if found.pattern().as_usize() == 1 && at < text.len() {
            // What follows the run gets its last character, unless that is all there is.
            let last = text[found.range()].char_indices().next_back().map_or(0, |(last, _)| last);
            at = if last > 0 { found.start() + last } else { at };
        }
        out.until(at);
    }
}

/// Cuts a run of white space that begins at `start` into powers of two, each followed by white space or the end. Returns
/// where it stopped: before the last character if something follows, because that may belong to the next word.
fn powers_of_two(run: &str, start: usize, at_end: bool, out: &mut Pieces) -> usize {
    let ends: Vec<usize> = run.char_indices().map(|(at, c)| start + at + c.len_utf8()).collect();
    let mut done = 0;
    while done < ends.len() {
        let left = ends.len() - done;
        let may = if at_end { left } else { left - 1 };
        if may == 0 && done > 0 {
            break;
        }
        let take = if may == 0 { 1 } else { 1 << may.ilog2().min(9) };
        done += take;
        out.until(ends[done - 1]);
    }
    ends[done - 1]
}

/// Cuts before each group of three ASCII digits that ends a run of them.
fn digit_triples(text: &str, out: &mut Pieces) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits >= 3 && digits.is_multiple_of(3) {
            out.until(at);
        }
        triples(&text[at..at + digits], at, out);
        at += digits.max(1);
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
}

/// Cuts a number that begins at `start` into groups of three from the right; no cut is made at its ends.
fn triples(number: &str, start: usize, out: &mut Pieces) {
    let mut left = number.chars().count();
    for (at, _) in number.char_indices() {
        if left.is_multiple_of(3) && at > 0 {
            out.until(start + at);
        }
        left -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{find, known};
    use super::*;

    fn split<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        let splitter = Splitter::new(find(name).unwrap());
        splitter.split(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn gpt2_keeps_the_space_before_a_word() {
        let text = "Hello world's  end,  it\n\n was 1234\t\tx ";
        let words =
            ["Hello", " world", "'s", " ", " end", ",", " ", " it", "\n\n", " was", " 1234", "\t", "\t", "x", " "];
        assert_eq!(split("gpt-2", text), words);
    }

    #[test]
    fn llama3_groups_digits_newlines_and_capital_contractions() {
        let text = "I'LL pay 12345 (now)!\n\n  ok\tgo   ";
        let words = ["I", "'LL", " pay", " ", "123", "45", " (", "now", ")!\n\n", " ", " ok", "\tgo", "   "];
        assert_eq!(split("llama-bpe", text), words);
        assert_eq!(split("qwen2", "a 12"), ["a", " ", "1", "2"]);
        assert_eq!(split("starcoder", "a 12"), ["a", " ", "1", "2"]);
    }

    #[test]
    fn stages_cut_in_isolation() {
        assert_eq!(split("deepseek-llm", "ab 12\n 中文c  "), ["ab", " ", "12", "\n", " ", "中文", "c", "  "]);
        assert_eq!(split("default", "a1234.b"), ["a", "123", "4", ".", "b"]);
        assert_eq!(split("falcon", "12345"), ["123", "45"]);
    }

    #[test]
    fn letters_split_at_capitals() {
        assert_eq!(split("tekken", "helloWorld FOOBar"), ["hello", "World", " FOOBar"]);
        assert_eq!(split("gpt-4o", "don'T 1234"), ["don'T", " ", "123", "4"]);
        assert_eq!(split("kimi-k2", "中文abc 1234"), ["中文", "abc", " ", "123", "4"]);
    }

    #[test]
    fn numbers_are_grouped_from_the_right() {
        assert_eq!(split("superbpe", "n=1234567, 123"), ["n=", "1", "234", "567", ", ", "123"]);
        assert_eq!(split("afmoe", "1234567"), ["1", "234", "567"]);
        assert_eq!(split("tiny_aya", "a 12345"), ["a", " ", "12", "345"]);
    }

    #[test]
    fn white_space_in_powers_of_two() {
        let spaces = |n| " ".repeat(n);
        assert_eq!(split("jais-2", &format!("{}x", spaces(7))), [spaces(4), spaces(2), " x".into()]);
        assert_eq!(split("jais-2", &spaces(7)), [spaces(4), spaces(2), spaces(1)]);
        assert_eq!(split("jais-2", &format!("{}7", spaces(1))), [" ", "7"]);
        assert_eq!(split("jais-2", &spaces(1100)), [spaces(512), spaces(512), spaces(64), spaces(8), spaces(4)]);
    }

    #[test]
    fn every_pretokenizer_covers_every_text() {
        let texts = [
            "",
            " ",
            "\0",
            "\n\r\n \t\u{85}\u{3000}\u{a0}x",
            "a",
            "' '' 's 'RE",
            "x'",
            "1\u{661}\u{2167}²",
            "e\u{301}ที่ \u{1f999}👩‍👩‍👧",
            "\u{10ffff}\u{e000}\u{378}",
            "中。 、 한글 ﬁ Ω Ω",
            "(|)[]{}`~^$+<=>",
            "ABCdefGHI'll_x9 <sentinel:3> IMGIMGABZ",
        ];
        for name in known() {
            let splitter = Splitter::new(find(name).unwrap());
            for text in texts {
                let mut end = 0;
                for range in splitter.split(text) {
                    assert_eq!(range.start, end, "{name} {text:?}");
                    assert!(range.end > range.start && text.is_char_boundary(range.end), "{name} {text:?}");
                    end = range.end;
                }
                assert_eq!(end, text.len(), "{name} {text:?}");
            }
        }
    }
}
