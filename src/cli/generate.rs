//! `generate`: continues a prompt.

use super::args::{ModelArgs, SessionArgs, warn};
use super::io::{Output, read_ids, read_text, to_json};
use super::sampling::SamplingArgs;
use super::{Failure, interrupt, progress};
use crate::engine::{
    EngineError, FinishReason, GenerateOptions, Generator, Model, Sampler, SamplerError, Session, Summary,
};
use crate::text::{DecodeOptions, EncodeOptions};
use clap::Args;
use serde::Serialize;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Continue a prompt
#[derive(Args, Debug)]
#[command(
    after_help = "The prompt and its continuation go to stdout as they come, and nothing else (on a terminal a last newline);
speeds and counts go to stderr.

Examples:
  rocmforge generate -m model.gguf --prompt 'Once upon a time' -n 100 --temp 0
  rocmforge generate -m model.gguf --prompt-file question.txt --no-echo -e --stop '\\n\\n' --seed 42
  rocmforge generate -m model.gguf --prompt 'Name a fruit:' -n 8 --json | jq -r .text"
)]
pub struct GenerateArgs {
    /// The model.
    #[command(flatten)]
    model: ModelArgs,
    /// The prompt.
    #[command(flatten)]
    prompt: PromptArgs,
    /// Tokens to generate at most; -1 goes on to the end of the text or of the context
    #[arg(short = 'n', long = "predict", value_name = "N", default_value_t = 256, allow_negative_numbers = true)]
    predict: i64,
    /// End before this text; can be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// In --prompt and --stop, \n, \t and \\ stand for newline, tab and backslash
    #[arg(short, long)]
    escape: bool,
    /// Do not end where the model would end the text
    #[arg(long)]
    ignore_eos: bool,
    /// Print the continuation without the prompt
    #[arg(long)]
    no_echo: bool,
    /// Print control tokens as their text
    #[arg(long)]
    special: bool,
    /// Print JSON at the end instead of text: prompt, text (the continuation), full (both), ids, counts and speeds
    #[arg(long)]
    json: bool,
    /// Nothing on stderr but warnings and errors
    #[arg(short, long)]
    quiet: bool,
    /// The session.
    #[command(flatten)]
    session: SessionArgs,
    /// The sampler.
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// One of three ways to give a prompt.
#[derive(Args, Debug)]
pub struct PromptArgs {
    /// The prompt
    #[arg(short, long, value_name = "TEXT", group = "prompts")]
    prompt: Option<String>,
    /// File with the prompt, without the newline at its end; - is stdin
    #[arg(long, value_name = "FILE", group = "prompts")]
    prompt_file: Option<PathBuf>,
    /// File with the prompt's token ids, separated by blanks, commas or newlines; - is stdin
    #[arg(long, value_name = "FILE", group = "prompts")]
    ids: Option<PathBuf>,
    /// Do not put BOS before the prompt
    #[arg(long)]
    no_bos: bool,
    /// Take control tokens such as <|im_end|> in the prompt as plain text
    #[arg(long)]
    no_special: bool,
}

enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

impl PromptArgs {
    fn read(&self, escape: bool) -> Result<Prompt, Failure> {
        if let Some(path) = &self.ids {
            return Ok(Prompt::Ids(read_ids(path)?));
        }
        let text = match (&self.prompt, &self.prompt_file) {
            (Some(text), _) if escape => unescape(text),
            (Some(text), _) => text.clone(),
            (None, Some(path)) => {
                let text = read_text(path)?;
                text.strip_suffix('\n').map(str::to_string).unwrap_or(text)
            }
            (None, None) => {
                return Err(
                    Failure::new("no prompt was given").hint("give --prompt TEXT, --prompt-file FILE or --ids FILE")
                );
            }
        };
        if text.is_empty() { Err(EngineError::EmptyPrompt.into()) } else { Ok(Prompt::Text(text)) }
    }

