//! [`Generator`]: the decode loop. Evaluates a prompt and hands out text as it comes.

use super::stop::StopStrings;
use super::{EngineError, Model, Sampler, Session};
use crate::text::{DecodeOptions, StreamDecoder, Tokenizer};
use std::collections::VecDeque;
use std::ops::{ControlFlow, Deref};
use std::time::{Duration, Instant};

/// When to stop.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerateOptions {
    /// Tokens to generate at most; `None` goes on to the end of the text or of the context.
    pub max_tokens: Option<usize>,
    /// Strings that end the text. They are not part of it.
    pub stop: Vec<String>,
    /// Never generate a token that ends the text.
    pub ignore_end: bool,
    /// Render control tokens as their text, instead of as nothing.
    pub special: bool,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// One of the stop strings came.
    Stop,
    /// The model ended the text.
    EndOfGeneration,
    /// There are as many tokens as were asked for.
    Length,
    /// The context holds no further token.
    ContextFull,
    /// It was [cancelled](super::Cancel), or the callback broke off.
    Cancelled,
    /// An error ended it.
    Failed,
}

impl FinishReason {
    /// A word for programs: `stop`, `end_of_generation`, `length`, `context_full`, `cancelled`, `failed`.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::EndOfGeneration => "end_of_generation",
            FinishReason::Length => "length",
            FinishReason::ContextFull => "context_full",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Failed => "failed",
        }
    }
}

/// What one step brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The generated token; `None` for the text that is left when the generation has ended without another token.
    pub id: Option<u32>,
    /// The text that is complete and certain now, often that of earlier tokens, possibly none.
    pub text: String,
}

/// Counts and times of a generation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Why it ended; `None` while it goes on.
    pub finish: Option<FinishReason>,
    /// The stop string that ended it.
    pub stop: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Generated tokens, without one that ended the text.
    pub generated_tokens: usize,
    /// Time to evaluate the prompt.
    pub prompt_time: Duration,
    /// Tokens that were evaluated after the prompt: usually one less than generated.
    pub decoded_tokens: usize,
    /// Time to evaluate and choose them.
    pub decode_time: Duration,
    /// Time from the start to the first token; `None` if there is none.
    pub time_to_first_token: Option<Duration>,
}

impl Summary {
    /// Prompt tokens a second.
    pub fn prompt_speed(&self) -> f64 {
        speed(self.prompt_tokens, self.prompt_time)
    }

    /// Tokens a second after the prompt.
    pub fn decode_speed(&self) -> f64 {
        speed(self.decoded_tokens, self.decode_time)
    }
}

fn speed(tokens: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
}

/// A model that has been seen to have a tokenizer.
#[derive(Clone, Debug)]
struct ModelTokenizer(Model);

impl Deref for ModelTokenizer {
    type Target = Tokenizer;

    fn deref(&self) -> &Tokenizer {
        self.0.tokenizer().expect("checked when this was made")
    }
}

/// An iterator over the pieces of a generated text. It never splits a character and never gives out a stop string.
///
/// ```no_run
/// # use rocmforge::engine::*;
/// # fn f(model: &Model) -> Result<(), EngineError> {
/// let ids = model.tokenizer()?.encode("Once upon a time", Default::default())?;
/// let mut session = Session::new(model, &SessionOptions::default())?;
/// let sampler = Sampler::new(SamplerOptions::greedy())?;
/// let options = GenerateOptions { max_tokens: Some(100), ..Default::default() };
/// let mut generator = Generator::start(&mut session, &ids, sampler, options, &mut |_, _| ())?;
/// for piece in &mut generator {
///     print!("{}", piece?.text);
/// }
/// println!("[{:?}]", generator.summary().finish);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Generator<'s> {
    session: &'s mut Session,
    sampler: Sampler,
    decoder: Option<StreamDecoder<ModelTokenizer>>,
    stops: StopStrings,
    max_tokens: Option<usize>,
    started: Instant,
    /// The last generated token, which is not in the cache yet.
    pending: Option<u32>,
    ahead: Ahead,
    summary: Summary,
}

