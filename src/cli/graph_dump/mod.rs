//! `graph-dump`: the graph of a model and how it will run, from the file's header alone.

mod input;
mod memory;
mod profile;
mod split;
mod target;

use super::Failure;
use super::args::KvTypeArg;
use super::io::{Output, to_json};
use crate::engine::KvType;
use crate::graph::Graph;
use crate::graph::passes::{PASSES, PassOptions};
use crate::graph::plan::{MemoryBill, Plan, Target, plan};
use crate::graph::view::document::{Document, Parts};
use crate::graph::view::{Fold, Kind, Layers, Measured, Stage, Stages, diff, dot, explain, html, listing, svg};
use crate::tensor::Bounds;
use clap::{Args, ValueEnum};
use input::Input;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

const BILL_SCHEMA: &str = "rocmforge.bill/1";
const FIT_SCHEMA: &str = "rocmforge.fit/1";

/// How the graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Statements or steps, for people.
    Text,
    /// All that is known, for programs (docs/graph-dump.md has the schema).
    Json,
    /// Graphviz.
    Dot,
    /// A picture, with buffer lifetimes at stage plan.
    Svg,
    /// A page to explore, with all stages.
    Html,
}

/// What a step evaluates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// A chunk of the prompt.
    Prefill,
    /// One token.
    Decode,
}

/// Where in the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Source,
    After(String),
    Fused,
    Plan,
}

impl At {
    fn name(&self) -> String {
        match self {
            At::Source => "source".to_string(),
            At::After(pass) => format!("after:{pass}"),
            At::Fused => "fused".to_string(),
            At::Plan => "plan".to_string(),
        }
    }
}

fn stage(text: &str) -> Result<At, String> {
    match text {
        "source" => Ok(At::Source),
        "fused" => Ok(At::Fused),
        "plan" => Ok(At::Plan),
        _ => match text.strip_prefix("after:") {
            Some(pass) => pass_name(pass).map(At::After),
            None => Err("a stage is source, after:PASS, fused or plan".to_string()),
        },
    }
}

fn pass_name(name: &str) -> Result<String, String> {
    let names: Vec<&str> = PASSES.iter().map(|p| p.name()).collect();
    match names.contains(&name) {
        true => Ok(name.to_string()),
        false => Err(format!("there is no pass of this name; there are {}", names.join(", "))),
    }
}

fn layers(text: &str) -> Result<Layers, String> {
    let number = |text: &str| text.trim().parse::<usize>().ok();
    match text {
        "all" => return Ok(Layers::All),
        "folded" => return Ok(Layers::Folded),
        _ => {}
    }
    let range = match text.split_once("..") {
        Some((a, b)) => number(a).zip(number(b)).map(|(a, b)| a..b),
        None => number(text).map(|n| n..n.saturating_add(1)),
    };
    range
        .filter(|r| r.start < r.end)
        .map(Layers::Range)
        .ok_or_else(|| "layers are a range such as 0..2 (that is 0 and 1), one number, `all` or `folded`".to_string())
}

/// Show the graph of a model and how it will run
#[derive(Args, Debug)]
#[command(after_help = "No weight is read, but for --profile: the header is enough.

Examples:
  graph-dump -m model.gguf --phase decode            the steps of one token
  graph-dump -m model.gguf --format html -o a.html   a page to explore
  graph-dump -m model.gguf --explain blk.0.ffn_up    what became of a node, and why
  graph-dump -m model.gguf --diff glu                what a pass changes
  graph-dump -m model.gguf --fit 16GiB               the largest context that fits
  graph-dump -m model.gguf --target gfx1100 --bill   what a session takes on a GPU that need not be here
  graph-dump -m model.gguf --target gfx1100 --gpu-layers 20
                                                     the first layers on the CPU, the last 20 on the GPU
  graph-dump -m model.gguf --profile --phase prefill where the time goes
  graph-dump graph.txt --stage fused                 the passes on a graph written by hand")]
