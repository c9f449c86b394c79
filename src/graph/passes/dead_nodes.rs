//! Removes nodes that no output needs. Appends to a KV cache are needed by the next run and stay.

use super::{Pass, PassContext};
use crate::graph::{EditError, Graph};
use crate::ops::Op;

pub struct DeadNodes;

impl Pass for DeadNodes {
    fn name(&self) -> &'static str {
        "dead_nodes"
    }

    fn about(&self) -> &'static str {
        "removes nodes that no output and no KV cache needs"
    }

    fn run(&self, graph: &mut Graph, _: &mut PassContext<'_>) -> Result<(), EditError> {
        // Users come after what they use, so one backward sweep removes whole chains. Inputs stay: they are the graph's signature.
        for id in graph.topological().into_iter().rev() {
            if !graph.node(id).op.appends() && !matches!(graph.node(id).op, Op::Input(_)) {
                graph.remove(id);
            }
        }
        Ok(())
    }
}
