//! rope(q), kv_append(rope(k)), kv_append(v) in front of an attention → rope_kv_append(q, k, v, …).

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, NodeId, Value};
use crate::ops::{Op, Rope, RopeKvAppend};

pub struct RopeAppend;

impl Pass for RopeAppend {
    fn name(&self) -> &'static str {
        "rope_append"
    }

    fn about(&self) -> &'static str {
        "rotates Q and K and fills the KV caches in one step"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            if !matches!(graph.node(id).op, Op::Attention(_)) {
                continue;
            }
            match find(graph, id) {
                Ok(found) => apply(graph, cx, found)?,
                Err(reason) => cx.refused(graph, id, reason),
            }
        }
        Ok(())
    }
}

struct Found {
    rope: Rope,
    q: Value,
    k: Value,
    k_append: Value,
    v_append: Value,
    operands: Vec<Value>,
}

fn rope_of(graph: &Graph, value: Value, what: &str) -> Result<Rope, String> {
    let Op::Rope(rope) = &graph.node(value.node).op else { return Err(format!("{what} does not come from a rope")) };
    match graph.sole_user(value) {
        Some(_) => Ok(rope.clone()),
        None => Err(format!("{} has a second consumer", graph.describe(value.node))),
    }
}

fn find(graph: &Graph, attention: NodeId) -> Result<Found, String> {
    let operands = graph.operands(attention);
    let [q, k_append, v_append] = [operands[0], operands[1], operands[2]];
    let append = |value: Value, what: &str| match graph.node(value.node).op {
        Op::KvAppend(_) => Ok(graph.operands(value.node)),
        _ => Err(format!("{what} does not come from a kv_append")),
    };
    let (k_parts, v_parts) = (append(k_append, "K")?, append(v_append, "V")?);
    let rope = rope_of(graph, q, "Q")?;
    let k = k_parts[1];
    if rope_of(graph, k, "K")? != rope {
        return Err("Q and K are rotated differently".to_string());
    }
    let (q_parts, k_rope) = (graph.operands(q.node), graph.operands(k.node));
    if q_parts[1..] != k_rope[1..] {
        return Err("Q and K are rotated at different positions".to_string());
    }
    if k_parts[2] != v_parts[2] {
        return Err("K and V are appended at different slots".to_string());
    }
    if k_parts[0] == v_parts[0] {
        return Err("K and V share a cache".to_string());
    }
    let mut list = vec![q_parts[0], k_rope[0], v_parts[1], k_parts[0], v_parts[0], q_parts[1], k_parts[2]];
    list.extend(q_parts.get(2));
    if list.iter().any(|x| [k_append, v_append].iter().any(|cache| graph.depends_on(x.node, cache.node))) {
        return Err("Q, K or V is computed from the caches".to_string());
    }
    Ok(Found { rope, q, k, k_append, v_append, operands: list })
}

fn apply(graph: &mut Graph, cx: &mut PassContext<'_>, found: Found) -> Result<(), EditError> {
    let Found { rope, q, k, k_append, v_append, operands } = found;
    let saved = 2 * bytes(graph, k);
    graph.replace(q.node, RopeKvAppend::from(rope), &operands)?;
    graph.replace_uses(k_append, Value { node: q.node, out: 1 })?;
    graph.replace_uses(v_append, Value { node: q.node, out: 2 })?;
    for dead in [k_append, v_append, k] {
        graph.remove(dead.node);
    }
    cx.applied(graph, q.node, saved, 3);
    Ok(())
}
