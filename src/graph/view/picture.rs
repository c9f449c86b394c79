//! [`Picture`]: the boxes and lines of a graph's drawing.
//!
//! Weights, constants and index inputs that several nodes read are lines of text in the boxes that read them: as boxes of their own
//! they would be half of the picture. A run of hidden layers is one box.

use super::{Fold, Kind, units};
use crate::graph::{Graph, NodeId, Value};
use crate::ops::Op;
use crate::tensor::DType;
use std::collections::{BTreeMap, HashMap};

/// A box.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// `n12`, `fold0`, or `out0`.
    pub key: String,
    /// Family of its op.
    pub kind: Kind,
    /// First line: the op.
    pub title: String,
    /// Further lines.
    pub lines: Vec<String>,
    /// The nodes it stands for: itself and the sources that are written in it.
    pub nodes: Vec<NodeId>,
    /// The layer that it belongs to.
    pub layer: Option<usize>,
    /// Its part of a measured time, from 0 to 1 ([`Heat`](super::measured::Heat)).
    pub warmth: Option<f64>,
}

/// A line from one box to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrow {
    /// Index of a box.
    pub from: usize,
    /// Index of a box.
    pub to: usize,
    /// Type of the value, on the first line that leaves with it.
    pub label: Option<String>,
}

/// Boxes and lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// The boxes.
    pub items: Vec<Item>,
    /// The lines.
    pub arrows: Vec<Arrow>,
}

/// Characters of a line in a box at most.
const WIDEST: usize = 46;

impl Picture {
    /// The picture of a graph.
    pub fn new(graph: &Graph, fold: &Fold) -> Picture {
        let mut picture = Picture::default();
        let mut at: HashMap<NodeId, usize> = HashMap::new();
        let mut folds: BTreeMap<usize, usize> = BTreeMap::new();
        for id in graph.topological() {
            if let Some(run) = fold.hidden(id) {
                let index = *folds.entry(run).or_insert_with(|| picture.push(fold_item(fold, run)));
                at.insert(id, index);
                picture.items[index].nodes.push(id);
            } else if !is_inline(graph, id) {
                at.insert(id, picture.push(item(graph, fold, id)));
            }
        }
        picture.connect(graph, &at);
        for (i, (name, value)) in graph.outputs().iter().enumerate() {
            let output = Item {
                key: format!("out{i}"),
                kind: Kind::Output,
                title: name.clone(),
                lines: Vec::new(),
                nodes: Vec::new(),
                layer: None,
                warmth: None,
            };
            let to = picture.push(output);
            if let Some(&from) = at.get(&value.node) {
                let first = !picture.arrows.iter().any(|a| a.from == from);
                let label = first.then(|| graph.ty(*value).to_string());
                picture.arrows.push(Arrow { from, to, label });
            }
        }
        picture
    }

    fn push(&mut self, item: Item) -> usize {
        self.items.push(item);
        self.items.len() - 1
    }

    fn connect(&mut self, graph: &Graph, at: &HashMap<NodeId, usize>) {
        let mut told: Vec<(usize, Value)> = Vec::new();
        for user in graph.topological() {
            let Some(&to) = at.get(&user) else { continue };
            for value in graph.operands(user) {
                let Some(&from) = at.get(&value.node) else { continue };
                // Inside of a fold nothing is drawn, and several lines between two boxes are one.
                if from == to
                    || self.arrows.iter().any(|a| (a.from, a.to) == (from, to) && told.contains(&(from, value)))
                {
                    continue;
                }
                let label = (!told.contains(&(from, value))).then(|| graph.ty(value).to_string());
                told.push((from, value));
                self.arrows.push(Arrow { from, to, label });
            }
        }
    }
}

/// Whether a source is written in the boxes that read it.
fn is_inline(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let used = graph.users(Value::first(id)).len();
    let output = graph.is_output(Value::first(id));
    match node.op {
        _ if used == 0 || output => false,
        Op::Weight(_) | Op::Constant(_) => true,
        Op::Input(_) => node.types[0].dtype == DType::I32 && used > 1,
        _ => false,
    }
}

fn item(graph: &Graph, fold: &Fold, id: NodeId) -> Item {
    let node = graph.node(id);
    let mut lines: Vec<String> = node.label.iter().map(|label| short(label)).collect();
    let attrs: Vec<String> = node.op.attrs().iter().map(|(n, v)| format!("{n}={v}")).collect();
    if !attrs.is_empty() {
        lines.push(short(&attrs.join(" ")));
    }
    let mut nodes = vec![id];
    for (slot, value) in graph.operands(id).iter().enumerate().filter(|(_, v)| is_inline(graph, v.node)) {
        let source = graph.node(value.node);
        let name = node.op.operand_name(slot).unwrap_or_default();
        let called = match (&source.op, &source.label) {
            (Op::Constant(c), _) => format!("{:?}", c.value),
            (_, Some(label)) => label.strip_suffix(".weight").unwrap_or(label).to_string(),
            _ => value.to_string(),
        };
        let ty = if matches!(source.op, Op::Weight(_)) { format!(" {}", graph.ty(*value)) } else { String::new() };
        lines.push(short(&format!("{name} ← {called}{ty}")));
        nodes.push(value.node);
    }
    Item {
        key: id.to_string(),
        kind: Kind::of(&node.op),
        title: format!("{id} {}", node.op.name()),
        lines,
        nodes,
        layer: fold.layer(id),
        warmth: None,
    }
}

fn fold_item(fold: &Fold, run: usize) -> Item {
    let which = &fold.runs()[run];
    let layers = units::ranges(which.layers.iter().copied());
    let name = if which.layers.len() == 1 { "layer" } else { "layers" };
    let mut lines = Vec::new();
    if let Some(like) = which.like {
        lines.push(format!("layer {like} × {} more", which.layers.len()));
    }
    if !which.other_types.is_empty() {
        let others = units::ranges(which.other_types.iter().copied());
        lines.push(short(&format!("other weight types in {others}")));
    }
    lines.push(units::plural(which.nodes, "node"));
    Item {
        key: format!("fold{run}"),
        kind: Kind::Fold,
        title: format!("{name} {layers}"),
        lines,
        nodes: Vec::new(),
        layer: None,
        warmth: None,
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= WIDEST {
        return text.to_string();
    }
    text.chars().take(WIDEST - 1).chain(['…']).collect()
}
