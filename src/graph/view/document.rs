//! [`Document`]: a dump as JSON. `docs/graph-dump.md` documents the schema; [`SCHEMA`] names its version.
//!
//! A field may be added under the same version; one that is removed or changes its meaning makes a new one.

use super::summary::{self, PassSummary, Summary};
use super::{Fold, Kind, Stages};
use crate::graph::passes::{Decision, Outcome, PassOptions};
use crate::graph::plan::{MemoryBill, Operand, Place, Plan, Port};
use crate::graph::{Graph, text};
use crate::ops::{AttrValue, TensorType};
use crate::tensor::Bounds;
use serde::Serialize;
use std::collections::BTreeMap;

/// The schema's name and version.
pub const SCHEMA: &str = "rocmforge.graph-dump/1";

/// A dump.
#[derive(Serialize)]
pub struct Document {
    schema: &'static str,
    generator: String,
    name: String,
    target: String,
    stage: String,
    bounds: BoundsJson,
    options: Options,
    types: BTreeMap<String, Type>,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    outputs: Vec<Output>,
    layers: Layers,
    passes: Vec<PassSummary>,
    decisions: Vec<DecisionJson>,
    plan: Option<PlanJson>,
    bill: Option<Bill>,
    session_bill: Option<Bill>,
}

/// What a dump is made of.
pub struct Parts<'a> {
    /// All stages.
    pub stages: &'a Stages,
    /// The graph to write.
    pub graph: &'a Graph,
    /// Its stage as `--stage` names it.
    pub stage: &'a str,
    /// The target.
    pub target: &'a str,
    /// Which layers a picture would show.
    pub fold: &'a Fold,
    /// The passes' options.
    pub options: &'a PassOptions,
    /// The plan, at that stage.
    pub plan: Option<&'a Plan>,
    /// The memory of a session that prefills and decodes.
    pub session: Option<MemoryBill>,
}

#[derive(Serialize)]
struct BoundsJson {
    #[serde(rename = "T")]
    t: usize,
    #[serde(rename = "S")]
    s: usize,
    #[serde(rename = "R")]
    r: usize,
}

impl From<Bounds> for BoundsJson {
    fn from(b: Bounds) -> BoundsJson {
        BoundsJson { t: b.t, s: b.s, r: b.r }
    }
}

#[derive(Serialize)]
struct Options {
    disabled: Vec<String>,
    stop_after: Option<String>,
}

#[derive(Serialize)]
struct Type {
    dtype: &'static str,
    shape: Vec<serde_json::Value>,
    elements: Option<usize>,
    bytes: Option<usize>,
}

#[derive(Serialize)]
struct Node {
    id: String,
    label: Option<String>,
    op: String,
    kind: &'static str,
    source: bool,
    view: bool,
    attributes: serde_json::Map<String, serde_json::Value>,
    operands: Vec<String>,
    types: Vec<String>,
    layer: Option<usize>,
    statement: String,
}

#[derive(Serialize)]
struct Edge {
    from: String,
    result: u8,
    to: String,
    slot: usize,
    operand: Option<String>,
    #[serde(rename = "type")]
    ty: String,
}

#[derive(Serialize)]
struct Output {
    name: String,
    value: String,
}

#[derive(Serialize)]
struct Layers {
    count: usize,
    folded: Vec<Folded>,
}

#[derive(Serialize)]
struct Folded {
    layers: Vec<usize>,
    like: Option<usize>,
    other_types: Vec<usize>,
    nodes: usize,
}

/// A decision of a pass.
#[derive(Serialize)]
pub(super) struct DecisionJson {
    pass: &'static str,
    node: String,
    site: String,
    #[serde(flatten)]
    outcome: OutcomeJson,
}

#[derive(Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
enum OutcomeJson {
    Applied { bytes_saved: u64, launches_saved: u32 },
    Refused { reason: String },
}

impl From<&Decision> for DecisionJson {
    fn from(d: &Decision) -> DecisionJson {
        let outcome = match &d.outcome {
            Outcome::Applied { bytes_saved, launches_saved } => {
                OutcomeJson::Applied { bytes_saved: *bytes_saved, launches_saved: *launches_saved }
            }
            Outcome::Refused { reason } => OutcomeJson::Refused { reason: reason.clone() },
        };
        DecisionJson { pass: d.pass, node: d.node.to_string(), site: d.site.clone(), outcome }
    }
}

#[derive(Serialize)]
struct PlanJson {
    steps: Vec<StepJson>,
    buffers: Vec<BufferJson>,
    weights: Vec<WeightJson>,
    states: Vec<StateJson>,
    inputs: Vec<PortJson>,
    outputs: Vec<PortJson>,
    arena: ArenaJson,
    summary: Summary,
}

