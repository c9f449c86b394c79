//! mul(rms_norm(x), weight) → rms_norm_mul(x, weight).

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph};
use crate::ops::{Op, RmsNormMul};

pub struct RmsNormMulPass;

impl Pass for RmsNormMulPass {
    fn name(&self) -> &'static str {
        "rms_norm_mul"
    }

    fn about(&self) -> &'static str {
        "normalises and scales a row in one pass over it"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            if !matches!(graph.node(id).op, Op::Mul(_)) {
                continue;
            }
            let product = graph.operands(id);
            let Op::RmsNorm(norm) = graph.node(product[0].node).op.clone() else { continue };
            let weight = graph.ty(product[1]);
            if weight.shape.rank() != 1 || weight.shape.row() != graph.ty(product[0]).shape.row() {
                cx.refused(graph, id, format!("the factor is {weight}, not one row"));
                continue;
            }
            if graph.sole_user(product[0]).is_none() {
                cx.refused(graph, id, format!("{} has a second consumer", graph.describe(product[0].node)));
                continue;
            }
            let x = graph.operands(product[0].node)[0];
            let saved = 2 * bytes(graph, product[0]);
            graph.replace(id, RmsNormMul { eps: norm.eps }, &[x, product[1]])?;
            graph.remove(product[0].node);
            cx.applied(graph, id, saved, 1);
        }
        Ok(())
    }
}
