//! The bundled model answers questions whose answers are known: a runtime that computes something else says something else.
//!
//! Each row of the table is one backend and one file. Every row answers the held-out questions of `assets/demo-tasks.tsv`,
//! greedily, by the way that `rocmforge generate` takes: all 487 in a release build. A debug build, which is ten times slower,
//! asks 200 of a shipped file and 100 of others, spread over the table.

use rocmforge::engine::{
    DeviceChoice, FinishReason, GenerateOptions, Generator, LoadOptions, Model, Sampler, SamplerOptions, Session,
    SessionOptions,
};
use rocmforge::models::gguf::Gguf;
use rocmforge::models::quantize::{Quantization, QuantizeOptions, QuantizePlan, quantize_file};
use rocmforge::text::EncodeOptions;
use std::path::{Path, PathBuf};

/// What runs the model.
#[derive(Clone, Copy, Debug)]
enum Backend {
    Cpu,
}

impl Backend {
    fn options(self) -> LoadOptions {
        match self {
            // The rows run at the same time, so each takes one thread.
            Backend::Cpu => LoadOptions { device: DeviceChoice::Cpu, threads: 1, ..LoadOptions::default() },
        }
    }
}

/// Where the weights come from.
#[derive(Clone, Copy, Debug)]
enum File {
    /// A file in `assets/`.
    Shipped(&'static str),
    /// The F16 file, quantized by us.
    Quantized(&'static str),
}

macro_rules! rows {
    ($($name:ident: $backend:expr, $file:expr, $share:expr;)*) => { $(
        #[test]
        fn $name() {
            answers($backend, $file, $share);
        }
    )* };
}

// Name: backend, file, the share of right answers that it must reach.
rows! {
    cpu_f16:          Backend::Cpu, File::Shipped("rocmforge-demo-f16.gguf"),  0.99;
    cpu_q8_0_shipped: Backend::Cpu, File::Shipped("rocmforge-demo-q8_0.gguf"), 0.99;
    cpu_q8_0:         Backend::Cpu, File::Quantized("Q8_0"),                   0.99;
    cpu_q6_k:         Backend::Cpu, File::Quantized("Q6_K"),                   0.99;
    cpu_q5_k_m:       Backend::Cpu, File::Quantized("Q5_K_M"),                 0.99;
    cpu_q4_k_m:       Backend::Cpu, File::Quantized("Q4_K_M"),                 0.97;
    cpu_q4_0:         Backend::Cpu, File::Quantized("Q4_0"),                   0.97;
}

/// A question of the table.
struct Task {
    kind: String,
    prompt: String,
    expected: String,
}

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(name)
}

/// All questions. Fields are not trimmed: answers begin with a blank where the prompt does not end with a newline.
fn tasks() -> Vec<Task> {
    let table = std::fs::read_to_string(asset("demo-tasks.tsv")).unwrap();
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("task\tprompt\texpected"));
    let task = |line: &str| {
        let [kind, prompt, expected] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        Task { kind: kind.into(), prompt: prompt.replace("\\n", "\n"), expected: expected.into() }
    };
    let tasks: Vec<Task> = lines.map(task).collect();
    assert_eq!(tasks.len(), 487);
    tasks
}

/// The questions that a row answers.
fn asked(file: File) -> Vec<Task> {
    let all = tasks();
    let number = match file {
        _ if !cfg!(debug_assertions) => all.len(),
        File::Shipped(_) => 200,
        File::Quantized(_) => 100,
    };
    let total = all.len();
    // The table is sorted by kind, so this has all of them.
    let chosen = |index: usize| (index + 1) * number / total > index * number / total;
    all.into_iter().enumerate().filter(|(index, _)| chosen(*index)).map(|(_, task)| task).collect()
}

/// The greedy continuation, and whether the model ended it.
fn answer(session: &mut Session, prompt: &str) -> (String, bool) {
    session.truncate(0);
    let options = EncodeOptions { add_eos: Some(false), ..EncodeOptions::default() };
    let ids = session.model().tokenizer().unwrap().encode(prompt, options).unwrap();
    let sampler = Sampler::new(SamplerOptions::greedy()).unwrap();
    let options = GenerateOptions { max_tokens: Some(64), ..GenerateOptions::default() };
    let mut generator = Generator::start(session, &ids, sampler, options, &mut |_, _| ()).unwrap();
    let mut text = String::new();
    for piece in &mut generator {
        text.push_str(&piece.unwrap().text);
    }
    (text, generator.summary().finish == Some(FinishReason::EndOfGeneration))
}

