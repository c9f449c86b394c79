//! [`Failure`]: how a program ends other than well, and what the user is told.

use crate::engine::{BackendError, EngineError};
use crate::models::ModelError;
use crate::models::gguf::GgufError;
use std::fmt::Display;
use std::process::ExitCode;

/// Why a program ends before its work is done.
#[derive(Debug)]
pub enum Failure {
    /// Something is wrong.
    Error {
        /// One line that names the thing.
        message: String,
        /// What the user can do.
        hint: Option<String>,
    },
    /// A text that was given is wrong somewhere.
    InText {
        /// One line that names the text, the place and what was expected.
        message: String,
        /// The line of the text with a mark under the place.
        excerpt: String,
    },
    /// Ctrl-C, with what was going on.
    Interrupted(&'static str),
    /// Nobody reads stdout any more: a clean end.
    ClosedPipe,
}

impl Failure {
    /// Something is wrong; the message names the thing.
    pub fn new(message: impl Display) -> Failure {
        Failure::Error { message: message.to_string(), hint: None }
    }

    /// With what the user can do.
    pub fn hint(self, hint: impl Display) -> Failure {
        match self {
            Failure::Error { message, .. } => Failure::Error { message, hint: Some(hint.to_string()) },
            other => other,
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        let failure = Failure::new(&error);
        match error {
            EngineError::Cancelled => Failure::Interrupted("cancelled"),
            EngineError::Gguf(error) => error.into(),
            EngineError::Model(error) => error.into(),
            EngineError::ContextFull { needed, .. } => {
                failure.hint(format!("give fewer tokens or a larger context: --ctx {needed}"))
            }
            EngineError::EmptyPrompt => failure.hint("give a text with --prompt, or token ids with --ids"),
            EngineError::NoTokenizer => failure.hint("--ids takes token ids"),
            EngineError::TokenOutOfVocabulary { .. } => {
                failure.hint("are these ids of this model? `rocmforge tokenize` makes them, `rocmforge inspect` shows the vocabulary")
            }
            EngineError::Option { name: "context", .. } => failure.hint("--ctx takes fewer tokens"),
            EngineError::Option { name: "gpu_layers", .. } => failure.hint("--device gpu, or no --gpu-layers"),
            EngineError::Backend(BackendError::NoDevice { .. }) => {
                failure.hint("`rocmforge devices` shows what there is; --device cpu runs without a GPU")
            }
            EngineError::Backend(BackendError::Device { .. } | BackendError::Unsupported { .. }) => {
                failure.hint("--device cpu runs without the GPU; --gpu-layers N uses less of it")
            }
            EngineError::Backend(_) | EngineError::Plan(_) => failure.hint("a smaller --ctx or --chunk takes less memory, fewer --gpu-layers less of a GPU's"),
            EngineError::Sampler(_) => failure.hint("try another file of the model; --temp 0 and no penalties rule out the sampler"),
            _ => failure,
        }
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Failure {
        let failure = Failure::new(&error);
        match error {
            ModelError::UnknownArchitecture { .. } => failure.hint("docs/add-an-architecture.md tells how to add one"),
            ModelError::Unsupported(_) | ModelError::TensorType { .. } => failure.hint("try another file of the model"),
            ModelError::MissingTensor { .. } | ModelError::TensorShape { .. } => {
                failure.hint("`rocmforge inspect` lists the tensors; was the file converted for this architecture?")
            }
            _ => failure.hint("`rocmforge inspect` shows the metadata; convert the model again if it is wrong"),
        }
    }
}

impl From<GgufError> for Failure {
    fn from(error: GgufError) -> Failure {
        let failure = Failure::new(&error);
        let inner = match &error {
            GgufError::InFile { error, .. } => error,
            other => other,
        };
        match inner {
            GgufError::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound => {
                failure.hint("check the path of the model")
            }
            GgufError::Io { .. } => failure,
            GgufError::NotAFile { .. } => failure.hint("give the .gguf file itself"),
            GgufError::NotGguf { .. } => failure.hint("only GGUF files can be read"),
            _ => failure.hint("the file is damaged or incomplete: download or convert it again"),
        }
    }
}

/// Ends a program: says what is to be said on stderr and gives the exit status.
///
/// 0 only for success (and for a reader that closed the pipe), 130 for Ctrl-C, 1 for everything else. Wrong arguments are 2.
pub fn finish(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Interrupted(during)) => {
            eprintln!("interrupted: {during}");
            ExitCode::from(130)
        }
        Err(Failure::Error { message, hint }) => {
            complain(&message, &hint.unwrap_or_else(see_help));
            ExitCode::FAILURE
        }
        Err(Failure::InText { message, excerpt }) => {
            eprintln!("error: {}\n{excerpt}", one_line(&message));
            ExitCode::FAILURE
        }
    }
}

fn complain(message: &str, hint: &str) {
    eprintln!("error: {}\nhint: {}", one_line(message), one_line(hint));
}

/// Control characters that came from a file do not reach the terminal.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    words.join(" ").chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Parses the arguments; `Err` is the exit status after help was shown or a mistake was explained.
pub fn parse<P: clap::Parser>() -> Result<P, ExitCode> {
    P::try_parse().map_err(|error| {
        if !error.use_stderr() {
            // Help or version was asked for. A closed pipe is no mistake.
            return if error.print().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        if matches!(error.kind(), clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand) {
            let _ = error.print();
            return ExitCode::from(2);
        }
        let text = error.render().to_string();
        let mut paragraphs = text.split("\n\n");
        let message = paragraphs.next().unwrap_or_default();
        let tip = paragraphs.find_map(|p| p.trim_start().strip_prefix("tip: ")).map(str::to_string);
        let usage = text.lines().find_map(|line| line.strip_prefix("Usage: ")).and_then(help_command);
        let hint = tip.or(usage).unwrap_or_else(see_help);
        complain(message.strip_prefix("error: ").unwrap_or(message), &hint);
        ExitCode::from(2)
    })
}

/// How to ask for help with the subcommand that was asked for.
fn see_help() -> String {
    let command =
        std::env::args().nth(1).filter(|arg| !arg.starts_with('-') && arg.chars().all(|c| c.is_ascii_lowercase()));
    format!("see `{}{} --help`", env!("CARGO_PKG_NAME"), command.map(|c| format!(" {c}")).unwrap_or_default())
}

/// From a usage line, how to ask for help: the words before the first argument.
fn help_command(usage: &str) -> Option<String> {
    let words: Vec<&str> = usage.split_whitespace().take_while(|w| !w.starts_with(['-', '<', '['])).collect();
    (!words.is_empty()).then(|| format!("see `{} --help`", words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_clean_line() {
        assert_eq!(one_line("a\n  b\n\nc\x1b[31m"), "a b c?[31m");
    }

    #[test]
    fn help_is_that_of_the_subcommand() {
        assert_eq!(help_command("rocmforge generate [OPTIONS]").as_deref(), Some("see `rocmforge generate --help`"));
        assert_eq!(help_command("[OPTIONS]"), None);
    }

    #[test]
    fn every_hint_is_kept_with_its_message() {
        let Failure::Error { message, hint } = EngineError::ContextFull { needed: 9, context: 8 }.into() else {
            panic!("an error")
        };
        assert!(message.contains("9 tokens") && hint.is_some_and(|h| h.contains("--ctx 9")));
    }
}
