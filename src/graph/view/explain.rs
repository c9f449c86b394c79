//! What is known of one node: where it came from, what was decided about it, where its value lies and how long.

use super::listing::{operand, place};
use super::units::{bytes, count, plural};
use super::{Stage, Stages};
use crate::graph::passes::{Decision, Outcome};
use crate::graph::plan::{Place, Plan};
use crate::graph::{Graph, NodeId, Value, text};
use std::collections::BTreeSet;
use std::fmt::Write;

/// One change in the life of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct Event {
    /// The pass.
    pub pass: &'static str,
    /// The statement before; `None` if the node was new.
    pub before: Option<String>,
    /// The statement after; `None` if the node was removed.
    pub after: Option<String>,
    /// Statements of nodes that it read before and that the pass removed: what was fused into it.
    pub absorbed: Vec<String>,
}

/// What the passes changed about a node, in order.
pub fn history(stages: &Stages, id: NodeId) -> Vec<Event> {
    let mut events = Vec::new();
    for pair in stages.list().windows(2) {
        let Some(pass) = pair[1].pass else { continue };
        let statement = |stage: &Stage| stage.graph.contains(id).then(|| text::print_node(&stage.graph, id));
        let (before, after) = (statement(&pair[0]), statement(&pair[1]));
        if before == after {
            continue;
        }
        let absorbed = if before.is_some() && after.is_some() {
            absorbed(&pair[0].graph, &pair[1].graph, id)
                .into_iter()
                .map(|n| text::print_node(&pair[0].graph, n))
                .collect()
        } else {
            Vec::new()
        };
        events.push(Event { pass, before, after, absorbed });
    }
    events
}

/// Nodes that `id` was computed from without another node that is still there in between.
fn absorbed(before: &Graph, after: &Graph, id: NodeId) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::new();
    let mut open = vec![id];
    while let Some(at) = open.pop() {
        for value in before.operands(at) {
            if !after.contains(value.node) && found.insert(value.node) {
                open.push(value.node);
            }
        }
    }
    found
}

/// The decisions at a node, and those whose reason names it.
pub fn decisions(stages: &Stages, id: NodeId) -> Vec<&Decision> {
    let name = id.to_string();
    let names = |text: &str| text.split(|c: char| !c.is_alphanumeric()).any(|word| word == name);
    stages
        .decisions()
        .filter(|d| d.node == id || matches!(&d.outcome, Outcome::Refused { reason } if names(reason)))
        .collect()
}

/// A node by `n12` or by its label, in the last stage that has it.
pub fn find<'a>(stages: &'a Stages, name: &str) -> Option<(&'a Stage, NodeId)> {
    let number = name.strip_prefix('n').and_then(|n| n.parse::<u32>().ok()).map(NodeId);
    stages.list().iter().rev().find_map(|stage| {
        let by_number = number.filter(|&id| stage.graph.contains(id));
        by_number.or_else(|| stage.graph.by_label(name)).map(|id| (stage, id))
    })
}

/// Labels that resemble a name that was not found, for messages.
pub fn resembling(stages: &Stages, name: &str) -> Vec<String> {
    let graph = &stages.source().graph;
    let labels: Vec<&str> = graph.ids().iter().filter_map(|&id| graph.node(id).label.as_deref()).collect();
    let tail = name.rsplit('.').find(|part| !part.is_empty()).unwrap_or(name);
    let close = labels.iter().filter(|label| label.contains(name) || (tail.len() > 2 && label.contains(tail)));
    close.take(4).map(|label| format!("\"{label}\"")).collect()
}

/// All that is known of a node, as text. `plan` gives the place and lifetime of its value.
pub fn explain(stages: &Stages, plan: Option<&Plan>, stage: &Stage, id: NodeId) -> String {
    let graph = &stage.graph;
    let mut out = format!("{}\n", text::print_node(graph, id));
    let gone = !stages.fused().graph.contains(id);
    if gone {
        let next = stages.list().iter().skip_while(|s| s.pass != stage.pass).nth(1).and_then(|s| s.pass);
        let _ = writeln!(out, "  not in the fused graph: {} removed it", next.unwrap_or("a pass"));
        // Matmuls of a group have joined their labels.
        let fused = &stages.fused().graph;
        let joined = |member: &str| {
            let parts =
                |id: &NodeId| fused.node(*id).label.as_deref().is_some_and(|l| l.split(" + ").any(|p| p == member));
            fused.ids().into_iter().find(parts)
        };
        if let Some(group) = graph.node(id).label.as_deref().and_then(joined) {
            let _ = writeln!(out, "  it is part of {}", fused.describe(group));
        }
    }
    origin(&mut out, stages, id);
    for (title, list) in [("operands", operand_lines(graph, id)), ("users", user_lines(graph, id))] {
        let _ = writeln!(out, "\n{title}");
        list.iter().for_each(|line| {
            let _ = writeln!(out, "  {line}");
        });
        if list.is_empty() {
            out.push_str("  none\n");
        }
    }
    decided(&mut out, stages, id);
    if let Some(plan) = plan.filter(|_| !gone) {
        placed(&mut out, plan, id);
    }
    out
}