/// A step.
#[derive(Serialize)]
pub(super) struct StepJson {
    index: usize,
    node: String,
    label: Option<String>,
    op: String,
    reads: Vec<OperandJson>,
    writes: Vec<OperandJson>,
    in_place: Option<usize>,
    bytes_read: u64,
    bytes_written: u64,
    flops: u64,
}

#[derive(Serialize)]
struct OperandJson {
    value: String,
    place: String,
    /// Bytes from the start of the place.
    offset: usize,
    strides: [usize; 4],
    #[serde(rename = "type")]
    ty: String,
}

/// A buffer with its lifetime.
#[derive(Serialize)]
pub(super) struct BufferJson {
    id: String,
    value: String,
    bytes: usize,
    offset: usize,
    first: usize,
    last: usize,
}

#[derive(Serialize)]
struct WeightJson {
    id: String,
    name: String,
    #[serde(rename = "type")]
    ty: String,
    matmul: bool,
    rows: bool,
    direct: bool,
}

#[derive(Serialize)]
struct StateJson {
    id: String,
    name: String,
    #[serde(rename = "type")]
    ty: String,
    bytes: usize,
}

#[derive(Serialize)]
struct PortJson {
    name: String,
    value: String,
    place: String,
    #[serde(rename = "type")]
    ty: String,
}

#[derive(Serialize)]
struct ArenaJson {
    bytes: usize,
    lower_bound: usize,
    alignment: usize,
}

/// A memory bill in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bill {
    weights: usize,
    kv: usize,
    arena: usize,
    scratch: usize,
    allocated: usize,
    mapped: usize,
}

impl From<MemoryBill> for Bill {
    fn from(b: MemoryBill) -> Bill {
        let (weights, kv, arena, scratch, mapped) = (b.weights, b.kv, b.arena, b.scratch, b.mapped);
        Bill { weights, kv, arena, scratch, allocated: b.allocated(), mapped }
    }
}

impl Document {
    /// Puts a dump together.
    pub fn new(parts: &Parts<'_>) -> Document {
        let graph = parts.graph;
        let ids = graph.topological();
        let outputs = graph.outputs().iter();
        let until = parts.stages.list().iter().take_while(|s| !std::ptr::eq(&s.graph, graph)).count();
        let decisions = parts.stages.list().iter().take(until + 1).flat_map(|s| &s.decisions);
        Document {
            schema: SCHEMA,
            generator: format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
            name: graph.name.clone(),
            target: parts.target.to_string(),
            stage: parts.stage.to_string(),
            bounds: graph.bounds.into(),
            options: Options { disabled: parts.options.disabled.clone(), stop_after: parts.options.stop_after.clone() },
            types: types(graph, parts.plan),
            edges: ids.iter().flat_map(|&id| edges(graph, id)).collect(),
            nodes: ids.iter().map(|&id| node(graph, parts.fold, id)).collect(),
            outputs: outputs.map(|(name, v)| Output { name: name.clone(), value: v.to_string() }).collect(),
            layers: layers(parts.fold),
            passes: summary::passes(parts.stages),
            decisions: decisions.map(DecisionJson::from).collect(),
            plan: parts.plan.map(|plan| plan_json(plan, parts)),
            bill: parts.plan.map(|plan| plan.bill.into()),
            session_bill: parts.session.map(Bill::from),
        }
    }
}

fn types(graph: &Graph, plan: Option<&Plan>) -> BTreeMap<String, Type> {
    let mut all = BTreeMap::new();
    let mut add = |ty: &TensorType| {
        all.entry(ty.to_string()).or_insert_with(|| Type {
            dtype: ty.dtype.name(),
            shape: ty.shape.dims().iter().map(|d| d.fixed().map_or(d.to_string().into(), Into::into)).collect(),
            elements: ty.shape.elements(&graph.bounds),
            bytes: ty.bytes(&graph.bounds),
        });
    };
    graph.ids().iter().for_each(|&id| graph.node(id).types.iter().for_each(&mut add));
    let steps = plan.iter().flat_map(|p| &p.steps);
    steps.flat_map(|s| s.operands.iter().chain(&s.results)).for_each(|o| add(&o.ty));
    all
}

fn attribute(value: &AttrValue) -> serde_json::Value {
    match value {
        AttrValue::Int(n) => (*n).into(),
        // The digits of the f32, not those of the f64 that is nearest to it.
        AttrValue::Float(x) => match x.to_string().parse::<f64>() {
            Ok(x) if x.is_finite() => x.into(),
            _ => x.to_string().into(),
        },
        AttrValue::Word(w) => match w.as_str() {
            "true" => true.into(),
            "false" => false.into(),
            _ => w.clone().into(),
        },
        AttrValue::List(items) => items.iter().map(attribute).collect(),
    }
}

