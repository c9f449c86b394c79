//! [`Fold`]: which layers of a graph are shown, and which stand for others.
//!
//! Layers are found by the labels `blk.N.` that models give their nodes and weights. Two layers are alike when they have the same
//! ops with the same attributes, shapes and wiring; their weights may be stored in other types, which is said where it is so.

use super::units;
use crate::graph::{Graph, NodeId};
use crate::ops::Op;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::ops::Range;

/// Which layers to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Layers {
    /// One of each kind.
    #[default]
    Folded,
    /// All.
    All,
    /// Those of a range.
    Range(Range<usize>),
}

/// Consecutive layers that are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The layers.
    pub layers: Vec<usize>,
    /// The layer that is shown in their place, if they are all like one.
    pub like: Option<usize>,
    /// Those of them whose weights are stored in other types than those of `like`.
    pub other_types: Vec<usize>,
    /// Nodes in them.
    pub nodes: usize,
}

impl Run {
    /// What it stands for, in a line.
    pub fn describe(&self) -> String {
        let which = if self.layers.len() == 1 { "layer" } else { "layers" };
        let mut text = format!("{which} {}", units::ranges(self.layers.iter().copied()));
        if let Some(like) = self.like {
            let _ = write!(text, ": layer {like} × {} more", self.layers.len());
        }
        if !self.other_types.is_empty() {
            let _ = write!(text, " (other weight types in {})", units::ranges(self.other_types.iter().copied()));
        }
        text
    }
}

/// Layers of a graph, shown and hidden.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    layers: HashMap<NodeId, usize>,
    hidden: HashMap<usize, usize>,
    runs: Vec<Run>,
    count: usize,
}

impl Fold {
    /// Folds a graph.
    pub fn new(graph: &Graph, show: &Layers) -> Fold {
        let layers = assign(graph);
        let mut members: BTreeMap<usize, Vec<NodeId>> = BTreeMap::new();
        for id in graph.ids() {
            if let Some(&layer) = layers.get(&id) {
                members.entry(layer).or_default().push(id);
            }
        }
        let kinds = kinds(graph, &layers, &members);
        let shown = |layer: usize| match show {
            Layers::All => true,
            Layers::Range(range) => range.contains(&layer),
            Layers::Folded => kinds[&layer].0 == layer,
        };
        let mut fold = Fold { count: members.len(), ..Fold::default() };
        let mut last: Option<usize> = None;
        for (&layer, nodes) in &members {
            if shown(layer) {
                last = None;
                continue;
            }
            let (like, same_types) = kinds[&layer];
            let like = (shown(like) && like != layer).then_some(like);
            let continues = last == layer.checked_sub(1) && fold.runs.last().is_some_and(|r| r.like == like);
            if last.is_none() || !continues {
                fold.runs.push(Run { layers: Vec::new(), like, other_types: Vec::new(), nodes: 0 });
            }
            let index = fold.runs.len() - 1;
            let run = &mut fold.runs[index];
            run.layers.push(layer);
            run.nodes += nodes.len();
            if like.is_some() && !same_types {
                run.other_types.push(layer);
            }
            fold.hidden.insert(layer, index);
            last = Some(layer);
        }
        fold.layers = layers;
        fold
    }

    /// The layer that a node belongs to.
    pub fn layer(&self, id: NodeId) -> Option<usize> {
        self.layers.get(&id).copied()
    }

    /// The run that hides a node.
    pub fn hidden(&self, id: NodeId) -> Option<usize> {
        self.layer(id).and_then(|layer| self.hidden.get(&layer).copied())
    }

    /// Whether a layer is shown.
    pub fn shows(&self, layer: usize) -> bool {
        !self.hidden.contains_key(&layer)
    }

