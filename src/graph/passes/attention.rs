//! matmul(Vᵀ, soft_max(mask(scale(matmul(K, Q))))) → attention(Q, K, V), or full_attention(Q, K, V) where no `kv_mask` hides positions.
//!
//! Between the first matmul and the softmax any order of scales, `kv_mask` and an additive mask is understood, also scales on Q or K,
//! and a soft cap written as scale(1/c), tanh, scale(c). A scale may be a product with a constant or a quotient by one. What is not
//! understood is refused with the reason.

use super::{Pass, PassContext, bytes};
use crate::graph::{EditError, Graph, NodeId, Value};
use crate::ops::{Activation, Attention, FullAttention, KvMask, Op, Permute};

pub struct AttentionPass;

/// A permutation that exchanges the second and third dimension.
const SWAP_12: [usize; 4] = [0, 2, 1, 3];

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
    q: Unscaled,
    k: Unscaled,
    v: Value,
    /// The permutation that makes `v` `[d_v, S, kv_heads]`.
    turn_v: [usize; 4],
    mask: Option<(KvMask, Value, Value)>,
    additive: Option<Value>,
    scale: f32,
    softcap: f32,
    /// The scores in their unfused stages and scaled operands, for the count of bytes and launches.
    stages: Vec<Value>,
}

/// The chain from the softmax up to the product of Q and K, read backwards.
fn find(graph: &Graph, root: NodeId) -> Result<Found, String> {
    let [vt, p] = [graph.operands(root)[0], graph.operands(root)[1]];
    let (v, turn_v) = transposed(graph, vt)
        .ok_or_else(|| format!("{} is not V with its first two dimensions exchanged", graph.describe(vt.node)))?;
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
        if let Some((x, factor)) = scaled(graph, at) {
            *(if capped { &mut inner } else { &mut outer }) *= factor;
            at = x;
            continue;
        }
        match &graph.node(at.node).op {
            Op::KvMask(m) if mask.is_none() && !capped => {
                if outer <= 0.0 || outer.is_nan() {
                    return Err("a mask before a scale that is not positive".to_string());
                }
                mask = Some((m.clone(), operands[1], operands[2]));
            }
            Op::KvMask(_) if capped => return Err("a mask before the soft cap".to_string()),
            Op::KvMask(_) => return Err("two masks".to_string()),
            Op::Add(_) if additive.is_none() && !capped && outer == 1.0 => {
                let (scores, term) = scores_and_mask(graph, &operands);
                let ty = graph.ty(term);
                if ty.shape.rank() != 2 || ty.shape.dims() != &graph.ty(at).shape.dims()[..2] {
                    return Err(format!("the additive mask is {ty}, not one for all heads"));
                }
                additive = Some(term);
                at = scores;
                continue;
            }
            Op::Add(_) if additive.is_some() => return Err("two additive masks".to_string()),
            Op::Add(_) => return Err("an additive mask before a scale or soft cap".to_string()),
            Op::Unary(u) if u.kind == Activation::Tanh && !capped => capped = true,
            Op::Matmul(_) => break operands,
            op => return Err(format!("{} between the scores and the softmax", op.name())),
        }
        at = operands[0];
    };
    let mut k = unscaled(graph, product[0], &mut stages);
    k.value = cache(graph, k.value);
    let q = unscaled(graph, product[1], &mut stages);
    // tanh(inner · x) · outer = c · tanh(scale · x / c) with c = outer and scale = inner · outer.
    let (scale, softcap) = if capped { (inner * outer, outer) } else { (outer, 0.0) };
    if capped && softcap <= 0.0 {
        return Err("a soft cap that is not positive".to_string());
    }
    let scale = scale * q.factor * k.factor;
    Ok(Found { q, k, v, turn_v, mask, additive, scale, softcap, stages })
}

fn sole(graph: &Graph, value: Value) -> Result<(), String> {
    match graph.sole_user(value) {
        Some(_) => Ok(()),
        None => Err(format!("{} has a second consumer", graph.describe(value.node))),
    }
}

/// What is multiplied by a number, and the number.
fn scaled(graph: &Graph, value: Value) -> Option<(Value, f32)> {
    let operands = graph.operands(value.node);
    let constant = |value: Value| match &graph.node(value.node).op {
        Op::Constant(c) => Some(c.value),
        _ => None,
    };
    match &graph.node(value.node).op {
        Op::Scale(s) => Some((operands[0], s.factor)),
        Op::Mul(_) => Some((operands[0], constant(operands[1])?)),
        Op::Div(_) => Some((operands[0], 1.0 / constant(operands[1]).filter(|&c| c != 0.0)?)),
        _ => None,
    }
}

