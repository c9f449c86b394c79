//! `graph-dump` as scripts see it, on headers of models in real sizes and on graphs written by hand.
#![cfg(feature = "cli")]

mod support;

use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::shapes::{LLAMA_1B, LLAMA_8B, QWEN_05B, Shape};

fn graph_dump(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graph-dump"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that fails on its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn good(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", err(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn fails(output: &Output, status: i32, words: &[&str]) {
    let stderr = err(output);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{stderr:?} lacks {word:?}");
    }
}

struct Model {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn model(shape: &Shape) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = shape.write(folder.path(), "shape.gguf");
    Model { _folder: folder, path }
}

impl Model {
    fn run(&self, args: &[&str]) -> Output {
        graph_dump(&[&["--model", text(&self.path), "--threads", "4"], args].concat(), "")
    }

    fn text(&self, args: &[&str]) -> String {
        good(&self.run(args))
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.text(&[args, &["--format", "json"]].concat())).unwrap()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A gated feed-forward layer with a norm.
const MLP: &str = r#"graph "mlp" (T <= 4, S <= 8, R <= 1) {
  n0 "x" = input : f32[32, T]
  n1 "norm.weight" = weight : f32[32]
  n2 = rms_norm(n0) {eps=1e-5}
  n3 "norm" = mul(n2, n1)
  n4 "gate.weight" = weight : q8_0[32, 64]
  n5 = dequantize(n4)
  n6 "gate" = matmul(n5, n3)
  n7 "up.weight" = weight : q8_0[32, 64]
  n8 = dequantize(n7)
  n9 "up" = matmul(n8, n3)
  n10 = unary(n6) {kind=silu}
  n11 "product" = mul(n10, n9)
  output "y" = n11
}
"#;

#[test]
fn a_text_is_planned_with_its_own_bounds() {
    let listing = good(&graph_dump(&["--threads", "1"], MLP));
    assert!(listing.starts_with("plan \"mlp\" for cpu (T <= 4, S <= 8, R <= 1)\n"), "{listing}");
    let decode = good(&graph_dump(&["--phase", "decode"], MLP));
    assert!(decode.starts_with("plan \"mlp\" for cpu (T <= 1, S <= 8, R <= 1)\n"), "{decode}");
    let source = good(&graph_dump(&["--stage", "source"], MLP));
    assert_eq!(rocmforge::graph::text::parse(&source).unwrap().len(), 12);
}

#[test]
fn plan_listing() {
    // Without the passes that group matmuls and choose types, which change with the target.
    let args = ["--threads", "1", "--stop-after", "dequantize_matmul"];
    let listing = good(&graph_dump(&args, MLP));
    let steps: Vec<&str> = listing.lines().skip(2).take_while(|line| !line.is_empty()).collect();
    let columns: Vec<String> = steps
        .iter()
        .map(|line| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect::<Vec<_>>().join(" | "))
        .collect();
    let expected = "\
step | read | written | flops | node | computes
0 | 512 B | 512 B | 512 | n2 | b1@2048 f32[32, T] = rms_norm(b0@0 f32[32, T]) {eps=1e-5}
1 | 640 B | 512 B | 128 | n3 norm | b1@2048 f32[32, T] in place = mul(b1@2048 f32[32, T], norm.weight f32[32])
2 | 2.62 KiB | 1.00 KiB | 16.4 K | n6 gate | b2@0 f32[64, T] = qmatmul(gate.weight q8_0[32, 64], b1@2048 f32[32, T])";
    assert_eq!(columns[..4].join("\n"), expected);
    assert!(listing.contains("launches  8 → 6"), "{listing}");
    assert!(listing.contains("lower bound"), "{listing}");
}

#[test]
fn stages_and_passes() {
    let fused = good(&graph_dump(&["--stage", "after:glu"], MLP));
    assert!(fused.contains("\"product\" = glu("), "{fused}");
    let unfused = good(&graph_dump(&["--stage", "fused", "--disable", "glu"], MLP));
    assert!(!unfused.contains("glu("), "{unfused}");
    let early = good(&graph_dump(&["--stage", "fused", "--stop-after", "dequantize_matmul"], MLP));
    assert!(early.contains("qmatmul(") && early.contains("unary("), "{early}");
    let list = good(&graph_dump(&["--list-passes"], ""));
    assert_eq!(list.lines().count(), rocmforge::graph::passes::PASSES.len());
    assert!(list.contains("rms_norm_mul"));
}

#[test]
fn a_diff_shows_what_a_pass_changes() {
    let diff = good(&graph_dump(&["--diff", "glu", "--stop-after", "glu"], MLP));
    let changed: Vec<&str> = diff.lines().filter(|l| l.starts_with(['-', '+']) && l.contains(" = ")).collect();
    let expected = [
        "- n10 = unary(n6) {kind=silu} : f32[64, T]",
        "- n11 \"product\" = mul(n10, n9) : f32[64, T]",
        "+ n11 \"product\" = glu(n6, n9) {act=silu} : f32[64, T]",
    ];
    assert_eq!(changed, expected, "{diff}");
    fails(&graph_dump(&["--diff", "glu", "--stop-after", "matmul_bias"], MLP), 1, &["did not run"]);
    fails(&graph_dump(&["--diff", "glu", "--disable", "glu"], MLP), 1, &["--disable"]);
}

#[test]
fn a_node_is_explained() {
    let told = good(&graph_dump(&["--explain", "product", "--stop-after", "glu"], MLP));
    for part in ["fused from n10 = unary(n6)", "glu applied", "gate: n6 \"gate\"", "output \"y\"", "lives from step"] {
        assert!(told.contains(part), "{told:?} lacks {part:?}");
    }
    let gone = good(&graph_dump(&["--explain", "n10"], MLP));
    assert!(gone.contains("not in the fused graph: glu removed it"), "{gone}");
    let member = model(&LLAMA_1B).text(&["--explain", "blk.0.attn_k"]);
    assert!(member.contains("it is part of n12 \"blk.0.attn_q + blk.0.attn_k + blk.0.attn_v\""), "{member}");
    let group = model(&LLAMA_1B).text(&["--explain", "n12"]);
    assert!(group.contains("\n  w1: ") && group.contains("\n  w2: "), "{group}");
    fails(&graph_dump(&["--explain", "n99"], MLP), 1, &["n99", "hint: "]);
    fails(&graph_dump(&["--explain", "produkt.up"], MLP), 1, &["hint: "]);
    fails(&graph_dump(&["--explain", "gat"], MLP), 1, &["did you mean \"gate.weight\", \"gate\"?"]);
}

#[test]
fn refusals_are_told_with_their_reasons() {
    // The norm's result is also an output: it has to be stored.
    let kept = MLP.replace("output \"y\"", "output \"n\" = n2\n  output \"y\"");
    let told = good(&graph_dump(&["--why-not"], &kept));
    assert!(told.contains("rms_norm_mul\n  not at n3 \"norm\": "), "{told}");
    let model = model(&LLAMA_1B);
    let told = model.text(&["--why-not"]);
    assert!(told.lines().count() < 40, "alike refusals are one line: {told}");
}

#[test]
fn json_is_consistent() {
    for phase in ["prefill", "decode"] {
        let model = model(&QWEN_05B);
        let dump = model.json(&["--phase", phase]);
        assert_eq!(dump["schema"], "rocmforge.graph-dump/1");
        let list = |value: &Value| value.as_array().unwrap().clone();
        let string = |value: &Value| value.as_str().unwrap().to_string();
        let node_of = |value: &Value| string(value).split('.').next().unwrap().to_string();
        let nodes = list(&dump["nodes"]);
        let ids: HashSet<String> = nodes.iter().map(|n| string(&n["id"])).collect();
        assert_eq!(ids.len(), nodes.len(), "ids are unique");
        let types = dump["types"].as_object().unwrap();
        for node in &nodes {
            assert!(list(&node["operands"]).iter().all(|v| ids.contains(&node_of(v))));
            assert!(list(&node["types"]).iter().all(|t| types.contains_key(t.as_str().unwrap())));
        }
        let operands: usize = nodes.iter().map(|n| list(&n["operands"]).len()).sum();
        assert_eq!(list(&dump["edges"]).len(), operands);
        for edge in list(&dump["edges"]) {
            assert!(ids.contains(&string(&edge["from"])) && ids.contains(&string(&edge["to"])));
        }
        let plan = &dump["plan"];
        let (steps, buffers) = (list(&plan["steps"]), list(&plan["buffers"]));
        let mut places: HashSet<String> = buffers.iter().map(|b| string(&b["id"])).collect();
        places.extend(list(&plan["weights"]).iter().chain(&list(&plan["states"])).map(|p| string(&p["id"])));
        for (i, step) in steps.iter().enumerate() {
            assert_eq!(step["index"], i);
            assert!(ids.contains(&string(&step["node"])));
            for operand in list(&step["reads"]).iter().chain(&list(&step["writes"])) {
                assert!(places.contains(&string(&operand["place"])) && types.contains_key(&string(&operand["type"])));
            }
        }
        let n = |value: &Value| value.as_u64().unwrap();
        let end = buffers.iter().map(|b| n(&b["offset"]) + n(&b["bytes"])).max().unwrap();
        assert!(end <= n(&plan["arena"]["bytes"]));
        for bill in [&dump["bill"], &dump["session_bill"]] {
            let parts = ["weights", "kv", "arena", "scratch"].map(|part| n(&bill[part]));
            assert_eq!(parts.iter().sum::<u64>(), n(&bill["allocated"]));
        }
        assert_eq!(dump["bill"]["arena"], plan["arena"]["bytes"]);
        let kv: u64 = list(&plan["states"]).iter().map(|s| n(&s["bytes"])).sum();
        assert_eq!(n(&dump["bill"]["kv"]), kv);
        let decisions = list(&dump["decisions"]);
        let saved = |list: &[Value], key: &str| list.iter().filter_map(|d| d[key].as_u64()).sum::<u64>();
        assert_eq!(saved(&list(&dump["passes"]), "bytes_saved"), saved(&decisions, "bytes_saved"));
    }
}

#[test]
fn layers_are_folded() {
    let model = model(&LLAMA_8B);
    let source = model.text(&["--stage", "source"]);
    assert!(source.contains("# … layers 1–31: layer 0 × 31 more (other weight types in 4–5, 7–8"), "{source}");
    assert!(source.contains("blk.0.ffn_up") && !source.contains("blk.1."), "{source}");
    let some = model.text(&["--stage", "source", "--layers", "1..3"]);
    assert!(some.contains("blk.1.ffn_up") && some.contains("blk.2.ffn_up") && !some.contains("blk.0.ffn_up"));
    let all = model.text(&["--stage", "source", "--layers", "all"]);
    assert_eq!(rocmforge::graph::text::parse(&all).unwrap().len(), 32 * 52 + 14);
    // Folded or not, the numbers are those of the whole plan.
    let numbers = |args: &[&str]| {
        let text = model.text(args);
        text.lines().filter(|l| l.starts_with("launches") || l.starts_with("arena")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(numbers(&[]), numbers(&["--layers", "all"]));
    fails(&model.run(&["--layers", "30..33"]), 1, &["30..33", "has 32"]);
    fails(&model.run(&["--layers", "5..2"]), 2, &["--layers", "0..2"]);
}

#[test]
fn every_format_is_written() {
    let model = model(&QWEN_05B);
    let dot = model.text(&["--format", "dot"]);
    assert!(dot.starts_with("digraph") && dot.contains("layers 1–23") && !dot.contains("blk.1."), "{dot}");
    assert!(model.text(&["--format", "dot", "--layers", "1..3"]).contains("blk.2.ffn_norm"));
    let svg = model.text(&["--format", "svg"]);
    assert!(svg.starts_with("<svg xmlns") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("layers 1–23") && svg.contains("Buffers of the arena"));
    let html = model.text(&["--format", "html"]);
    assert!(html.starts_with("<!doctype html>"));
    for outside in ["src=", "href=", "@import", "url(", "fetch("] {
        assert!(!html.contains(outside), "the page refers to {outside}");
    }
    let file = model.path.with_extension("html");
    assert_eq!(model.text(&["--format", "html", "--out", text(&file)]), "");
    assert_eq!(std::fs::read_to_string(file).unwrap(), html);
}

#[test]
fn a_profile_is_written_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let model = support::scripted::Scripted::default().write(folder.path(), "scripted.gguf");
    let trace = folder.path().join("trace.json");
    let run = |args: &[&str]| {
        let all = ["-m", text(&model), "--device", "cpu", "-t", "2", "--ctx", "8", "--repetitions", "1", "--profile"];
        graph_dump(&[&all, args].concat(), "")
    };
    let report: Value = serde_json::from_str(&good(&run(&["--format", "json", "--trace", text(&trace)]))).unwrap();
    assert_eq!(report["schema"], "rocmforge.profile/1");
    assert!(report["roofline"]["int8_flops_per_second"].as_f64().unwrap() > 1e6);
    let steps = report["steps"].as_array().unwrap();
    for step in steps {
        let number = |key: &str| step[key].as_f64().unwrap_or_else(|| panic!("{key} of {step}"));
        assert!(number("seconds") >= 0.0 && number("roofline_share") >= 0.0 && number("bytes_per_second") >= 0.0);
        assert!(step["limit"] == "memory" || step["limit"] == "compute", "{step}");
    }
    let sum: f64 = steps.iter().map(|s| s["seconds"].as_f64().unwrap()).sum();
    assert!((sum - report["total_seconds"].as_f64().unwrap()).abs() < 1e-6);
    let events: Value = serde_json::from_str(&std::fs::read_to_string(trace).unwrap()).unwrap();
    assert_eq!(events["traceEvents"].as_array().unwrap().len(), steps.len());
    assert!(good(&run(&[])).contains("roofline"));
    let svg = good(&run(&["--format", "svg"]));
    assert!(svg.contains("% of roofline") && svg.contains(&rocmforge::graph::view::measured::colour(1.0)));
    assert!(good(&run(&["--format", "html"])).contains("\"roofline_share\""));
    fails(&run(&["--format", "dot"]), 1, &["text, json, svg or html"]);
}

#[test]
fn the_bill_is_fast_and_reads_no_weight() {
    // The file ends where the weights would begin.
    let model = model(&LLAMA_8B);
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            assert!(model.text(&["--bill"]).contains("weights    4."));
            start.elapsed()
        })
        .min()
        .unwrap();
    // 100 ms is asked of an optimised build; an unoptimised one on a busy machine is given more.
    let limit = if cfg!(debug_assertions) { 1000 } else { 100 };
    assert!(best < Duration::from_millis(limit), "{best:?}");
}