    /// Ids and text of the prompt.
    fn encode(&self, prompt: Prompt, model: &Model, special: bool) -> Result<(Vec<u32>, String), Failure> {
        match prompt {
            Prompt::Ids(ids) => {
                let options = DecodeOptions { special, ..DecodeOptions::default() };
                let text = match model.tokenizer() {
                    Ok(tokenizer) => tokenizer.decode(&ids, options).unwrap_or_default(),
                    Err(_) => String::new(),
                };
                Ok((ids, text))
            }
            Prompt::Text(text) => {
                let add_bos = if self.no_bos { Some(false) } else { None };
                let options = EncodeOptions { add_bos, add_eos: Some(false), parse_special: !self.no_special };
                let ids = model.tokenizer()?.encode(&text, options).map_err(Failure::new)?;
                Ok((ids, text))
            }
        }
    }
}

/// Runs it.
pub fn run(args: GenerateArgs) -> Result<(), Failure> {
    let prompt = args.prompt.read(args.escape)?;
    let sampler = Sampler::new(args.sampling.options()).map_err(bad_option)?;
    let cancel = interrupt::install();
    let options = args.session.options(args.session.ctx, &cancel);
    let open = if args.quiet { ModelArgs::open_quietly } else { ModelArgs::open };
    let model = open(&args.model, options.clone())?;
    let (ids, text) = args.prompt.encode(prompt, &model, args.special)?;
    let mut session = Session::new(&model, &options)?;
    if session.context() > model.config().n_ctx_train && !args.quiet {
        warn(&format!(
            "the context of {} is longer than the model was trained with, {}",
            session.context(),
            model.config().n_ctx_train
        ));
    }
    let mut writer = Writer::new(&args, text)?;
    let seed = sampler.options().seed;
    let summary = match generate(&args, &mut session, &ids, sampler, &mut writer) {
        // What was generated stays.
        Err(failure) => return writer.finish().and(Err(failure)),
        Ok(summary) => summary,
    };
    let finish = summary.finish;
    if args.json {
        let text = to_json(&report(&model, &writer, &summary, seed))?;
        writer.out.line(text)?;
        writer.out.finish()?;
    } else {
        writer.finish()?;
        if !args.quiet {
            eprintln!("{}", describe(&summary, &model));
        }
    }
    if finish == Some(FinishReason::Cancelled) {
        Err(Failure::Interrupted("while tokens were generated"))
    } else {
        Ok(())
    }
}

/// With `\n`, `\t` and `\\` replaced; other backslashes stay.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('\\') => out.push('\\'),
            other => {
                out.push('\\');
                out.extend(other);
            }
        }
    }
    out
}

fn bad_option(error: SamplerError) -> Failure {
    Failure::new(error).hint("see `rocmforge generate --help`")
}

fn generate(
    args: &GenerateArgs,
    session: &mut Session,
    ids: &[u32],
    sampler: Sampler,
    writer: &mut Writer,
) -> Result<Summary, Failure> {
    let options = GenerateOptions {
        max_tokens: usize::try_from(args.predict).ok(),
        stop: args.stop.iter().map(|stop| if args.escape { unescape(stop) } else { stop.clone() }).collect(),
        ignore_end: args.ignore_eos,
        special: args.special,
    };
    let bar = progress::tokens("prompt");
    let started = Generator::start(session, ids, sampler, options, &mut |done, total| {
        progress::set(&bar, done as u64, total as u64);
    });
    bar.finish_and_clear();
    let mut generator = started.map_err(|error| match error {
        EngineError::Cancelled => Failure::Interrupted("while the prompt was evaluated"),
        EngineError::ContextFull { needed, context } => Failure::new(format!(
            "the prompt of {needed} tokens does not fit into the context of {context}"
        ))
        .hint(format!(
            "give a shorter prompt, or a larger context: --ctx {}",
            needed.saturating_add(ids.len().min(256))
        )),
        error => error.into(),
    })?;
    for piece in &mut generator {
        let piece = piece?;
        writer.push(piece.id, &piece.text)?;
    }
    Ok(generator.summary().clone())
}

/// Writes text as it comes, or collects it for JSON.
struct Writer {
    out: Output,
    stream: bool,
    prompt: String,
    text: String,
    ids: Vec<u32>,
    /// Whether the last character written was a newline.
    at_line_start: bool,
}

