//! add(residual, qmatmul(w, x)) → qmatmul(w, x, residual), in either order of the sum.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph};
use crate::ops::{Op, QMatmul};

pub struct MatmulResidual;

impl Pass for MatmulResidual {
    fn name(&self) -> &'static str {
        "matmul_residual"
    }

    fn about(&self) -> &'static str {
        "adds the residual while the product is still in registers"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            if !matches!(graph.node(id).op, Op::Add(_)) {
                continue;
            }
            let sum = graph.operands(id);
            if graph.ty(sum[0]) != graph.ty(sum[1]) || sum[0] == sum[1] {
                continue;
            }
            let is_product = |i: usize| matches!(graph.node(sum[i].node).op, Op::QMatmul(_));
            // With two products the later one ends the chain; the other is its residual.
            let Some(i) = [1, 0].into_iter().find(|&i| is_product(i)) else { continue };
            let (matmul, residual) = (sum[i], sum[1 - i]);
            let Op::QMatmul(product) = graph.node(matmul.node).op.clone() else { continue };
            if product.residual {
                cx.refused(graph, id, "the matmul already has a residual");
                continue;
            }
            if graph.sole_user(matmul).is_none() {
                cx.refused(graph, id, format!("{} has a second consumer", graph.describe(matmul.node)));
                continue;
            }
            let mut operands = graph.operands(matmul.node);
            operands.push(residual);
            let saved = 2 * bytes(graph, matmul);
            graph.replace(id, QMatmul { residual: true, ..product }, &operands)?;
            graph.remove(matmul.node);
            cx.applied(graph, id, saved, 1);
        }
        Ok(())
    }
}
