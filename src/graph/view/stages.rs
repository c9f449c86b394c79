//! [`Stages`]: the graph before the passes and after each of them.

use crate::graph::Graph;
use crate::graph::passes::{self, Capabilities, Decision, PassError, PassOptions};

/// The graph at one point of the pipeline.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The pass that ran last; `None` for the graph as it was built.
    pub pass: Option<&'static str>,
    /// The graph.
    pub graph: Graph,
    /// What that pass decided.
    pub decisions: Vec<Decision>,
}

impl Stage {
    /// `source` or `after:PASS`.
    pub fn name(&self) -> String {
        self.pass.map_or("source".to_string(), |pass| format!("after:{pass}"))
    }
}

/// Every stage in order; the first is the source.
#[derive(Clone, Debug)]
pub struct Stages(Vec<Stage>);

impl Stages {
    /// Runs the pipeline and keeps the graph after each pass that ran.
    ///
    /// # Errors
    /// As [`passes::run`].
    pub fn new(source: &Graph, target: &dyn Capabilities, options: &PassOptions) -> Result<Stages, PassError> {
        let mut list = vec![Stage { pass: None, graph: source.clone(), decisions: Vec::new() }];
        let mut graph = source.clone();
        passes::run_observed(&mut graph, target, options, &mut |pass, graph, decisions| {
            list.push(Stage { pass: Some(pass), graph: graph.clone(), decisions: decisions.to_vec() });
        })?;
        Ok(Stages(list))
    }

    /// All stages.
    pub fn list(&self) -> &[Stage] {
        &self.0
    }

    /// The graph as it was built.
    pub fn source(&self) -> &Stage {
        self.0.first().expect("there is a source")
    }

    /// The graph after the last pass.
    pub fn fused(&self) -> &Stage {
        self.0.last().expect("there is a source")
    }

    /// The stage after a pass and the one before; `None` when it did not run.
    pub fn around(&self, pass: &str) -> Option<(&Stage, &Stage)> {
        self.0.windows(2).find(|pair| pair[1].pass == Some(pass)).map(|pair| (&pair[0], &pair[1]))
    }

    /// What was decided, in order.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.0.iter().flat_map(|stage| &stage.decisions)
    }
}
