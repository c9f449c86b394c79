//! Computes equal expressions once: same op, same attributes, same operands.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, NodeId, Value};
use crate::ops::Op;
use std::collections::HashMap;

pub struct CommonSubexpressions;

impl Pass for CommonSubexpressions {
    fn name(&self) -> &'static str {
        "common_subexpressions"
    }

    fn about(&self) -> &'static str {
        "computes expressions with equal op, attributes and operands once"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        // Grouped by op name and operands; attributes are compared by equality within a group.
        let mut seen: HashMap<(String, Vec<Value>), Vec<NodeId>> = HashMap::new();
        for id in graph.topological() {
            let node = graph.node(id);
            if node.op.appends() || matches!(node.op, Op::Input(_) | Op::Weight(_) | Op::State(_) | Op::Custom(_)) {
                continue;
            }
            let key = (node.op.name().to_string(), graph.operands(id).to_vec());
            let group = seen.entry(key).or_default();
            let Some(&first) = group.iter().find(|&&other| equal(&graph.node(other).op, &node.op)) else {
                group.push(id);
                continue;
            };
            let results = node.types.len();
            let saved = (0..results).map(|out| 2 * bytes(graph, Value { node: id, out: out as u8 })).sum();
            cx.applied(graph, id, saved, 1);
            for out in 0..results as u8 {
                graph.replace_uses(Value { node: id, out }, Value { node: first, out })?;
            }
            graph.remove(id);
        }
        Ok(())
    }
}

/// Whether two ops compute the same bits: equal numbers are not enough, since 0 = −0.
fn equal(a: &Op, b: &Op) -> bool {
    a == b && a.attrs().iter().zip(b.attrs()).all(|(x, y)| x.1.to_string() == y.1.to_string())
}
