//! The verifier. It checks these invariants of a [`Graph`]:
//!
//! 1. The graph has no cycle.
//! 2. Every node's result types are what its op infers from its operands' types.
//! 3. Every operand and every output is a result that its node has.
//! 4. Inputs, weights and states have labels, and no two of one kind have the same.
//! 5. Output names are not empty and differ.
//! 6. A state is read by at most one `kv_append` and, if there is one, by nothing else: a cache has one history.
//! 7. The size in bytes of every value is computable under the graph's bounds (no overflow, whole blocks) and at most 2^48, so
//!    that sums over a graph do not overflow either.

use super::{Graph, NodeId, Value};
use crate::ops::{Op, TensorType};
use smallvec::SmallVec;
use std::collections::BTreeSet;

/// The most bytes of a value.
const LARGEST: usize = 1 << 48;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("invariant {invariant} of the graph is broken at {site}: {reason}")]
pub struct VerifyError {
    /// The number in the list at the top of this module.
    pub invariant: u8,
    /// The node or output.
    pub site: String,
    /// The node, where the site is one.
    pub node: Option<NodeId>,
    /// What is wrong.
    pub reason: String,
}

/// Checks all invariants; the first broken one is the error.
pub fn verify(graph: &Graph) -> Result<(), VerifyError> {
    let order = graph.topological();
    if order.len() != graph.len() {
        let done: BTreeSet<NodeId> = order.into_iter().collect();
        let stuck = graph.ids().into_iter().find(|id| !done.contains(id)).expect("a node is missing from the order");
        return Err(broken(graph, 1, stuck, "it depends on its own result"));
    }
    for &id in &order {
        check_node(graph, id)?;
    }
    check_labels(graph)?;
    check_outputs(graph)
}

fn check_node(graph: &Graph, id: NodeId) -> Result<(), VerifyError> {
    let node = graph.node(id);
    let operands = graph.operands(id);
    let mut types: SmallVec<[&TensorType; 6]> = SmallVec::new();
    for v in &operands {
        match graph.node(v.node).types.get(v.out as usize) {
            Some(ty) => types.push(ty),
            None => return Err(broken(graph, 3, id, format!("operand {v} does not exist"))),
        }
    }
    match node.op.infer(&types) {
        Ok(inferred) if inferred == node.types => {}
        Ok(inferred) => {
            return Err(broken(graph, 2, id, format!("types are {:?}, inferred {inferred:?}", node.types)));
        }
        Err(e) => return Err(broken(graph, 2, id, e.to_string())),
    }
    for ty in &node.types {
        if ty.bytes(&graph.bounds).is_none_or(|bytes| bytes > LARGEST) {
            let reason = format!("{ty} has no size in bytes under {}, or more than 2^48", graph.bounds);
            return Err(broken(graph, 7, id, reason));
        }
    }
    if matches!(node.op, Op::State(_)) {
        let users = graph.users(Value::first(id));
        let appends = users.iter().filter(|(u, _)| graph.node(*u).op.appends()).count();
        if appends > 1 || (appends == 1 && users.len() > 1) {
            return Err(broken(graph, 6, id, "it is appended to and also used elsewhere"));
        }
    }
    Ok(())
}

fn check_labels(graph: &Graph) -> Result<(), VerifyError> {
    let mut seen = BTreeSet::new();
    for id in graph.ids() {
        let node = graph.node(id);
        if !matches!(node.op, Op::Input(_) | Op::Weight(_) | Op::State(_)) {
            continue;
        }
        match &node.label {
            None => return Err(broken(graph, 4, id, "it needs a label by which it is bound")),
            Some(label) if !seen.insert((node.op.name().to_string(), label.clone())) => {
                return Err(broken(graph, 4, id, format!("another {} has the label \"{label}\"", node.op.name())));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn check_outputs(graph: &Graph) -> Result<(), VerifyError> {
    let mut seen = BTreeSet::new();
    for (name, value) in graph.outputs() {
        let error = |invariant, reason: String| {
            Err(VerifyError { invariant, site: format!("output \"{name}\""), node: None, reason })
        };
        if name.is_empty() || !seen.insert(name) {
            return error(5, "output names must differ and not be empty".to_string());
        }
        if !graph.contains(value.node) || graph.node(value.node).types.len() <= value.out as usize {
            return error(3, format!("{value} does not exist"));
        }
    }
    Ok(())
}

fn broken(graph: &Graph, invariant: u8, id: NodeId, reason: impl Into<String>) -> VerifyError {
    VerifyError { invariant, site: graph.describe(id), node: Some(id), reason: reason.into() }
}
