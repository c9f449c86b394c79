//! Computes what depends on constants only, and turns products with a constant into `scale`.
//!
//! A constant is a tensor of one value, so a result is folded when all its elements are the same. Every rewrite gives the same bits.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, NodeId, Value};
use crate::ops::{Constant, Op, Scale};
use crate::tensor::{DType, HostTensor};

pub struct ConstantFolding;

/// The most elements that are computed while folding.
const MOST: usize = 1 << 16;

impl Pass for ConstantFolding {
    fn name(&self) -> &'static str {
        "constant_folding"
    }

    fn about(&self) -> &'static str {
        "computes what depends on constants only; products with a constant become scale"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            if graph.node(id).op.is_source() || graph.node(id).types.len() != 1 {
                continue;
            }
            if let Some(value) = fold(graph, id) {
                let shape = graph.ty(Value::first(id)).shape.clone();
                let saved = 2 * bytes(graph, Value::first(id));
                graph.replace(id, Constant { value, shape }, &[])?;
                cx.applied(graph, id, saved, 1);
            } else if let Some((x, factor)) = product(graph, id) {
                let saved = bytes(graph, graph.operands(id)[1]);
                graph.replace(id, Scale { factor }, &[x])?;
                cx.applied(graph, id, saved, 1);
            }
        }
        Ok(())
    }
}

fn constant(graph: &Graph, value: Value) -> Option<f32> {
    match &graph.node(value.node).op {
        Op::Constant(c) => Some(c.value),
        _ => None,
    }
}

/// The one value of all elements, if every operand is a constant of fixed size.
fn fold(graph: &Graph, id: NodeId) -> Option<f32> {
    let node = graph.node(id);
    let operands = graph.operands(id);
    let out = &node.types[0];
    if operands.is_empty() || matches!(node.op, Op::Custom(_)) || node.op.appends() || out.dtype != DType::F32 {
        return None;
    }
    out.shape.fixed_elements().filter(|&n| (1..=MOST).contains(&n))?;
    let mut values = Vec::new();
    for &operand in &operands {
        let n = graph.ty(operand).shape.fixed_elements().filter(|&n| (1..=MOST).contains(&n))?;
        let ne = graph.ty(operand).bind(&graph.bounds).ne;
        values.push(HostTensor::from_f32(ne, vec![constant(graph, operand)?; n])?);
    }
    let values: Vec<&HostTensor> = values.iter().collect();
    let results = node.op.reference(&values, &[out.bind(&graph.bounds)]).ok()?;
    let values = results.first()?.f32s()?;
    let first = *values.first()?;
    (!first.is_nan() && values.iter().all(|v| v.to_bits() == first.to_bits())).then_some(first)
}

/// x · c, with the constant as the operand that repeats or is as large as x.
fn product(graph: &Graph, id: NodeId) -> Option<(Value, f32)> {
    let Op::Mul(_) = graph.node(id).op else { return None };
    let operands = graph.operands(id);
    Some((operands[0], constant(graph, operands[1])?))
}