#[test]
fn fit_agrees_with_the_bill() {
    let model = model(&LLAMA_1B);
    let allocated = |ctx: u64| {
        let report = model.json(&["--bill", "--ctx", &ctx.to_string()]);
        assert_eq!(report["ctx"], ctx);
        report["bill"]["allocated"].as_u64().unwrap()
    };
    let mut last = 0;
    for size in ["850MiB", "1GiB", "2GB", "4GiB"] {
        let fit = model.json(&["--fit", size]);
        let ctx = fit["ctx"].as_u64().unwrap();
        let budget = fit["budget"].as_u64().unwrap();
        assert!(ctx.is_multiple_of(256) && ctx > last, "{size}: {ctx}");
        last = ctx;
        assert_eq!(fit["bill"]["allocated"].as_u64(), Some(allocated(ctx)));
        assert!(allocated(ctx) <= budget, "{size}: {ctx} fits");
        assert!(allocated(ctx + 256) > budget, "{size}: {} does not", ctx + 256);
    }
    let all = model.json(&["--fit", "100GiB"]);
    assert_eq!(all["ctx"], 131_072);
    assert!(all["beyond"].as_u64().unwrap() > 131_072);
    assert!(model.text(&["--fit", "100GiB"]).contains("was not trained"));
}

#[test]
fn what_does_not_fit_is_told_with_what_would() {
    let model = model(&LLAMA_1B);
    let told = model.text(&["--fit", "500MiB"]);
    assert!(told.starts_with("no context fits into 500 MiB"), "{told}");
    assert!(told.contains("bits a weight") && told.contains("more memory is enough"), "{told}");
    let fit = model.json(&["--fit", "500MiB"]);
    assert_eq!(fit["ctx"], Value::Null);
    // With the memory that it asks for, the smallest context fits.
    let bytes = fit["bill"]["allocated"].as_u64().unwrap().to_string();
    assert_eq!(model.json(&["--fit", &bytes])["ctx"], 256);
    // An advice is one that helps: a smaller chunk.
    let bill = model.json(&["--bill", "--ctx", "256", "--chunk", "16"]);
    let bytes = bill["bill"]["allocated"].as_u64().unwrap().to_string();
    assert!(model.text(&["--fit", &bytes]).contains("--chunk 16 fits"));
}