/// The terms of a sum. With one head they have one shape, and what comes from outside is the mask.
fn scores_and_mask(graph: &Graph, terms: &[Value]) -> (Value, Value) {
    let outside = |value: Value| graph.node(value.node).op.is_source();
    match graph.ty(terms[0]) == graph.ty(terms[1]) && outside(terms[0]) && !outside(terms[1]) {
        true => (terms[1], terms[0]),
        false => (terms[0], terms[1]),
    }
}

/// The stored value behind a `dequantize`.
fn cache(graph: &Graph, value: Value) -> Value {
    match graph.node(value.node).op {
        Op::Dequantize(_) => graph.operands(value.node)[0],
        _ => value,
    }
}

/// The value whose first two dimensions are exchanged in `vt`, as a permutation of what is stored.
fn transposed(graph: &Graph, vt: Value) -> Option<(Value, [usize; 4])> {
    let Op::Permute(turned) = &graph.node(vt.node).op else { return None };
    let axes = turned.axes.map(|axis| [1, 0, 2, 3][axis]);
    (axes[0] == 0).then(|| (cache(graph, graph.operands(vt.node)[0]), axes))
}

/// Q or K without the scales on it.
struct Unscaled {
    value: Value,
    factor: f32,
    /// Whether `value` stands below a permutation that exchanges its second and third dimension.
    turned: bool,
}

fn unscaled(graph: &Graph, value: Value, stages: &mut Vec<Value>) -> Unscaled {
    let mut found = Unscaled { value, factor: 1.0, turned: false };
    loop {
        let at = found.value;
        if let Some((x, factor)) = scaled(graph, at) {
            // One that something else reads stays a step.
            stages.extend(graph.sole_user(at).map(|_| at));
            (found.value, found.factor) = (x, found.factor * factor);
        } else if !found.turned && matches!(graph.node(at.node).op, Op::Permute(Permute { axes: SWAP_12 })) {
            found.turned = true;
            found.value = graph.operands(at.node)[0];
        } else {
            return found;
        }
    }
}

/// Adds a permutation, if it changes anything, and notes it.
fn permuted(graph: &mut Graph, axes: [usize; 4], x: Value, added: &mut Vec<NodeId>) -> Result<Value, EditError> {
    if axes == [0, 1, 2, 3] {
        return Ok(x);
    }
    let id = graph.add(Permute { axes }, &[x], None)?;
    added.push(id);
    Ok(Value::first(id))
}

fn apply(graph: &mut Graph, cx: &mut PassContext<'_>, root: NodeId, found: Found) -> Result<(), EditError> {
    let mut added = Vec::new();
    let [turned, straight] = [SWAP_12, [0, 1, 2, 3]];
    // Attention takes the heads of a token side by side, and the positions of a head.
    let q = permuted(graph, if found.q.turned { straight } else { turned }, found.q.value, &mut added)?;
    let k = permuted(graph, if found.k.turned { turned } else { straight }, found.k.value, &mut added)?;
    let v = permuted(graph, found.turn_v, found.v, &mut added)?;
    let (scale, softcap) = (found.scale, found.softcap);
    let mut operands = vec![q, k, v];
    operands.extend(found.mask.iter().flat_map(|(_, start, slot)| [*start, *slot]));
    operands.extend(found.additive);
    let op: Op = match found.mask {
        Some((KvMask { causal, window }, ..)) => Attention { scale, causal, window, softcap }.into(),
        None => FullAttention { scale, softcap }.into(),
    };
    let fused = match graph.add(op, &operands, None) {
        Ok(fused) => fused,
        Err(EditError::Infer { error, .. }) => {
            added.iter().rev().for_each(|&id| {
                graph.remove(id);
            });
            cx.refused(graph, root, format!("attention does not take these operands: {error}"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if let Some(label) = graph.node(root).label.clone() {
        graph.set_label(fused, label);
    }
    let saved = found.stages.iter().map(|&s| 2 * bytes(graph, s)).sum();
    let back = graph.add(Permute { axes: SWAP_12 }, &[Value::first(fused)], None)?;
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
