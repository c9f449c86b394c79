//! Where the time of a step goes: each step of a plan timed on the backend that runs it.

use super::model::LoadedStage;
use super::{Cancel, EngineError, KvType, Model};
use crate::graph::plan::Plan;
use crate::tensor::Bounds;
use std::time::Duration;

/// Which program is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfilePhase {
    /// This many tokens at once, on an empty cache.
    Prefill(usize),
    /// One token after this many.
    Decode(usize),
}

/// A plan with the time of each step.
#[derive(Clone, Debug)]
pub struct Profile {
    /// What ran it.
    pub device: String,
    /// The plan, made for exactly the sizes that ran: its bytes and flops are those of the run.
    pub plan: Plan,
    /// The median time of each step, in the plan's order.
    pub times: Vec<Duration>,
}

impl Profile {
    /// The sum over all steps.
    pub fn total(&self) -> Duration {
        self.times.iter().sum()
    }
}

/// Runs a model's programs `repetitions` times (once more before, to warm up) with a barrier around every step: one profile for each
/// stage of the model's placement. A stage that is not the first one gets zeros.
///
/// # Errors
/// If the plan cannot be made or run.
pub fn profile(
    model: &Model,
    phase: ProfilePhase,
    kv_type: KvType,
    repetitions: usize,
    cancel: &Cancel,
) -> Result<Vec<Profile>, EngineError> {
    let bounds = match phase {
        ProfilePhase::Prefill(tokens) => Bounds { t: tokens.max(1), s: tokens.max(1), r: 1 },
        ProfilePhase::Decode(depth) => Bounds { t: 1, s: depth + 1, r: 1 },
    };
    let plans = model.plans(bounds, kv_type)?;
    let stages = model.stages().iter().zip(plans);
    stages.map(|(stage, plan)| profile_stage(model, stage, plan, repetitions, cancel)).collect()
}

fn profile_stage(
    model: &Model,
    stage: &LoadedStage,
    plan: Plan,
    repetitions: usize,
    cancel: &Cancel,
) -> Result<Profile, EngineError> {
    let bounds = plan.bounds;
    let mut states = stage.backend.states(&plan)?;
    let mut program = stage.backend.lower(&plan, &stage.weights)?;
    program.set_profiling(true);
    let first = bounds.s - bounds.t;
    let counting = |from: usize, n: usize| (from..from + n).map(|i| i as i32).collect::<Vec<i32>>();
    let mut runs: Vec<Vec<Duration>> = Vec::new();
    for repetition in 0..=repetitions.max(1) {
        // Inputs share the arena with what the run computes: they are bound anew each time.
        for (i, port) in plan.inputs.iter().enumerate() {
            let values = match port.name.as_str() {
                "tokens" => counting(0, bounds.t).iter().map(|i| i % model.config().n_vocab as i32).collect(),
                "positions" | "kv_slot" => counting(first, bounds.t),
                "rows" => counting(bounds.t - 1, 1),
                // kv_start and the residual stream: all of their bytes are 0.
                _ => vec![0; port.operand.ty.shape.elements(&bounds).unwrap_or(0)],
            };
            program.set_input(i, bytemuck::cast_slice(&values))?;
        }
        program.run(&mut *states, &bounds, cancel.flag())?;
        if repetition > 0 {
            runs.push(program.step_times());
        }
    }
    let median = |step: usize| {
        let mut times: Vec<Duration> = runs.iter().filter_map(|r| r.get(step)).copied().collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let times = (0..plan.steps.len()).map(median).collect();
    Ok(Profile { device: stage.backend.device().id, plan, times })
}