#[test]
fn the_bill_is_what_a_session_allocates() {
    use rocmforge::engine::{DeviceChoice, LoadOptions, Model as Loaded, Session, SessionOptions};
    let folder = tempfile::tempdir().unwrap();
    let mut files = vec![support::scripted::Scripted::default().write(folder.path(), "scripted.gguf")];
    let conformance = support::conformance().map(|folder| folder.join("models"));
    files.extend(conformance.into_iter().flat_map(|f| std::fs::read_dir(f).unwrap()).map(|e| e.unwrap().path()));
    for path in files.iter().filter(|p| p.extension().is_some_and(|e| e == "gguf")) {
        let options = LoadOptions { device: DeviceChoice::Cpu, threads: 2, ..LoadOptions::default() };
        let loaded = Loaded::open(path, &options, &mut |_| true).unwrap();
        let session = Session::new(&loaded, &SessionOptions { context: 48, chunk: 16, ..Default::default() }).unwrap();
        let args = ["-m", text(path), "-t", "2", "--ctx", "48", "--chunk", "16", "--bill", "--format", "json"];
        let report: Value = serde_json::from_str(&good(&graph_dump(&args, ""))).unwrap();
        let found = session.allocated();
        let bill = |key: &str| report["bill"][key].as_u64().unwrap() as usize;
        let told = [bill("weights"), bill("kv"), bill("arena"), bill("scratch")];
        assert_eq!(told, [found.weights, found.kv, found.arena, found.scratch], "{}", path.display());
    }
}