pub struct GraphDumpArgs {
    /// A GGUF file or a graph's text; - or nothing is stdin
    #[arg(value_name = "FILE", conflicts_with = "model")]
    file: Option<PathBuf>,
    /// GGUF file of the model; - is stdin
    #[arg(short, long, value_name = "FILE", help_heading = "Model")]
    model: Option<PathBuf>,
    /// What a step evaluates; a graph's text has its own bounds otherwise
    #[arg(long, value_enum, help_heading = "Model")]
    phase: Option<Phase>,
    /// Tokens that the context holds; 0 takes what the model was trained with, at most 4096
    #[arg(short, long, value_name = "N", help_heading = "Model")]
    ctx: Option<usize>,
    /// Tokens of a prefill step at most; 0 takes 512
    #[arg(long, value_name = "N", help_heading = "Model")]
    chunk: Option<usize>,
    /// Element type of the KV cache
    #[arg(long, value_enum, default_value_t = KvTypeArg::Auto, help_heading = "Model")]
    kv_type: KvTypeArg,
    /// What the plan is made for; no device is needed
    #[arg(long, value_name = "NAME", default_value = "cpu", help_heading = "Target")]
    target: String,
    /// What --profile runs on.
    #[command(flatten)]
    device: super::args::DeviceArgs,
    /// Threads of the target; 0 takes all processors that this process may use
    #[arg(short = 't', long, value_name = "N", default_value_t = 0, value_parser = super::args::threads, help_heading = "Target")]
    threads: usize,
    /// Where in the pipeline: source, after:PASS, fused or plan
    #[arg(long, value_name = "STAGE", default_value = "plan", value_parser = stage, help_heading = "Passes")]
    stage: At,
    /// Leave a pass out; may be given several times
    #[arg(long, value_name = "PASS", value_parser = pass_name, help_heading = "Passes")]
    disable: Vec<String>,
    /// Run no pass after this one
    #[arg(long, value_name = "PASS", value_parser = pass_name, help_heading = "Passes")]
    stop_after: Option<String>,
    /// List the passes in their order
    #[arg(long, help_heading = "Passes", exclusive = true)]
    list_passes: bool,
    /// How the graph is written; --bill and --fit know text and json
    #[arg(long, value_enum, default_value_t = GraphFormat::Text, help_heading = "Output")]
    format: GraphFormat,
    /// Which layers to show: A..B, all or folded (one of each kind)
    #[arg(long, value_name = "A..B", default_value = "folded", value_parser = layers, help_heading = "Output")]
    layers: Layers,
    /// File to write; - is stdout
    #[arg(short, long, value_name = "FILE", default_value = "-", help_heading = "Output")]
    out: PathBuf,
    /// Tell all about a node: its id (n12) or label
    #[arg(long, value_name = "NODE", help_heading = "Questions", group = "question")]
    explain: Option<String>,
    /// Show what a pass changes
    #[arg(long, value_name = "PASS", value_parser = pass_name, help_heading = "Questions", group = "question")]
    diff: Option<String>,
    /// Show what the passes refused, and why
    #[arg(long, help_heading = "Questions", group = "question")]
    why_not: bool,
    /// Show the memory that a session takes
    #[arg(long, help_heading = "Questions", group = "question")]
    bill: bool,
    /// Find the largest context that fits, e.g. into 16GiB
    #[arg(long, value_name = "SIZE", value_parser = memory::size, help_heading = "Questions", group = "question")]
    fit: Option<u64>,
    /// Run the program and show where its time goes (decode unless --phase prefill; --ctx N is the depth); reads the weights
    #[arg(long, help_heading = "Questions", group = "question")]
    profile: bool,
    /// Runs whose medians --profile shows
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = super::args::positive, help_heading = "Questions")]
    repetitions: usize,
    /// With --profile: write a trace for Perfetto or chrome://tracing
    #[arg(long, value_name = "FILE", requires = "profile", help_heading = "Questions")]
    trace: Option<PathBuf>,
}

