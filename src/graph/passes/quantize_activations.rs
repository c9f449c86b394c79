//! qmatmul(w, x) → qmatmul(w, quantize(x)) where the target multiplies integers; one `quantize` serves all matmuls of the same x.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, Value};
use crate::ops::{Op, Quantize};
use crate::tensor::DType;
use std::collections::HashMap;

pub struct QuantizeActivations;

impl Pass for QuantizeActivations {
    fn name(&self) -> &'static str {
        "quantize_activations"
    }

    fn about(&self) -> &'static str {
        "quantizes an activation once for all integer matmuls that read it"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        let mut quantized: HashMap<(Value, DType), Value> = HashMap::new();
        for id in graph.topological() {
            let Op::QMatmul(matmul) = graph.node(id).op.clone() else { continue };
            let mut operands = graph.operands(id);
            let (w, x) = (graph.ty(operands[0]), graph.ty(operands[1]));
            let Some(k) = w.shape.row().fixed() else { continue };
            let to = cx.target.activation_type(w.dtype, k);
            if x.dtype != DType::F32 || to == DType::F32 {
                continue;
            }
            if k % to.block_len() != 0 {
                cx.refused(graph, id, format!("rows of {k} are no whole blocks of {to}"));
                continue;
            }
            let x = operands[1];
            let shared = quantized.get(&(x, to)).copied();
            let q = match shared {
                Some(q) => q,
                None => {
                    let node = graph.add(Quantize { to }, &[x], None)?;
                    quantized.insert((x, to), Value::first(node));
                    Value::first(node)
                }
            };
            let saved = if shared.is_some() { bytes(graph, x) + bytes(graph, q) } else { 0 };
            operands[1] = q;
            graph.replace(id, matmul, &operands)?;
            cx.applied(graph, id, saved, u32::from(shared.is_some()));
        }
        Ok(())
    }
}