#[test]
fn mistakes_in_a_text_are_shown_where_they_are() {
    let told = |from: &str, to: &str| {
        assert!(MLP.contains(from));
        let output = graph_dump(&[], &MLP.replacen(from, to, 1));
        fails(&output, 1, &["error: stdin:"]);
        err(&output)
    };
    let unknown = told("unary(", "unnary(");
    assert_eq!(
        unknown,
        "error: stdin:12:9: unknown op `unnary`; did you mean `unary`?\n12 |   n10 = unnary(n6) {kind=silu}\n   |         ^\n"
    );
    let missing = told("n11 \"product\" = mul(n10, n9)", "n11 \"product\" = mul(n10, n77)");
    assert!(missing.contains("13:28: operand n77 is not defined"), "{missing}");
    let blocks = told("q8_0[32, 64]", "q8_0[33, 64]");
    assert!(blocks.contains("6:31: rows of q8_0 are whole blocks of 32 elements, found 33"), "{blocks}");
    let shape = told("n1 \"norm.weight\" = weight : f32[32]", "n1 \"norm.weight\" = weight : f32[31]");
    assert!(shape.contains("5:15: mul \"norm\": operand `b` is f32[31], expected the shape of `a`"), "{shape}");
    assert!(told("rms_norm(n0)", "rms_norm(n11)").contains("a cycle"));
    // What is missing at the end of the text is missed there.
    let short = graph_dump(&[], "graph \"g\" (T <= 1");
    fails(&short, 1, &["expected"]);
    fails(&graph_dump(&[], ""), 1, &["stdin:1:1: found the end of the text, expected `graph`"]);
}

