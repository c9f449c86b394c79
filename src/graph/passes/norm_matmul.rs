//! qmatmul(w, rms_norm_mul(x, norm)) → qmatmul(w, x, norm) with `norm_eps`, and so for qmatmul_group and glu_qmatmul, where the target
//! normalises in the matmul.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph};
use crate::ops::Op;

pub struct NormMatmul;

impl Pass for NormMatmul {
    fn name(&self) -> &'static str {
        "norm_matmul"
    }

    fn about(&self) -> &'static str {
        "normalises the input of a matmul in the matmul, on targets where a step costs more than that"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            let mut op = graph.node(id).op.clone();
            let (slot, eps) = match &mut op {
                Op::QMatmul(op) => (1, &mut op.norm_eps),
                Op::QMatmulGroup(op) => (0, &mut op.norm_eps),
                Op::GluQMatmul(op) => (0, &mut op.norm_eps),
                _ => continue,
            };
            let mut operands = graph.operands(id);
            let x = operands[slot];
            let all = (0..operands.len()).filter(|&slot| graph.node(id).op.is_matmul_weight(slot)).all(|slot| {
                let w = graph.ty(operands[slot]);
                cx.target.norm_in_matmul(w.dtype, w.shape.row().fixed().unwrap_or(0), graph.bounds.t)
            });
            if !all {
                continue;
            }
            let Op::RmsNormMul(norm) = &graph.node(x.node).op else { continue };
            if *eps > 0.0 {
                continue;
            }
            if norm.eps <= 0.0 {
                cx.refused(graph, id, format!("the eps of {} is not positive", graph.describe(x.node)));
                continue;
            }
            if graph.sole_user(x).is_none() {
                cx.refused(graph, id, format!("{} has a second consumer", graph.describe(x.node)));
                continue;
            }
            *eps = norm.eps;
            let saved = 2 * bytes(graph, x);
            let normed = graph.operands(x.node);
            operands[slot] = normed[0];
            operands.push(normed[1]);
            graph.replace(id, op, &operands)?;
            graph.remove(x.node);
            cx.applied(graph, id, saved, 1);
        }
        Ok(())
    }
}
