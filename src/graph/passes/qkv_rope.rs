//! qmatmul_group of Q, K and V → rope_kv_append → qkv_rope_append, where the target rotates and appends in the products' kernel.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, NodeId, Value};
use crate::ops::{Op, QkvRopeAppend, Rope};

pub struct QkvRope;

impl Pass for QkvRope {
    fn name(&self) -> &'static str {
        "qkv_rope"
    }

    fn about(&self) -> &'static str {
        "rotates Q and K and fills the KV caches in the step that projects them, on targets that can"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            let Op::RopeKvAppend(append) = &graph.node(id).op else { continue };
            let rope = append.rope.clone();
            match find(graph, cx, id, rope) {
                Ok(Some(Found { op, operands, inside })) => {
                    let saved = inside.iter().filter(|v| !is_reshape(graph, **v)).map(|&v| 2 * bytes(graph, v)).sum();
                    graph.replace(id, op, &operands)?;
                    for dead in inside {
                        if graph.contains(dead.node) {
                            graph.remove(dead.node);
                        }
                    }
                    cx.applied(graph, id, saved, 1);
                }
                Ok(None) => {}
                Err(reason) => cx.refused(graph, id, reason),
            }
        }
        Ok(())
    }
}

struct Found {
    op: Op,
    operands: Vec<Value>,
    /// Values that are no longer there, users before what they use.
    inside: Vec<Value>,
}

fn is_reshape(graph: &Graph, value: Value) -> bool {
    matches!(graph.node(value.node).op, Op::Reshape(_))
}

/// The group's products that become Q, K and V; nothing if they are no such products, or if the target does not want it.
fn find(graph: &Graph, cx: &PassContext<'_>, id: NodeId, rope: Rope) -> Result<Option<Found>, String> {
    let append = graph.operands(id);
    let (mut inside, mut sources) = (Vec::new(), Vec::new());
    for &part in &append[..3] {
        let mut value = part;
        while is_reshape(graph, value) {
            inside.push(value);
            value = graph.operands(value.node)[0];
        }
        sources.push(value);
    }
    inside.extend(&sources);
    let node = sources[0].node;
    let Op::QMatmulGroup(group) = &graph.node(node).op else { return Ok(None) };
    if sources.iter().any(|s| s.node != node) {
        return Err("Q, K and V are not of one group".to_string());
    }
    if group.weights != 3 {
        return Err(format!("the group has {} weights", group.weights));
    }
    if let Some(shared) = inside.iter().find(|&&v| graph.sole_user(v).is_none()) {
        return Err(format!("{} has a second consumer", graph.describe(shared.node)));
    }
    let old = graph.operands(node);
    let x = graph.ty(old[0]);
    let order = sources.iter().map(|s| s.out as usize);
    let weights: Vec<Value> = order.clone().map(|out| old[1 + out]).collect();
    let k = x.shape.row().fixed().unwrap_or(0);
    let types = [0, 1, 2].map(|i| graph.ty(weights[i]).dtype);
    let caches = [3, 4].map(|i| graph.ty(append[i]).dtype);
    if !cx.target.rope_in_matmul(types, caches, k, graph.bounds.t) {
        return Ok(None);
    }
    // The tokens are in the last dimension of both, so that the elements between them are a token's heads.
    let token = x.shape.dim(1);
    if x.shape.rank() > 2 || append[..3].iter().any(|&part| graph.ty(part).shape.dim(2) != token) {
        return Err("the tokens are not in one dimension".to_string());
    }
    let mut operands = vec![old[0]];
    operands.extend(weights);
    if group.bias {
        operands.extend(order.map(|out| old[4 + out]));
    }
    operands.extend(&old[group.norm_slot()..]);
    operands.extend(&append[3..]);
    let op = Op::from(QkvRopeAppend { group: group.clone(), rope });
    let types: Vec<_> = operands.iter().map(|&v| graph.ty(v)).collect();
    match op.infer(&types) {
        Ok(inferred) if inferred == graph.node(id).types => Ok(Some(Found { op, operands, inside })),
        Ok(_) => Err("the heads of Q have another size than those of K".to_string()),
        Err(error) => Err(error.to_string()),
    }
}
