//! rms_norm_mul(add(x, residual), weight) → add_rms_norm_mul(x, residual, weight), whose first result is the sum.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, Value};
use crate::ops::{AddRmsNormMul, Op};

pub struct AddRmsNorm;

impl Pass for AddRmsNorm {
    fn name(&self) -> &'static str {
        "add_rms_norm"
    }

    fn about(&self) -> &'static str {
        "adds a residual and normalises and scales the sum in one pass over the row"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            let Op::RmsNormMul(norm) = graph.node(id).op.clone() else { continue };
            let operands = graph.operands(id);
            let (sum, weight) = (operands[0], operands[1]);
            if !matches!(graph.node(sum.node).op, Op::Add(_)) {
                continue;
            }
            let terms = graph.operands(sum.node);
            if graph.ty(terms[0]) != graph.ty(terms[1]) {
                cx.refused(graph, id, format!("{} repeats its second term", graph.describe(sum.node)));
                continue;
            }
            if weight.node == sum.node || graph.depends_on(weight.node, sum.node) {
                cx.refused(graph, id, "the weight is computed from the sum");
                continue;
            }
            let saved = bytes(graph, sum);
            graph.replace(sum.node, AddRmsNormMul { eps: norm.eps }, &[terms[0], terms[1], weight])?;
            graph.replace_uses(Value::first(id), Value { node: sum.node, out: 1 })?;
            graph.remove(id);
            cx.applied(graph, sum.node, saved, 1);
        }
        Ok(())
    }
}
