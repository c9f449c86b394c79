//! A model in an application: open it, stream text, cancel from another thread, tell errors apart.
//!
//! `cargo run --release --example embed -- [model.gguf] [prompt]`; without a file it takes the bundled model.

use rocmforge::engine::{
    Cancel, EngineError, FinishReason, GenerateOptions, Generator, LoadOptions, Model, Sampler, SamplerOptions,
    Session, SessionOptions,
};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (path, prompt) = (args.next(), args.next().unwrap_or("Once upon a time".to_string()));
    match run(path.as_deref(), &prompt) {
        Ok(()) => ExitCode::SUCCESS,
        // Errors are enums: an application can react to those that it has an answer for.
        Err(EngineError::ContextFull { needed, context }) => {
            eprintln!("shorten the prompt: it has {needed} tokens, the session holds {context}");
            ExitCode::FAILURE
        }
        Err(EngineError::Cancelled) => {
            eprintln!("cancelled before the first token");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: Option<&str>, prompt: &str) -> Result<(), EngineError> {
    let model = open(path)?;

    // A flag that any thread or signal handler may set. It stops a running prefill as well as the decode loop.
    let cancel = Cancel::default();
    let options = SessionOptions { context: 512, cancel: cancel.clone(), ..SessionOptions::default() };
    let mut session = Session::new(&model, &options)?;
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(5));
        cancel.cancel();
    });

    let ids = model.tokenizer()?.encode(prompt, Default::default())?;
    let sampler = Sampler::new(SamplerOptions { seed: 42, ..SamplerOptions::default() })?;
    let options = GenerateOptions { max_tokens: Some(200), stop: vec!["\n\n".to_string()], ..Default::default() };
    let mut generator = Generator::start(&mut session, &ids, sampler, options, &mut |done, total| {
        eprintln!("prefill: {done} of {total} tokens");
    })?;
    print!("{prompt}");
    for piece in &mut generator {
        print!("{}", piece?.text); // never half a character, never a stop string
        let _ = std::io::stdout().flush();
    }
    println!();

    let summary = generator.summary();
    match summary.finish {
        Some(FinishReason::Cancelled) => eprintln!("cancelled after {} tokens", summary.generated_tokens),
        reason => eprintln!("{} tokens, {:.0} a second, {reason:?}", summary.generated_tokens, summary.decode_speed()),
    }
    // The session keeps its cache: another `Generator::start` goes on from here, `truncate` goes back.
    eprintln!("{} of {} positions are filled", session.position(), session.context());
    Ok(())
}

fn open(path: Option<&str>) -> Result<Model, EngineError> {
    let (options, progress) = (LoadOptions::default(), &mut |_| true); // `false` would cancel loading
    match path {
        Some(path) => Model::open(path, &options, progress),
        #[cfg(feature = "bundled-model")]
        None => Model::from_gguf(rocmforge::models::bundled::open()?, &options, progress),
        #[cfg(not(feature = "bundled-model"))]
        None => Err(EngineError::Option { name: "model", reason: "name a GGUF file".to_string() }),
    }
}
