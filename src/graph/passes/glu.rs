//! mul(silu(gate), up) or mul(up, silu(gate)) → glu(gate, up); likewise gelu.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph};
use crate::ops::{Activation, Glu, Op};

pub struct GluPass;

impl Pass for GluPass {
    fn name(&self) -> &'static str {
        "glu"
    }

    fn about(&self) -> &'static str {
        "applies a gate's activation and the product in one step"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            if !matches!(graph.node(id).op, Op::Mul(_)) {
                continue;
            }
            let product = graph.operands(id);
            let gate_of = |i: usize| match &graph.node(product[i].node).op {
                Op::Unary(u) if matches!(u.kind, Activation::Silu | Activation::Gelu) => Some((i, u.kind)),
                _ => None,
            };
            let Some((i, act)) = gate_of(0).or_else(|| gate_of(1)) else { continue };
            let (activated, up) = (product[i], product[1 - i]);
            if graph.ty(activated) != graph.ty(up) {
                cx.refused(graph, id, format!("gate {} and up {} differ in shape", graph.ty(activated), graph.ty(up)));
                continue;
            }
            if graph.sole_user(activated).is_none() {
                cx.refused(graph, id, format!("{} has a second consumer", graph.describe(activated.node)));
                continue;
            }
            let gate = graph.operands(activated.node)[0];
            let saved = 2 * bytes(graph, activated);
            graph.replace(id, Glu { act }, &[gate, up])?;
            graph.remove(activated.node);
            cx.applied(graph, id, saved, 1);
        }
        Ok(())
    }
}
