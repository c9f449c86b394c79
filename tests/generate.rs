//! [`Generator`] as an embedding application uses it, on a model that follows a script.

mod support;

use rocmforge::backends::WeightSource;
use rocmforge::engine::{
    Cancel, DeviceChoice, EngineError, FinishReason, GenerateOptions, Generator, LoadOptions, Model, ModelData,
    Sampler, SamplerOptions, Session, SessionOptions, Stage, Summary,
};
use rocmforge::graph::passes::PassOptions;
use rocmforge::models::gguf::{Gguf, Header};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::device::Device;
use support::scripted::{self, Scripted};

fn model(context: u32) -> Model {
    let bytes = Scripted { context, ..Scripted::default() }.bytes();
    let options = LoadOptions { device: DeviceChoice::Cpu, ..LoadOptions::default() };
    Model::from_gguf(Gguf::from_bytes(bytes).unwrap(), &options, &mut |_| true).unwrap()
}

fn greedy() -> Sampler {
    Sampler::new(SamplerOptions::greedy()).unwrap()
}

fn ids(words: &[&str]) -> Vec<u32> {
    words.iter().map(|word| scripted::id(word)).collect()
}

#[test]
fn the_callback_may_break_off() {
    let model = model(64);
    let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
    let options = GenerateOptions::default();
    let mut generator = Generator::start(&mut session, &ids(&["▁loop"]), greedy(), options, &mut |_, _| ()).unwrap();
    let mut text = String::new();
    let summary = generator.run(&mut |piece| {
        text.push_str(&piece.text);
        if text.len() >= 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(summary.unwrap().finish, Some(FinishReason::Cancelled));
    assert_eq!(text, " tick tock");
    assert!(generator.next().is_none());
}

#[test]
fn another_thread_may_cancel() {
    let model = model(1 << 16);
    let cancel = Cancel::default();
    let mut session =
        Session::new(&model, &SessionOptions { context: 1 << 16, cancel: cancel.clone(), ..SessionOptions::default() })
            .unwrap();
    let options = GenerateOptions::default();
    let mut generator = Generator::start(&mut session, &ids(&["▁loop"]), greedy(), options, &mut |_, _| ()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            cancel.cancel();
        });
        assert!(generator.by_ref().all(|piece| piece.is_ok()));
    });
    let summary = generator.summary().clone();
    assert_eq!(summary.finish, Some(FinishReason::Cancelled));
    assert!(summary.generated_tokens > 0);
    // The session is as it was before the step that was cancelled, and goes on.
    cancel.reset();
    assert_eq!(session.position(), summary.generated_tokens);
    let next = session.decode(scripted::id("▁Count")).unwrap();
    assert_eq!(support::argmax(next), scripted::id("▁one") as usize);
}

#[test]
fn a_cancelled_prefill_is_an_error_that_says_so() {
    let model = model(64);
    let cancel = Cancel::default();
    cancel.cancel();
    let mut session = Session::new(&model, &SessionOptions { cancel, ..SessionOptions::default() }).unwrap();
    let started =
        Generator::start(&mut session, &ids(&["▁loop"]), greedy(), GenerateOptions::default(), &mut |_, _| ());
    assert!(matches!(started, Err(EngineError::Cancelled)));
}

#[test]
fn progress_counts_the_tokens_of_the_prompt() {
    let model = model(64);
    let mut session = Session::new(&model, &SessionOptions { chunk: 2, ..SessionOptions::default() }).unwrap();
    let mut seen = Vec::new();
    let prompt = ids(&["▁loop", "▁tick", "▁tock", "▁tick", "▁tock"]);
    Generator::start(&mut session, &prompt, greedy(), GenerateOptions::default(), &mut |done, total| {
        seen.push((done, total))
    })
    .unwrap();
    assert_eq!(seen.last(), Some(&(5, 5)));
    assert!(seen.len() >= 3 && seen.is_sorted(), "{seen:?}");
}

#[test]
fn a_session_goes_on_after_a_generation() {
    let model = model(64);
    let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
    let options = || GenerateOptions { max_tokens: Some(2), ..GenerateOptions::default() };
    let text = |session: &mut Session, prompt: &[&str]| -> String {
        let generator = Generator::start(session, &ids(prompt), greedy(), options(), &mut |_, _| ()).unwrap();
        generator.map(|piece| piece.unwrap().text).collect()
    };
    assert_eq!(text(&mut session, &["<s>", "▁Count"]), " one two");
    // The prompt, and the first of two generated tokens: the last one was never evaluated.
    assert_eq!(session.position(), 3);
    assert_eq!(text(&mut session, &["▁loop"]), " tick tock");
}

