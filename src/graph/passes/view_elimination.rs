//! Removes views that change nothing: permutations that cancel, copies of what is contiguous, reshapes of reshapes.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, NodeId, Value};
use crate::ops::{Op, Permute, Reshape};

pub struct ViewElimination;

impl Pass for ViewElimination {
    fn name(&self) -> &'static str {
        "view_elimination"
    }

    fn about(&self) -> &'static str {
        "removes permutations that cancel, copies of contiguous values and reshapes of reshapes"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            if !graph.contains(id) {
                continue;
            }
            match graph.node(id).op.clone() {
                Op::Permute(outer) => permute(graph, cx, id, &outer)?,
                Op::Reshape(reshape) => self::reshape(graph, cx, id, &reshape)?,
                Op::Cont(_) => cont(graph, cx, id)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Replaces the uses of `id` by `by` and removes it.
fn drop_node(
    graph: &mut Graph,
    cx: &mut PassContext<'_>,
    id: NodeId,
    by: Value,
    launches: u32,
) -> Result<(), EditError> {
    let saved = if launches > 0 { 2 * bytes(graph, Value::first(id)) } else { 0 };
    cx.applied(graph, id, saved, launches);
    graph.replace_uses(Value::first(id), by)?;
    graph.remove(id);
    Ok(())
}

fn permute(graph: &mut Graph, cx: &mut PassContext<'_>, id: NodeId, outer: &Permute) -> Result<(), EditError> {
    let x = graph.operands(id)[0];
    if outer.axes == [0, 1, 2, 3] {
        return drop_node(graph, cx, id, x, 0);
    }
    let Op::Permute(inner) = graph.node(x.node).op.clone() else { return Ok(()) };
    let source = graph.operands(x.node)[0];
    let axes = inner.axes.map(|axis| outer.axes[axis]);
    if axes == [0, 1, 2, 3] {
        drop_node(graph, cx, id, source, 0)?;
    } else {
        graph.replace(id, Permute { axes }, &[source])?;
        cx.applied(graph, id, 0, 0);
    }
    graph.remove(x.node);
    Ok(())
}

fn reshape(graph: &mut Graph, cx: &mut PassContext<'_>, id: NodeId, outer: &Reshape) -> Result<(), EditError> {
    let x = graph.operands(id)[0];
    if graph.ty(x).shape == outer.shape {
        return drop_node(graph, cx, id, x, 0);
    }
    if !matches!(graph.node(x.node).op, Op::Reshape(_)) {
        return Ok(());
    }
    let source = graph.operands(x.node)[0];
    if graph.ty(source).shape == outer.shape {
        drop_node(graph, cx, id, source, 0)?;
    } else {
        graph.replace(id, outer.clone(), &[source])?;
        cx.applied(graph, id, 0, 0);
    }
    graph.remove(x.node);
    Ok(())
}

fn cont(graph: &mut Graph, cx: &mut PassContext<'_>, id: NodeId) -> Result<(), EditError> {
    let x = graph.operands(id)[0];
    // A reshape of something contiguous is contiguous; other views and states may have gaps.
    let mut base = x;
    while let Op::Reshape(_) = graph.node(base.node).op {
        base = graph.operands(base.node)[0];
    }
    let op = &graph.node(base.node).op;
    if op.is_view() || op.appends() || matches!(op, Op::State(_)) {
        return Ok(());
    }
    if matches!(op, Op::Weight(_)) && graph.is_output(Value::first(id)) {
        cx.refused(graph, id, "an output that is a weight needs a copy");
        return Ok(());
    }
    drop_node(graph, cx, id, x, 1)
}
