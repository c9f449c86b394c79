//! glu(qmatmul(gate, x), qmatmul(up, x)) → glu_qmatmul(x, gate, up).

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, Value};
use crate::ops::{GluQMatmul, Op, QMatmul};

pub struct GluMatmul;

impl Pass for GluMatmul {
    fn name(&self) -> &'static str {
        "glu_matmul"
    }

    fn about(&self) -> &'static str {
        "multiplies gate and up projections by the same input and applies the gate before they are stored"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            let Op::Glu(glu) = graph.node(id).op.clone() else { continue };
            let parts = graph.operands(id);
            let (Op::QMatmul(gate), Op::QMatmul(up)) = (&graph.node(parts[0].node).op, &graph.node(parts[1].node).op)
            else {
                continue;
            };
            let plain = |m: &QMatmul| !m.bias && !m.residual && m.act.is_none();
            let refusal = if !plain(gate) || !plain(up) {
                Some("a projection has a bias, activation or residual".to_string())
            } else if gate.activation != up.activation {
                Some("the projections round their input differently".to_string())
            } else {
                let shared = parts.iter().find(|&&p| graph.sole_user(p).is_none());
                shared.map(|p| format!("{} has a second consumer", graph.describe(p.node)))
            };
            if let Some(reason) = refusal {
                cx.refused(graph, id, reason);
                continue;
            }
            let activation = gate.activation;
            let (gate, up) = (graph.operands(parts[0].node), graph.operands(parts[1].node));
            if gate[1] != up[1] {
                cx.refused(graph, id, "the projections have different inputs");
                continue;
            }
            if graph.ty(gate[0]).shape != graph.ty(up[0]).shape {
                cx.refused(graph, id, "the weights differ in shape");
                continue;
            }
            let wants = |w: Value| cx.activation_type(graph, w);
            if wants(gate[0]) != wants(up[0]) {
                cx.refused(graph, id, "the weights want activations of different types");
                continue;
            }
            let saved = 2 * (bytes(graph, parts[0]) + bytes(graph, parts[1]));
            graph.replace(id, GluQMatmul { act: glu.act, activation, norm_eps: 0.0 }, &[gate[1], gate[0], up[0]])?;
            graph.remove(parts[0].node);
            graph.remove(parts[1].node);
            cx.applied(graph, id, saved, 2);
        }
        Ok(())
    }
}