/// Which passes run.
fn pass_options(args: &GraphDumpArgs) -> PassOptions {
    let stop_after = match &args.stage {
        At::After(pass) => Some(pass.clone()),
        _ => args.stop_after.clone(),
    };
    PassOptions { disabled: args.disable.clone(), stop_after }
}

/// The input with what is done to it.
#[derive(Clone)]
pub struct Dump {
    input: Rc<Input>,
    /// Of a model, if not all.
    layers: Option<Range<usize>>,
    target: Rc<dyn Target>,
    options: PassOptions,
    bounds: Bounds,
    kv_type: KvType,
}

impl Dump {
    fn open(args: &GraphDumpArgs) -> Result<Dump, Failure> {
        let name = if args.target == "cpu" { target::cpu(args.device.no_repack) } else { &args.target };
        let target = target::target(name, args.threads)?.into();
        let input = Input::open(args.model.as_deref(), args.file.as_deref())?;
        if args.diff.as_ref().is_some_and(|pass| args.disable.contains(pass)) {
            return Err(Failure::new("--diff shows a pass that --disable leaves out").hint("give one of the two"));
        }
        let bounds = bounds(args, &input)?;
        let options = pass_options(args);
        let input = Rc::new(input);
        Ok(Dump { input, layers: None, target, options, bounds, kv_type: args.kv_type.into() })
    }

    /// The source graph.
    fn graph(&self, bounds: Bounds, kv_type: KvType) -> Result<Graph, Failure> {
        self.input.graph(bounds, kv_type, self.layers.as_ref())
    }

    /// The end of a title: ` on gfx1100, layers 12..32`; empty for a whole model.
    fn where_it_is(&self) -> String {
        match &self.layers {
            Some(layers) => format!(" on {}, layers {}..{}", self.target.name(), layers.start, layers.end),
            None => String::new(),
        }
    }

    fn case(&self, args: &GraphDumpArgs) -> memory::Case {
        let chunk = args.chunk.filter(|&n| n > 0).unwrap_or(512);
        memory::Case { ctx: self.bounds.s, chunk, kv_type: self.kv_type }
    }

    /// Bits that a weight takes in the file on average.
    fn weight_bits(&self) -> Option<f64> {
        let Input::Model { header, .. } = &*self.input else { return None };
        let sum = |f: fn(&crate::models::gguf::TensorInfo) -> u64| header.tensors().iter().map(f).sum::<u64>() as f64;
        Some(8.0 * sum(|t| t.bytes) / sum(|t| t.elements()).max(1.0))
    }

    fn plan(&self, source: &Graph) -> Result<Plan, Failure> {
        plan(source, self.bounds, &*self.target, &self.options).map_err(|error| {
            Failure::new(error).hint("smaller bounds (--ctx, --chunk) or another graph; --stage source shows the graph")
        })
    }
}

fn bounds(args: &GraphDumpArgs, input: &Input) -> Result<Bounds, Failure> {
    let given = |n: Option<usize>| n.filter(|&n| n > 0);
    let bounds = match input {
        Input::Model { config, .. } => {
            let s = given(args.ctx).unwrap_or(config.n_ctx_train.min(4096));
            let t = given(args.chunk).unwrap_or(512).min(s);
            Bounds { t: if args.phase == Some(Phase::Decode) { 1 } else { t }, s, r: 1 }
        }
        Input::Text(graph) => {
            let own = graph.bounds;
            let t = given(args.chunk).unwrap_or(own.t);
            let (t, r) = match args.phase {
                Some(Phase::Decode) => (1, 1),
                Some(Phase::Prefill) => (t, 1),
                None => (t, own.r),
            };
            Bounds { t, s: given(args.ctx).unwrap_or(own.s), r }
        }
    };
    match bounds.s.max(bounds.t) > i32::MAX as usize {
        true => Err(Failure::new(format!("{bounds} are more tokens than positions can count"))
            .hint("--ctx and --chunk are at most 2147483647")),
        false => Ok(bounds),
    }
}

