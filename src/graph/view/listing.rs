//! Graphs and plans as text.

use super::summary::{PassSummary, Summary};
use super::units::{bytes, count, plural, ranges};
use super::{Fold, Stages, summary};
use crate::graph::plan::{MemoryBill, Operand, Place, Plan, Step};
use crate::graph::{Graph, NodeId, text};
use std::collections::BTreeSet;
use std::fmt::Write;

/// A graph in its text form. Hidden layers become a comment, and then the text cannot be parsed again, which it says.
pub fn graph(graph: &Graph, fold: &Fold) -> String {
    if fold.runs().is_empty() {
        return text::print(graph);
    }
    let whole = text::print(graph);
    let (head, _) = whole.split_once('\n').unwrap_or((&whole, ""));
    let mut out = format!("# {}; `--layers all` writes them, and only then can the text be read again\n", hidden(fold));
    let _ = writeln!(out, "{head}");
    for line in lines(graph, fold) {
        match line {
            Line::Node(id) => {
                let _ = writeln!(out, "  {}", text::print_node(graph, id));
            }
            Line::Run(run) => {
                let run = &fold.runs()[run];
                let _ = writeln!(out, "  # … {}, {}", run.describe(), plural(run.nodes, "node"));
            }
        }
    }
    for output in whole.lines().filter(|l| l.starts_with("  output ")) {
        let _ = writeln!(out, "{output}");
    }
    out.push_str("}\n");
    out
}

fn hidden(fold: &Fold) -> String {
    let layers: Vec<usize> = fold.runs().iter().flat_map(|r| r.layers.iter().copied()).collect();
    let which = if layers.len() == 1 { "layer" } else { "layers" };
    format!("{which} {} of {} folded", ranges(layers), fold.count())
}

/// A line of a listing.
pub(super) enum Line {
    /// A node.
    Node(NodeId),
    /// Where a run of hidden layers begins.
    Run(usize),
}

/// The shown nodes in topological order, with each run of hidden layers where its first node that is no source stands.
pub(super) fn lines(graph: &Graph, fold: &Fold) -> Vec<Line> {
    let mut told = BTreeSet::new();
    let mut lines = Vec::new();
    for id in graph.topological() {
        match fold.hidden(id) {
            None => lines.push(Line::Node(id)),
            Some(run) if !graph.node(id).op.is_source() && told.insert(run) => lines.push(Line::Run(run)),
            Some(_) => {}
        }
    }
    lines
}

/// A plan: its steps with places, bytes and flops, its buffers, and the summary.
pub fn plan(plan: &Plan, stages: &Stages, fold: &Fold) -> String {
    let mut out = format!("plan \"{}\" for {} ({})\n\n", plan.name, plan.target, plan.bounds);
    steps(&mut out, plan, fold);
    buffers(&mut out, plan, fold);
    let numbers = summary::summary(stages, plan, fold);
    out.push('\n');
    out.push_str(&self::summary(&numbers, plan));
    out.push('\n');
    out.push_str(&passes(&summary::passes(stages)));
    out.push('\n');
    out.push_str(&bill(&plan.bill, "memory of this plan"));
    out
}

/// Rows of cells, columns as wide as they must be; the last cell is not padded.
pub(super) fn table(rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (c, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[c].saturating_sub(cell.chars().count()));
            let gap = if c == 0 { "" } else { "  " };
            let _ =
                if right.contains(&c) { write!(line, "{gap}{pad}{cell}") } else { write!(line, "{gap}{cell}{pad}") };
        }
        line.trim_end().to_string()
    };
    rows.iter().map(line).collect()
}

fn steps(out: &mut String, plan: &Plan, fold: &Fold) {
    let mut rows = vec![["step", "read", "written", "flops", "node", "computes"].map(str::to_string).to_vec()];
    // Consecutive steps of hidden layers are one line, which stands alone.
    let mut asides: Vec<(usize, String)> = Vec::new();
    let mut i = 0;
    while i < plan.steps.len() {
        let step = &plan.steps[i];
        if fold.hidden(step.node).is_none() {
            rows.push(step_row(i, step, plan));
            i += 1;
            continue;
        }
        let end =
            (i..plan.steps.len()).find(|&j| fold.hidden(plan.steps[j].node).is_none()).unwrap_or(plan.steps.len());
        asides.push((rows.len(), hidden_steps(&plan.steps[i..end], i, fold)));
        rows.push(Vec::new());
        i = end;
    }
    for (i, line) in table(&rows, &[0, 1, 2, 3]).into_iter().enumerate() {
        let aside = asides.iter().find(|a| a.0 == i).map(|a| a.1.as_str());
        let _ = writeln!(out, "{}", aside.unwrap_or(&line));
    }
}

fn hidden_steps(steps: &[Step], first: usize, fold: &Fold) -> String {
    let runs: BTreeSet<usize> = steps.iter().filter_map(|s| fold.hidden(s.node)).collect();
    let layers: BTreeSet<usize> = steps.iter().filter_map(|s| fold.layer(s.node)).collect();
    let what = match runs.iter().collect::<Vec<_>>()[..] {
        [&run] if fold.runs()[run].layers.iter().copied().eq(layers.iter().copied()) => fold.runs()[run].describe(),
        _ => format!("layers {}", ranges(layers)),
    };
    let total = |f: fn(&Step) -> u64| steps.iter().map(f).fold(0, u64::saturating_add);
    format!(
        "   … steps {first}–{}: {what}; read {}, written {}, flops {}",
        first + steps.len() - 1,
        bytes(total(|s| s.bytes_read)),
        bytes(total(|s| s.bytes_written)),
        count(total(|s| s.flops))
    )
}

