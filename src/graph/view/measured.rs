//! [`Measured`]: the times of a plan's steps, as listings, pictures and the page show them.

use super::{Fold, units};
use crate::graph::NodeId;
use crate::graph::plan::Plan;
use std::collections::{BTreeMap, HashMap};

/// A step that ran.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct MeasuredStep {
    /// Its time.
    pub seconds: f64,
    /// Bytes that it reads and writes, over its time.
    pub bytes_per_second: f64,
    /// Its operations over its time.
    pub flops_per_second: f64,
    /// The least time that the machine could take over its time; above 1 where its bytes are in a cache.
    pub roofline_share: Option<f64>,
    /// What that least time is for: `memory` or `compute`.
    pub limit: Option<&'static str>,
}

/// The steps of a plan, measured.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct Measured {
    /// What ran and on what, in a line.
    pub about: String,
    /// The sum of all steps.
    pub total_seconds: f64,
    /// In the plan's order.
    pub steps: Vec<MeasuredStep>,
}

/// A node's or a run of folded layers' part of the time.
#[derive(Clone, Debug, PartialEq)]
pub struct Heat {
    /// A line for its box.
    pub line: String,
    /// From 0 to 1: its time beside that of the node that takes longest. `None` for folded layers.
    pub warmth: Option<f64>,
}

/// Heat by the key of a box.
pub type Heats = HashMap<String, Heat>;

impl Measured {
    /// What the boxes of a picture show.
    pub fn heats(&self, plan: &Plan, fold: &Fold) -> Heats {
        let mut nodes: BTreeMap<NodeId, (f64, f64)> = BTreeMap::new();
        let mut runs: BTreeMap<usize, f64> = BTreeMap::new();
        for (step, measured) in plan.steps.iter().zip(&self.steps) {
            if let Some(run) = fold.hidden(step.node) {
                *runs.entry(run).or_default() += measured.seconds;
            } else {
                let entry = nodes.entry(step.node).or_default();
                entry.0 += measured.seconds;
                entry.1 += measured.seconds * measured.roofline_share.unwrap_or(0.0);
            }
        }
        let longest = nodes.values().map(|n| n.0).fold(f64::MIN_POSITIVE, f64::max);
        let known = self.steps.iter().any(|s| s.roofline_share.is_some());
        let mut heats = Heats::new();
        for (id, (seconds, reached)) in nodes {
            let share = reached / seconds.max(f64::MIN_POSITIVE);
            let roof = if known { format!(", {:.0}% of roofline", 100.0 * share) } else { String::new() };
            let line = format!("{}{roof}", units::seconds(seconds));
            heats.insert(id.to_string(), Heat { line, warmth: Some(seconds / longest) });
        }
        for (run, seconds) in runs {
            let share = 100.0 * seconds / self.total_seconds.max(f64::MIN_POSITIVE);
            let line = format!("{}, {share:.0}% of the time", units::seconds(seconds));
            heats.insert(format!("fold{run}"), Heat { line, warmth: None });
        }
        heats
    }
}

/// The colour of a warmth from 0 to 1: pale yellow to red.
pub fn colour(warmth: f64) -> String {
    // By the root, so that steps of a tenth of the longest one are not all alike.
    let w = warmth.clamp(0.0, 1.0).sqrt();
    let mix = |cold: f64, hot: f64| (cold + (hot - cold) * w).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(255.0, 240.0), mix(250.0, 101.0), mix(220.0, 82.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_from_pale_to_red() {
        assert_eq!(colour(0.0), "#fffadc");
        assert_eq!(colour(1.0), "#f06552");
        assert_eq!(colour(7.0), colour(1.0));
    }
}