fn open(backend: Backend, file: File) -> Model {
    match file {
        File::Shipped(name) => Model::open(asset(name), &backend.options(), &mut |_| true).unwrap(),
        File::Quantized(name) => {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("demo.gguf");
            let source = Gguf::open(asset("rocmforge-demo-f16.gguf")).unwrap();
            let options = QuantizeOptions::new(Quantization::from_name(name).unwrap());
            let plan = QuantizePlan::new(source.header(), options).unwrap();
            quantize_file(&source, &plan, 1, &path, &mut |_, _| true).unwrap();
            // The map of the file outlives its name.
            Model::open(&path, &backend.options(), &mut |_| true).unwrap()
        }
    }
}

/// At least `share` of the questions are answered right, the end included.
fn answers(backend: Backend, file: File, share: f64) {
    let model = open(backend, file);
    let mut session = Session::new(&model, &SessionOptions { context: 256, ..SessionOptions::default() }).unwrap();
    let tasks = asked(file);
    let mut wrong = Vec::new();
    for task in &tasks {
        let (text, ended) = answer(&mut session, &task.prompt);
        if !ended || text != task.expected {
            wrong.push(format!("{}: {:?} gives {text:?}, not {:?}", task.kind, task.prompt, task.expected));
        }
    }
    let right = (tasks.len() - wrong.len()) as f64 / tasks.len() as f64;
    println!("{backend:?} {file:?}: {:.2} % of {} right", 100.0 * right, tasks.len());
    assert!(right >= share, "{right} of the answers are right, {share} are wanted:\n{}", wrong.join("\n"));
}

/// The program itself, without `--model`.
#[cfg(all(feature = "cli", feature = "bundled-model"))]
mod program {
    use super::tasks;
    use std::process::{Command, Stdio};

    /// Runs `rocmforge generate ARGS`; stdout and stderr.
    fn generate(args: &[&str]) -> (String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rocmforge"));
        let output = command.arg("generate").args(args).stdin(Stdio::null()).output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{stderr}");
        (stdout, stderr)
    }

    #[test]
    fn one_question_of_each_kind() {
        let mut asked = Vec::new();
        for task in tasks() {
            if asked.contains(&task.kind) {
                continue;
            }
            let (text, stderr) = generate(&["--temp", "0", "-n", "64", "--no-echo", "--prompt", &task.prompt]);
            assert_eq!(text, task.expected, "{}: {:?}", task.kind, task.prompt);
            assert!(stderr.contains("the model ended the text"), "{stderr}");
            asked.push(task.kind);
        }
        assert_eq!(asked.len(), 15, "{asked:?}");
    }

    #[test]
    fn a_story_ends_by_itself() {
        for prompt in ["Once upon a time", "Tell me a story about a fox."] {
            let (text, stderr) = generate(&["--temp", "0", "-n", "-1", "--prompt", prompt]);
            assert!(text.starts_with(prompt) && stderr.contains("the model ended the text"), "{stderr}");
            let sentences = text.matches(['.', '!', '?']).count();
            assert!(sentences >= 4 && text.trim_end().ends_with(['.', '!', '?', '"']), "{text}");
            assert!(text.is_ascii() && text.split_whitespace().count() >= 40, "{text}");
        }
    }

    #[test]
    fn one_line_says_that_the_model_is_the_bundled_one() {
        let (text, stderr) = generate(&["--temp", "0", "--prompt", "2+52="]);
        assert_eq!(text, "2+52= 54");
        let lines: Vec<&str> = stderr.lines().filter(|line| line.contains("bundled")).collect();
        let [line] = lines[..] else { panic!("{stderr}") };
        assert!(line.starts_with("note: ") && line.contains("--model"), "{line}");
        assert_eq!(generate(&["--temp", "0", "--quiet", "--prompt", "2+52="]).1, "");
    }
}

/// The program that was built without the model.
#[cfg(all(feature = "cli", not(feature = "bundled-model")))]
#[test]
fn a_missing_model_is_an_error_that_says_so() {
    // Not graph-dump: without a model it reads a graph's text from stdin.
    for command in [&["generate", "--prompt", "x"][..], &["tokenize", "--text", "x"], &["verify"], &["inspect"]] {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_rocmforge"));
        let output = program.args(command).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("without the bundled one") && stderr.contains("hint: "), "{stderr}");
    }
}
