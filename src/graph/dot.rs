//! Graphviz output.

use super::Graph;
use std::fmt::Write;

/// The graph in Graphviz' DOT language: one box a node with its label, op, attributes and result types.
pub fn to_dot(graph: &Graph) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "digraph {} {{", quote(&graph.name));
    out.push_str("  rankdir=TB;\n  node [shape=box, fontname=\"monospace\", fontsize=10];\n");
    for id in graph.topological() {
        let node = graph.node(id);
        let mut text = format!("{id} {}", node.op.name());
        for (name, value) in node.op.attrs() {
            let _ = write!(text, " {name}={value}");
        }
        if let Some(label) = &node.label {
            let _ = write!(text, "\n{label}");
        }
        for ty in &node.types {
            let _ = write!(text, "\n{ty}");
        }
        let fill = if node.op.is_source() { ", style=filled, fillcolor=\"#eeeeee\"" } else { "" };
        let _ = writeln!(out, "  {id} [label={}{fill}];", quote(&text));
        for (slot, value) in graph.operands(id).iter().enumerate() {
            let _ = writeln!(out, "  {} -> {id} [headlabel=\"{slot}\", fontsize=8];", value.node);
        }
    }
    for (name, value) in graph.outputs() {
        let _ = writeln!(out, "  {} [shape=oval];\n  {} -> {};", quote(name), value.node, quote(name));
    }
    out.push_str("}\n");
    out
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
