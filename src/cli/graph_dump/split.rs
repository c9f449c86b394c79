//! `--gpu-layers N`: the last layers on the target, the ones before on the CPU, and what is copied between them.

use super::input::Input;
use super::{Dump, GraphDumpArgs, GraphFormat, budget, memory, target, written};
use crate::cli::Failure;
use crate::cli::io::to_json;
use crate::graph::plan::MemoryBill;
use crate::graph::view::document::Bill;
use crate::graph::view::{Stages, listing, units};
use crate::models::RESIDUAL;
use serde::Serialize;

const SCHEMA: &str = "rocmforge.split/1";

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    stages: Vec<StageReport>,
    /// From each stage to the next.
    copies: Vec<Copy>,
}

#[derive(Serialize)]
struct StageReport {
    target: String,
    /// The first layer and the one after the last.
    layers: [usize; 2],
    session_bill: Bill,
    /// As without --gpu-layers; null for --bill.
    dump: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct Copy {
    value: &'static str,
    from: String,
    to: String,
    /// For the tokens of one step of the plan.
    bytes: u64,
    bytes_per_token: u64,
}

/// Answers for both parts.
pub fn dump(args: &GraphDumpArgs, whole: &Dump, n: usize) -> Result<String, Failure> {
    let Input::Model { config, .. } = &*whole.input else {
        return Err(
            Failure::new("--gpu-layers needs a model, which has layers").hint("leave it out for a graph's text")
        );
    };
    if target::is_cpu(&*whole.target) {
        return Err(Failure::new("--gpu-layers with the target cpu").hint("--target names a GPU, such as gfx1100"));
    }
    if args.explain.is_some() || args.diff.is_some() || args.why_not {
        return Err(Failure::new("--explain, --diff and --why-not ask about one graph").hint("leave --gpu-layers out"));
    }
    let first = config.n_layer - n.min(config.n_layer);
    let cpu = target::target(target::cpu(args.device.no_repack), args.threads)?.into();
    let on_cpu = Dump { layers: Some(0..first), target: cpu, ..whole.clone() };
    let on_gpu = Dump { layers: Some(first..config.n_layer), ..whole.clone() };
    let parts: Vec<Dump> =
        [on_cpu, on_gpu].into_iter().filter(|d| d.layers.as_ref().is_some_and(|l| !l.is_empty())).collect();
    let copy = match &parts[..] {
        [from, to] => Some(Copy {
            value: RESIDUAL,
            from: from.target.name().to_string(),
            to: to.target.name().to_string(),
            bytes: 4 * config.n_embd as u64 * whole.bounds.t as u64,
            bytes_per_token: 4 * config.n_embd as u64,
        }),
        _ => None,
    };
    match args.format {
        _ if args.fit.is_some() => budget(args, &parts[parts.len() - 1]),
        GraphFormat::Text => text(args, whole, &parts, copy.as_ref()),
        GraphFormat::Json => json(args, &parts, copy),
        _ => {
            Err(Failure::new("--gpu-layers is written as text or json").hint("the parts can be drawn one by one only"))
        }
    }
}

fn text(args: &GraphDumpArgs, whole: &Dump, parts: &[Dump], copy: Option<&Copy>) -> Result<String, Failure> {
    let mut blocks = Vec::new();
    let mut total = MemoryBill::default();
    for (i, part) in parts.iter().enumerate() {
        blocks.push(if args.bill { memory::bill_text(part, part.case(args))? } else { one(args, part)? });
        total = total.plus(&memory::session_bill(part, part.case(args))?);
        if let (0, Some(copy)) = (i, copy) {
            blocks.push(format!(
                "copy {} from {} to {}: {} for {} tokens, {} a token\n",
                copy.value,
                copy.from,
                copy.to,
                units::bytes(copy.bytes),
                whole.bounds.t,
                units::bytes(copy.bytes_per_token)
            ));
        }
    }
    if parts.len() > 1 {
        blocks.push(listing::bill(&total, "memory of a session on both"));
    }
    Ok(blocks.join("\n"))
}

fn json(args: &GraphDumpArgs, parts: &[Dump], copy: Option<Copy>) -> Result<String, Failure> {
    let stage = |part: &Dump| {
        let layers = part.layers.clone().unwrap_or_default();
        let parsed = |text: String| {
            serde_json::from_str(&text).map_err(|error| Failure::new(format!("cannot write the dump: {error}")))
        };
        Ok(StageReport {
            target: part.target.name().to_string(),
            layers: [layers.start, layers.end],
            session_bill: memory::session_bill(part, part.case(args))?.into(),
            dump: if args.bill { None } else { Some(parsed(one(args, part)?)?) },
        })
    };
    let stages = parts.iter().map(stage).collect::<Result<_, Failure>>()?;
    let report = Report { schema: SCHEMA, stages, copies: copy.into_iter().collect() };
    Ok(format!("{}\n", to_json(&report)?))
}

fn one(args: &GraphDumpArgs, part: &Dump) -> Result<String, Failure> {
    let source = part.graph(part.bounds, part.kv_type)?;
    let stages = Stages::new(&source, &*part.target, &part.options).map_err(Failure::new)?;
    written(args, part, &stages, &source)
}
