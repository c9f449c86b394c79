//! Text to tokens.

use super::{ParseError, Position};
use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Word(String),
    Text(String),
    Int(i64),
    Float(f32),
    /// One of `{ } ( ) [ ] , : = .` or `<=`.
    Mark(&'static str),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(w) => write!(f, "`{w}`"),
            Token::Text(t) => write!(f, "\"{t}\""),
            Token::Int(n) => write!(f, "`{n}`"),
            Token::Float(x) => write!(f, "`{x:?}`"),
            Token::Mark(m) => write!(f, "`{m}`"),
            Token::End => f.write_str("the end of the text"),
        }
    }
}

const MARKS: [&str; 11] = ["<=", "{", "}", "(", ")", "[", "]", ",", ":", "=", "."];

pub(super) fn lex(text: &str) -> Result<Vec<(Token, Position)>, ParseError> {
    let mut tokens = Vec::new();
    let mut at = Position { line: 1, column: 1 };
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let start = at;
        let length = if c.is_whitespace() {
            c.len_utf8()
        } else if c == '#' {
            rest.find('\n').unwrap_or(rest.len())
        } else if c == '"' {
            let (token, length) = lex_text(rest, start)?;
            tokens.push((token, start));
            length
        } else if c.is_ascii_digit() || (c == '-' && rest[1..].starts_with(|c: char| c.is_ascii_digit() || c == 'i')) {
            let length = number_length(rest);
            tokens.push((number(&rest[..length], start)?, start));
            length
        } else if c.is_alphabetic() || c == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push((Token::Word(rest[..length].to_string()), start));
            length
        } else if let Some(mark) = MARKS.iter().find(|m| rest.starts_with(**m)) {
            tokens.push((Token::Mark(mark), start));
            mark.len()
        } else {
            return Err(ParseError::new(start, format!("unexpected character {c:?}")));
        };
        for c in rest[..length].chars() {
            if c == '\n' {
                at = Position { line: at.line + 1, column: 1 };
            } else {
                at.column += 1;
            }
        }
        rest = &rest[length..];
    }
    tokens.push((Token::End, at));
    Ok(tokens)
}

/// Length of `-?digits(.digits)?(e[+-]?digits)?` or `-inf`.
fn number_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    if rest.starts_with("-inf") {
        return 4;
    }
    let digits = |mut i: usize| {
        while bytes.get(i).is_some_and(u8::is_ascii_digit) {
            i += 1;
        }
        i
    };
    let mut end = digits(usize::from(bytes[0] == b'-'));
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
            end = digits(end + 1 + sign);
        }
    }
    end
}

fn number(text: &str, at: Position) -> Result<Token, ParseError> {
    if let Ok(n) = text.parse::<i64>() {
        return Ok(Token::Int(n));
    }
    match text.parse::<f32>() {
        Ok(x) => Ok(Token::Float(x)),
        Err(_) => Err(ParseError::new(at, format!("`{text}` is no number"))),
    }
}

fn lex_text(rest: &str, start: Position) -> Result<(Token, usize), ParseError> {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(out), i + 1)),
            '\n' => break,
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, c @ ('"' | '\\'))) => out.push(c),
                Some((at, 'u')) => {
                    let code = rest[at + 1..].strip_prefix('{').and_then(|r| r.split_once('}')).map(|r| r.0);
                    let c = code.and_then(|c| u32::from_str_radix(c, 16).ok()).and_then(char::from_u32);
                    let (Some(code), Some(c)) = (code, c) else {
                        return Err(ParseError::new(start, "a `\\u` in a string needs `{hex digits}`"));
                    };
                    out.push(c);
                    for _ in 0..code.chars().count() + 2 {
                        chars.next();
                    }
                }
                _ => return Err(ParseError::new(start, "a `\\` in a string is followed by n, u, \\ or \"")),
            },
            c => out.push(c),
        }
    }
    Err(ParseError::new(start, "this string does not end on its line"))
}