    /// The runs of layers that are not shown, in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Number of layers.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// The number in `blk.N.`.
pub fn layer_of_label(label: &str) -> Option<usize> {
    let (number, _) = label.strip_prefix("blk.")?.split_once('.')?;
    number.parse().ok()
}

/// The layer of each node that is in one: by its label, else by the weights it reads, else by what uses it.
fn assign(graph: &Graph) -> HashMap<NodeId, usize> {
    let mut found: HashMap<NodeId, Option<usize>> = HashMap::new();
    let mut order = graph.topological();
    order.reverse();
    for &id in &order {
        let node = graph.node(id);
        if matches!(node.op, Op::Input(_)) {
            found.insert(id, None);
            continue;
        }
        let shared = node.op.is_source() && !matches!(node.op, Op::Weight(_));
        let own = node.label.as_deref().filter(|_| !shared).map(layer_of_label);
        let layer = own.or_else(|| by_weights(graph, id)).unwrap_or_else(|| by_users(graph, id, &found, shared));
        found.insert(id, layer);
    }
    // What nobody uses goes with its operands.
    order.reverse();
    for id in order {
        if found[&id].is_none() && graph.node(id).label.is_none() && users(graph, id).is_empty() {
            let layer = graph.operands(id).iter().filter_map(|v| found[&v.node]).max();
            found.insert(id, layer);
        }
    }
    found.into_iter().filter_map(|(id, layer)| Some((id, layer?))).collect()
}

fn users(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    let outs = 0..graph.node(id).types.len() as u8;
    outs.flat_map(|out| graph.users(crate::graph::Value { node: id, out })).map(|(user, _)| user).collect()
}

fn by_weights(graph: &Graph, id: NodeId) -> Option<Option<usize>> {
    let operands = graph.operands(id);
    let weights = operands.iter().map(|v| graph.node(v.node)).filter(|n| matches!(n.op, Op::Weight(_)));
    let labels: Vec<Option<usize>> = weights.filter_map(|n| n.label.as_deref().map(layer_of_label)).collect();
    labels.first().copied().filter(|first| labels.iter().all(|l| l == first))
}

/// The first layer that uses a value; a source that several use is outside of them.
fn by_users(graph: &Graph, id: NodeId, found: &HashMap<NodeId, Option<usize>>, shared: bool) -> Option<usize> {
    let layers: BTreeSet<Option<usize>> = users(graph, id).iter().map(|u| found[u]).collect();
    if shared && layers.len() > 1 {
        return None;
    }
    layers.into_iter().flatten().next()
}

/// For each layer the first one that is like it, and whether its weights have the same types.
fn kinds(
    graph: &Graph,
    layers: &HashMap<NodeId, usize>,
    members: &BTreeMap<usize, Vec<NodeId>>,
) -> HashMap<usize, (usize, bool)> {
    let mut first: HashMap<String, (usize, String)> = HashMap::new();
    let mut kinds = HashMap::new();
    for (&layer, nodes) in members {
        let (shape, types) = signature(graph, layers, layer, nodes);
        let (like, its_types) = first.entry(shape).or_insert_with(|| (layer, types.clone()));
        kinds.insert(layer, (*like, *its_types == types));
    }
    kinds
}

/// Ops, attributes, result types and wiring as one text, and the types of the weights as another.
fn signature(graph: &Graph, layers: &HashMap<NodeId, usize>, layer: usize, nodes: &[NodeId]) -> (String, String) {
    let index: HashMap<NodeId, usize> = nodes.iter().enumerate().map(|(i, &id)| (id, i)).collect();
    let (mut shape, mut types) = (String::new(), String::new());
    for &id in nodes {
        let node = graph.node(id);
        let _ = write!(shape, "{}", node.op.name());
        for (name, value) in node.op.attrs() {
            let _ = write!(shape, " {name}={value}");
        }
        for ty in &node.types {
            if matches!(node.op, Op::Weight(_)) {
                let _ = write!(shape, ":{}", ty.shape);
                let _ = write!(types, "{} ", ty.dtype);
            } else {
                let _ = write!(shape, ":{ty}");
            }
        }
        for value in graph.operands(id) {
            let _ = match (index.get(&value.node), layers.get(&value.node)) {
                (Some(i), _) => write!(shape, " {i}.{}", value.out),
                (None, None) if is_shared(graph, layers, value.node) => write!(shape, " {}", value.node),
                (None, Some(&other)) if other + 1 != layer => write!(shape, " from {other}"),
                _ => write!(shape, " x"),
            };
        }
        shape.push('\n');
    }
    (shape, types)
}

/// Whether a node is a source that several layers read.
fn is_shared(graph: &Graph, layers: &HashMap<NodeId, usize>, id: NodeId) -> bool {
    let readers: BTreeSet<Option<&usize>> = users(graph, id).iter().map(|user| layers.get(user)).collect();
    graph.node(id).op.is_source() && readers.len() > 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::text::parse;

    /// Four layers y = x + W x; layer 3 has an activation.
    fn graph(dtypes: [&str; 4]) -> Graph {
        let mut text = String::from("graph \"g\" (T <= 4, S <= 8, R <= 1) {\n x0 \"x\" = input : f32[32, T]\n");
        for (i, dtype) in dtypes.iter().enumerate() {
            let _ = writeln!(text, "w{i} \"blk.{i}.w.weight\" = weight : {dtype}[32, 32]");
            let _ = writeln!(text, "d{i} = dequantize(w{i})");
            let _ = writeln!(text, "m{i} \"blk.{i}.w\" = matmul(d{i}, x{i})");
            let act = if i == 3 { format!("a{i} = unary(m{i}) {{kind=silu}}\n") } else { String::new() };
            let _ = write!(text, "{act}");
            let y = if i == 3 { "a3".to_string() } else { format!("m{i}") };
            let _ = writeln!(text, "x{} \"blk.{i}.out\" = add(x{i}, {y})", i + 1);
        }
        text.push_str("output \"y\" = x4 }\n");
        parse(&text).unwrap()
    }

    #[test]
    fn like_layers_are_folded_and_others_shown() {
        let g = graph(["q8_0"; 4]);
        let fold = Fold::new(&g, &Layers::Folded);
        assert_eq!((fold.count(), fold.runs().len()), (4, 1));
        let run = &fold.runs()[0];
        assert_eq!((run.layers.as_slice(), run.like, run.nodes), (&[1, 2][..], Some(0), 8));
        assert_eq!(run.describe(), "layers 1–2: layer 0 × 2 more");
        assert!(fold.shows(0) && fold.shows(3) && !fold.shows(1));
        assert_eq!(fold.layer(g.by_label("x").unwrap()), None);
        // The dequantized weight has no label: its weight tells.
        let m = g.by_label("blk.2.w").unwrap();
        assert_eq!(fold.layer(g.operands(m)[0].node), Some(2));
        assert_eq!(fold.hidden(g.operands(m)[0].node), Some(0));
    }

    #[test]
    fn other_weight_types_are_told() {
        let g = graph(["q8_0", "q8_0", "q4_0", "q8_0"]);
        let fold = Fold::new(&g, &Layers::Folded);
        assert_eq!(fold.runs()[0].describe(), "layers 1–2: layer 0 × 2 more (other weight types in 2)");
    }

    #[test]
    fn a_range_shows_its_layers_only() {
        let g = graph(["q8_0"; 4]);
        let fold = Fold::new(&g, &Layers::Range(1..2));
        let runs: Vec<_> = fold.runs().iter().map(|r| (r.layers.clone(), r.like)).collect();
        assert_eq!(runs, [(vec![0], None), (vec![2, 3], None)]);
        assert!(Fold::new(&g, &Layers::All).runs().is_empty());
    }
}
