//! Passes: graph to graph, in one visible list, with a log of every decision.
//!
//! A pass may be disabled by name, the pipeline can stop after any pass, and the verifier runs after each in debug builds.

mod add_rms_norm;
mod attention;
mod common_subexpressions;
mod constant_folding;
mod dead_nodes;
mod decision;
mod dequantize_matmul;
mod glu;
mod glu_matmul;
mod group_matmuls;
mod matmul_activation;
mod matmul_bias;
mod matmul_residual;
mod norm_matmul;
mod qkv_rope;
mod quantize_activations;
mod rms_norm_mul;
mod rope_append;
mod select_rows;
mod view_elimination;

pub use decision::{Decision, Outcome};

use super::{EditError, Graph, NodeId, Value, VerifyError, verify};
use crate::tensor::DType;

/// What a target wants from the passes.
pub trait Capabilities {
    /// The type in which a matmul with a weight of type `weight` reads rows of `k` activations of at most `tokens` tokens: `f32`,
    /// `q8_a` where it has an integer kernel, `f16` where it has matrix instructions for halves, `bf16` where it has dot products of these.
    fn activation_type(&self, weight: DType, k: usize, tokens: usize) -> DType;

    /// Whether a matmul with a weight of this type and rows of `k`, of at most `tokens` tokens, normalises its input by itself, which is
    /// worthwhile where a launch costs more than doing so in every block.
    fn norm_in_matmul(&self, _weight: DType, _k: usize, _tokens: usize) -> bool {
        false
    }

    /// Whether products with these weights (of Q, K and V) of rows of `k`, of at most `tokens` tokens, rotate their results and write
    /// them into caches of these types (of K and V) by themselves.
    fn rope_in_matmul(&self, _weights: [DType; 3], _caches: [DType; 2], _k: usize, _tokens: usize) -> bool {
        false
    }
}

/// A graph transformation.
pub trait Pass: Sync {
    /// The name by which it is disabled and logged.
    fn name(&self) -> &'static str;
    /// What it does, in a line.
    fn about(&self) -> &'static str;
    /// Transforms the graph and logs what it did and what it refused.
    fn run(&self, graph: &mut Graph, cx: &mut PassContext<'_>) -> Result<(), EditError>;
}

/// All passes in the order in which they run.
pub const PASSES: &[&dyn Pass] = &[
    &constant_folding::ConstantFolding,
    &common_subexpressions::CommonSubexpressions,
    &select_rows::SelectRows,
    &dequantize_matmul::DequantizeMatmul,
    &matmul_bias::MatmulBias,
    &glu::GluPass,
    &matmul_activation::MatmulActivation,
    &matmul_residual::MatmulResidual,
    &rms_norm_mul::RmsNormMulPass,
    &add_rms_norm::AddRmsNorm,
    &attention::AttentionPass,
    &view_elimination::ViewElimination,
    &glu_matmul::GluMatmul,
    &group_matmuls::GroupMatmuls,
    &rope_append::RopeAppend,
    &norm_matmul::NormMatmul,
    &qkv_rope::QkvRope,
    &quantize_activations::QuantizeActivations,
    &dead_nodes::DeadNodes,
];

/// Which passes run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassOptions {
    /// Names of passes that do not run.
    pub disabled: Vec<String>,
    /// Name of the last pass that runs.
    pub stop_after: Option<String>,
}

/// Why the pipeline failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PassError {
    /// An option names a pass that there is not.
    #[error("unknown pass \"{name}\"; there are {}", names())]
    UnknownPass {
        /// The name.
        name: String,
    },
    /// A pass made an edit that the graph refused: a defect of the pass.
    #[error("pass {pass}: {error}")]
    Edit {
        /// The pass.
        pass: &'static str,
        /// What the graph said.
        error: Box<EditError>,
    },
    /// A pass broke the graph: a defect of the pass.
    #[error("after pass {pass}: {error}")]
    Verify {
        /// The pass.
        pass: &'static str,
        /// The broken invariant.
        error: Box<VerifyError>,
    },
}

fn names() -> String {
    PASSES.iter().map(|p| p.name()).collect::<Vec<_>>().join(", ")
}

/// Runs the pipeline and returns its log.
pub fn run(graph: &mut Graph, target: &dyn Capabilities, options: &PassOptions) -> Result<Vec<Decision>, PassError> {
    run_observed(graph, target, options, &mut |_, _, _| {})
}

/// Runs the pipeline and returns its log; after each pass that ran, `observe` is given its name, the graph, and what it decided.
pub fn run_observed(
    graph: &mut Graph,
    target: &dyn Capabilities,
    options: &PassOptions,
    observe: &mut dyn FnMut(&'static str, &Graph, &[Decision]),
) -> Result<Vec<Decision>, PassError> {
    for name in options.disabled.iter().chain(&options.stop_after) {
        if !PASSES.iter().any(|p| p.name() == name) {
            return Err(PassError::UnknownPass { name: name.clone() });
        }
    }
    let mut log = Vec::new();
    for pass in PASSES {
        let name = pass.name();
        if !options.disabled.iter().any(|d| d == name) {
            let seen = log.len();
            let mut cx = PassContext { target, pass: name, log: &mut log };
            pass.run(graph, &mut cx).map_err(|error| PassError::Edit { pass: name, error: Box::new(error) })?;
            if cfg!(debug_assertions) {
                verify(graph).map_err(|error| PassError::Verify { pass: name, error: Box::new(error) })?;
            }
            observe(name, graph, &log[seen..]);
        }
        if options.stop_after.as_deref() == Some(name) {
            break;
        }
    }
    Ok(log)
}

/// What a pass works with.
pub struct PassContext<'a> {
    /// The target.
    pub target: &'a dyn Capabilities,
    pass: &'static str,
    log: &'a mut Vec<Decision>,
}

impl PassContext<'_> {
    /// What the target wants as activations of a matmul by weight `w`.
    fn activation_type(&self, graph: &Graph, w: Value) -> DType {
        let ty = graph.ty(w);
        self.target.activation_type(ty.dtype, ty.shape.row().fixed().unwrap_or(0), graph.bounds.t)
    }

    /// Logs a site where the pass was applied, with the bytes of memory traffic at the graph's bounds and the launches it saves.
    pub fn applied(&mut self, graph: &Graph, site: NodeId, bytes_saved: u64, launches_saved: u32) {
        let outcome = Outcome::Applied { bytes_saved, launches_saved };
        self.log.push(Decision { pass: self.pass, node: site, site: graph.describe(site), outcome });
    }

    /// Logs a site that looked like a match but was refused.
    pub fn refused(&mut self, graph: &Graph, site: NodeId, reason: impl Into<String>) {
        let outcome = Outcome::Refused { reason: reason.into() };
        self.log.push(Decision { pass: self.pass, node: site, site: graph.describe(site), outcome });
    }
}

/// Bytes of a value at the graph's bounds.
fn bytes(graph: &Graph, value: super::Value) -> u64 {
    graph.ty(value).bytes(&graph.bounds).unwrap_or(0) as u64
}
