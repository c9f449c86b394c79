//! matmul(dequantize(weight), x) → qmatmul(weight, x), and likewise for weights that are f32 already.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, Value};
use crate::ops::{Op, QMatmul};
use crate::tensor::DType;

pub struct DequantizeMatmul;

impl Pass for DequantizeMatmul {
    fn name(&self) -> &'static str {
        "dequantize_matmul"
    }

    fn about(&self) -> &'static str {
        "reads a weight in its stored type inside the matmul instead of writing it out as f32"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            if !matches!(graph.node(id).op, Op::Matmul(_)) {
                continue;
            }
            let operands = graph.operands(id);
            let (a, x) = (operands[0], operands[1]);
            let (weight, dequantized) = match graph.node(a.node).op {
                Op::Dequantize(_) => (graph.operands(a.node)[0], true),
                _ => (a, false),
            };
            if !matches!(graph.node(weight.node).op, Op::Weight(_)) {
                if dequantized {
                    cx.refused(graph, id, format!("{} is not a weight", graph.describe(weight.node)));
                }
                continue;
            }
            if graph.ty(weight).shape.rank() > 2 {
                cx.refused(graph, id, format!("weight {} is not a matrix", graph.describe(weight.node)));
                continue;
            }
            if !graph.ty(weight).dtype.is_weight() {
                cx.refused(graph, id, format!("no matmul reads {}", graph.ty(weight).dtype));
                continue;
            }
            let (saved, launches) = if dequantized { (2 * bytes(graph, a), 1) } else { (0, 0) };
            graph.replace(
                id,
                QMatmul { bias: false, act: None, residual: false, activation: DType::F32, norm_eps: 0.0 },
                &[weight, x],
            )?;
            cx.applied(graph, id, saved, launches);
            if dequantized && graph.users(Value::first(a.node)).is_empty() {
                graph.remove(a.node);
            }
        }
        Ok(())
    }
}
