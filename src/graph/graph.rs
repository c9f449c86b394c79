//! [`Graph`]: nodes with typed results, edges with operand slots. petgraph is used here and nowhere else.

use super::{NodeId, Value};
use crate::ops::{InferError, Op, TensorType, Types};
use crate::tensor::Bounds;
use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// An op with its operands' edges, result types and label.
#[derive(Clone, Debug)]
pub struct Node {
    /// The op with its attributes.
    pub op: Op,
    /// Types of its results.
    pub types: Types,
    /// A name for messages and dumps; for inputs, weights and states the name by which they are bound.
    pub label: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    out: u8,
    slot: u8,
}

/// A graph of ops with named outputs.
#[derive(Clone, Debug)]
pub struct Graph {
    /// A name for dumps.
    pub name: String,
    /// The largest values of the symbols.
    pub bounds: Bounds,
    /// A removed node leaves its place empty: petgraph would give its id to the next node.
    nodes: StableDiGraph<Option<Node>, Edge>,
    len: usize,
    outputs: Vec<(String, Value)>,
}

/// Why a node cannot be added or changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EditError {
    /// The op does not accept its operands.
    #[error("{op}{}: {error}", label.as_ref().map(|l| format!(" \"{l}\"")).unwrap_or_default())]
    Infer {
        /// The op's name.
        op: String,
        /// The node's label.
        label: Option<String>,
        /// What is wrong.
        error: InferError,
    },
    /// An operand that the graph does not have.
    #[error("{op}: operand {value} is not in the graph")]
    NoSuchValue {
        /// The op's name.
        op: String,
        /// The operand.
        value: Value,
    },
    /// A node would depend on itself.
    #[error("{0} would depend on its own result")]
    Cycle(NodeId),
    /// A change would alter the type of a value that others use.
    #[error("{node} would change its type from {from} to {to}")]
    TypeChange {
        /// The node.
        node: NodeId,
        /// The type it has.
        from: String,
        /// The type it would get.
        to: String,
    },
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>, bounds: Bounds) -> Graph {
        Graph { name: name.into(), bounds, nodes: StableDiGraph::new(), len: 0, outputs: Vec::new() }
    }

    /// Adds a node after inferring its types.
    pub fn add(&mut self, op: impl Into<Op>, operands: &[Value], label: Option<&str>) -> Result<NodeId, EditError> {
        let op = op.into();
        let label = label.map(str::to_string);
        let types = self.infer(&op, operands, label.as_deref())?;
        let index = self.nodes.add_node(Some(Node { op, types, label }));
        self.len += 1;
        self.connect(index, operands);
        Ok(node_id(index))
    }

    /// Replaces a node's op and operands. Its label, its users and the types of its results stay.
    pub fn replace(&mut self, id: NodeId, op: impl Into<Op>, operands: &[Value]) -> Result<(), EditError> {
        let op = op.into();
        let node = self.node(id).clone();
        let types = self.infer(&op, operands, node.label.as_deref())?;
        if types.iter().zip(&node.types).any(|(a, b)| a != b) || types.len() < node.types.len() {
            return Err(EditError::TypeChange { node: id, from: join(&node.types), to: join(&types) });
        }
        if operands.iter().any(|v| v.node == id || self.depends_on(v.node, id)) {
            return Err(EditError::Cycle(id));
        }
        self.disconnect(id);
        self.nodes[index(id)] = Some(Node { op, types, label: node.label });
        self.connect(index(id), operands);
        Ok(())
    }

    /// Makes every user of `from`, outputs included, use `to`.
    ///
    /// # Errors
    /// When the types differ or a user of `from` is what `to` is computed from.
    pub fn replace_uses(&mut self, from: Value, to: Value) -> Result<(), EditError> {
        let (a, b) = (self.ty(from), self.ty(to));
        if a != b {
            return Err(EditError::TypeChange { node: from.node, from: a.to_string(), to: b.to_string() });
        }
        let users = self.users(from);
        if users.iter().any(|&(user, _)| user == to.node || self.depends_on(to.node, user)) {
            return Err(EditError::Cycle(to.node));
        }
        for (user, slot) in users {
            self.set_operand(user, slot, to);
        }
        for output in &mut self.outputs {
            if output.1 == from {
                output.1 = to;
            }
        }
        Ok(())
    }

    /// Removes a node that nobody uses; `false` if somebody does.
    pub fn remove(&mut self, id: NodeId) -> bool {
        if self.nodes.edges_directed(index(id), Direction::Outgoing).next().is_some()
            || self.outputs.iter().any(|(_, v)| v.node == id)
        {
            return false;
        }
        self.disconnect(id);
        let removed = self.nodes.node_weight_mut(index(id)).and_then(Option::take).is_some();
        self.len -= usize::from(removed);
        removed
    }

    /// Sets or replaces a node's label.
    pub fn set_label(&mut self, id: NodeId, label: impl Into<String>) {
        if let Some(node) = &mut self.nodes[index(id)] {
            node.label = Some(label.into());
        }
    }

    /// Declares `value` an output; an output of the same name is replaced.
    pub fn set_output(&mut self, name: impl Into<String>, value: Value) {
        let name = name.into();
        match self.outputs.iter_mut().find(|(n, _)| *n == name) {
            Some(output) => output.1 = value,
            None => self.outputs.push((name, value)),
        }
    }

    /// The outputs in the order of their declaration.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// A node.
    ///
    /// # Panics
    /// If the node was removed or belongs to another graph.
    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes[index(id)].as_ref().expect("the caller has the id of a node that is there")
    }

    /// Whether the graph has this node.
    pub fn contains(&self, id: NodeId) -> bool {
        self.nodes.node_weight(index(id)).is_some_and(Option::is_some)
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> &TensorType {
        &self.node(value.node).types[value.out as usize]
    }

    /// A node's operands in order.
    pub fn operands(&self, id: NodeId) -> SmallVec<[Value; 6]> {
        let mut slots: SmallVec<[(u8, Value); 6]> = self
            .nodes
            .edges_directed(index(id), Direction::Incoming)
            .map(|e| (e.weight().slot, Value { node: node_id(e.source()), out: e.weight().out }))
            .collect();
        slots.sort_unstable_by_key(|s| s.0);
        slots.into_iter().map(|s| s.1).collect()
    }

    /// The nodes that use a value, each with its operand slot, in the order of their ids.
    pub fn users(&self, value: Value) -> Vec<(NodeId, usize)> {
        let mut users: Vec<_> = self
            .nodes
            .edges_directed(index(value.node), Direction::Outgoing)
            .filter(|e| e.weight().out == value.out)
            .map(|e| (node_id(e.target()), e.weight().slot as usize))
            .collect();
        users.sort_unstable();
        users
    }

    /// The only user of a value that is not an output; `None` if there are none or several.
    pub fn sole_user(&self, value: Value) -> Option<NodeId> {
        match self.users(value).as_slice() {
            [(user, _)] if !self.is_output(value) => Some(*user),
            _ => None,
        }
    }

    /// Whether a value is an output of the graph.
    pub fn is_output(&self, value: Value) -> bool {
        self.outputs.iter().any(|(_, v)| *v == value)
    }

    /// All nodes in the order of their ids.
    pub fn ids(&self) -> Vec<NodeId> {
        self.indices().map(node_id).collect()
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Node by label.
    pub fn by_label(&self, label: &str) -> Option<NodeId> {
        let labelled = |node: &Option<Node>| node.as_ref().is_some_and(|n| n.label.as_deref() == Some(label));
        self.nodes.node_indices().find(|&i| labelled(&self.nodes[i])).map(node_id)
    }

    /// How a node is called in messages: its id, and its label if it has one.
    pub fn describe(&self, id: NodeId) -> String {
        match &self.node(id).label {
            Some(label) => format!("{id} \"{label}\""),
            None => format!("{id} ({})", self.node(id).op.name()),
        }
    }

    /// All nodes, each after its operands; of those that may come next, the one with the smallest id.
    pub fn topological(&self) -> Vec<NodeId> {
        let mut waiting: Vec<usize> = vec![0; self.nodes.node_indices().next_back().map_or(0, |i| i.index() + 1)];
        let mut ready = BinaryHeap::new();
        for i in self.indices() {
            waiting[i.index()] = self.nodes.edges_directed(i, Direction::Incoming).count();
            if waiting[i.index()] == 0 {
                ready.push(Reverse(i));
            }
        }
        let mut order = Vec::with_capacity(self.len());
        while let Some(Reverse(i)) = ready.pop() {
            order.push(node_id(i));
            for edge in self.nodes.edges_directed(i, Direction::Outgoing) {
                let target = edge.target();
                waiting[target.index()] -= 1;
                if waiting[target.index()] == 0 {
                    ready.push(Reverse(target));
                }
            }
        }
        order
    }

    /// Whether the value of `node` is computed from `other`.
    pub fn depends_on(&self, node: NodeId, other: NodeId) -> bool {
        petgraph::algo::has_path_connecting(&self.nodes, index(other), index(node), None)
    }

    fn indices(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.nodes.node_indices().filter(|&i| self.nodes[i].is_some())
    }

    fn disconnect(&mut self, id: NodeId) {
        let old: Vec<_> = self.nodes.edges_directed(index(id), Direction::Incoming).map(|e| e.id()).collect();
        for edge in old {
            self.nodes.remove_edge(edge);
        }
    }

    fn set_operand(&mut self, user: NodeId, slot: usize, to: Value) {
        let old = self
            .nodes
            .edges_directed(index(user), Direction::Incoming)
            .find(|e| e.weight().slot as usize == slot)
            .map(|e| e.id());
        if let Some(edge) = old {
            self.nodes.remove_edge(edge);
        }
        self.nodes.add_edge(index(to.node), index(user), Edge { out: to.out, slot: slot as u8 });
    }

    fn connect(&mut self, to: NodeIndex, operands: &[Value]) {
        for (slot, value) in operands.iter().enumerate() {
            self.nodes.add_edge(index(value.node), to, Edge { out: value.out, slot: slot as u8 });
        }
    }

    fn infer(&self, op: &Op, operands: &[Value], label: Option<&str>) -> Result<Types, EditError> {
        let mut types: SmallVec<[&TensorType; 6]> = SmallVec::new();
        for &value in operands {
            let node = self.nodes.node_weight(index(value.node)).and_then(Option::as_ref);
            let ty = node.and_then(|n| n.types.get(value.out as usize));
            types.push(ty.ok_or_else(|| EditError::NoSuchValue { op: op.name().to_string(), value })?);
        }
        let label = label.map(str::to_string);
        op.infer(&types).map_err(|error| EditError::Infer { op: op.name().to_string(), label, error })
    }
}

fn index(id: NodeId) -> NodeIndex {
    NodeIndex::new(id.index())
}

fn node_id(index: NodeIndex) -> NodeId {
    NodeId(index.index() as u32)
}

fn join(types: &[TensorType]) -> String {
    types.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Constant, Scale};
    use crate::tensor::Shape;

    #[test]
    fn ids_are_not_used_again() {
        let mut g = Graph::new("g", Bounds { t: 1, s: 1, r: 1 });
        let a = g.add(Constant { value: 1.0, shape: Shape::new(&[4]) }, &[], Some("a")).unwrap();
        let b = g.add(Scale { factor: 2.0 }, &[Value::first(a)], None).unwrap();
        assert!(!g.remove(a), "it is used");
        assert!(g.remove(b) && !g.remove(b) && !g.contains(b));
        let c = g.add(Scale { factor: 3.0 }, &[Value::first(a)], None).unwrap();
        assert!(c > b);
        assert_eq!((g.len(), g.ids(), g.topological()), (2, vec![a, c], vec![a, c]));
        assert!(g.add(Scale { factor: 3.0 }, &[Value::first(b)], None).is_err());
        assert!(g.remove(c) && g.remove(a) && g.is_empty() && g.by_label("a").is_none());
    }
}