fn step_row(i: usize, step: &Step, plan: &Plan) -> Vec<String> {
    let label = step.label.as_deref().unwrap_or_default();
    let operands: Vec<String> = step.operands.iter().map(|o| operand(o, plan)).collect();
    let attrs: Vec<String> = step.op.attrs().iter().map(|(n, v)| format!("{n}={v}")).collect();
    let attrs = if attrs.is_empty() { String::new() } else { format!(" {{{}}}", attrs.join(", ")) };
    let results: Vec<String> = step.results.iter().map(|o| operand(o, plan)).collect();
    let in_place = if step.in_place.is_some() { " in place" } else { "" };
    vec![
        i.to_string(),
        bytes(step.bytes_read),
        bytes(step.bytes_written),
        count(step.flops),
        format!("{} {label}", step.node).trim_end().to_string(),
        format!("{}{in_place} = {}({}){attrs}", results.join(", "), step.op.name(), operands.join(", ")),
    ]
}

/// `b3@8192 f32[64, T]`, `cache_k.0 f16[64, S]`, or the name and type of a weight.
pub(super) fn operand(operand: &Operand, plan: &Plan) -> String {
    format!("{} {}", place(operand.place, plan), operand.ty)
}

/// Where a value lies: a buffer and its offset in the arena, or the name of a weight or state.
pub(super) fn place(place: Place, plan: &Plan) -> String {
    match place {
        Place::Arena(b) => format!("{b}@{}", plan.buffers[b.index()].offset),
        Place::Weight(w) => plan.weights[w.index()].name.clone(),
        Place::State(s) => plan.states[s.index()].name.clone(),
    }
}

fn buffers(out: &mut String, plan: &Plan, fold: &Fold) {
    let mut rows = vec![["buffer", "offset", "bytes", "steps", "made for"].map(str::to_string).to_vec()];
    let mut left_out = 0;
    for (i, b) in plan.buffers.iter().enumerate() {
        if fold.hidden(b.value.node).is_some() {
            left_out += 1;
            continue;
        }
        let steps = format!("{}–{}", b.first, b.last);
        rows.push(vec![format!("b{i}"), b.offset.to_string(), b.bytes.to_string(), steps, b.value.to_string()]);
    }
    let _ = writeln!(out);
    for line in table(&rows, &[1, 2]) {
        let _ = writeln!(out, "{line}");
    }
    if left_out > 0 {
        let _ = writeln!(out, "… {} of folded layers", plural(left_out, "buffer"));
    }
}

/// The numbers of a plan, one a line.
pub fn summary(s: &Summary, plan: &Plan) -> String {
    let per_layer = |counts: &[usize]| match (counts.iter().min(), counts.iter().max()) {
        (Some(min), Some(max)) if min == max => format!("{min} a layer"),
        (Some(min), Some(max)) => format!("{min} to {max} a layer"),
        _ => "no layers".to_string(),
    };
    let mut out = String::new();
    let _ = writeln!(out, "nodes     {} → {}", s.nodes_before, s.nodes_after);
    let layers = match s.steps_per_layer.is_empty() {
        true => String::new(),
        false => format!(" ({} → {})", per_layer(&s.launches_per_layer_before), per_layer(&s.steps_per_layer)),
    };
    let _ = writeln!(out, "launches  {} → {}{layers}", s.launches_before, s.launches_after);
    let _ = writeln!(
        out,
        "traffic   {} read, {} written, {} flops",
        bytes(s.bytes_read),
        bytes(s.bytes_written),
        count(s.flops)
    );
    let arena = &plan.arena;
    let _ = writeln!(
        out,
        "arena     {} bytes in {}, lower bound {}, ratio {:.3}",
        arena.bytes,
        plural(plan.buffers.len(), "buffer"),
        arena.lower_bound,
        s.arena_ratio
    );
    out
}

/// What each pass did, as a table.
pub fn passes(passes: &[PassSummary]) -> String {
    let head = ["pass", "applied", "refused", "launches saved", "bytes saved"].map(str::to_string).to_vec();
    let mut rows = vec![head];
    for p in passes {
        rows.push(match p.ran {
            true => vec![
                p.name.to_string(),
                p.applied.to_string(),
                p.refused.to_string(),
                p.launches_saved.to_string(),
                bytes(p.bytes_saved),
            ],
            false => vec![p.name.to_string(), "off".to_string()],
        });
    }
    table(&rows, &[1, 2, 3, 4]).iter().map(|line| format!("{line}\n")).collect()
}

/// A memory bill, one line a purpose.
pub fn bill(bill: &MemoryBill, title: &str) -> String {
    let exact = |n: usize| vec![bytes(n as u64), format!("{n} bytes")];
    let row = |name: &str, n: usize| [vec![name.to_string()], exact(n)].concat();
    let rows = [
        row("weights", bill.weights),
        row("kv cache", bill.kv),
        row("arena", bill.arena),
        row("scratch", bill.scratch),
        row("allocated", bill.allocated()),
        row("mapped", bill.mapped),
    ];
    let mut out = format!("{title}\n");
    for line in table(&rows, &[1, 2]) {
        let _ = writeln!(out, "  {line}");
    }
    out
}

/// All refusals, alike ones together.
pub fn why_not(stages: &Stages) -> String {
    let refusals = summary::refusals(stages.decisions());
    if refusals.is_empty() {
        return "no pass refused anything\n".to_string();
    }
    let mut out = String::new();
    let mut pass = "";
    for r in refusals {
        if r.pass != pass {
            pass = r.pass;
            let _ = writeln!(out, "{pass}");
        }
        let more = if r.count > 1 { format!(" (and {} more like it)", r.count - 1) } else { String::new() };
        let _ = writeln!(out, "  not at {}: {}{more}", r.site, r.reason);
    }
    out
}