fn origin(out: &mut String, stages: &Stages, id: NodeId) {
    let events = history(stages, id);
    out.push_str("\nwhere it came from\n");
    let source = &stages.source().graph;
    if source.contains(id) {
        let _ = writeln!(out, "  source: {}", text::print_node(source, id));
    }
    for event in events {
        match (&event.before, &event.after) {
            (None, Some(after)) => {
                let _ = writeln!(out, "  {} added it: {after}", event.pass);
            }
            (Some(_), None) => {
                let _ = writeln!(out, "  {} removed it", event.pass);
            }
            (_, after) => {
                let _ = writeln!(out, "  {}: {}", event.pass, after.as_deref().unwrap_or_default());
            }
        }
        for absorbed in &event.absorbed {
            let _ = writeln!(out, "    fused from {absorbed}");
        }
    }
}

fn operand_lines(graph: &Graph, id: NodeId) -> Vec<String> {
    let line = |(slot, value): (usize, &Value)| {
        let name = graph.node(id).op.operand_name(slot).map_or(String::new(), |name| format!("{name}: "));
        format!("{name}{}, {}", graph.describe(value.node), graph.ty(*value))
    };
    graph.operands(id).iter().enumerate().map(line).collect()
}

fn user_lines(graph: &Graph, id: NodeId) -> Vec<String> {
    let mut lines = Vec::new();
    for out in 0..graph.node(id).types.len() as u8 {
        let value = Value { node: id, out };
        lines.extend(
            graph.users(value).iter().map(|(user, slot)| format!("{} as operand {slot}", graph.describe(*user))),
        );
        let outputs = graph.outputs().iter().filter(|(_, v)| *v == value);
        lines.extend(outputs.map(|(name, _)| format!("output \"{name}\"")));
    }
    lines
}

fn decided(out: &mut String, stages: &Stages, id: NodeId) {
    out.push_str("\ndecisions\n");
    let decisions = decisions(stages, id);
    let (applied, refused): (Vec<_>, Vec<_>) =
        decisions.into_iter().partition(|d| matches!(d.outcome, Outcome::Applied { .. }));
    for d in &applied {
        if let Outcome::Applied { bytes_saved, launches_saved } = d.outcome {
            let launches = plural(launches_saved as usize, "launch").replace("launchs", "launches");
            let _ = writeln!(out, "  {} applied, saves {} and {launches}", d.pass, bytes(bytes_saved));
        }
    }
    for d in &refused {
        if let Outcome::Refused { reason } = &d.outcome {
            let at = if d.node == id { String::new() } else { format!(" at {}", d.site) };
            let _ = writeln!(out, "  {} refused{at}: {reason}", d.pass);
        }
    }
    if refused.is_empty() {
        let ran: Vec<&str> = stages.list().iter().filter_map(|s| s.pass).collect();
        let others: Vec<&str> = ran.into_iter().filter(|p| !applied.iter().any(|d| d.pass == *p)).collect();
        let why = "no pattern of theirs begins here";
        let _ = writeln!(out, "  nothing was refused; {}: {why}", others.join(", "));
    }
}

fn placed(out: &mut String, plan: &Plan, id: NodeId) {
    out.push_str("\nin the plan\n");
    let mut found = false;
    for (i, step) in plan.steps.iter().enumerate().filter(|(_, s)| s.node == id) {
        found = true;
        let copy = if step.op.name() == "cont" { ", a copy that an operand's layout made necessary" } else { "" };
        let copy = if step.results.first().is_some_and(|r| r.value.node != id) { copy } else { "" };
        let _ = writeln!(
            out,
            "  step {i} of {}: {}{copy}, reads {}, writes {}, {} flops",
            plan.steps.len(),
            step.op.name(),
            bytes(step.bytes_read),
            bytes(step.bytes_written),
            count(step.flops)
        );
        for o in &step.operands {
            let _ = writeln!(out, "    reads {}", operand(o, plan));
        }
        for o in &step.results {
            let _ = writeln!(out, "    writes {}{}", operand(o, plan), lifetime(o.place, plan));
        }
        if let Some(slot) = step.in_place {
            let _ = writeln!(out, "    in place of operand {slot}");
        }
    }
    let ports = plan.inputs.iter().filter(|p| p.operand.value.node == id);
    for port in ports {
        found = true;
        let at = lifetime(port.operand.place, plan);
        let _ = writeln!(out, "  an input, in {}{at}", place(port.operand.place, plan));
    }
    if !found {
        let used = plan.steps.iter().enumerate().flat_map(|(i, s)| s.operands.iter().map(move |o| (i, o)));
        let reads: Vec<_> = used.filter(|(_, o)| o.value.node == id).collect();
        match reads.first() {
            Some((_, o)) => {
                let steps: Vec<String> = reads.iter().map(|(i, _)| i.to_string()).collect();
                let at = lifetime(o.place, plan);
                let _ = writeln!(
                    out,
                    "  no step of its own: {}{at}, read by steps {}",
                    place(o.place, plan),
                    steps.join(", ")
                );
            }
            None => out.push_str("  no step of its own: a view that is read under the name of its source\n"),
        }
    }
}

fn lifetime(at: Place, plan: &Plan) -> String {
    let Place::Arena(b) = at else { return String::new() };
    let b = &plan.buffers[b.index()];
    let last = match b.last {
        last if last >= plan.steps.len() => "the end".to_string(),
        last => format!("step {last}"),
    };
    format!(", {} bytes, lives from step {} to {last}", b.bytes, b.first)
}