#[test]
fn sampler_errors_end_the_generation() {
    let model = model(64);
    let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
    let mut sampler = greedy();
    sampler.forbid(0..scripted::vocabulary() as u32);
    let mut generator =
        Generator::start(&mut session, &ids(&["▁loop"]), sampler, GenerateOptions::default(), &mut |_, _| ()).unwrap();
    assert!(matches!(generator.next(), Some(Err(EngineError::Sampler(_)))));
    assert!(generator.next().is_none());
    assert_eq!(generator.summary().finish, Some(FinishReason::Failed));
}

struct Bytes(Gguf);

impl WeightSource for Bytes {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.tensor(name).map(|t| self.0.data(t))
    }
}

impl ModelData for Bytes {
    fn header(&self) -> &Header {
        self.0.header()
    }
}

/// The scripted model on a device that chooses tokens itself.
fn device_model() -> (Model, Arc<Device>) {
    let device = Arc::new(Device::new(1 << 30));
    let data = Arc::new(Bytes(Gguf::from_bytes(Scripted::default().bytes()).unwrap()));
    let stage = Stage { backend: Arc::clone(&device) as _, layers: 0..1 };
    let model = Model::on_stages(data, vec![stage], None, &PassOptions::default(), &mut |_| true).unwrap();
    (model, device)
}

/// Text and counts of a generation, and the tokens in the cache after it.
fn generated(model: &Model, prompt: &[&str], options: &GenerateOptions) -> (String, Summary, usize) {
    let mut session = Session::new(model, &SessionOptions::default()).unwrap();
    let mut generator =
        Generator::start(&mut session, &ids(prompt), greedy(), options.clone(), &mut |_, _| ()).unwrap();
    let text = generator.by_ref().map(|piece| piece.unwrap().text).collect();
    let mut summary = generator.summary().clone();
    (summary.prompt_time, summary.decode_time, summary.time_to_first_token) = Default::default();
    summary.decoded_tokens = 0; // those behind a stop count as well
    (text, summary, session.position())
}

#[test]
fn tokens_chosen_on_the_device_are_those_chosen_by_the_host() {
    let (there, device) = device_model();
    let here = model(64);
    let stop = |text: &str| GenerateOptions { stop: vec![text.to_string()], ..GenerateOptions::default() };
    let most = |n| GenerateOptions { max_tokens: Some(n), ..GenerateOptions::default() };
    let cases = [
        (&["<s>", "▁Count"][..], GenerateOptions::default()),
        (&["<s>", "▁say"], GenerateOptions::default()),
        (&["▁loop"], GenerateOptions::default()), // to the end of the context
        (&["▁loop"], stop("tock tick tock tick")),
        (&["▁loop"], most(1)),
        (&["▁loop"], most(9)),
        (&["<s>", "▁Count"], GenerateOptions { ignore_end: true, ..most(7) }),
    ];
    for (prompt, options) in cases {
        assert_eq!(generated(&there, prompt, &options), generated(&here, prompt, &options), "{prompt:?} {options:?}");
    }
    assert!(device.runs.load(Ordering::Relaxed) > 0);
    // Runs grow longer than one token.
    device.runs.store(0, Ordering::Relaxed);
    let (_, summary, _) = generated(&there, &["▁loop"], &most(60));
    assert!(device.runs.load(Ordering::Relaxed) < summary.generated_tokens / 2);
}

#[test]
fn a_generator_that_is_dropped_leaves_what_was_handed_out() {
    let (model, _) = device_model();
    let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
    let options = GenerateOptions::default;
    for taken in [1, 2, 6, 11] {
        session.truncate(0);
        let generator = Generator::start(&mut session, &ids(&["▁loop"]), greedy(), options(), &mut |_, _| ()).unwrap();
        assert_eq!(generator.take(taken).count(), taken);
        // The prompt and all but the last of them.
        assert_eq!(session.position(), taken);
    }
    // What a device cannot sample is sampled by the host.
    let sampler = Sampler::new(SamplerOptions { temperature: 1e-3, ..SamplerOptions::default() }).unwrap();
    session.truncate(0);
    let generator = Generator::start(&mut session, &ids(&["▁loop"]), sampler, options(), &mut |_, _| ()).unwrap();
    assert_eq!(generator.take(3).map(|piece| piece.unwrap().text).collect::<String>(), " tick tock tick");
    assert_eq!(session.position(), 3);
}