#[test]
fn wrong_arguments() {
    let model = model(&LLAMA_1B);
    fails(&model.run(&["--stage", "after:nothing"]), 2, &["after:nothing", "glu"]);
    fails(&model.run(&["--disable", "no_pass"]), 2, &["no_pass", "glu"]);
    fails(&model.run(&["--fit", "much"]), 2, &["much", "16GiB"]);
    fails(&model.run(&["--target", "gfx803"]), 1, &["gfx803", "cpu"]);
    fails(&model.run(&["--gpu-layers", "1"]), 1, &["target cpu"]);
    fails(&model.run(&["--ctx", "3000000000"]), 1, &["positions"]);
    fails(&model.run(&["--explain", "blk.0.ffn_upp"]), 1, &["blk.0.ffn_upp"]);
    fails(&model.run(&["--explain", "ffn_up"]), 1, &["did you mean \"blk.0.ffn_up"]);
    fails(&model.run(&["--bill", "--format", "svg"]), 1, &["text or json"]);
    fails(&graph_dump(&["--fit", "1GiB"], MLP), 1, &["--fit needs a model"]);
    fails(&graph_dump(&["--layers", "0..2"], MLP), 1, &["the graph has 0"]);
    let folder = tempfile::tempdir().unwrap();
    let bare = support::scripted::Scripted { tensors: false, ..Default::default() }.write(folder.path(), "bare.gguf");
    fails(&graph_dump(&["-m", text(&bare)], ""), 1, &["has no tensors"]);
    fails(&graph_dump(&["-m", "/no/such.gguf"], ""), 1, &["/no/such.gguf"]);
    // The file argument takes either kind.
    assert!(good(&graph_dump(&[text(&model.path), "--bill"], "")).contains("weights"));
    let file = folder.path().join("mlp.txt");
    std::fs::write(&file, MLP).unwrap();
    assert_eq!(
        good(&graph_dump(&[text(&file), "--stage", "fused"], "")),
        good(&graph_dump(&["--stage", "fused"], MLP))
    );
    let broken = folder.path().join("broken.txt");
    std::fs::write(&broken, [0xff, 0xfe]).unwrap();
    fails(&graph_dump(&[text(&broken)], ""), 1, &["neither a GGUF file nor UTF-8"]);
}

