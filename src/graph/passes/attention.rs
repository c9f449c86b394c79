//! matmul(Vᵀ, soft_max(mask(scale(matmul(K, Q))))) → attention(Q, K, V).
//!
//! Between the first matmul and the softmax any order of `scale`, `kv_mask` and an additive mask is understood, also a scale on Q, and
//! a soft cap written as scale(1/c), tanh, scale(c). What is not understood is refused with the reason.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, NodeId, Value};
use crate::ops::{Activation, Attention, KvMask, Op, Permute};

pub struct AttentionPass;

impl Pass for AttentionPass {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn about(&self) -> &'static str {
        "computes softmax(QKᵀ) V without storing the scores"
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError> {
        for id in graph.topological() {
            if !graph.contains(id) || !matches!(graph.node(id).op, Op::Matmul(_)) {
                continue;
            }
            let weights = graph.operands(id)[1];
            if !matches!(graph.node(weights.node).op, Op::SoftMax(_)) {
                continue;
            }
            match find(graph, id) {
                Ok(found) => apply(graph, cx, id, found)?,
                Err(reason) => cx.refused(graph, id, reason),
            }
        }
        Ok(())
    }
}

struct Found {
    q: Value,
    k: Value,
    v: Value,
    mask: KvMask,
    kv_start: Value,
    kv_slot: Value,
    additive: Option<Value>,
    scale: f32,
    softcap: f32,
    /// The scores in their unfused stages, for the count of bytes and launches.
    stages: Vec<Value>,
}

/// The chain from the softmax up to the product of Q and K, read backwards.
fn find(graph: &Graph, root: NodeId) -> Result<Found, String> {
    let [vt, p] = [graph.operands(root)[0], graph.operands(root)[1]];
    let v = match &graph.node(vt.node).op {
        Op::Permute(Permute { axes: [1, 0, 2, 3] }) => cache(graph, graph.operands(vt.node)[0]),
        _ => return Err(format!("{} is not V with its first two dimensions exchanged", graph.describe(vt.node))),
    };
    let mut stages = vec![p];
    let mut at = graph.operands(p.node)[0];
    let (mut mask, mut additive) = (None, None);
    // Factors after and before a soft cap's tanh.
    let (mut outer, mut inner, mut capped) = (1.0f32, 1.0f32, false);
    sole(graph, p)?;
    let product = loop {
        sole(graph, at)?;
        stages.push(at);
        let operands = graph.operands(at.node);
        match &graph.node(at.node).op {
            Op::Scale(s) if capped => inner *= s.factor,
            Op::Scale(s) => outer *= s.factor,
            Op::KvMask(m) if mask.is_none() && !capped => {
                if outer <= 0.0 || outer.is_nan() {
                    return Err("a mask before a scale that is not positive".to_string());
                }
                mask = Some((m.clone(), operands[1], operands[2]));
            }
            Op::KvMask(_) if capped => return Err("a mask before the soft cap".to_string()),
            Op::KvMask(_) => return Err("two masks".to_string()),
            Op::Add(_) if additive.is_none() && !capped && outer == 1.0 => {
                let ty = graph.ty(operands[1]);
                if ty.shape.rank() != 2 || ty.shape.dims() != &graph.ty(at).shape.dims()[..2] {
                    return Err(format!("the additive mask is {ty}, not one for all heads"));
                }
                additive = Some(operands[1]);
            }
            Op::Add(_) if additive.is_some() => return Err("two additive masks".to_string()),
            Op::Add(_) => return Err("an additive mask before a scale or soft cap".to_string()),
            Op::Unary(u) if u.kind == Activation::Tanh && !capped => capped = true,
            Op::Matmul(_) => break operands,
            op => return Err(format!("{} between the scores and the softmax", op.name())),
        }
        at = operands[0];
    };
    let Some((mask, kv_start, kv_slot)) = mask else {
        return Err("no kv_mask tells which cache positions a token sees".to_string());
    };
    let k = cache(graph, product[0]);
    let (q, q_scale) = query(graph, product[1]);
    // tanh(inner · x) · outer = c · tanh(scale · x / c) with c = outer and scale = inner · outer.
    let (scale, softcap) = if capped { (inner * outer, outer) } else { (outer, 0.0) };
    if capped && softcap <= 0.0 {
        return Err("a soft cap that is not positive".to_string());
    }
    Ok(Found { q, k, v, mask, kv_start, kv_slot, additive, scale: scale * q_scale, softcap, stages })
}

fn sole(graph: &Graph, value: Value) -> Result<(), String> {
    match graph.sole_user(value) {
        Some(_) => Ok(()),
        None => Err(format!("{} has a second consumer", graph.describe(value.node))),
    }
}

/// The stored value behind a `dequantize`.
fn cache(graph: &Graph, value: Value) -> Value {
    match graph.node(value.node).op {
        Op::Dequantize(_) => graph.operands(value.node)[0],
        _ => value,
    }
}

/// Q without the scales on it, and their product.
fn query(graph: &Graph, value: Value) -> (Value, f32) {
    let mut factor = 1.0;
    let mut at = value;
    while let Op::Scale(s) = &graph.node(at.node).op {
        factor *= s.factor;
        at = graph.operands(at.node)[0];
    }
    (at, factor)
}

fn apply(graph: &mut Graph, cx: &mut PassContext<'_>, root: NodeId, found: Found) -> Result<(), EditError> {
    let swap = Permute { axes: [0, 2, 1, 3] };
    let q = match graph.node(found.q.node).op {
        Op::Permute(Permute { axes: [0, 2, 1, 3] }) => graph.operands(found.q.node)[0],
        _ => Value::first(graph.add(swap.clone(), &[found.q], None)?),
    };
    let attention =
        Attention { scale: found.scale, causal: found.mask.causal, window: found.mask.window, softcap: found.softcap };
    let mut operands = vec![q, found.k, found.v, found.kv_start, found.kv_slot];
    operands.extend(found.additive);
    let fused = match graph.add(attention, &operands, None) {
        Ok(fused) => fused,
        Err(EditError::Infer { error, .. }) => {
            cx.refused(graph, root, format!("attention does not take these operands: {error}"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if let Some(label) = graph.node(root).label.clone() {
        graph.set_label(fused, label);
    }
    let saved = found.stages.iter().map(|&s| 2 * bytes(graph, s)).sum();
    let back = graph.add(swap, &[Value::first(fused)], None)?;
    graph.replace_uses(Value::first(root), Value::first(back))?;
    cx.applied(graph, fused, saved, found.stages.len() as u32);
    let mut dead = vec![root];
    while let Some(id) = dead.pop() {
        let operands = graph.operands(id);
        if !graph.node(id).op.is_source() && !graph.node(id).op.appends() && graph.remove(id) {
            dead.extend(operands.iter().map(|v| v.node).filter(|&n| graph.contains(n)));
        }
    }
    Ok(())
}
