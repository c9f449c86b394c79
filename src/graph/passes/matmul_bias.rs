//! add(qmatmul(w, x), bias) → qmatmul(w, x, bias).

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, Value};
use crate::ops::{Op, QMatmul};

pub struct MatmulBias;

impl Pass for MatmulBias {
    fn name(&self) -> &'static str {
        "matmul_bias"
    }

    fn about(&self) -> &'static str {
        "adds a bias while the product is still in registers"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            if !matches!(graph.node(id).op, Op::Add(_)) {
                continue;
            }
            let sum = graph.operands(id);
            let Op::QMatmul(product) = &graph.node(sum[0].node).op else { continue };
            let (product, bias) = (product.clone(), sum[1]);
            if graph.ty(bias).shape.rank() != 1 || graph.ty(bias).shape.row() != graph.ty(sum[0]).shape.row() {
                continue; // a residual: the next pass
            }
            if product.bias || product.act.is_some() || product.residual {
                cx.refused(graph, id, "the matmul already has a bias, activation or residual");
                continue;
            }
            if graph.sole_user(sum[0]).is_none() {
                cx.refused(graph, id, format!("{} has a second consumer", graph.describe(sum[0].node)));
                continue;
            }
            let operands = graph.operands(sum[0].node);
            let saved = 2 * bytes(graph, sum[0]);
            graph.replace(id, QMatmul { bias: true, ..product }, &[operands[0], operands[1], bias])?;
            graph.remove(Value::first(sum[0].node).node);
            cx.applied(graph, id, saved, 1);
        }
        Ok(())
    }
}
