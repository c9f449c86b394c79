//! A plan as text.

use super::Plan;
use crate::graph::passes::Outcome;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The steps with shapes, places, bytes and flops, and a summary.
pub fn print(plan: &Plan) -> String {
    let mut out = format!("plan \"{}\" for {} ({})\n", plan.name, plan.target, plan.bounds);
    for (i, step) in plan.steps.iter().enumerate() {
        let operands: Vec<String> = step.operands.iter().map(|o| format!("{}:{}", o.place, o.ty)).collect();
        let results: Vec<String> = step.results.iter().map(|o| format!("{}:{}", o.place, o.ty)).collect();
        let attrs: Vec<String> = step.op.attrs().iter().map(|(n, v)| format!(" {n}={v}")).collect();
        let _ = write!(
            out,
            "{i:5}  {} = {}({}){}",
            results.join(", "),
            step.op.name(),
            operands.join(", "),
            attrs.concat()
        );
        let _ = write!(out, "  # {}", step.describe());
        if step.in_place.is_some() {
            out.push_str(", in place");
        }
        let _ = writeln!(out, ", reads {} writes {} flops {}", step.bytes_read, step.bytes_written, step.flops);
    }
    let _ = writeln!(out, "buffers");
    for (i, b) in plan.buffers.iter().enumerate() {
        let _ = writeln!(out, "  b{i}: {} bytes at {}, steps {}..={}, {}", b.bytes, b.offset, b.first, b.last, b.value);
    }
    let mut passes: BTreeMap<&str, (usize, usize, u64, u64)> = BTreeMap::new();
    for d in &plan.decisions {
        let entry = passes.entry(d.pass).or_default();
        match &d.outcome {
            Outcome::Applied { bytes_saved, launches_saved } => {
                entry.0 += 1;
                entry.2 += bytes_saved;
                entry.3 += u64::from(*launches_saved);
            }
            Outcome::Refused { .. } => entry.1 += 1,
        }
    }
    let _ = writeln!(out, "passes");
    for (pass, (applied, refused, bytes, launches)) in passes {
        let _ =
            writeln!(out, "  {pass}: applied {applied}, refused {refused}, saves {bytes} bytes, {launches} launches");
    }
    let bill = &plan.bill;
    let _ = writeln!(out, "arena {} bytes, lower bound {}", plan.arena.bytes, plan.arena.lower_bound);
    let _ = writeln!(
        out,
        "memory {} bytes: weights {}, kv {}, arena {}, scratch {}; mapped {}",
        bill.allocated(),
        bill.weights,
        bill.kv,
        bill.arena,
        bill.scratch,
        bill.mapped
    );
    out
}
