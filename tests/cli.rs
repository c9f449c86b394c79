//! The program `rocmforge` as scripts see it: output, messages and exit status, on a model that follows a script.
#![cfg(feature = "cli")]

mod support;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use support::scripted::{self, Scripted};

struct Fixture {
    folder: tempfile::TempDir,
    model: PathBuf,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let model = Scripted::default().write(folder.path(), "scripted.gguf");
    Fixture { folder, model }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Runs `rocmforge COMMAND --model scripted.gguf ARGS`; what runs the model is the CPU unless `args` name a device.
    fn run(&self, command: &str, args: &[&str]) -> Output {
        let runs = ["generate", "logits", "perplexity", "bench"].contains(&command) && !args.contains(&"--device");
        let device = if runs { &["--device", "cpu"][..] } else { &[] };
        rocmforge(&[&[command, "--model", text(&self.model)], device, args].concat())
    }

    fn generate(&self, args: &[&str]) -> Output {
        self.run("generate", &[&["--temp", "0"], args].concat())
    }

    fn generate_json(&self, args: &[&str]) -> serde_json::Value {
        json(&self.generate(&[args, &["--json"]].concat()))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rocmforge"));
    command.args(args).stdin(Stdio::null());
    command
}

fn rocmforge(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn rocmforge_with_input(args: &[&str], input: &[u8]) -> Output {
    let mut child = command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The text on stdout of a run that went well.
#[track_caller]
fn good(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&good(output)).unwrap()
}

/// A failed run says one line with these words, and gives a hint.
#[track_caller]
fn fails(output: &Output, words: &[&str]) {
    let stderr = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("not one error line: {stderr}") };
    for word in words {
        assert!(error.contains(word), "{error:?} lacks {word:?}");
    }
    assert!(stderr.lines().any(|line| line.starts_with("hint: ")), "no hint: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn generate_prints_the_prompt_and_what_follows() {
    let f = fixture();
    let output = f.generate(&["--prompt", "Count", "-n", "20"]);
    assert_eq!(good(&output), "Count one two three");
    assert!(stderr(&output).contains("generated 3 tokens"), "{}", stderr(&output));
    assert_eq!(good(&f.generate(&["--prompt", "Count", "-n", "2"])), "Count one two");
    assert_eq!(good(&f.generate(&["--prompt", "Count", "-n", "20", "--no-echo"])), " one two three");
    assert_eq!(good(&f.generate(&["--prompt", "Count", "-n", "0"])), "Count");
    assert_eq!(stderr(&f.generate(&["--prompt", "Count", "-n", "1", "--quiet"])), "");
}

#[test]
fn a_cache_of_blocks_needs_heads_of_whole_blocks() {
    let output = fixture().generate(&["--prompt", "Count", "--kv-type", "q8_0"]);
    fails(&output, &["KV cache of q8_0", "multiple of 32", "have 8", "f16"]);
}

#[test]
fn generate_json_has_text_and_counts() {
    let f = fixture();
    let report = f.generate_json(&["--prompt", "Count", "--seed", "5", "-t", "1"]);
    assert_eq!(report["prompt"], "Count");
    assert_eq!(report["text"], " one two three");
    assert_eq!(report["full"], "Count one two three");
    let ids = ["▁one", "▁two", "▁three"].map(scripted::id);
    assert_eq!(report["ids"], serde_json::json!(ids));
    assert_eq!((&report["prompt_tokens"], &report["generated_tokens"]), (&2.into(), &3.into()));
    assert_eq!(report["finish_reason"], "end_of_generation");
    assert_eq!((&report["seed"], &report["threads"]), (&5.into(), &1.into()));
    for key in ["load_seconds", "prompt_tokens_per_second", "decode_tokens_per_second", "time_to_first_token_seconds"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}");
    }
}

#[test]
fn generation_ends_for_each_reason() {
    let f = fixture();
    let reason = |args: &[&str]| f.generate_json(args)["finish_reason"].as_str().unwrap().to_string();
    assert_eq!(reason(&["--prompt", "Count"]), "end_of_generation");
    assert_eq!(reason(&["--prompt", "loop", "-n", "7"]), "length");
    assert_eq!(reason(&["--prompt", "loop", "--stop", "tock"]), "stop");
    // BOS and the prompt fill 2 of 16; 14 generated tokens can be evaluated, and a last one comes out of that.
    let full = f.generate_json(&["--prompt", "loop", "-n", "-1", "--ctx", "16"]);
    assert_eq!((&full["finish_reason"], &full["generated_tokens"]), (&"context_full".into(), &15.into()));
    let ignoring = f.generate_json(&["--prompt", "Count", "-n", "10", "--ignore-eos"]);
    assert_eq!((&ignoring["finish_reason"], &ignoring["generated_tokens"]), (&"length".into(), &10.into()));
}

#[test]
fn stop_strings_are_held_back_over_tokens() {
    let f = fixture();
    let output = f.generate(&["--prompt", "chat", "-n", "9", "--stop", "\nUser:"]);
    assert_eq!(good(&output), "chat hi");
    let report = f.generate_json(&["--prompt", "chat", "-n", "9", "--stop", "nothing", "--stop", "\nUser: more"]);
    assert_eq!((&report["text"], &report["stop"]), (&" hi".into(), &"\nUser: more".into()));
    assert_eq!(good(&f.generate(&["--prompt", "chat", "-n", "4", "--stop", "\nUser: Bob"])), "chat hi\nUser:");
}

#[test]
fn characters_are_not_split() {
    let f = fixture();
    assert_eq!(good(&f.generate(&["--prompt", "say", "-n", "9"])), "say café now");
    // The second byte never comes.
    assert_eq!(good(&f.generate(&["--prompt", "say", "-n", "2"])), "say caf\u{fffd}");
}

#[test]
fn prompts_come_from_files_and_ids() {
    let f = fixture();
    let prompt = f.file("prompt.txt", "Count\n");
    assert_eq!(good(&f.generate(&["--prompt-file", text(&prompt)])), "Count one two three");
    let ids = f.file("ids.txt", format!("[{}, {}]\n", scripted::BOS, scripted::id("▁Count")));
    assert_eq!(good(&f.generate(&["--ids", text(&ids)])).trim_start(), "Count one two three");
    let model = text(&f.model);
    let args = ["generate", "-m", model, "--device", "cpu", "--temp", "0", "--prompt-file", "-"];
    let piped = rocmforge_with_input(&args, b"Count");
    assert_eq!(good(&piped), "Count one two three");
}

#[test]
fn a_seed_reproduces_a_text() {
    let f = fixture();
    let hot = ["--prompt", "loop", "-n", "30", "--temp", "5", "--top-k", "0", "--top-p", "1", "--min-p", "0"];
    let run = |seed: &str| good(&f.run("generate", &[&hot[..], &["--seed", seed]].concat()));
    assert_eq!(run("1"), run("1"));
    assert_ne!(run("1"), run("2"));
}

#[test]
fn bad_prompts_are_named() {
    let f = fixture();
    let long = f.file("long.txt", "loop tick tock tick tock tick tock");
    fails(&f.generate(&["--prompt-file", text(&long), "--ctx", "4"]), &["prompt of 8 tokens", "context of 4"]);
    fails(&f.generate(&["--prompt", ""]), &["prompt is empty"]);
    fails(&f.generate(&[]), &["no prompt"]);
    let strange = f.file("ids", "1 99999");
    fails(&f.generate(&["--ids", text(&strange)]), &["99999", "not in the vocabulary"]);
    let words = f.file("words", "1 two");
    fails(&f.generate(&["--ids", text(&words)]), &["words", "\"two\""]);
    let latin = f.file("latin.txt", b"caf\xe9");
    fails(&f.generate(&["--prompt-file", text(&latin)]), &["latin.txt", "UTF-8", "byte 3"]);
    fails(&f.generate(&["--prompt-file", text(&f.path("absent"))]), &["absent"]);
    fails(&f.generate(&["--prompt-file", text(f.folder.path())]), &["directory"]);
}

#[test]
fn bad_models_are_named() {
    let f = fixture();
    let generate = |path: &Path| rocmforge(&["generate", "--model", text(path), "--device", "cpu", "--prompt", "x"]);
    fails(&generate(f.folder.path()), &[text(f.folder.path()), "directory"]);
    fails(&generate(&f.path("absent.gguf")), &["absent.gguf", "No such file"]);
    fails(&generate(&f.file("notes.txt", "hello, this is no model")), &["notes.txt", "not a GGUF file"]);
    let bytes = std::fs::read(&f.model).unwrap();
    fails(&generate(&f.file("half.gguf", &bytes[..bytes.len() / 2])), &["half.gguf", "output.weight", "cut off"]);
    let folder = f.folder.path();
    let other = Scripted { architecture: "perceptron", ..Scripted::default() }.write(folder, "other.gguf");
    fails(&generate(&other), &["other.gguf", "perceptron", "llama"]);
    let vocabulary = Scripted { tensors: false, ..Scripted::default() }.write(folder, "vocabulary.gguf");
    fails(&generate(&vocabulary), &["vocabulary.gguf", "no tensors"]);
    let lacking =
        Scripted { without: Some("blk.0.ffn_up.weight"), ..Scripted::default() }.write(folder, "lacking.gguf");
    fails(&generate(&lacking), &["lacking.gguf", "blk.0.ffn_up.weight", "missing"]);
}

#[test]
fn wrong_arguments_are_explained() {
    let f = fixture();
    for args in
        [&["generate", "--temp", "warm"][..], &["generate", "--nonsense"], &["frobnicate"], &["bench", "-r", "0"]]
    {
        let output = rocmforge(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let lines: Vec<String> = stderr(&output).lines().map(str::to_string).collect();
        assert!(lines.len() == 2 && lines[0].starts_with("error: ") && lines[1].starts_with("hint: "), "{lines:?}");
    }
    fails(&f.generate(&["--prompt", "x", "--top-p", "7"]), &["top_p"]);
    assert!(good(&rocmforge(&["generate", "--help"])).contains("Examples:"));
    assert!(good(&rocmforge(&["--version"])).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn tokenize_and_detokenize_are_inverse() {
    let f = fixture();
    let vocabulary = Scripted { tensors: false, ..Scripted::default() }.write(f.folder.path(), "vocabulary.gguf");
    for model in [&f.model, &vocabulary] {
        for content in ["Count one", " leading", "tabs\t\nüñ<s>", ""] {
            let ids = rocmforge_with_input(&["tokenize", "--model", text(model)], content.as_bytes());
            assert!(good(&ids).starts_with("1"), "BOS comes first");
            let back = rocmforge_with_input(&["detokenize", "--model", text(model)], &ids.stdout);
            assert_eq!(good(&back), content);
        }
    }
    let (bos, count, one) = (scripted::BOS, scripted::id("▁Count"), scripted::id("▁one"));
    assert_eq!(good(&f.run("tokenize", &["--text", "Count one"])), format!("{bos} {count} {one}\n"));
    assert_eq!(good(&f.run("tokenize", &["--text", "Count one", "--no-bos"])), format!("{count} {one}\n"));
    let special = good(&f.run("tokenize", &["--text", "<s>", "--no-bos"]));
    assert!(
        special.trim().ends_with('1')
            && !good(&f.run("tokenize", &["--text", "<s>", "--no-bos", "--no-special"])).ends_with(" 1\n")
    );
    let report = json(&f.run("tokenize", &["--text", "Count", "--json"]));
    assert_eq!(report, serde_json::json!({ "ids": [bos, count], "pieces": ["<s>", " Count"], "count": 2 }));
    let bad = rocmforge_with_input(&["detokenize", "--model", text(&f.model)], b"1 77777");
    fails(&bad, &["77777", "vocabulary"]);
}

#[test]
fn logits_are_rows_of_floats() {
    let f = fixture();
    let (loop_, tick) = (scripted::id("▁loop"), scripted::id("▁tick"));
    let ids = f.file("ids.txt", format!("1, {loop_}\n{tick}"));
    let out = f.path("logits.f32");
    good(&f.run("logits", &["--ids", text(&ids), "--out", text(&out)]));
    let bytes = std::fs::read(&out).unwrap();
    let rows: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(rows.len(), 3 * scripted::vocabulary());
    let row = |index: usize| &rows[index * scripted::vocabulary()..][..scripted::vocabulary()];
    assert_eq!(support::argmax(row(1)), tick as usize);
    assert_eq!(support::argmax(row(2)), scripted::id("▁tock") as usize);
    assert!((row(1)[tick as usize] - scripted::LOGIT).abs() < 1e-4);
    let piped = f.run("logits", &["--ids", text(&ids), "--out", "-"]);
    assert_eq!(piped.stdout, bytes);
    fails(&f.run("logits", &["--ids", text(&ids), "--out", "-", "--ctx", "2"]), &["3 tokens", "context of 2"]);
    fails(&f.run("logits", &["--ids", text(&f.file("none", "\n")), "--out", "-"]), &["no token ids"]);
    fails(&f.run("logits", &["--ids", text(&ids), "--out", text(&f.path("no/such/folder"))]), &["cannot create"]);
}

#[test]
fn perplexity_is_that_of_the_script() {
    let f = fixture();
    let story = f.file("story.txt", format!("loop{}", " tick tock".repeat(40)));
    let report = json(&f.run("perplexity", &["--file", text(&story), "--ctx", "16", "--chunks", "3", "--json"]));
    // The next token has the logit 8, the others 0: -ln p = ln(1 + (n - 1) / e^8).
    let nll = (1.0 + (scripted::vocabulary() as f64 - 1.0) / f64::from(scripted::LOGIT).exp()).ln();
    assert!((report["nll"].as_f64().unwrap() - nll).abs() < 1e-5, "{report}");
    assert!((report["ppl"].as_f64().unwrap() - nll.exp()).abs() < 1e-5, "{report}");
    assert_eq!((&report["tokens"], &report["chunks"], &report["scored"]), (&82.into(), &3.into(), &21.into()));
    assert!(good(&f.run("perplexity", &["--file", text(&story), "--ctx", "16"])).starts_with("ppl "));
    let short = f.file("short.txt", "loop tick");
    fails(&f.run("perplexity", &["--file", text(&short), "--ctx", "16"]), &["short.txt", "3 tokens"]);
}

#[test]
fn inspect_shows_and_checks() {
    let f = fixture();
    let shown = good(&rocmforge(&["inspect", text(&f.model)]));
    for word in ["llama.context_length", "blk.0.ffn_down.weight", "array of string"] {
        assert!(shown.contains(word), "{word}");
    }
    let report = json(&rocmforge(&["inspect", text(&f.model), "--json"]));
    assert_eq!(report["metadata"]["llama.context_length"], serde_json::json!({ "type": "u32", "value": 64 }));
    assert_eq!(report["tensors"].as_array().unwrap().len(), 12);
    let bytes = std::fs::read(&f.model).unwrap();
    let half = f.file("half.gguf", &bytes[..bytes.len() / 2]);
    fails(&rocmforge(&["inspect", text(&half)]), &["half.gguf", "output.weight", "cut off"]);
    assert!(good(&rocmforge(&["inspect", text(&half), "--header-only"])).contains("output.weight"));
    assert!(good(&rocmforge_with_input(&["inspect", "-"], &bytes)).contains("output.weight"));
}

#[test]
fn bench_reports_speeds() {
    let f = fixture();
    let report =
        json(&f.run("bench", &["-p", "8", "-n", "4", "-d", "0,4", "-r", "2", "-t", "1", "--device", "cpu", "--json"]));
    let tests: Vec<&str> = report.as_array().unwrap().iter().map(|row| row["test"].as_str().unwrap()).collect();
    assert_eq!(tests, ["pp8", "tg4", "pp8 @ d4", "tg4 @ d4"]);
    for row in report.as_array().unwrap() {
        assert!(row["tokens_per_second"].as_f64().unwrap() > 0.0 && row["memory_bandwidth"].as_f64().unwrap() > 0.0);
        assert_eq!((row["samples"].as_array().unwrap().len(), &row["threads"]), (2, &1.into()));
        assert_eq!(row["bandwidth_share"].is_null(), row["n_gen"] == 0);
        assert_eq!(row["peak_share"].is_null(), row["n_prompt"] == 0);
        assert!(row["int8_peak"].as_f64().unwrap() > 0.0 && row["f32_peak"].as_f64().unwrap() > 0.0);
    }
    fails(&f.run("bench", &["-p", "0", "-n", "0"]), &["nothing to measure"]);
    let sampled =
        ["-p", "0", "-n", "4", "-r", "1", "-t", "1", "--device", "cpu", "--temp", "0.5", "--top-k", "0", "--json"];
    let row = &json(&f.run("bench", &sampled))[0];
    assert_eq!((&row["temperature"], &row["top_k"], &row["chosen_by"]), (&0.5.into(), &0.into(), &"host".into()));
    fails(&f.run("bench", &["--temp", "1", "--top-p", "1.5"]), &["top_p is 1.5"]);
}

#[test]
fn bench_makes_a_model_of_random_weights() {
    let args =
        ["bench", "--synthetic", "tiny:Q4_K_M", "-p", "8", "-n", "4", "--depth", "4", "-r", "1", "--device", "cpu"];
    let report = json(&rocmforge(&[&args[..], &["--json"]].concat()));
    let rows = report.as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!((&row["device"], &row["chosen_by"]), (&"cpu".into(), &"host".into()));
        assert!(row["model"].as_str().unwrap().starts_with("tiny Q4_K_M"), "{row}");
        assert!(row["load_seconds"].as_f64().unwrap() > 0.0 && row["tokens_per_second"].as_f64().unwrap() > 0.0);
        assert!(row["load_open_seconds"].as_f64().is_some() && row["load_pack_seconds"].is_null(), "{row}");
    }
    let output = rocmforge(&args);
    assert!(stderr(&output).contains("loaded 0.00 GB in "), "{}", stderr(&output));
    assert!(good(&output).contains("tg4 @ d4"));
    assert!(stderr(&output).contains("note: all layers run on cpu"), "{}", stderr(&output));
    fails(&rocmforge(&["bench", "--synthetic", "llama-9b:Q8_0"]), &["llama-9b", "llama-8b"]);
    fails(&rocmforge(&["bench", "--synthetic", "tiny:Q9"]), &["Q9"]);
}

#[test]
fn bench_shows_where_the_time_goes() {
    let args = ["bench", "--synthetic", "tiny:Q4_K_M", "-p", "700", "-n", "4", "-d", "8", "-r", "1", "-t", "2"];
    let args = [&args[..], &["--device", "cpu", "--profile"]].concat();
    let rows = json(&rocmforge(&[&args[..], &["--json"]].concat()));
    let phases: Vec<&str> =
        rows.as_array().unwrap().iter().map(|row| row["profile"]["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["prefill of 512 tokens", "decode at depth 8"]);
    for row in rows.as_array().unwrap() {
        let profile = &row["profile"];
        assert_eq!(profile["schema"], "rocmforge.profile/1");
        let steps = profile["steps"].as_array().unwrap();
        let seconds: f64 = steps.iter().map(|step| step["seconds"].as_f64().unwrap()).sum();
        assert!(
            steps.len() > 10
                && seconds > 0.0
                && (seconds / profile["total_seconds"].as_f64().unwrap() - 1.0).abs() < 1e-6
        );
    }
    let text = good(&rocmforge(&args));
    for part in ["tg4 @ d8", "decode at depth 8, 2 threads", "by op", "the slowest steps", "as measured above"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let plain = json(&rocmforge(&["bench", "--synthetic", "tiny:F16", "-p", "8", "-n", "0", "-r", "1", "--json"]));
    assert!(plain[0].get("profile").is_none());
}

/// Two lines are answered: the test is prepared, one repetition; then stdin ends.
#[test]
fn bench_goes_at_the_pace_of_stdin() {
    let args = ["bench", "--synthetic", "tiny:Q8_0", "-p", "8", "-n", "4", "-r", "3", "-t", "1", "--device", "cpu"];
    let output = rocmforge_with_input(&[&args[..], &["--paced"]].concat(), b"\n");
    let lines: Vec<serde_json::Value> = good(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line["test"] == "pp8" && line["threads"] == 1));
    assert!(lines[0]["tokens_per_second"].is_null() && lines[0]["memory_bandwidth"].is_null());
    for key in ["tokens_per_second", "memory_bandwidth", "int8_peak", "peak_share"] {
        assert!(lines[1][key].as_f64().unwrap() > 0.0, "{key}");
    }
    let output = rocmforge_with_input(&[&args[..], &["--paced"]].concat(), &[b'\n'; 8]);
    let lines = good(&output).lines().filter(|line| line.contains("tg4")).count();
    assert_eq!(lines, 4);
}

#[test]
fn a_model_of_random_weights_is_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("random.gguf");
    good(&rocmforge(&["synthetic", "tiny:Q4_K_M", text(&path)]));
    let report = json(&rocmforge(&["inspect", text(&path), "--json"]));
    assert_eq!(report["tensors"].as_array().unwrap().len(), 38);
    let piped = rocmforge(&["synthetic", "tiny:Q4_K_M", "-"]);
    assert_eq!(piped.stdout, std::fs::read(&path).unwrap());
    let ids = folder.path().join("ids");
    std::fs::write(&ids, "1 2 3").unwrap();
    let args = ["generate", "-m", text(&path), "--ids", text(&ids), "-n", "2", "--device", "cpu", "--json"];
    assert_eq!(json(&rocmforge(&args))["ids"].as_array().map(Vec::len), Some(2));
    fails(&rocmforge(&["synthetic", "tiny:Q4_0", text(folder.path())]), &["directory"]);
    fails(&rocmforge(&["synthetic", "huge:Q4_0", text(&path)]), &["huge", "llama-8b"]);
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    let f = fixture();
    fails(&f.generate(&["--prompt", "Count", "--device", "gpu:99"]), &[]);
    fails(&f.generate(&["--prompt", "Count", "--device", "cpu", "--gpu-layers", "1"]), &["gpu_layers"]);
    assert_eq!(f.generate(&["--prompt", "Count", "--device", "abacus"]).status.code(), Some(2));
    let output = f.generate(&["--prompt", "Count", "-n", "1", "--device", "cpu"]);
    assert!(stderr(&output).contains("note: all layers run on cpu"), "{}", stderr(&output));
}

#[test]
fn devices_has_the_cpu() {
    let report = json(&rocmforge(&["devices", "--json"]));
    assert_eq!(report[0]["device"], "cpu");
    assert!(report[0]["threads"].as_u64().unwrap() > 0);
    assert!(good(&rocmforge(&["devices"])).contains("cpu"));
}

#[test]
#[cfg(feature = "hip")]
fn devices_says_what_is_missing() {
    let without =
        |args: &[&str]| command(args).env("ROCMFORGE_HIP_LIBRARY", "/no-such-folder/libamdhip64.so").output().unwrap();
    let text = good(&without(&["devices"]));
    assert!(text.contains("not usable: /no-such-folder/libamdhip64.so cannot be used: "), "{text}");
    let report = json(&without(&["devices", "--json"]));
    let problems: Vec<&str> = report.as_array().unwrap().iter().filter_map(|d| d["problem"].as_str()).collect();
    assert!(problems.iter().any(|p| p.contains("/no-such-folder") && p.contains("unset")), "{problems:?}");
}

#[test]
fn graph_dump_can_be_parsed_again() {
    let f = fixture();
    let dumped = good(&f.run("graph-dump", &["--stage", "source"]));
    rocmforge::graph::text::parse(&dumped).unwrap();
    let args = ["--stage", "source", "--model", text(&f.model)];
    let own = Command::new(env!("CARGO_BIN_EXE_graph-dump")).args(args).output().unwrap();
    assert_eq!(good(&own), dumped);
    assert!(good(&f.run("graph-dump", &["--format", "dot"])).starts_with("digraph"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let f = fixture();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ids = f.file("ids", "1");
    for args in [
        &["generate", "--model", text(&f.model), "--device", "cpu", "--prompt", "Count"][..],
        &["generate", "--model", text(&f.model), "--device", "cpu", "--prompt", "Count", "--json"],
        &["tokenize", "--model", text(&f.model), "--text", "Count"],
        &["inspect", text(&f.model)],
        &["logits", "--model", text(&f.model), "--device", "cpu", "--ids", text(&ids), "--out", "-"],
    ] {
        let output = command(args).stdout(full()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        fails(&output, &["stdout", "No space left"]);
    }
    fails(&f.run("logits", &["--ids", text(&ids), "--out", "/dev/full"]), &["/dev/full", "No space left"]);
}

/// A model that can go on for long, generating without an end. Its first output has been read.
#[cfg(unix)]
fn endless(f: &Fixture, args: &[&str]) -> (Child, Vec<u8>) {
    let model = Scripted { context: 1 << 17, ..Scripted::default() }.write(f.folder.path(), "long.gguf");
    let endless = ["generate", "-m", text(&model), "--device", "cpu", "--temp", "0", "-n", "-1", "--ctx", "100000"];
    let all = [&endless, args].concat();
    let mut child = command(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = vec![0; 4];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    (child, first)
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_in_decode_keeps_what_was_generated() {
    let f = fixture();
    let (mut child, mut out) = endless(&f, &["--prompt", "loop"]);
    let mut more = [0; 50];
    child.stdout.as_mut().unwrap().read_exact(&mut more).unwrap();
    out.extend(more);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    out.extend(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("loop tick tock tick"), "{text}");
    assert!(stderr(&output).contains("interrupted"), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn ctrl_c_in_prefill_ends_soon() {
    let f = fixture();
    let ids = f.file("many", format!("1 {}", format!("{} ", scripted::id("▁tick")).repeat(99_000)));
    let (child, _) = endless(&f, &["--ids", text(&ids)]);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("interrupted: while the prompt was evaluated"), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_a_clean_end() {
    let f = fixture();
    let (mut child, _) = endless(&f, &["--prompt", "loop"]);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).lines().all(|line| line.starts_with("note: ")), "{}", stderr(&output));
}
