//! A graph in Graphviz' DOT language: the boxes and lines of a [`Picture`], each layer in a frame of its own.

use super::picture::{Item, Picture};
use super::{Fold, Kind};
use crate::graph::Graph;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The graph, with one box for each run of layers that are not shown.
pub fn graph(graph: &Graph, fold: &Fold) -> String {
    let picture = Picture::new(graph, fold);
    let mut out = format!("digraph {} {{\n", quote(&graph.name));
    out.push_str("  rankdir=TB;\n  node [shape=box, style=filled, fontname=\"monospace\", fontsize=10];\n");
    out.push_str("  edge [fontname=\"monospace\", fontsize=8];\n");
    let mut layers: BTreeMap<Option<usize>, Vec<&Item>> = BTreeMap::new();
    for item in &picture.items {
        layers.entry(item.layer).or_default().push(item);
    }
    for (layer, items) in layers {
        let indent = if layer.is_some() { "    " } else { "  " };
        if let Some(layer) = layer {
            let _ = writeln!(out, "  subgraph cluster_{layer} {{\n    label=\"layer {layer}\"; color=\"#dfe3e8\";");
        }
        for item in items {
            let _ = writeln!(out, "{indent}{}", vertex(item));
        }
        if layer.is_some() {
            out.push_str("  }\n");
        }
    }
    for arrow in &picture.arrows {
        let (from, to) = (&picture.items[arrow.from].key, &picture.items[arrow.to].key);
        let label = arrow.label.iter().map(|label| format!(" [label={}]", quote(label))).collect::<String>();
        let _ = writeln!(out, "  {from} -> {to}{label};");
    }
    out.push_str("}\n");
    out
}

fn vertex(item: &Item) -> String {
    let (fill, stroke) = item.kind.colours();
    let text: Vec<&str> = std::iter::once(&item.title).chain(&item.lines).map(String::as_str).collect();
    let more = match item.kind {
        Kind::Output => ", shape=oval, fontcolor=\"#ffffff\"",
        Kind::Fold => ", style=dashed",
        _ => "",
    };
    format!("{} [label={}, fillcolor=\"{fill}\", color=\"{stroke}\"{more}];", item.key, quote(&text.join("\n")))
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::text::parse;
    use crate::graph::view::Layers;

    #[test]
    fn layers_are_framed_or_folded() {
        let mut text = String::from("graph \"g\\\"\" (T <= 4, S <= 8, R <= 1) {\n  n0 \"x\" = input : f32[32, T]\n");
        for layer in 0..3 {
            let _ = writeln!(text, "  n{} \"blk.{layer}.a\" = unary(n{layer}) {{kind=silu}}", layer + 1);
        }
        let g = parse(&format!("{text}  output \"y\" = n3\n}}")).unwrap();
        let all = graph(&g, &Fold::new(&g, &Layers::All));
        assert!(all.starts_with("digraph \"g\\\"\" {") && all.ends_with("}\n"), "{all}");
        assert_eq!((all.matches("subgraph cluster_").count(), all.matches("->").count()), (3, 4), "{all}");
        let folded = graph(&g, &Fold::new(&g, &Layers::Folded));
        assert_eq!(folded.matches("subgraph cluster_").count(), 1, "{folded}");
        assert!(folded.contains("layers 1–2") && folded.contains("n1 -> fold0"), "{folded}");
    }
}
