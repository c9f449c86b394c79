//! Any text is refused with an error that names a place in it, or is a graph that prints to a text of the same meaning, and that can be
//! planned, fused or not, so that the plan's checker agrees.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rocmforge::backends::cpu::CpuTarget;
use rocmforge::backends::null::NullBackend;
use rocmforge::graph::passes::{PASSES, PassOptions};
use rocmforge::graph::plan::{PlanError, Target, check, plan};
use rocmforge::graph::text::{parse, print};
use rocmforge::graph::{Graph, to_dot};
use rocmforge::tensor::Bounds;

fuzz_target!(|text: &str| {
    let graph = match parse(text) {
        Ok(graph) => graph,
        Err(error) => {
            assert!(error.position.line >= 1 && error.position.line <= text.matches('\n').count() + 1);
            assert!(error.position.column >= 1);
            assert!(!error.message.is_empty());
            return;
        }
    };
    let printed = print(&graph);
    let again = parse(&printed).unwrap_or_else(|e| panic!("{e} in\n{printed}"));
    assert_eq!(print(&again), printed);
    assert!(!to_dot(&graph).is_empty());
    let small = Bounds { t: 3, s: 5, r: 2 };
    let none = PassOptions { disabled: PASSES.iter().map(|p| p.name().to_string()).collect(), stop_after: None };
    try_plan(&graph, small, &CpuTarget { threads: 2 }, &PassOptions::default());
    try_plan(&graph, graph.bounds, &NullBackend::default(), &none);
});

fn try_plan(graph: &Graph, bounds: Bounds, target: &dyn Target, options: &PassOptions) {
    match plan(graph, bounds, target, options) {
        Ok(plan) => check(&plan).expect("the planner made it"),
        Err(error @ PlanError::Pass(_)) => panic!("{error}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
