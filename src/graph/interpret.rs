//! [`Interpreter`]: runs any graph with the ops' scalar references. Slow, plain, and the truth that backends are tested against.

use super::{Graph, NodeId, Value};
use crate::ops::{BoundType, Op, ReferenceError};
use crate::tensor::{Bounds, HostTensor};
use std::collections::{BTreeMap, HashMap};

/// Tensors by name.
pub type Values = BTreeMap<String, HostTensor>;

/// Where an interpreter gets weights from.
pub trait WeightValues {
    /// The weight of this name, if it has the wanted type and sizes.
    fn weight(&self, name: &str, ty: &BoundType) -> Option<HostTensor>;
}

impl WeightValues for Values {
    fn weight(&self, name: &str, ty: &BoundType) -> Option<HostTensor> {
        self.get(name).filter(|&w| w.dtype() == ty.dtype && w.ne() == ty.ne).cloned()
    }
}

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
pub struct Interpreter<'a> {
    graph: &'a Graph,
    weights: &'a dyn WeightValues,
    states: Values,
}

impl<'a> Interpreter<'a> {
    /// An interpreter whose states are zeros of the capacity in the graph's bounds.
    pub fn new(graph: &'a Graph, weights: &'a dyn WeightValues) -> Interpreter<'a> {
        Interpreter { graph, weights, states: Values::new() }
    }

    /// Sets a state's value.
    pub fn set_state(&mut self, name: &str, value: HostTensor) {
        self.states.insert(name.to_string(), value);
    }

    /// Runs once and returns the outputs.
    ///
    /// # Errors
    /// If something is not bound, or an op fails on its values.
    pub fn run(&mut self, inputs: &Values, bounds: &Bounds) -> Result<Values, InterpretError> {
        let mut outputs = Values::new();
        let graph = self.graph;
        self.run_each(inputs, bounds, &mut |value, tensor| {
            for (name, _) in graph.outputs().iter().filter(|(_, v)| *v == value) {
                outputs.insert(name.clone(), tensor.clone());
            }
        })?;
        Ok(outputs)
    }

    /// Runs once and returns every value: for small graphs.
    ///
    /// # Errors
    /// As [`Interpreter::run`].
    pub fn run_all(&mut self, inputs: &Values, bounds: &Bounds) -> Result<HashMap<Value, HostTensor>, InterpretError> {
        let mut all = HashMap::new();
        self.run_each(inputs, bounds, &mut |value, tensor| {
            all.insert(value, tensor.clone());
        })?;
        Ok(all)
    }

    /// Runs once and shows every value as it is computed; values are dropped after their last use.
    ///
    /// # Errors
    /// As [`Interpreter::run`].
    pub fn run_each(
        &mut self,
        inputs: &Values,
        bounds: &Bounds,
        visit: &mut dyn FnMut(Value, &HostTensor),
    ) -> Result<(), InterpretError> {
        let order = self.graph.topological();
        let mut uses: HashMap<Value, usize> = HashMap::new();
        for &id in &order {
            for value in self.graph.operands(id) {
                *uses.entry(value).or_default() += 1;
            }
        }
        let mut values: HashMap<Value, HostTensor> = HashMap::new();
        for id in order {
            let results = match &self.graph.node(id).op {
                Op::Input(_) => vec![self.bound(id, inputs, bounds)?],
                Op::Weight(_) => vec![self.weight(id, bounds)?],
                Op::State(_) => vec![self.state(id, bounds)?],
                op => {
                    let list = self.graph.operands(id);
                    let operands: Vec<&HostTensor> = list.iter().map(|v| &values[v]).collect();
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
                let value = Value { node: id, out: out as u8 };
                visit(value, &result);
                if uses.contains_key(&value) {
                    values.insert(value, result);
                }
            }
            for value in self.graph.operands(id) {
                if let Some(left) = uses.get_mut(&value) {
                    *left -= 1;
                    if *left == 0 {
                        values.remove(&value);
                    }
                }
            }
        }
        Ok(())
    }

    fn weight(&self, id: NodeId, bounds: &Bounds) -> Result<HostTensor, InterpretError> {
        let node = self.graph.node(id);
        let name = node.label.clone().unwrap_or_default();
        let unbound = InterpretError::Unbound { kind: node.op.name().to_string(), name: name.clone() };
        self.weights.weight(&name, &node.types[0].bind(bounds)).ok_or(unbound)
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