#[test]
#[cfg(feature = "hip")]
fn plans_for_gpus_need_none() {
    let model = model(&LLAMA_1B);
    for target in ["gfx1030", "gfx1100", "gfx90a", "gfx942", "gfx950", "gfx1201", "sm_80", "sm_90"] {
        let bill = model.json(&["--target", target, "--bill"]);
        let (weights, kv) = (bill["bill"]["weights"].as_u64().unwrap(), bill["bill"]["kv"].as_u64().unwrap());
        assert!(weights > 0 && kv > 0, "{target}: {bill}");
        assert_eq!(bill["bill"]["mapped"], 0, "{target}: nothing of the file is read while running");
    }
    assert!(model.text(&["--target", "gfx1100", "--phase", "decode"]).contains("for gfx1100 (T <= 1"));
    let fit = model.json(&["--target", "gfx1100", "--fit", "24GiB"]);
    assert_eq!(fit["ctx"], fit["n_ctx_train"]);
    let told = model.text(&["--target", "gfx1100", "--fit", "500MiB"]);
    assert!(told.contains("--gpu-layers "), "{told}");
}

#[test]
fn caches_of_q8_0_are_shown_and_take_17_bytes_where_f16_takes_32() {
    let model = model(&LLAMA_1B);
    let args = |kv_type| ["--phase", "decode", "--kv-type", kv_type];
    let kv = |kv_type| model.json(&args(kv_type))["bill"]["kv"].as_u64().unwrap();
    assert!(kv("q8_0") > 0 && kv("q8_0") * 32 == kv("f16") * 17);
    let device = |kv_type| ["--phase", "decode", "--target", "gfx1100", "--kv-type", kv_type];
    assert_eq!(model.json(&device("q8_0"))["bill"]["kv"].as_u64().unwrap(), kv("q8_0"));
    let text = model.text(&args("q8_0"));
    assert!(text.contains("cache_k.0 q8_0[64, S, 8]") && text.contains("cache_v.0 q8_0[64, S, 8]"), "{text}");
}

#[test]
fn layers_on_two_targets_are_two_plans_and_a_copy() {
    let model = model(&LLAMA_1B);
    let args = ["--target", "gfx942", "--gpu-layers", "5"];
    let split = model.json(&[&args[..], &["--bill"]].concat());
    let width = 2048;
    assert_eq!(split["schema"], "rocmforge.split/1");
    assert_eq!((&split["stages"][0]["layers"], &split["stages"][1]["layers"]), (&json!([0, 11]), &json!([11, 16])));
    assert_eq!((&split["stages"][0]["target"], &split["stages"][1]["target"]), (&json!("cpu"), &json!("gfx942")));
    let copy = &split["copies"][0];
    assert_eq!((&copy["bytes"], &copy["bytes_per_token"]), (&json!(4 * width * 512), &json!(4 * width)));
    // All caches, on the one side or the other.
    let whole = model.json(&["--target", "gfx942", "--bill"]);
    let kv = |bill: &Value| bill["kv"].as_u64().unwrap();
    let parts = kv(&split["stages"][0]["session_bill"]) + kv(&split["stages"][1]["session_bill"]);
    assert_eq!(parts, kv(&whole["bill"]));
    let text = model.text(&args);
    for part in
        ["for cpu (", "copy residual from cpu to gfx942: 4.00 MiB for 512 tokens, 8.00 KiB a token", "for gfx942 ("]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let dumps = model.json(&args);
    assert_eq!(dumps["stages"][1]["dump"]["target"], "gfx942");
    // All layers are one plan, none are the CPU's.
    assert_eq!(
        model.json(&["--target", "gfx942", "--gpu-layers", "99", "--bill"])["stages"].as_array().unwrap().len(),
        1
    );
    assert_eq!(model.json(&["--target", "gfx942", "--gpu-layers", "0", "--bill"])["stages"][0]["target"], "cpu");
    fails(&model.run(&[&args[..], &["--format", "svg"]].concat()), 1, &["text or json"]);
    fails(&model.run(&[&args[..], &["--explain", "blk.0.attn_q"]].concat()), 1, &["leave --gpu-layers out"]);
    fails(&graph_dump(&args, MLP), 1, &["needs a model"]);
}
