//! Passes as text in, text out. `tests/passes/PASS/CASE.txt` holds a comment `# hit: …` or `# near miss: …`, a graph, what the pass
//! alone makes of it and what it decided. `ROCMFORGE_BLESS=1 cargo test --test passes` rewrites the last two.
//!
//! Every pass needs a hit and a near miss. For each hit both graphs are interpreted on random values and must agree.

mod support;

use rocmforge::backends::cpu::CpuTarget;
use rocmforge::graph::passes::{Decision, Outcome, PASSES, PassOptions, run};
use rocmforge::graph::text::{parse, print};
use rocmforge::graph::{Graph, Interpreter, Value, verify};
use rocmforge::tensor::{Bounds, DType};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use support::eager::Eager;
use support::random_graph::rounds;
use support::values::{self, Sequence};

const AFTER: &str = "--- after\n";
const DECISIONS: &str = "--- decisions\n";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Hit,
    NearMiss,
}

struct Case {
    path: PathBuf,
    pass: &'static str,
    kind: Kind,
    text: String,
    /// The graph's part of the text.
    source: usize,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/passes")
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for pass in PASSES {
        let folder = folder().join(pass.name());
        let Ok(files) = std::fs::read_dir(&folder) else {
            panic!("{} has no cases in {}", pass.name(), folder.display())
        };
        let mut paths: Vec<PathBuf> = files.map(|f| f.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let text = std::fs::read_to_string(&path).unwrap();
            let kind = match &text {
                t if t.starts_with("# hit: ") => Kind::Hit,
                t if t.starts_with("# near miss: ") => Kind::NearMiss,
                _ => panic!("{} must begin with `# hit: ` or `# near miss: ` and what it shows", path.display()),
            };
            let source = text.find(AFTER).unwrap_or(text.len());
            all.push(Case { path, pass: pass.name(), kind, text, source });
        }
    }
    all
}

impl Case {
    /// The graph, and the graph after the pass with the pass's decisions.
    fn run(&self) -> (Graph, Graph, Vec<Decision>) {
        let graph = parse(&self.text[..self.source]).unwrap_or_else(|e| panic!("{}:{e}", self.path.display()));
        let mut after = graph.clone();
        let disabled = PASSES.iter().map(|p| p.name()).filter(|&p| p != self.pass).map(str::to_string).collect();
        let options = PassOptions { disabled, stop_after: None };
        let decisions = run(&mut after, &Eager(CpuTarget::new(1)), &options);
        let decisions = decisions.unwrap_or_else(|e| panic!("{}: {e}", self.path.display()));
        verify(&after).unwrap_or_else(|e| panic!("{}: {e}", self.path.display()));
        (graph, after, decisions)
    }

    /// What the file should hold.
    fn expected(&self, graph: &Graph, after: &Graph, decisions: &[Decision]) -> String {
        let mut text = format!("{}\n\n{AFTER}", self.text[..self.source].trim_end());
        let (before, after) = (print(graph), print(after));
        text.push_str(if before == after { "unchanged\n" } else { &after });
        let _ = write!(text, "\n{DECISIONS}");
        if decisions.is_empty() {
            text.push_str("none\n");
        }
        for decision in decisions {
            let _ = writeln!(text, "{decision}");
        }
        text
    }
}

#[test]
fn passes_do_what_their_cases_say() {
    let bless = std::env::var_os("ROCMFORGE_BLESS").is_some_and(|v| v == "1");
    let mut wrong = Vec::new();
    for case in cases() {
        let (graph, after, decisions) = case.run();
        let expected = case.expected(&graph, &after, &decisions);
        let changed = print(&graph) != print(&after);
        let applied = decisions.iter().any(|d| matches!(d.outcome, Outcome::Applied { .. }));
        match case.kind {
            Kind::Hit => assert!(changed, "{}: the pass did nothing", case.path.display()),
            Kind::NearMiss => assert!(!applied, "{}: the pass was applied", case.path.display()),
        }
        if expected == case.text {
            continue;
        }
        if bless {
            std::fs::write(&case.path, expected).unwrap();
        } else {
            wrong.push(format!("{}\nfound:\n{}", case.path.display(), &expected[case.source.min(expected.len())..]));
        }
    }
    assert!(wrong.is_empty(), "{}\n(ROCMFORGE_BLESS=1 rewrites the files)", wrong.join("\n"));
}