/// Tokens that a device chose without the host in between, and that were not handed out yet.
#[derive(Debug)]
struct Ahead {
    tokens: VecDeque<u32>,
    /// What ended the run after them.
    error: Option<EngineError>,
    /// Tokens of the next run; 0 if nothing can run ahead.
    run: usize,
}

/// A run of a device takes about this long: text should come steadily, and what comes after a stop is wasted.
const RUN_TIME: Duration = Duration::from_millis(20);
/// The most tokens of a run.
const LONGEST_RUN: usize = 64;

impl<'s> Generator<'s> {
    /// Evaluates the prompt after what the session holds already. `progress` gets tokens done and tokens in all.
    ///
    /// A model without a tokenizer generates tokens without text.
    ///
    /// # Errors
    /// Those of [`Session::prefill`], [`EngineError::Cancelled`] among them; stop strings for a model without a tokenizer.
    pub fn start(
        session: &'s mut Session,
        ids: &[u32],
        mut sampler: Sampler,
        options: GenerateOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Generator<'s>, EngineError> {
        let started = Instant::now();
        let model = session.model().clone();
        if options.ignore_end
            && let Ok(tokenizer) = model.tokenizer()
        {
            sampler.forbid(tokenizer.end_of_generation().iter().copied());
        }
        let decode = DecodeOptions { special: options.special, continuation: true, ..DecodeOptions::default() };
        let decoder = match model.tokenizer() {
            Ok(_) => Some(StreamDecoder::new(ModelTokenizer(model), decode)),
            Err(error) if !options.stop.is_empty() => return Err(error),
            Err(_) => None,
        };
        session.prefill(ids, progress)?;
        ids.iter().for_each(|&id| sampler.accept(id));
        let summary = Summary { prompt_tokens: ids.len(), prompt_time: started.elapsed(), ..Summary::default() };
        Ok(Generator {
            session,
            sampler,
            decoder,
            stops: StopStrings::new(options.stop),
            max_tokens: options.max_tokens,
            started,
            pending: None,
            ahead: Ahead { tokens: VecDeque::new(), error: None, run: 1 },
            summary,
        })
    }

    /// Counts and times so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Runs to the end; `each` gets every piece and may break off.
    ///
    /// # Errors
    /// Those of [`Session::decode`] and [`Sampler::sample`]. Cancelling is no error here.
    pub fn run(&mut self, each: &mut dyn FnMut(&Piece) -> ControlFlow<()>) -> Result<&Summary, EngineError> {
        while let Some(piece) = self.next() {
            if each(&piece?).is_break() {
                self.summary.finish.get_or_insert(FinishReason::Cancelled);
                break;
            }
        }
        Ok(&self.summary)
    }

    fn step(&mut self) -> Result<Option<Piece>, EngineError> {
        if self.max_tokens.is_some_and(|max| self.summary.generated_tokens >= max) {
            return Ok(self.end(FinishReason::Length));
        }
        let id = match self.choose() {
            Ok(id) => id,
            Err(EngineError::Cancelled) => return Ok(self.end(FinishReason::Cancelled)),
            Err(error) => return Err(error),
        };
        if self.decoder.as_ref().is_some_and(|_| self.ends_generation(id)) {
            return Ok(self.end(FinishReason::EndOfGeneration));
        }
        self.summary.generated_tokens += 1;
        self.sampler.accept(id);
        self.pending = Some(id);
        let text = match &mut self.decoder {
            Some(decoder) => decoder.push(id)?,
            None => String::new(),
        };
        let mut text = self.stops.push(&text);
        let finish = if self.stops.found().is_some() {
            Some(FinishReason::Stop)
        } else if self.max_tokens.is_some_and(|max| self.summary.generated_tokens >= max) {
            Some(FinishReason::Length)
        } else if self.session.position() >= self.session.context() {
            Some(FinishReason::ContextFull)
        } else {
            None
        };
        if let Some(reason) = finish {
            text.push_str(&self.finish_text(reason));
        }
        Ok(Some(Piece { id: Some(id), text }))
    }