/// Runs it.
pub fn run(args: GraphDumpArgs) -> Result<(), Failure> {
    let text = if args.list_passes { list_passes() } else { dump(&args)? };
    let mut out = Output::create(&args.out)?;
    out.write(text.as_bytes())?;
    out.finish()
}

fn list_passes() -> String {
    let width = PASSES.iter().map(|p| p.name().len()).max().unwrap_or(0);
    PASSES.iter().map(|p| format!("{:width$}  {}\n", p.name(), p.about())).collect()
}

fn dump(args: &GraphDumpArgs) -> Result<String, Failure> {
    if args.profile {
        return profile::run(args);
    }
    let dump = Dump::open(args)?;
    if let Some(n) = args.device.gpu_layers {
        return split::dump(args, &dump, n);
    }
    if args.bill || args.fit.is_some() {
        return budget(args, &dump);
    }
    let source = dump.graph(dump.bounds, dump.kv_type)?;
    let stages = Stages::new(&source, &*dump.target, &dump.options).map_err(Failure::new)?;
    let asks = args.explain.is_some() || args.diff.is_some() || args.why_not;
    if asks && args.format != GraphFormat::Text {
        return Err(Failure::new("--explain, --diff and --why-not answer in text")
            .hint("--format json without them has all decisions"));
    }
    if let Some(pass) = &args.diff {
        let (before, after) = stages.around(pass).ok_or_else(|| {
            Failure::new(format!("pass {pass} did not run")).hint("it comes after the pass of --stop-after or --stage")
        })?;
        return Ok(diff(before, after, &args.layers));
    }
    if args.why_not {
        return Ok(listing::why_not(&stages));
    }
    if let Some(node) = &args.explain {
        return explained(&dump, &stages, &source, node);
    }
    written(args, &dump, &stages, &source)
}

fn explained(dump: &Dump, stages: &Stages, source: &Graph, name: &str) -> Result<String, Failure> {
    let (stage, id) = explain::find(stages, name).ok_or_else(|| {
        let close = explain::resembling(stages, name);
        let hint = match close.is_empty() {
            true => "a node is named by its id such as n12 or by its label; --stage source shows both".to_string(),
            false => format!("did you mean {}?", close.join(", ")),
        };
        Failure::new(format!("there is no node \"{name}\"")).hint(hint)
    })?;
    let plan = dump.plan(source)?;
    Ok(explain::explain(stages, Some(&plan), stage, id))
}

fn budget(args: &GraphDumpArgs, dump: &Dump) -> Result<String, Failure> {
    if !matches!(args.format, GraphFormat::Text | GraphFormat::Json) {
        return Err(Failure::new("--bill and --fit answer in text or json").hint("leave --format out"));
    }
    let json = args.format == GraphFormat::Json;
    let case = dump.case(args);
    let line = |text: String| format!("{text}\n");
    match (&*dump.input, args.fit) {
        (Input::Model { config, .. }, Some(budget)) => {
            let (fit, bill) = memory::fit(dump, budget, case, config.n_ctx_train)?;
            Ok(if json { line(to_json(&fit)?) } else { memory::fit_text(&fit, &bill) })
        }
        (Input::Model { .. }, None) if json => Ok(line(to_json(&memory::BillReport::new(dump, case)?)?)),
        (Input::Model { .. }, None) => memory::bill_text(dump, case),
        (Input::Text(_), Some(_)) => {
            Err(Failure::new("--fit needs a model, which has a context").hint("--bill works for a graph's text"))
        }
        (Input::Text(_), None) => {
            let plan = dump.plan(&dump.graph(dump.bounds, dump.kv_type)?)?;
            Ok(match json {
                true => line(to_json(&memory::BillReport::of_plan(&plan))?),
                false => listing::bill(&plan.bill, &format!("memory for {}", dump.bounds)),
            })
        }
    }
}

