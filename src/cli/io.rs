//! Files by name, where `-` is stdin or stdout.

use super::Failure;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

/// Whether a name stands for stdin or stdout.
pub fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn name_of(path: &Path, dash: &str) -> String {
    if is_dash(path) { dash.to_string() } else { path.display().to_string() }
}

/// All bytes of a file or of stdin.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = if is_dash(path) {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else if path.is_dir() {
        Err(io::Error::from(ErrorKind::IsADirectory))
    } else {
        std::fs::read(path)
    };
    read.map_err(|error| {
        let failure = Failure::new(format!("cannot read {}: {error}", name_of(path, "stdin")));
        match error.kind() {
            ErrorKind::NotFound => failure.hint("check the path; - is stdin"),
            ErrorKind::IsADirectory => failure.hint("give a file in it"),
            _ => failure,
        }
    })
}

/// The text of a file or of stdin, unchanged.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read_bytes(path)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(format!("{} is not UTF-8 text: byte {at} begins no character", name_of(path, "stdin")))
            .hint("convert it first, for example with `iconv -t UTF-8`")
    })
}

/// Token ids from a file or from stdin.
pub fn read_ids(path: &Path) -> Result<Vec<u32>, Failure> {
    let name = name_of(path, "stdin");
    parse_ids(&read_text(path)?).map_err(|word| {
        Failure::new(format!("{name}: \"{word}\" is not a token id"))
            .hint("ids are whole numbers separated by blanks, commas or newlines")
    })
}

/// Ids separated by blanks, commas or newlines, in brackets or not. The error is the word that is none.
fn parse_ids(text: &str) -> Result<Vec<u32>, String> {
    text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']'))
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().map_err(|_| word.chars().take(40).collect()))
        .collect()
}

/// A value as JSON, indented.
pub fn to_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::new(format!("cannot make JSON: {error}")))
}

/// A file or stdout being written. Call [`Output::finish`]: only then is it certain that all was written.
pub struct Output {
    writer: Box<dyn Write>,
    name: String,
    stdout: bool,
}

impl Output {
    /// Stdout.
    pub fn stdout() -> Output {
        Output { writer: Box::new(BufWriter::new(io::stdout().lock())), name: "stdout".into(), stdout: true }
    }

    /// The file, emptied, or stdout for `-`.
    pub fn create(path: &Path) -> Result<Output, Failure> {
        if is_dash(path) {
            return Ok(Output::stdout());
        }
        let name = path.display().to_string();
        let file = File::create(path).map_err(|error| {
            Failure::new(format!("cannot create {name}: {error}"))
                .hint("check that the folder exists and may be written to")
        })?;
        Ok(Output { writer: Box::new(BufWriter::new(file)), name, stdout: false })
    }

    /// Writes bytes, some time before `finish`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(bytes).map_err(|error| self.failure(error))
    }

    /// Writes a line.
    pub fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Failure> {
        writeln!(self.writer, "{text}").map_err(|error| self.failure(error))
    }

    /// Writes a value as JSON, indented, with a newline.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        self.line(to_json(value)?)
    }

    /// Writes a value as JSON on one line, now.
    pub fn json_line(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string(value).map_err(|error| Failure::new(format!("cannot make JSON: {error}")))?;
        self.line(json)?;
        self.flush()
    }

    /// Writes what is not yet written.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|error| self.failure(error))
    }

    /// Writes what is not yet written, for the last time.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.flush()
    }

    fn failure(&self, error: io::Error) -> Failure {
        if self.stdout && error.kind() == ErrorKind::BrokenPipe {
            return Failure::ClosedPipe;
        }
        let failure = Failure::new(format!("cannot write to {}: {error}", self.name));
        match error.kind() {
            ErrorKind::StorageFull => failure.hint("free some space or write elsewhere"),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_many_notations() {
        assert_eq!(parse_ids("1 2,3\n4\t5,\n"), Ok(vec![1, 2, 3, 4, 5]));
        assert_eq!(parse_ids("[1, 2]"), Ok(vec![1, 2]));
        assert_eq!(parse_ids(" \n"), Ok(vec![]));
        assert_eq!(parse_ids("1 -2"), Err("-2".into()));
        assert_eq!(parse_ids("4294967296"), Err("4294967296".into()));
        assert_eq!(parse_ids("1.5"), Err("1.5".into()));
    }
}
