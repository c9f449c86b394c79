//! [`Interpreter`]: runs any graph with the ops' scalar references. Slow, plain, and the truth that backends are tested against.

use super::{Graph, NodeId, Value};
use crate::ops::{Op, ReferenceError};
use crate::tensor::{Bounds, HostTensor};
use std::collections::{BTreeMap, HashMap};

/// Tensors by name.
pub type Values = BTreeMap<String, HostTensor>;

/// Why a graph could not be interpreted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InterpretError {
    /// An input, weight or state has no value.
    #[error("{kind} \"{name}\" has no value")]
    Unbound {
        /// `input`, `weight` or `state`.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A bound value has another type or size than the graph says.
    #[error("{kind} \"{name}\" is bound to a value of another type or size than {expected}")]
    Mismatch {
        /// `input`, `weight` or `state`.
        kind: String,
        /// Its name.
        name: String,
        /// The type there should be.
        expected: String,
    },
    /// An op failed on its values.
    #[error("{node}: {error}")]
    Op {
        /// The node.
        node: String,
        /// What its reference said.
        error: ReferenceError,
    },
}

/// Runs a graph on weights and inputs; keeps the states between runs.
#[derive(Debug)]
pub struct Interpreter<'a> {
    graph: &'a Graph,
    weights: &'a Values,
    states: Values,
}

impl<'a> Interpreter<'a> {
    /// An interpreter whose states are zeros of the capacity in the graph's bounds.
    pub fn new(graph: &'a Graph, weights: &'a Values) -> Interpreter<'a> {
        Interpreter { graph, weights, states: Values::new() }
    }

    /// Sets a state's value.
    pub fn set_state(&mut self, name: &str, value: HostTensor) {
        self.states.insert(name.to_string(), value);
    }

    /// Runs once and returns the outputs.
    pub fn run(&mut self, inputs: &Values, bounds: &Bounds) -> Result<Values, InterpretError> {
        let values = self.run_all(inputs, bounds)?;
        let outputs = self.graph.outputs().iter();
        Ok(outputs.map(|(name, v)| (name.clone(), values[v].clone())).collect())
    }

    /// Runs once and returns every value.
    pub fn run_all(&mut self, inputs: &Values, bounds: &Bounds) -> Result<HashMap<Value, HostTensor>, InterpretError> {
        let mut values: HashMap<Value, HostTensor> = HashMap::new();
        for id in self.graph.topological() {
            let results = match &self.graph.node(id).op {
                Op::Input(_) => vec![self.bound(id, inputs, bounds)?],
                Op::Weight(_) => vec![self.bound(id, self.weights, bounds)?],
                Op::State(_) => vec![self.state(id, bounds)?],
                op => {
                    let operands: Vec<_> = self.graph.operands(id).iter().map(|v| values[v].clone()).collect();
                    let operands: Vec<_> = operands.iter().collect();
                    let outs: Vec<_> = self.graph.node(id).types.iter().map(|t| t.bind(bounds)).collect();
                    let results = op.reference(&operands, &outs);
                    results.map_err(|error| InterpretError::Op { node: self.graph.describe(id), error })?
                }
            };
            for (out, result) in results.iter().enumerate() {
                let Some(slot) = self.graph.node(id).op.state_operand(out) else { continue };
                let state = self.graph.operands(id)[slot].node;
                if let Some(label) = &self.graph.node(state).label {
                    self.states.insert(label.clone(), result.clone());
                }
            }
            for (out, result) in results.into_iter().enumerate() {
                values.insert(Value { node: id, out: out as u8 }, result);
            }
        }
        Ok(values)
    }

    fn bound(&self, id: NodeId, values: &Values, bounds: &Bounds) -> Result<HostTensor, InterpretError> {
        let node = self.graph.node(id);
        let name = node.label.clone().unwrap_or_default();
        let kind = node.op.name().to_string();
        let value =
            values.get(&name).ok_or_else(|| InterpretError::Unbound { kind: kind.clone(), name: name.clone() })?;
        let expected = node.types[0].bind(bounds);
        if value.dtype() != expected.dtype || value.ne() != expected.ne {
            return Err(InterpretError::Mismatch { kind, name, expected: node.types[0].to_string() });
        }
        Ok(value.clone())
    }

    /// The state cut or padded with zeros to the bound length.
    fn state(&self, id: NodeId, bounds: &Bounds) -> Result<HostTensor, InterpretError> {
        let node = self.graph.node(id);
        let bound = node.types[0].bind(bounds);
        let name = node.label.clone().unwrap_or_default();
        let mismatch = || InterpretError::Mismatch {
            kind: "state".into(),
            name: name.clone(),
            expected: node.types[0].to_string(),
        };
        let Some(old) = self.states.get(&name) else {
            return HostTensor::zeros(bound.dtype, bound.ne).ok_or_else(mismatch);
        };
        let row = bound.dtype.row_bytes(bound.ne[0]).ok_or_else(mismatch)?;
        let (from, to) = (old.ne(), bound.ne);
        if old.dtype() != bound.dtype || from[0] != to[0] || from[2] != to[2] || from[3] != to[3] {
            return Err(mismatch());
        }
        let mut bytes = vec![0; row * to[1] * to[2] * to[3]];
        let common = row * from[1].min(to[1]);
        let old = old.bytes();
        for head in 0..to[2] * to[3] {
            bytes[head * to[1] * row..][..common].copy_from_slice(&old[head * from[1] * row..][..common]);
        }
        HostTensor::from_bytes(bound.dtype, to, &bytes).ok_or_else(mismatch)
    }
}
