//! get_rows(f(x), ids) → f(get_rows(x, ids)) for ops that treat each row by itself: the head of a model runs only for the rows whose
//! logits are wanted, wherever the graph selects them.

use super::{Pass, PassContext};
use crate::graph::{EditError, Graph, NodeId, Value};
use crate::ops::{GetRows, Op};

pub struct SelectRows;

impl Pass for SelectRows {
    fn name(&self) -> &'static str {
        "select_rows"
    }

    fn about(&self) -> &'static str {
        "selects rows before the ops that treat each row by itself, not after them"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        let mut waiting: Vec<NodeId> =
            graph.topological().into_iter().filter(|&id| matches!(graph.node(id).op, Op::GetRows(_))).collect();
        while let Some(id) = waiting.pop() {
            let operands = graph.operands(id);
            let (rows, ids) = (operands[0], operands[1]);
            let Some(slot) = row_operand(graph, rows.node) else { continue };
            let wanted = graph.ty(ids).shape.dim(0).eval(&graph.bounds);
            let there = graph.ty(rows).shape.dim(1).eval(&graph.bounds);
            if wanted >= there {
                cx.refused(graph, id, format!("it selects {wanted} rows of {there}: nothing is saved"));
                continue;
            }
            if graph.sole_user(rows).is_none() {
                cx.refused(graph, id, format!("{} has a second consumer", graph.describe(rows.node)));
                continue;
            }
            let mut list = graph.operands(rows.node);
            if list.iter().enumerate().any(|(i, v)| i != slot && (v.node == id || graph.depends_on(v.node, id))) {
                continue; // cannot be in an acyclic graph; the edit would refuse it
            }
            let op = graph.node(rows.node).op.clone();
            let whole = super::bytes(graph, rows);
            let early = Value::first(graph.add(GetRows {}, &[list[slot], ids], None)?);
            list[slot] = early;
            graph.replace(id, op, &list)?;
            graph.remove(rows.node);
            cx.applied(graph, id, 2 * whole.saturating_sub(super::bytes(graph, Value::first(id))), 0);
            waiting.push(early.node);
        }
        Ok(())
    }
}

/// The operand whose rows become the rows of the result, one by one.
fn row_operand(graph: &Graph, id: NodeId) -> Option<usize> {
    let operands = graph.operands(id);
    let matrix = |slot: usize| graph.ty(operands[slot]).shape.rank() <= 2;
    let one_row = |slot: usize| graph.ty(operands[slot]).shape.rank() == 1;
    match &graph.node(id).op {
        Op::RmsNorm(_) | Op::LayerNorm(_) | Op::Unary(_) | Op::Scale(_) | Op::SoftMax(_) => matrix(0).then_some(0),
        Op::Add(_) | Op::Sub(_) | Op::Mul(_) | Op::Div(_) => (matrix(0) && one_row(1)).then_some(0),
        Op::Matmul(_) => (matrix(0) && matrix(1)).then_some(1),
        _ => None,
    }
}
