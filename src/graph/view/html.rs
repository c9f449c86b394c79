//! A page to explore a graph: one self-contained file with all stages, its script and style written into it.

use super::document::{self, Bill, DecisionJson};
use super::explain::{self, Event};
use super::measured::Heats;
use super::summary::{self, PassSummary};
use super::svg::{self, escape};
use super::{Fold, Kind, Layers, Measured, Stages};
use crate::graph::plan::{MemoryBill, Plan};
use crate::graph::{Graph, NodeId, Value, text};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

#[derive(Serialize)]
struct Page<'a> {
    name: &'a str,
    target: &'a str,
    bounds: String,
    generator: String,
    kinds: Vec<&'static str>,
    stages: Vec<StageJson>,
    drawings: Vec<DrawingJson>,
    passes: Vec<PassSummary>,
    decisions: Vec<DecisionJson>,
    history: BTreeMap<String, Vec<Event>>,
    plan: Option<serde_json::Value>,
    profile: Option<&'a Measured>,
    lifetimes: Option<SvgJson>,
    bill: Option<Bill>,
    session_bill: Option<Bill>,
}

#[derive(Serialize)]
struct StageJson {
    name: String,
    about: String,
    /// Which drawing shows it: a pass that changed nothing has that of the stage before.
    drawing: usize,
    /// Nodes that the pass changed or made.
    touched: Vec<String>,
}

#[derive(Serialize)]
struct SvgJson {
    body: String,
    width: f64,
    height: f64,
}

impl From<svg::Drawing> for SvgJson {
    fn from(d: svg::Drawing) -> SvgJson {
        SvgJson { body: d.body, width: d.width, height: d.height }
    }
}

#[derive(Serialize)]
struct DrawingJson {
    #[serde(flatten)]
    svg: SvgJson,
    nodes: BTreeMap<String, Fact>,
    /// The nodes of the outputs in order.
    outputs: Vec<String>,
}

#[derive(Serialize)]
struct Fact {
    op: String,
    label: Option<String>,
    kind: &'static str,
    attributes: BTreeMap<&'static str, String>,
    types: Vec<String>,
    operands: Vec<OperandFact>,
    users: Vec<UserFact>,
    outputs: Vec<String>,
    layer: Option<usize>,
    statement: String,
}

#[derive(Serialize)]
struct OperandFact {
    name: Option<String>,
    value: String,
    op: String,
    label: Option<String>,
    #[serde(rename = "type")]
    ty: String,
}

#[derive(Serialize)]
struct UserFact {
    node: String,
    op: String,
    label: Option<String>,
}

/// What a page shows.
pub struct Contents<'a> {
    /// All stages.
    pub stages: &'a Stages,
    /// The plan, if the last stage of the page is one.
    pub plan: Option<&'a Plan>,
    /// Which layers.
    pub layers: &'a Layers,
    /// The target.
    pub target: &'a str,
    /// The times of the plan's steps.
    pub measured: Option<&'a Measured>,
    /// The memory of a session.
    pub session: Option<MemoryBill>,
}