/// The layers to show, which must be there.
fn fold(graph: &Graph, layers: &Layers) -> Result<Fold, Failure> {
    let fold = Fold::new(graph, layers);
    let has = fold.count();
    match layers {
        Layers::Range(range) if range.end > has => {
            let hint = match has {
                0 => "layers are found by labels such as \"blk.0.attn_q\"".to_string(),
                _ => format!("--layers 0..{has} are all"),
            };
            Err(Failure::new(format!("layers {}..{} were asked for, the graph has {has}", range.start, range.end))
                .hint(hint))
        }
        _ => Ok(fold),
    }
}

fn written(args: &GraphDumpArgs, dump: &Dump, stages: &Stages, source: &Graph) -> Result<String, Failure> {
    let stage: &Stage = if args.stage == At::Source { stages.source() } else { stages.fused() };
    let plan = if args.stage == At::Plan { Some(dump.plan(source)?) } else { None };
    let fold = fold(&stage.graph, &args.layers)?;
    let session = || -> Option<MemoryBill> {
        let model = matches!(*dump.input, Input::Model { .. });
        (model && plan.is_some()).then(|| memory::session_bill(dump, dump.case(args)).ok()).flatten()
    };
    let parts = Parts {
        stages,
        graph: &stage.graph,
        stage: &args.stage.name(),
        target: dump.target.name(),
        fold: &fold,
        options: &dump.options,
        plan: plan.as_ref(),
        session: session(),
    };
    Ok(match (args.format, &plan) {
        (GraphFormat::Text, Some(plan)) => {
            let mut text = listing::plan(plan, stages, &fold);
            if let Some(bill) = &parts.session {
                text.push('\n');
                let title = format!("memory of a session (prefill and decode){}", dump.where_it_is());
                text.push_str(&listing::bill(bill, &title));
            }
            text
        }
        (GraphFormat::Text, None) => listing::graph(&stage.graph, &fold),
        (GraphFormat::Json, _) => format!("{}\n", to_json(&Document::new(&parts))?),
        (GraphFormat::Dot, _) => dot::graph(&stage.graph, &fold),
        (GraphFormat::Svg, Some(plan)) => {
            let title = format!("{} on {} ({})", source.name, plan.target, dump.bounds);
            picture(&stage.graph, &fold, plan, &title, None)
        }
        (GraphFormat::Svg, None) => svg::graph(&stage.graph, &fold, None).file(),
        (GraphFormat::Html, plan) => {
            let contents = html::Contents {
                stages,
                plan: plan.as_ref(),
                layers: &args.layers,
                target: dump.target.name(),
                measured: None,
                session: parts.session,
            };
            html::page(&contents).map_err(|error| Failure::new(format!("cannot make the page: {error}")))?
        }
    })
}

/// A plan as SVG: its graph, with the times of its steps if they were measured, above the lifetimes of its buffers.
fn picture(graph: &Graph, fold: &Fold, plan: &Plan, title: &str, measured: Option<&Measured>) -> String {
    let heats = measured.map(|measured| measured.heats(plan, fold));
    let drawing = svg::graph(graph, fold, heats.as_ref());
    let size = (drawing.width.clamp(640.0, 1400.0) - 130.0, 380.0);
    let lifetimes = svg::lifetimes(plan, &|id| Kind::of(&graph.node(id).op), size);
    drawing.above(title, lifetimes, "Buffers of the arena").file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_ranges() {
        assert_eq!(layers("0..2"), Ok(Layers::Range(0..2)));
        assert_eq!(layers("3"), Ok(Layers::Range(3..4)));
        assert_eq!(layers("all"), Ok(Layers::All));
        for bad in ["", "2..2", "3..1", "-1..2", "a..b", "0..", "0..2..4"] {
            assert!(layers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stages_are_named() {
        assert_eq!(stage("plan"), Ok(At::Plan));
        assert_eq!(stage("after:glu"), Ok(At::After("glu".to_string())));
        assert!(stage("after:no").unwrap_err().contains("dequantize_matmul"));
        assert!(stage("planned").unwrap_err().contains("after:PASS"));
    }
}