    /// The next token: evaluates the last one, unless the logits are those of the prompt.
    fn choose(&mut self) -> Result<u32, EngineError> {
        let Some(last) = self.pending else {
            let id = self.sampler.sample(self.session.logits())?;
            self.summary.time_to_first_token = Some(self.started.elapsed());
            return Ok(id);
        };
        if self.ahead.tokens.is_empty() {
            match self.ahead.error.take() {
                Some(error) => return Err(error),
                None => self.run_ahead(last),
            }
        }
        if let Some(id) = self.ahead.tokens.pop_front() {
            self.sampler.skip(1);
            self.session.keep(1);
            return Ok(id);
        }
        if let Some(error) = self.ahead.error.take() {
            return Err(error);
        }
        let before = Instant::now();
        let id = self.sampler.sample(self.session.decode(last)?)?;
        self.summary.decoded_tokens += 1;
        self.summary.decode_time += before.elapsed();
        Ok(id)
    }

    /// Lets the device evaluate `last` and what it chooses after it. If it cannot, no token is ahead afterwards.
    fn run_ahead(&mut self, last: u32) {
        let left = self.max_tokens.map_or(usize::MAX, |max| max - self.summary.generated_tokens);
        let room = self.session.context().saturating_sub(self.session.position());
        let count = self.ahead.run.min(left).min(room);
        let model = self.session.model().clone();
        let Some(choice) = self.sampler.for_device(count, model.config().n_vocab).filter(|_| count > 0) else {
            self.ahead.run = 0;
            return;
        };
        let tokenizer = self.decoder.as_ref().and_then(|_| model.tokenizer().ok());
        let before = Instant::now();
        let tokens = &mut self.ahead.tokens;
        let outcome = self.session.decode_many(last, count, choice.sampling(self.sampler.options()), &mut |id| {
            tokens.push_back(id);
            !tokenizer.is_some_and(|tokenizer| tokenizer.is_end_of_generation(id))
        });
        let Some(outcome) = outcome else {
            self.ahead.run = 0;
            return;
        };
        let time = before.elapsed();
        // The session counts a token when it is handed out: whoever stops before finds the cache as it should be.
        self.session.truncate(self.session.position() - tokens.len());
        self.summary.decoded_tokens += tokens.len();
        self.summary.decode_time += time;
        match outcome {
            Ok(0) => self.ahead.error = Some(EngineError::Cancelled),
            Ok(_) if time < RUN_TIME => self.ahead.run = (self.ahead.run * 2).min(LONGEST_RUN),
            Ok(_) if time > 2 * RUN_TIME => self.ahead.run = (self.ahead.run / 2).max(1),
            Ok(_) => {}
            Err(error) => self.ahead.error = Some(error),
        }
    }

    fn ends_generation(&self, id: u32) -> bool {
        self.session.model().tokenizer().is_ok_and(|tokenizer| tokenizer.is_end_of_generation(id))
    }

    /// Ends without another token.
    fn end(&mut self, reason: FinishReason) -> Option<Piece> {
        let text = self.finish_text(reason);
        if text.is_empty() { None } else { Some(Piece { id: None, text }) }
    }

    /// Sets the reason and returns the text that is left.
    fn finish_text(&mut self, reason: FinishReason) -> String {
        let rest = self.decoder.as_mut().map(StreamDecoder::finish).unwrap_or_default();
        let mut text = self.stops.push(&rest);
        text.push_str(&self.stops.finish());
        let reason = if self.stops.found().is_some() { FinishReason::Stop } else { reason };
        self.summary.finish = Some(reason);
        self.summary.stop = self.stops.found().map(str::to_string);
        text
    }
}

impl Iterator for Generator<'_> {
    type Item = Result<Piece, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.summary.finish.is_some() {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.summary.finish = Some(FinishReason::Failed);
        }
        step.transpose()
    }
}
