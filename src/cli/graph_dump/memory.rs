//! The memory bill of a session and the largest context that fits into an amount of memory.

use super::{Dump, Input, target};
use crate::cli::Failure;
use crate::engine::{KvType, layers_that_fit};
use crate::graph::plan::{MemoryBill, Plan, plan};
use crate::graph::view::document::Bill;
use crate::graph::view::{listing, units};
use crate::tensor::Bounds;
use serde::Serialize;
use std::fmt::Write;

/// Contexts that are tried are multiples of this.
const STEP: usize = 256;
/// The largest context: positions are 32-bit numbers.
const MOST: usize = (i32::MAX as usize) / STEP * STEP;

/// A number of bytes with a unit: `16GiB`, `1.5 GB`, `800MiB`, `4096`.
pub fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 14] = [
        ("kib", 1024.0),
        ("mib", 1048576.0),
        ("gib", 1073741824.0),
        ("tib", 1099511627776.0),
        ("kb", 1e3),
        ("mb", 1e6),
        ("gb", 1e9),
        ("tb", 1e12),
        ("k", 1024.0),
        ("m", 1048576.0),
        ("g", 1073741824.0),
        ("t", 1099511627776.0),
        ("b", 1.0),
        ("", 1.0),
    ];
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = (lower[..digits].parse::<f64>(), lower[digits..].trim());
    let factor = UNITS.iter().find(|u| u.0 == unit).map(|u| u.1);
    match (number, factor) {
        (Ok(n), Some(factor)) if n > 0.0 && n * factor < 1e18 => Ok((n * factor) as u64),
        _ => Err("a size such as 16GiB, 800MiB, 24GB or a number of bytes is needed".into()),
    }
}

/// What a bill is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Tokens of the context.
    pub ctx: usize,
    /// Tokens of a prefill step at most.
    pub chunk: usize,
    /// Element type of the caches.
    pub kv_type: KvType,
}

/// The memory of a session: weights and caches once, arenas and scratch for prefill and decode.
pub fn session_bill(dump: &Dump, case: Case) -> Result<MemoryBill, Failure> {
    let of = |t: usize| {
        let bounds = Bounds { t, s: case.ctx, r: 1 };
        let graph = dump.graph(bounds, case.kv_type)?;
        plan(&graph, bounds, &*dump.target, &dump.options).map(|plan| plan.bill).map_err(Failure::new)
    };
    Ok(MemoryBill::of_session(&of(case.chunk.min(case.ctx))?, &of(1)?))
}

/// What `--bill` writes.
#[derive(Serialize)]
pub struct BillReport {
    schema: &'static str,
    /// Tokens of the context: the bound S of a graph's text.
    ctx: usize,
    /// Tokens of a prefill step: the bound T of a graph's text.
    chunk: usize,
    bill: Bill,
}

impl BillReport {
    /// The bill of a case.
    pub fn new(dump: &Dump, case: Case) -> Result<BillReport, Failure> {
        let bill = session_bill(dump, case)?.into();
        Ok(BillReport { schema: super::BILL_SCHEMA, ctx: case.ctx, chunk: case.chunk.min(case.ctx), bill })
    }

    /// The bill of one plan.
    pub fn of_plan(plan: &Plan) -> BillReport {
        let Bounds { t, s, .. } = plan.bounds;
        BillReport { schema: super::BILL_SCHEMA, ctx: s, chunk: t, bill: plan.bill.into() }
    }
}

/// The bill as text.
pub fn bill_text(dump: &Dump, case: Case) -> Result<String, Failure> {
    let bill = session_bill(dump, case)?;
    let chunk = case.chunk.min(case.ctx);
    let title = format!(
        "memory of a session with a context of {} and chunks of {chunk} tokens{}",
        case.ctx,
        dump.where_it_is()
    );
    Ok(listing::bill(&bill, &title))
}

