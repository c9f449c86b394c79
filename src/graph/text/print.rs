//! Graph to text.

use crate::graph::{Graph, NodeId};
use crate::ops::Op;
use std::fmt::Write;

/// The whole graph, nodes in topological order.
pub fn print(graph: &Graph) -> String {
    let mut out = format!("graph {} ({}) {{\n", quote(&graph.name), graph.bounds);
    for id in graph.topological() {
        let _ = writeln!(out, "  {}", print_node(graph, id));
    }
    for (name, value) in graph.outputs() {
        let _ = writeln!(out, "  output {} = {value}", quote(name));
    }
    out.push_str("}\n");
    out
}

/// One statement.
pub fn print_node(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let mut out = id.to_string();
    if let Some(label) = &node.label {
        let _ = write!(out, " {}", quote(label));
    }
    let _ = write!(out, " = {}", node.op.name());
    let operands = graph.operands(id);
    if !operands.is_empty() || matches!(node.op, Op::Custom(_)) {
        let list: Vec<String> = operands.iter().map(|v| v.to_string()).collect();
        let _ = write!(out, "({})", list.join(", "));
    }
    let attrs = node.op.attrs();
    if !attrs.is_empty() {
        let list: Vec<String> = attrs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let _ = write!(out, " {{{}}}", list.join(", "));
    }
    match node.types.as_slice() {
        [ty] => {
            let _ = write!(out, " : {ty}");
        }
        types => {
            let list: Vec<String> = types.iter().map(|t| t.to_string()).collect();
            let _ = write!(out, " : ({})", list.join(", "));
        }
    }
    out
}

fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
