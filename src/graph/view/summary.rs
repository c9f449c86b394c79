//! [`Summary`]: what the passes and the planner made of a graph, in numbers.

use super::{Fold, Stages};
use crate::graph::Graph;
use crate::graph::passes::{Decision, Outcome, PASSES};
use crate::graph::plan::Plan;
use std::collections::BTreeMap;

/// What one pass did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct PassSummary {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Whether it ran.
    pub ran: bool,
    /// Sites where it was applied.
    pub applied: usize,
    /// Sites that it refused.
    pub refused: usize,
    /// Bytes of memory traffic that it saved at the graph's bounds.
    pub bytes_saved: u64,
    /// Steps that it saved.
    pub launches_saved: u64,
    /// Nodes of the graph after it, if it ran.
    pub nodes_after: Option<usize>,
}

/// A plan in numbers.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct Summary {
    /// Nodes as the graph was built.
    pub nodes_before: usize,
    /// Nodes after the passes.
    pub nodes_after: usize,
    /// Nodes of the graph as it was built that would each be a launch: all but sources and views.
    pub launches_before: usize,
    /// Steps of the plan.
    pub launches_after: usize,
    /// Steps in each layer, by layer.
    pub steps_per_layer: Vec<usize>,
    /// Launches in each layer before the passes.
    pub launches_per_layer_before: Vec<usize>,
    /// Bytes that all steps read.
    pub bytes_read: u64,
    /// Bytes that all steps write.
    pub bytes_written: u64,
    /// Floating-point operations of all steps.
    pub flops: u64,
    /// Arena over its lower bound; 1 for an empty arena.
    pub arena_ratio: f64,
}

/// What each pass did, in the order of the pipeline.
pub fn passes(stages: &Stages) -> Vec<PassSummary> {
    let mut all: Vec<PassSummary> = PASSES
        .iter()
        .map(|pass| PassSummary {
            name: pass.name(),
            about: pass.about(),
            ran: false,
            applied: 0,
            refused: 0,
            bytes_saved: 0,
            launches_saved: 0,
            nodes_after: None,
        })
        .collect();
    for stage in stages.list() {
        let Some(summary) = all.iter_mut().find(|s| Some(s.name) == stage.pass) else { continue };
        summary.ran = true;
        summary.nodes_after = Some(stage.graph.len());
        for decision in &stage.decisions {
            match decision.outcome {
                Outcome::Applied { bytes_saved, launches_saved } => {
                    summary.applied += 1;
                    summary.bytes_saved = summary.bytes_saved.saturating_add(bytes_saved);
                    summary.launches_saved += u64::from(launches_saved);
                }
                Outcome::Refused { .. } => summary.refused += 1,
            }
        }
    }
    all
}

/// A plan in numbers, beside the graph that it was made from.
pub fn summary(stages: &Stages, plan: &Plan, fold: &Fold) -> Summary {
    let source = &stages.source().graph;
    let source_fold = Fold::new(source, &super::Layers::All);
    let total = |f: fn(&crate::graph::plan::Step) -> u64| plan.steps.iter().map(f).fold(0, u64::saturating_add);
    Summary {
        nodes_before: source.len(),
        nodes_after: stages.fused().graph.len(),
        launches_before: launches(source).count(),
        launches_after: plan.steps.len(),
        steps_per_layer: per_layer(fold, plan.steps.iter().map(|s| s.node)),
        launches_per_layer_before: per_layer(&source_fold, launches(source)),
        bytes_read: total(|s| s.bytes_read),
        bytes_written: total(|s| s.bytes_written),
        flops: total(|s| s.flops),
        arena_ratio: match plan.arena.lower_bound {
            0 => 1.0,
            bound => plan.arena.bytes as f64 / bound as f64,
        },
    }
}

fn launches(graph: &Graph) -> impl Iterator<Item = crate::graph::NodeId> + '_ {
    graph.ids().into_iter().filter(|&id| {
        let op = &graph.node(id).op;
        !op.is_source() && !op.is_view()
    })
}

fn per_layer(fold: &Fold, nodes: impl Iterator<Item = crate::graph::NodeId>) -> Vec<usize> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for layer in nodes.filter_map(|id| fold.layer(id)) {
        *counts.entry(layer).or_default() += 1;
    }
    counts.into_values().collect()
}

/// Refusals with the same pass and words, those of alike layers together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// The pass.
    pub pass: &'static str,
    /// The first site.
    pub site: String,
    /// The first reason.
    pub reason: String,
    /// How many there are.
    pub count: usize,
}

/// All refusals in order; those that differ in the numbers of nodes and layers only are one.
pub fn refusals<'a>(decisions: impl Iterator<Item = &'a Decision>) -> Vec<Refusals> {
    let mut list: Vec<(String, Refusals)> = Vec::new();
    for d in decisions {
        let Outcome::Refused { reason } = &d.outcome else { continue };
        let key = format!("{} {} {}", d.pass, without_numbers(&d.site), without_numbers(reason));
        match list.iter_mut().find(|(k, _)| *k == key) {
            Some((_, entry)) => entry.count += 1,
            None => {
                let (site, reason) = (d.site.clone(), reason.clone());
                list.push((key, Refusals { pass: d.pass, site, reason, count: 1 }));
            }
        }
    }
    list.into_iter().map(|(_, entry)| entry).collect()
}

/// With `#` for the numbers of ids (`n12`) and layers (`blk.3.`, `cache_k.3`).
fn without_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut before = (' ', ' ');
    while let Some(c) = chars.next() {
        let id = before.1 == 'n' && !before.0.is_alphanumeric();
        if c.is_ascii_digit() && (id || before.1 == '.') {
            while chars.peek().is_some_and(char::is_ascii_digit) {
                chars.next();
            }
            out.push('#');
            before = (before.1, '#');
        } else {
            out.push(c);
            before = (before.1, c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_ids_and_layers_do_not_matter() {
        assert_eq!(without_numbers("n12 \"blk.31.ffn_up\" f32[64, T]"), "n# \"blk.#.ffn_up\" f32[64, T]");
        assert_eq!(without_numbers("cache_k.3 has 2"), "cache_k.# has 2");
    }
}