/// The answer to `--fit`.
#[derive(Serialize)]
pub struct Fit {
    schema: &'static str,
    budget: u64,
    /// The largest context that fits, up to the training context.
    ctx: Option<usize>,
    chunk: usize,
    /// The context that the model was trained with.
    n_ctx_train: usize,
    /// The largest context that fits, trained or not.
    beyond: Option<usize>,
    /// The bill of `ctx`, or of the smallest context that was tried.
    bill: Bill,
    /// What would make it fit.
    shrink: Vec<String>,
}

/// Finds the largest context.
pub fn fit(dump: &Dump, budget: u64, case: Case, n_ctx_train: usize) -> Result<(Fit, MemoryBill), Failure> {
    let bill = |ctx: usize| session_bill(dump, Case { ctx, ..case });
    let fits = |ctx: usize| Ok(bill(ctx).is_ok_and(|b| b.allocated() as u64 <= budget));
    let smallest = STEP.min(n_ctx_train);
    let at_smallest = bill(smallest)?;
    let mut answer = Fit {
        schema: super::FIT_SCHEMA,
        budget,
        ctx: None,
        chunk: case.chunk,
        n_ctx_train,
        beyond: None,
        bill: at_smallest.into(),
        shrink: Vec::new(),
    };
    if at_smallest.allocated() as u64 > budget {
        answer.shrink = shrink(dump, budget, Case { ctx: smallest, ..case }, &at_smallest)?;
        return Ok((answer, at_smallest));
    }
    // From the chunk on, each token of the context costs the same: two bills give a guess, which is then tried.
    let (a, b) = (case.chunk.next_multiple_of(STEP), case.chunk.next_multiple_of(STEP) * 2);
    let (at_a, at_b) = (bill(a)?.allocated() as u64, bill(b)?.allocated() as u64);
    let slope = at_b.saturating_sub(at_a).max(1);
    let guess = (u128::from(budget.saturating_sub(at_a)) * a as u128 / u128::from(slope)) as usize;
    let guess = (guess.saturating_add(a) / STEP).clamp(1, MOST / STEP);
    let beyond = largest(fits, guess, MOST / STEP)?.map_or(smallest, |k| k * STEP);
    let ctx = beyond.min(n_ctx_train.max(smallest));
    // A training context that is no multiple counts as one more candidate.
    let ctx = if ctx == n_ctx_train { ctx } else { ctx / STEP * STEP };
    let its_bill = bill(ctx)?;
    answer.ctx = Some(ctx);
    answer.beyond = Some(beyond);
    answer.bill = its_bill.into();
    Ok((answer, its_bill))
}

/// The largest `k` in `1..=high` that fits, if 1 does. It is sought from `guess` on in growing steps, then by halving.
fn largest(fits: impl Fn(usize) -> Result<bool, Failure>, guess: usize, high: usize) -> Result<Option<usize>, Failure> {
    let (mut good, mut bad) = (0, high + 1);
    let (mut next, mut stride) = (guess, 1);
    while good < next && next < bad {
        if fits(next * STEP)? {
            good = next
        } else {
            bad = next
        }
        let up = bad == high + 1;
        if !up && good > 0 {
            break;
        }
        next = if up { (next + stride).min(high) } else { next.saturating_sub(stride) };
        stride *= 2;
    }
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle * STEP)? { good = middle } else { bad = middle }
    }
    Ok((good > 0).then_some(good))
}