#[test]
fn every_pass_has_a_hit_and_a_near_miss() {
    let mut found: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for case in cases() {
        found.entry(case.pass).or_default()[case.kind as usize] += 1;
    }
    for pass in PASSES {
        let [hits, misses] = found.get(pass.name()).copied().unwrap_or_default();
        assert!(hits > 0 && misses > 0, "{}: {hits} hits, {misses} near misses", pass.name());
    }
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(PASSES.iter().any(|p| *p.name() == *name), "tests/passes/{} is no pass", name.display());
    }
}

/// Outputs, and the caches after the run by the name of their state.
fn interpret(graph: &Graph, bound: &values::Bound, bounds: &Bounds) -> BTreeMap<String, Vec<f32>> {
    let mut interpreter = Interpreter::new(graph, &bound.weights);
    for (name, value) in &bound.states {
        interpreter.set_state(name, value.clone());
    }
    let all = interpreter.run_all(&bound.inputs, bounds).unwrap();
    let values = |v: &Value| all[v].f32s().unwrap().into_owned();
    let mut found: BTreeMap<_, _> = graph.outputs().iter().map(|(name, v)| (name.clone(), values(v))).collect();
    for id in graph.ids() {
        for out in 0..graph.node(id).types.len() {
            let Some(slot) = graph.node(id).op.state_operand(out) else { continue };
            let state = graph.node(graph.operands(id)[slot].node).label.clone().unwrap();
            found.insert(format!("state {state}"), values(&Value { node: id, out: out as u8 }));
        }
    }
    found
}

#[test]
fn hits_mean_what_their_graphs_mean() {
    for case in cases().iter().filter(|c| c.kind == Kind::Hit) {
        let (graph, after, _) = case.run();
        let rounding = |g: &Graph| g.ids().iter().filter(|&&id| rounds(&g.node(id).op)).count();
        let tolerance = if rounding(&graph) == rounding(&after) { 1e-5 } else { 2e-2 };
        let largest = graph.bounds;
        let sizes = [largest, Bounds { t: 1, s: largest.s, r: 1 }, Bounds { t: 1, s: 1, r: 1 }];
        for (seed, bounds) in sizes.into_iter().enumerate() {
            let bound = values::bind(&graph, &bounds, seed as u64, Sequence::One);
            let truth = interpret(&graph, &bound, &bounds);
            let found = interpret(&after, &bound, &bounds);
            assert_eq!(truth.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{}", case.path.display());
            for (name, truth) in &truth {
                let difference = values::difference(&found[name], truth);
                assert!(
                    difference <= tolerance,
                    "{} at {bounds}: {name} differs by {difference:e}",
                    case.path.display()
                );
            }
        }
    }
}

#[test]
fn quantize_activations_has_an_integer_kernel_to_serve() {
    use rocmforge::graph::passes::Capabilities;
    assert_eq!(CpuTarget::new(1).activation_type(DType::Q8_0, 1024, 1), DType::Q8A, "its cases rely on it");
}

/// Where the processor has dot products of bf16; the last product's error would stand in the result as it is.
#[test]
fn weights_of_bf16_take_rounded_activations_but_for_a_result() {
    let text = r#"graph "two products" (T <= 4, S <= 7, R <= 2) {
  n0 "a" = weight : bf16[1024, 1024]
  n1 "b" = weight : bf16[1024, 8]
  n2 "x" = input : f32[1024, T]
  n3 "h" = qmatmul(n0, n2)
  n4 "y" = qmatmul(n1, n3)
  output "y" = n4
}
"#;
    let graph = parse(text).unwrap();
    for (bf16_dots, rounded) in [(true, 1), (false, 0)] {
        let mut after = graph.clone();
        let target = CpuTarget { bf16_dots, ..CpuTarget::new(1) };
        let decisions = run(&mut after, &target, &PassOptions::default()).unwrap();
        assert_eq!(print(&after).matches("activation=bf16").count(), rounded, "{}", print(&after));
        let refused = decisions
            .iter()
            .filter(|d| d.pass == "quantize_activations" && !matches!(d.outcome, Outcome::Applied { .. }));
        assert_eq!(refused.count(), rounded);
    }
}