fn node(graph: &Graph, fold: &Fold, id: crate::graph::NodeId) -> Node {
    let node = graph.node(id);
    Node {
        id: id.to_string(),
        label: node.label.clone(),
        op: node.op.name().to_string(),
        kind: Kind::of(&node.op).name(),
        source: node.op.is_source(),
        view: node.op.is_view(),
        attributes: node.op.attrs().iter().map(|(name, value)| (name.to_string(), attribute(value))).collect(),
        operands: graph.operands(id).iter().map(|v| v.to_string()).collect(),
        types: node.types.iter().map(|t| t.to_string()).collect(),
        layer: fold.layer(id),
        statement: text::print_node(graph, id),
    }
}

fn edges(graph: &Graph, id: crate::graph::NodeId) -> Vec<Edge> {
    let edge = |(slot, value): (usize, &crate::graph::Value)| Edge {
        from: value.node.to_string(),
        result: value.out,
        to: id.to_string(),
        slot,
        operand: graph.node(id).op.operand_name(slot),
        ty: graph.ty(*value).to_string(),
    };
    graph.operands(id).iter().enumerate().map(edge).collect()
}

fn layers(fold: &Fold) -> Layers {
    let folded = fold.runs().iter().map(|run| Folded {
        layers: run.layers.clone(),
        like: run.like,
        other_types: run.other_types.clone(),
        nodes: run.nodes,
    });
    Layers { count: fold.count(), folded: folded.collect() }
}

fn operand(o: &Operand, bounds: &Bounds) -> OperandJson {
    OperandJson {
        value: o.value.to_string(),
        place: o.place.to_string(),
        offset: o.layout.offset(bounds),
        strides: o.layout.strides(bounds),
        ty: o.ty.to_string(),
    }
}

pub(super) fn steps(plan: &Plan) -> Vec<StepJson> {
    let bounds = &plan.bounds;
    let step = |(index, s): (usize, &crate::graph::plan::Step)| StepJson {
        index,
        node: s.node.to_string(),
        label: s.label.clone(),
        op: s.op.name().to_string(),
        reads: s.operands.iter().map(|o| operand(o, bounds)).collect(),
        writes: s.results.iter().map(|o| operand(o, bounds)).collect(),
        in_place: s.in_place,
        bytes_read: s.bytes_read,
        bytes_written: s.bytes_written,
        flops: s.flops,
    };
    plan.steps.iter().enumerate().map(step).collect()
}

pub(super) fn buffers(plan: &Plan) -> Vec<BufferJson> {
    let buffer = |(i, b): (usize, &crate::graph::plan::Buffer)| BufferJson {
        id: format!("b{i}"),
        value: b.value.to_string(),
        bytes: b.bytes,
        offset: b.offset,
        first: b.first,
        last: b.last,
    };
    plan.buffers.iter().enumerate().map(buffer).collect()
}

fn plan_json(plan: &Plan, parts: &Parts<'_>) -> PlanJson {
    let port = |p: &Port| PortJson {
        name: p.name.clone(),
        value: p.operand.value.to_string(),
        place: p.operand.place.to_string(),
        ty: p.operand.ty.to_string(),
    };
    let weight = |(i, w): (usize, &crate::graph::plan::WeightSlot)| WeightJson {
        id: Place::Weight(crate::graph::plan::WeightId(i as u32)).to_string(),
        name: w.name.clone(),
        ty: w.ty.to_string(),
        matmul: w.matmul,
        rows: w.rows,
        direct: w.direct,
    };
    let state = |(i, s): (usize, &crate::graph::plan::StateSlot)| StateJson {
        id: Place::State(crate::graph::plan::StateId(i as u32)).to_string(),
        name: s.name.clone(),
        ty: s.ty.to_string(),
        bytes: s.bytes,
    };
    let arena = &plan.arena;
    PlanJson {
        steps: steps(plan),
        buffers: buffers(plan),
        weights: plan.weights.iter().enumerate().map(weight).collect(),
        states: plan.states.iter().enumerate().map(state).collect(),
        inputs: plan.inputs.iter().map(port).collect(),
        outputs: plan.outputs.iter().map(port).collect(),
        arena: ArenaJson { bytes: arena.bytes, lower_bound: arena.lower_bound, alignment: arena.alignment },
        summary: summary::summary(parts.stages, plan, parts.fold),
    }
}