impl Writer {
    fn new(args: &GenerateArgs, prompt: String) -> Result<Writer, Failure> {
        let (out, stream) = (Output::stdout(), !args.json);
        let mut writer = Writer { out, stream, prompt, text: String::new(), ids: Vec::new(), at_line_start: true };
        if stream && !args.no_echo {
            let echo = std::mem::take(&mut writer.prompt);
            writer.show(&echo)?;
            writer.prompt = echo;
        }
        Ok(writer)
    }

    fn push(&mut self, id: Option<u32>, text: &str) -> Result<(), Failure> {
        self.ids.extend(id);
        self.text.push_str(text);
        if self.stream { self.show(text) } else { Ok(()) }
    }

    fn show(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        self.at_line_start = text.ends_with('\n');
        self.out.write(text.as_bytes())?;
        self.out.flush()
    }

    /// Ends the last line on a terminal. Elsewhere the output is the text and nothing else.
    fn finish(&mut self) -> Result<(), Failure> {
        if self.stream && !self.at_line_start && std::io::stdout().is_terminal() {
            self.show("\n")?;
        }
        self.out.flush()
    }
}

/// One line for people.
fn describe(summary: &Summary, model: &Model) -> String {
    let first = summary.time_to_first_token.map(|t| format!(", the first after {:.1} ms", t.as_secs_f64() * 1e3));
    let reason = match (summary.finish, &summary.stop) {
        (Some(FinishReason::Stop), Some(stop)) => format!("stop string {stop:?}"),
        (Some(FinishReason::EndOfGeneration), _) => "the model ended the text".to_string(),
        (Some(FinishReason::Length), _) => "as many tokens as asked for".to_string(),
        (Some(FinishReason::ContextFull), _) => "the context is full (--ctx gives more)".to_string(),
        (reason, _) => reason.map_or("", FinishReason::name).to_string(),
    };
    let runs_on = match model.threads() {
        0 => model.device(),
        n => format!("{n} threads"),
    };
    format!(
        "[loaded in {:.2} s; prompt {} tokens, {:.1} tokens/s; generated {} tokens{}, {:.1} tokens/s; {runs_on}; end: {reason}]",
        model.load_times().total().as_secs_f64(),
        summary.prompt_tokens,
        summary.prompt_speed(),
        summary.generated_tokens,
        first.unwrap_or_default(),
        summary.decode_speed(),
    )
}

#[derive(Serialize)]
struct Report<'a> {
    prompt: &'a str,
    text: &'a str,
    full: String,
    ids: &'a [u32],
    prompt_tokens: usize,
    generated_tokens: usize,
    finish_reason: &'static str,
    stop: Option<&'a str>,
    seed: u64,
    load_seconds: f64,
    prompt_seconds: f64,
    prompt_tokens_per_second: f64,
    decode_seconds: f64,
    decode_tokens_per_second: f64,
    time_to_first_token_seconds: Option<f64>,
    model: &'a str,
    architecture: &'a str,
    device: String,
    threads: usize,
}

fn report<'a>(model: &'a Model, writer: &'a Writer, summary: &'a Summary, seed: u64) -> Report<'a> {
    Report {
        prompt: &writer.prompt,
        text: &writer.text,
        full: format!("{}{}", writer.prompt, writer.text),
        ids: &writer.ids,
        prompt_tokens: summary.prompt_tokens,
        generated_tokens: summary.generated_tokens,
        finish_reason: summary.finish.map_or("", FinishReason::name),
        stop: summary.stop.as_deref(),
        seed,
        load_seconds: model.load_times().total().as_secs_f64(),
        prompt_seconds: summary.prompt_time.as_secs_f64(),
        prompt_tokens_per_second: summary.prompt_speed(),
        decode_seconds: summary.decode_time.as_secs_f64(),
        decode_tokens_per_second: summary.decode_speed(),
        time_to_first_token_seconds: summary.time_to_first_token.map(|t| t.as_secs_f64()),
        model: &model.config().name,
        architecture: &model.config().architecture,
        device: model.device(),
        threads: model.threads(),
    }
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn escapes() {
        assert_eq!(unescape(r"a\nb\tc\\n\q\"), "a\nb\tc\\n\\q\\");
    }
}
