//! unary(qmatmul(w, x)) → qmatmul(w, x) {act=…}, also after a bias.
//!
//! It runs after `glu`, whose gate and up projections have a step of their own, and before `matmul_residual`: a residual is added to
//! the activated product.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph};
use crate::ops::{Op, QMatmul};

pub struct MatmulActivation;

impl Pass for MatmulActivation {
    fn name(&self) -> &'static str {
        "matmul_activation"
    }

    fn about(&self) -> &'static str {
        "applies an activation function to a product that is still in cache"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            let Op::Unary(unary) = &graph.node(id).op else { continue };
            let (kind, product) = (unary.kind, graph.operands(id)[0]);
            let Op::QMatmul(matmul) = graph.node(product.node).op.clone() else { continue };
            if matmul.residual {
                cx.refused(graph, id, "the residual is added before the activation");
                continue;
            }
            if let Some(act) = matmul.act {
                cx.refused(graph, id, format!("the matmul already applies {}", act.word()));
                continue;
            }
            if graph.sole_user(product).is_none() {
                cx.refused(graph, id, format!("{} has a second consumer", graph.describe(product.node)));
                continue;
            }
            let operands = graph.operands(product.node);
            let saved = 2 * bytes(graph, product);
            graph.replace(id, QMatmul { act: Some(kind), ..matmul }, &operands)?;
            graph.remove(product.node);
            cx.applied(graph, id, saved, 1);
        }
        Ok(())
    }
}
