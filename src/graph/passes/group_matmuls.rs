//! qmatmul(w0, x), qmatmul(w1, x), … → qmatmul_group(x, w0, w1, …): one step for the projections of one input.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, NodeId, Value};
use crate::ops::{Op, QMatmul, QMatmulGroup};
use crate::tensor::DType;

pub struct GroupMatmuls;

/// The most weights of a group.
const MOST: usize = 16;

impl Pass for GroupMatmuls {
    fn name(&self) -> &'static str {
        "group_matmuls"
    }

    fn about(&self) -> &'static str {
        "multiplies the weights that share an input (Q, K and V) in one step"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        let mut groups: Vec<(Value, QMatmul, DType, Vec<NodeId>)> = Vec::new();
        for id in graph.topological() {
            let Op::QMatmul(matmul) = &graph.node(id).op else { continue };
            let operands = graph.operands(id);
            let x = operands[1];
            let wants = cx.activation_type(graph, operands[0]);
            match groups.iter_mut().find(|g| g.0 == x && g.1 == *matmul && g.2 == wants && g.3.len() < MOST) {
                Some(group) => group.3.push(id),
                None => groups.push((x, matmul.clone(), wants, vec![id])),
            }
        }
        let sharing = |x: Value| groups.iter().filter(|g| g.0 == x).count() > 1;
        for (x, matmul, _, members) in &groups {
            if members.len() < 2 {
                if sharing(*x) {
                    cx.refused(
                        graph,
                        members[0],
                        "the other matmuls of this input differ in bias, activation, residual or rounding",
                    );
                }
                continue;
            }
            if matmul.residual || matmul.act.is_some() {
                let with = if matmul.residual { "residuals" } else { "activations" };
                cx.refused(graph, members[0], format!("matmuls with {with} are not grouped"));
                continue;
            }
            // A member whose bias is computed from another member cannot run beside it.
            if members.iter().any(|&a| members.iter().any(|&b| a != b && graph.depends_on(a, b))) {
                cx.refused(graph, members[0], "one of the matmuls depends on another");
                continue;
            }
            // The input may be a member of a group that was made meanwhile.
            let x = graph.operands(members[0])[1];
            let part = |slot: usize| members.iter().map(move |&m| (m, slot));
            let mut operands = vec![x];
            operands.extend(part(0).map(|(m, slot)| graph.operands(m)[slot]));
            if matmul.bias {
                operands.extend(part(2).map(|(m, slot)| graph.operands(m)[slot]));
            }
            let group = QMatmulGroup {
                weights: members.len(),
                bias: matmul.bias,
                activation: matmul.activation,
                norm_eps: 0.0,
            };
            let first = members[0];
            let labels: Vec<String> = members.iter().filter_map(|&m| graph.node(m).label.clone()).collect();
            graph.replace(first, group, &operands)?;
            for (out, &member) in members.iter().enumerate().skip(1) {
                graph.replace_uses(Value::first(member), Value { node: first, out: out as u8 })?;
                graph.remove(member);
            }
            if labels.len() == members.len() {
                graph.set_label(first, labels.join(" + "));
            }
            let saved = (members.len() as u64 - 1) * bytes(graph, x);
            cx.applied(graph, first, saved, members.len() as u32 - 1);
        }
        Ok(())
    }
}