/// What would have to be smaller, and by how much. Every advice was tried.
fn shrink(dump: &Dump, budget: u64, case: Case, bill: &MemoryBill) -> Result<Vec<String>, Failure> {
    let mut advice = Vec::new();
    let short = bill.allocated() as u64 - budget;
    let mut chunk = case.chunk.min(case.ctx);
    while chunk > 1 {
        chunk /= 2;
        if session_bill(dump, Case { chunk, ..case })?.allocated() as u64 <= budget {
            advice.push(format!("--chunk {chunk} fits: smaller prefill steps need a smaller arena and less scratch"));
            break;
        }
    }
    if let (Input::Model { config, .. }, None, true) = (&*dump.input, &dump.layers, !target::is_cpu(&*dump.target)) {
        let part = |layers| session_bill(&Dump { layers: Some(layers), ..dump.clone() }, case);
        let n = layers_that_fit(config.n_layer, budget, part)?;
        if n > 0 {
            let cpu = config.n_layer - n;
            advice.push(format!("--gpu-layers {n} fits: {cpu} layers and their caches stay in the CPU's memory"));
        }
    }
    for (kv_type, name) in [(KvType::F16, "f16"), (KvType::Q8_0, "q8_0")] {
        // Some models have heads that q8_0 cannot store.
        if session_bill(dump, Case { kv_type, ..case }).is_ok_and(|bill| bill.allocated() as u64 <= budget) {
            advice.push(format!("--kv-type {name} fits: a smaller cache"));
            break;
        }
    }
    let others = (bill.allocated() - bill.weights) as u64;
    if let Some(left) = budget.checked_sub(others).filter(|&left| left > 0) {
        let factor = left as f64 / bill.weights as f64;
        let bits = dump.weight_bits().map(|bits| format!(" ({:.2} bits a weight instead of {bits:.2})", bits * factor));
        advice.push(format!(
            "weights of at most {} instead of {} fit{}: a file with a smaller quantization",
            units::bytes(left),
            units::bytes(bill.weights as u64),
            bits.unwrap_or_default()
        ));
    } else {
        advice.push(format!("without any weights {} are needed", units::bytes(others)));
    }
    advice.push(format!("{} ({short} bytes) more memory is enough for a context of {}", units::bytes(short), case.ctx));
    Ok(advice)
}

/// The answer as text.
pub fn fit_text(fit: &Fit, bill: &MemoryBill) -> String {
    let budget = units::bytes(fit.budget);
    let mut out = String::new();
    let Some(ctx) = fit.ctx else {
        let _ = writeln!(out, "no context fits into {budget} ({} bytes)", fit.budget);
        let least = fit.n_ctx_train.min(STEP);
        out.push_str(&listing::bill(bill, &format!("memory of a session with a context of {least}")));
        out.push_str("what would have to shrink\n");
        for line in &fit.shrink {
            let _ = writeln!(out, "  {line}");
        }
        return out;
    };
    let _ = writeln!(out, "a context of {ctx} tokens fits into {budget} ({} bytes)", fit.budget);
    if ctx == fit.n_ctx_train {
        out.push_str("it is the context that the model was trained with");
        match fit.beyond {
            Some(beyond) if beyond > ctx => {
                let _ = writeln!(out, "; {beyond} tokens would fit, but beyond {ctx} it was not trained");
            }
            _ => out.push('\n'),
        }
    } else {
        let _ = writeln!(out, "the model was trained with {}", fit.n_ctx_train);
    }
    let title = format!("memory of a session with a context of {ctx} and chunks of {} tokens", fit.chunk.min(ctx));
    out.push_str(&listing::bill(bill, &title));
    let left = fit.budget.saturating_sub(bill.allocated() as u64);
    let _ = writeln!(out, "  {} are left", units::bytes(left));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("16GiB"), Ok(16 << 30));
        assert_eq!(size("1.5 GB"), Ok(1_500_000_000));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("2m"), Ok(2 << 20));
        for bad in ["", "GiB", "-1", "1XB", "0", "1e30", "inf", "1..2"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_largest_is_found() {
        for limit in [1usize, 2, 3, 4, 7, 8, 100, 1000, 1023] {
            for guess in [1, 2, 8, 99, 500, 999, 1000] {
                let found = largest(|ctx| Ok(ctx <= limit * STEP), guess, 1000).ok().flatten();
                assert_eq!(found, Some(limit.min(1000)), "from {guess}");
                assert_eq!(largest(|_| Ok(false), guess, 1000).ok().flatten(), None);
            }
        }
    }
}