/// The page.
pub fn page(contents: &Contents<'_>) -> Result<String, serde_json::Error> {
    let data = serde_json::to_string(&data(contents)?)?;
    // Nothing in the data can end the script element: `<` is written as JSON allows it.
    let data = data.replace('<', "\\u003c");
    let title = escape(&contents.stages.source().graph.name);
    let mut out = String::with_capacity(PAGE.len() + STYLE.len() + SCRIPT.len() + data.len());
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("each mark of the page ends");
        out.push_str(before);
        out.push_str(match name {
            "title" => &title,
            "css" => STYLE,
            "js" => SCRIPT,
            _ => &data,
        });
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn data<'a>(contents: &Contents<'a>) -> Result<Page<'a>, serde_json::Error> {
    let list = contents.stages.list();
    let source = &contents.stages.source().graph;
    let mut page = Page {
        name: &source.name,
        target: contents.target,
        bounds: source.bounds.to_string(),
        generator: format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
        kinds: Kind::ALL.iter().map(|k| k.name()).collect(),
        stages: Vec::new(),
        drawings: Vec::new(),
        passes: summary::passes(contents.stages),
        decisions: contents.stages.decisions().map(DecisionJson::from).collect(),
        history: BTreeMap::new(),
        plan: None,
        profile: contents.measured,
        lifetimes: None,
        bill: contents.plan.map(|p| p.bill.into()),
        session_bill: contents.session.map(Bill::from),
    };
    let mut shown: BTreeSet<NodeId> = BTreeSet::new();
    for (i, stage) in list.iter().enumerate() {
        let touched = if i == 0 { Vec::new() } else { changed(&list[i - 1].graph, &stage.graph) };
        let removed = i > 0 && list[i - 1].graph.len() != stage.graph.len();
        if i == 0 || removed || !touched.is_empty() {
            let fold = Fold::new(&stage.graph, contents.layers);
            shown.extend(stage.graph.ids().into_iter().filter(|&id| fold.hidden(id).is_none()));
            page.drawings.push(drawing(&stage.graph, &fold, None));
        }
        let pass = page.passes.iter().find(|p| Some(p.name) == stage.pass);
        let about = pass.map_or("as the model was built, in the plainest ops".to_string(), |p| {
            format!("{}: applied {} times, refused {}", p.about, p.applied, p.refused)
        });
        let touched = touched.iter().map(|id| id.to_string()).collect();
        page.stages.push(StageJson { name: stage.name(), about, drawing: page.drawings.len() - 1, touched });
    }
    page.history = shown.iter().map(|&id| (id.to_string(), explain::history(contents.stages, id))).collect();
    page.history.retain(|_, events| !events.is_empty());
    if let Some(plan) = contents.plan {
        let fused = &contents.stages.fused().graph;
        let fold = Fold::new(fused, contents.layers);
        let numbers = summary::summary(contents.stages, plan, &fold);
        let about = format!("{} steps in an arena of {} bytes", plan.steps.len(), plan.arena.bytes);
        if let Some(measured) = contents.measured {
            page.drawings.push(self::drawing(fused, &fold, Some(&measured.heats(plan, &fold))));
        }
        let drawing = page.drawings.len() - 1;
        page.stages.push(StageJson { name: "plan".to_string(), about, drawing, touched: Vec::new() });
        page.plan = Some(serde_json::json!({
            "steps": serde_json::to_value(document::steps(plan))?,
            "buffers": serde_json::to_value(document::buffers(plan))?,
            "arena": { "bytes": plan.arena.bytes, "lower_bound": plan.arena.lower_bound },
            "summary": serde_json::to_value(numbers)?,
        }));
        page.lifetimes = Some(svg::lifetimes(plan, &|id| Kind::of(&fused.node(id).op), (1360.0, 190.0)).into());
    }
    Ok(page)
}

/// Nodes of `after` that are new or have another statement than in `before`.
fn changed(before: &Graph, after: &Graph) -> Vec<NodeId> {
    let same = |id: NodeId| {
        before.contains(id)
            && before.node(id).op == after.node(id).op
            && before.node(id).label == after.node(id).label
            && before.operands(id) == after.operands(id)
    };
    after.ids().into_iter().filter(|&id| !same(id)).collect()
}

fn drawing(graph: &Graph, fold: &Fold, heats: Option<&Heats>) -> DrawingJson {
    let ids = graph.ids().into_iter().filter(|&id| fold.hidden(id).is_none());
    DrawingJson {
        svg: svg::graph(graph, fold, heats).into(),
        nodes: ids.map(|id| (id.to_string(), fact(graph, fold, id))).collect(),
        outputs: graph.outputs().iter().map(|(_, v)| v.node.to_string()).collect(),
    }
}

fn fact(graph: &Graph, fold: &Fold, id: NodeId) -> Fact {
    let node = graph.node(id);
    let operand = |(slot, value): (usize, &Value)| OperandFact {
        name: node.op.operand_name(slot),
        value: value.to_string(),
        op: graph.node(value.node).op.name().to_string(),
        label: graph.node(value.node).label.clone(),
        ty: graph.ty(*value).to_string(),
    };
    let values = (0..node.types.len() as u8).map(|out| Value { node: id, out });
    let users: BTreeSet<NodeId> = values.flat_map(|v| graph.users(v)).map(|(user, _)| user).collect();
    let user = |user: NodeId| UserFact {
        node: user.to_string(),
        op: graph.node(user).op.name().to_string(),
        label: graph.node(user).label.clone(),
    };
    // A value that every layer reads has many users; the page lists those that it shows.
    let users = users.into_iter().filter(|&u| fold.hidden(u).is_none()).map(user).collect();
    Fact {
        op: node.op.name().to_string(),
        label: node.label.clone(),
        kind: Kind::of(&node.op).name(),
        attributes: node.op.attrs().into_iter().map(|(name, value)| (name, value.to_string())).collect(),
        types: node.types.iter().map(|t| t.to_string()).collect(),
        operands: graph.operands(id).iter().enumerate().map(operand).collect(),
        users,
        outputs: graph.outputs().iter().filter(|(_, v)| v.node == id).map(|(name, _)| name.clone()).collect(),
        layer: fold.layer(id),
        statement: text::print_node(graph, id),
    }
}
