//! qmatmul(w, x) → qmatmul(w, quantize(x)) where the target multiplies integers, or bf16 (but for results of the graph, such as logits);
//! one `quantize` serves all matmuls of the same x.
//!
//! For a step of a few tokens there is no `quantize`: the matmul itself rounds (attribute `activation`), each thread for itself, which
//! takes less time than another step.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, Value};
use crate::ops::{Op, Quantize};
use crate::tensor::DType;
use std::collections::HashMap;

/// Steps of at most so many tokens round in the matmul.
const FEW_TOKENS: usize = 8;

pub struct QuantizeActivations;

impl Pass for QuantizeActivations {
    fn name(&self) -> &'static str {
        "quantize_activations"
    }

    fn about(&self) -> &'static str {
        "rounds an activation once for all matmuls that read it rounded"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        let mut quantized: HashMap<(Value, DType), Value> = HashMap::new();
        for id in graph.topological() {
            let mut op = graph.node(id).op.clone();
            let (slot, activation) = match &mut op {
                Op::QMatmul(op) => (1, &mut op.activation),
                Op::QMatmulGroup(op) => (0, &mut op.activation),
                Op::GluQMatmul(op) => (0, &mut op.activation),
                // Its kernels are for a few tokens, for which the products round by themselves.
                Op::QkvRopeAppend(op) if graph.bounds.t <= FEW_TOKENS => (0, &mut op.group.activation),
                _ => continue,
            };
            let mut operands = graph.operands(id);
            let x = operands[slot];
            if graph.ty(x).dtype != DType::F32 || *activation != DType::F32 {
                continue;
            }
            let wanted: Vec<DType> = (0..operands.len())
                .filter(|&slot| graph.node(id).op.is_matmul_weight(slot))
                .map(|slot| cx.activation_type(graph, operands[slot]))
                .collect();
            let to = wanted.first().copied().unwrap_or(DType::F32);
            if wanted.iter().any(|&w| w != to) {
                // Grouping keeps weights with different activations apart, see `group_matmuls`.
                cx.refused(graph, id, "its weights want activations of different types");
                continue;
            }
            let k = graph.ty(x).shape.row().fixed().unwrap_or(0);
            if to == DType::F32 {
                continue;
            }
            // Integer kernels multiply no others; bf16 is only faster.
            if to == DType::Bf16 && graph.outputs().iter().any(|(_, value)| value.node == id) {
                cx.refused(graph, id, "a result of the graph is multiplied as exactly as its weights are");
                continue;
            }
            if !k.is_multiple_of(to.block_len()) {
                cx.refused(graph, id, format!("rows of {k} are no whole blocks of {to}"));
                continue;
            }
            if graph.bounds.t <= FEW_TOKENS {
                *activation = to;
                graph.replace(id, op, &operands)?;
                cx.applied(graph, id, 2 * bytes(graph, x), 1);
                continue;
            }
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
            operands[slot] = q;
            graph.replace(id, op, &operands)?;
            cx.applied(graph, id, saved, u32::from(shared.is_some()));
        }
        Ok(())
    }
}
