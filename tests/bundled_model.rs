//! The bundled model answers its held-out questions, word for word, on every backend and in every quantization of a table.
//! A wrong runtime shows in what the model says.

use rocmforge::engine::{
    FinishReason, GenerateOptions, Generator, LoadOptions, Model, Sampler, SamplerOptions, Session, SessionOptions,
};
use rocmforge::models::gguf::{Gguf, Writer};
use rocmforge::tensor::DType;
use rocmforge::tensor::quant::{dequantize_row, quantize_row};
use rocmforge::text::EncodeOptions;
use std::path::PathBuf;

/// What runs, the type of the matrices, and the share of answers that must be right.
const ROWS: &[(Backend, Weights, f64)] = &[
    (Backend::Cpu, Weights::Shipped, 0.99),
    (Backend::Cpu, Weights::Made(DType::F16), 0.99),
    (Backend::Cpu, Weights::Made(DType::Q4_0), 0.97),
    (Backend::Cpu, Weights::Made(DType::Q4K), 0.97),
];

#[derive(Clone, Copy, Debug)]
enum Backend {
    Cpu,
}

#[derive(Clone, Copy, Debug)]
enum Weights {
    /// The Q8_0 file as it is.
    Shipped,
    /// The F16 file with its matrices in this type.
    Made(DType),
}

impl Weights {
    fn gguf(self) -> Gguf {
        match self {
            Weights::Shipped => Gguf::open(asset("rocmforge-demo-q8_0.gguf")).unwrap(),
            Weights::Made(dtype) => converted(&Gguf::open(asset("rocmforge-demo-f16.gguf")).unwrap(), dtype),
        }
    }
}

fn asset(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets").join(name)
}

/// The file with its matrices in another type.
fn converted(gguf: &Gguf, dtype: DType) -> Gguf {
    let mut writer = Writer::with_metadata(gguf.metadata()).unwrap();
    let is_matrix = |shape: &[u64]| shape.len() == 2;
    for tensor in gguf.tensors() {
        let to = if is_matrix(&tensor.shape) { dtype } else { tensor.dtype };
        writer.tensor(&tensor.name, to, &tensor.shape).unwrap();
    }
    let mut out = writer.start(Vec::new()).unwrap();
    for tensor in gguf.tensors() {
        let data = gguf.data(tensor);
        if !is_matrix(&tensor.shape) || tensor.dtype == dtype {
            out.write(data).unwrap();
            continue;
        }
        let mut values = vec![0.0; tensor.elements() as usize];
        dequantize_row(tensor.dtype, data, &mut values).unwrap();
        let mut bytes = vec![0; values.len() / dtype.block_len() * dtype.block_bytes()];
        quantize_row(dtype, &values, &mut bytes).unwrap();
        out.write(&bytes).unwrap();
    }
    Gguf::from_bytes(out.finish().unwrap()).unwrap()
}

struct Question {
    task: String,
    prompt: String,
    expected: String,
}

/// Every second question: more than 240 over all tasks.
fn questions() -> Vec<Question> {
    let text = std::fs::read_to_string(asset("demo-tasks.tsv")).unwrap();
    let question = |line: &str| {
        let [task, prompt, expected] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        Question { task: task.into(), prompt: prompt.replace("\\n", "\n"), expected: expected.replace("\\n", "\n") }
    };
    text.lines().skip(1).step_by(2).map(question).collect()
}

/// The greedy answer up to the end that the model sets.
fn answer(session: &mut Session, prompt: &str) -> String {
    let ids = session.model().tokenizer().unwrap().encode(prompt, EncodeOptions::default()).unwrap();
    session.truncate(0);
    let sampler = Sampler::new(SamplerOptions::greedy()).unwrap();
    let options = GenerateOptions { max_tokens: Some(60), ..GenerateOptions::default() };
    let mut generator = Generator::start(session, &ids, sampler, options, &mut |_, _| ()).unwrap();
    let text: String = generator.by_ref().map(|piece| piece.unwrap().text).collect();
    match generator.summary().finish {
        Some(FinishReason::EndOfGeneration) => text,
        reason => format!("{text} [{reason:?}]"),
    }
}

fn share_right(backend: Backend, weights: Weights) -> f64 {
    let Backend::Cpu = backend;
    let model =
        Model::from_gguf(weights.gguf(), &LoadOptions { threads: 1, ..LoadOptions::default() }, &mut |_| true).unwrap();
    let mut session = Session::new(&model, &SessionOptions { context: 256, ..SessionOptions::default() }).unwrap();
    let questions = questions();
    assert!(questions.len() >= 200);
    let mut right = 0;
    for Question { task, prompt, expected } in &questions {
        let found = answer(&mut session, prompt);
        if found == *expected {
            right += 1;
        } else {
            println!("{backend:?} {weights:?} {task}: {prompt:?} gave {found:?}, expected {expected:?}");
        }
    }
    right as f64 / questions.len() as f64
}

#[test]
fn held_out_questions_are_answered() {
    // A thread a row: the models are too small for more.
    std::thread::scope(|scope| {
        for &(backend, weights, least) in ROWS {
            scope.spawn(move || {
                let share = share_right(backend, weights);
                println!("{backend:?} {weights:?}: {:.2} % right", share * 100.0);
                assert!(share >= least, "{backend:?} {weights:?}: only {:.2} % right", share * 100.0);
            });
        }
    });
}

#[cfg(all(feature = "cli", feature = "bundled-model"))]
#[test]
fn the_program_runs_it_without_a_model_file() {
    let run = |args: &[&str]| std::process::Command::new(env!("CARGO_BIN_EXE_rocmforge")).args(args).output().unwrap();
    let output = run(&["generate", "--prompt", "Q: What month comes before August?\nA:", "--temp", "0", "--no-echo"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), " July");
    assert!(String::from_utf8(output.stderr).unwrap().contains("bundled"), "it says that it is the bundled one");
    let story = run(&["generate", "--prompt", "Once upon a time", "--temp", "0", "-n", "400"]);
    let story = String::from_utf8(story.stdout).unwrap();
    assert!(
        story.starts_with("Once upon a time") && story.ends_with(['.', '"', '!']) && story.len() > 200,
        "{story:?}"
    );
}
