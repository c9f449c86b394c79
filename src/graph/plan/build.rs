//! The planner: order, layouts, aliases, liveness, in-place reuse, arena, bill.

use super::layout::{Layout, need};
use super::{
    Arena, Buffer, BufferId, MemoryBill, Operand, Place, Plan, Port, StateId, StateSlot, Step, Target, WeightId,
    WeightSlot,
};
use crate::graph::passes::{self, Decision, PassError, PassOptions};
use crate::graph::{Graph, NodeId, Value, VerifyError, verify};
use crate::ops::{Cont, Op, TensorType};
use crate::tensor::{Bounds, DType};
use smallvec::SmallVec;
use std::collections::HashMap;

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The graph is broken.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// An op needs a copy of a view that cannot be made.
    #[error(
        "{node}: operand {slot} is a view of {ty} with gaps, and only f32 views can be copied; add a `dequantize` before it"
    )]
    Gaps {
        /// The node.
        node: String,
        /// The operand.
        slot: usize,
        /// The view's type.
        ty: String,
    },
    /// The arena would be larger than the address space.
    #[error("{node}: a result of {ty} is too large under {bounds}")]
    TooLarge {
        /// The node.
        node: String,
        /// The result's type.
        ty: String,
        /// The bounds.
        bounds: Bounds,
    },
}

/// Fuses a copy of `graph` for `target` and plans it for `bounds`.
pub fn plan(graph: &Graph, bounds: Bounds, target: &dyn Target, options: &PassOptions) -> Result<Plan, PlanError> {
    let mut graph = graph.clone();
    graph.bounds = bounds;
    verify(&graph)?;
    let decisions = passes::run(&mut graph, target, options)?;
    let orders = [graph.topological(), depth_first(&graph)];
    let mut best: Option<Plan> = None;
    for order in orders {
        let plan = Planner::new(&graph).run(&order, target, &decisions)?;
        if best.as_ref().is_none_or(|b| plan.arena.bytes < b.arena.bytes) {
            best = Some(plan);
        }
    }
    Ok(best.expect("there are two orders"))
}

/// Nodes after their operands, going from each output and cache down to what it needs.
fn depth_first(graph: &Graph) -> Vec<NodeId> {
    let mut order = Vec::with_capacity(graph.len());
    let mut done = vec![false; graph.ids().last().map_or(0, |id| id.index() + 1)];
    let mut roots: Vec<NodeId> = graph.ids();
    // Appends and outputs in the order of their ids, then what is left.
    roots.sort_by_key(|&id| {
        let wanted = graph.node(id).op.appends() || graph.outputs().iter().any(|(_, v)| v.node == id);
        (!wanted, id)
    });
    for root in roots {
        let mut stack = vec![(root, 0)];
        while let Some((id, next)) = stack.pop() {
            if done[id.index()] {
                continue;
            }
            match graph.operands(id).get(next) {
                Some(operand) => {
                    stack.push((id, next + 1));
                    stack.push((operand.node, 0));
                }
                None => {
                    done[id.index()] = true;
                    order.push(id);
                }
            }
        }
    }
    order
}

struct Planner<'a> {
    graph: &'a Graph,
    operands: HashMap<Value, Operand>,
    steps: Vec<Step>,
    buffers: Vec<Buffer>,
    weights: Vec<WeightSlot>,
    states: Vec<StateSlot>,
    inputs: Vec<Port>,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Graph) -> Planner<'a> {
        Planner {
            graph,
            operands: HashMap::new(),
            steps: Vec::new(),
            buffers: Vec::new(),
            weights: Vec::new(),
            states: Vec::new(),
            inputs: Vec::new(),
        }
    }

    fn run(mut self, order: &[NodeId], target: &dyn Target, decisions: &[Decision]) -> Result<Plan, PlanError> {
        // Ports, weights and states are listed by id, so that plans of one graph list them alike.
        let is_source = |id: &NodeId| matches!(self.graph.node(*id).op, Op::Input(_) | Op::Weight(_) | Op::State(_));
        let (sources, rest): (Vec<NodeId>, Vec<NodeId>) = order.iter().copied().partition(is_source);
        let mut sources = sources;
        sources.sort_unstable();
        for id in sources.into_iter().chain(rest) {
            self.add(id)?;
        }
        let graph = self.graph;
        let mut outputs: Vec<Port> = graph
            .outputs()
            .iter()
            .map(|(name, value)| Port { name: name.clone(), operand: self.operands[value].clone() })
            .collect();
        self.share_in_place(&mut outputs);
        self.set_lifetimes(&outputs);
        let (bytes, lower_bound) = super::arena::place(&mut self.buffers, target.alignment());
        let mut plan = Plan {
            name: graph.name.clone(),
            target: target.name().to_string(),
            bounds: graph.bounds,
            steps: self.steps,
            buffers: self.buffers,
            arena: Arena { bytes, lower_bound, alignment: target.alignment() },
            weights: self.weights,
            states: self.states,
            inputs: self.inputs,
            outputs,
            decisions: decisions.to_vec(),
            bill: MemoryBill::default(),
        };
        let memory = plan.weights.iter().map(|w| target.weight_memory(w));
        plan.bill = MemoryBill {
            weights: memory.clone().map(|m| m.allocated).sum(),
            mapped: memory.map(|m| m.mapped).sum(),
            kv: plan.states.iter().map(|s| s.bytes).sum(),
            arena: bytes,
            scratch: target.scratch_bytes(&plan),
        };
        Ok(plan)
    }

    fn add(&mut self, id: NodeId) -> Result<(), PlanError> {
        let node = self.graph.node(id);
        let label = || node.label.clone().unwrap_or_default();
        let value = Value::first(id);
        let ty = &node.types[0];
        match &node.op {
            Op::Input(_) => {
                let operand = self.buffer(value, ty)?;
                self.inputs.push(Port { name: label(), operand: operand.clone() });
                self.operands.insert(value, operand);
            }
            Op::Weight(_) => {
                let place = Place::Weight(WeightId(self.weights.len() as u32));
                self.weights.push(WeightSlot {
                    name: label(),
                    ty: ty.clone(),
                    matmul: false,
                    rows: false,
                    direct: false,
                });
                let layout = Layout::contiguous(ty);
                self.operands.insert(value, Operand { value, place, ty: ty.clone(), layout });
            }
            Op::State(_) => {
                let place = Place::State(StateId(self.states.len() as u32));
                let bytes = ty.bytes(&self.graph.bounds).ok_or_else(|| self.too_large(id, ty))?;
                self.states.push(StateSlot { name: label(), ty: ty.clone(), bytes });
                let layout = Layout::with_capacity(ty, &self.graph.bounds);
                self.operands.insert(value, Operand { value, place, ty: ty.clone(), layout });
            }
            op if op.is_view() => {
                let from = self.operands[&self.graph.operands(id)[0]].clone();
                let from = match from.layout.view(op, &from.ty, ty) {
                    Some(_) => from,
                    None => self.copy(id, 0, from)?,
                };
                let layout = from.layout.view(op, &from.ty, ty).expect("a contiguous value has every view");
                self.operands.insert(value, Operand { value, place: from.place, ty: ty.clone(), layout });
            }
            op => self.add_step(id, op)?,
        }
        Ok(())
    }

    fn add_step(&mut self, id: NodeId, op: &Op) -> Result<(), PlanError> {
        let mut operands: SmallVec<[Operand; 6]> = SmallVec::new();
        for (slot, value) in self.graph.operands(id).iter().enumerate() {
            let operand = self.operands[value].clone();
            let fits = operand.layout.meets(need(op, slot), &operand.ty);
            let operand = if fits { operand } else { self.copy(id, slot, operand)? };
            if let Place::Weight(w) = operand.place {
                let slot = &mut self.weights[w.index()];
                match op {
                    op if op.is_matmul_weight(operands.len()) => slot.matmul = true,
                    Op::GetRows(_) if operands.is_empty() => slot.rows = true,
                    _ => slot.direct = true,
                }
            }
            operands.push(operand);
        }
        let mut results: SmallVec<[Operand; 1]> = SmallVec::new();
        for (out, ty) in self.graph.node(id).types.iter().enumerate() {
            let value = Value { node: id, out: out as u8 };
            let result = if let Some(state) = op.state_operand(out) {
                Operand { value, ..operands[state].clone() }
            } else {
                self.buffer(value, ty)?
            };
            self.operands.insert(value, result.clone());
            results.push(result);
        }
        self.push_step(id, op.clone(), operands, results);
        Ok(())
    }

    /// A step that copies a view with gaps into a buffer.
    fn copy(&mut self, id: NodeId, slot: usize, from: Operand) -> Result<Operand, PlanError> {
        if from.ty.dtype != DType::F32 {
            let node = self.graph.describe(id);
            return Err(PlanError::Gaps { node, slot, ty: from.ty.to_string() });
        }
        let to = self.buffer(from.value, &from.ty.clone())?;
        self.push_step(id, Cont {}.into(), SmallVec::from_iter([from]), SmallVec::from_iter([to.clone()]));
        Ok(to)
    }

    fn push_step(&mut self, id: NodeId, op: Op, operands: SmallVec<[Operand; 6]>, results: SmallVec<[Operand; 1]>) {
        let bounds = &self.graph.bounds;
        let bytes = |o: &Operand| o.ty.bytes(bounds).unwrap_or(usize::MAX) as u64;
        let types: SmallVec<[&TensorType; 6]> = operands.iter().map(|o| &o.ty).collect();
        let outs = results.iter().map(|r| r.ty.clone()).collect();
        let flops = op.flops(&types, &outs, bounds);
        drop(types);
        let (bytes_read, bytes_written) = match &op {
            // Only the rows that are asked for, and only the rows that are new.
            Op::GetRows(_) => {
                let [k, rows, ..] = results[0].ty.shape.eval(bounds);
                ((operands[0].ty.dtype.row_bytes(k).unwrap_or(0) * rows) as u64, bytes(&results[0]))
            }
            Op::KvAppend(_) | Op::RopeKvAppend(_) => {
                let is_state = |o: &&Operand| matches!(o.place, Place::State(_));
                let read: u64 = operands.iter().filter(|o| !is_state(o)).map(bytes).sum();
                // The new rows take as many elements as they are read from.
                let new = operands.iter().filter(|o| !is_state(o) && o.ty.dtype == DType::F32);
                let width = results.iter().find(is_state).map_or(4, |r| r.ty.dtype.block_bytes()) as u64;
                (read, new.map(bytes).sum::<u64>() / 4 * width)
            }
            Op::QkvRopeAppend(op) => {
                let is_state = |o: &Operand| matches!(o.place, Place::State(_));
                let read: u64 = operands.iter().filter(|o| !is_state(o)).map(bytes).sum();
                // A row of each head for each token, and Q.
                let t = results[0].ty.shape.dim(2).eval(bounds);
                let row = |o: &Operand| {
                    let [d, _, heads, _] = o.ty.shape.eval(bounds);
                    (o.ty.dtype.row_bytes(d).unwrap_or(0) * heads * t) as u64
                };
                (read, bytes(&results[0]) + operands[op.k_state()..][..2].iter().map(row).sum::<u64>())
            }
            _ => (operands.iter().map(bytes).sum(), results.iter().map(bytes).sum()),
        };
        let label = self.graph.node(id).label.clone();
        self.steps.push(Step {
            node: id,
            label,
            op,
            operands,
            results,
            in_place: None,
            bytes_read,
            bytes_written,
            flops,
        });
    }

    fn buffer(&mut self, value: Value, ty: &TensorType) -> Result<Operand, PlanError> {
        let bytes = ty.bytes(&self.graph.bounds).filter(|&b| b <= isize::MAX as usize / 4);
        let bytes = bytes.ok_or_else(|| self.too_large(value.node, ty))?;
        let id = BufferId(self.buffers.len() as u32);
        self.buffers.push(Buffer { bytes, offset: 0, first: 0, last: 0, value });
        Ok(Operand { value, place: Place::Arena(id), ty: ty.clone(), layout: Layout::contiguous(ty) })
    }

    fn too_large(&self, id: NodeId, ty: &TensorType) -> PlanError {
        PlanError::TooLarge { node: self.graph.describe(id), ty: ty.to_string(), bounds: self.graph.bounds }
    }

    /// Lets results take over the buffers of operands that die at the step.
    fn share_in_place(&mut self, outputs: &mut [Port]) {
        let mut last_use: Vec<usize> = vec![0; self.buffers.len()];
        for (s, step) in self.steps.iter().enumerate() {
            for operand in step.operands.iter().chain(&step.results) {
                if let Place::Arena(b) = operand.place {
                    last_use[b.index()] = s;
                }
            }
        }
        for port in outputs.iter() {
            if let Place::Arena(b) = port.operand.place {
                last_use[b.index()] = usize::MAX;
            }
        }
        // Inputs are bound once and belong to the caller until the run ends.
        for port in &self.inputs {
            if let Place::Arena(b) = port.operand.place {
                last_use[b.index()] = usize::MAX;
            }
        }
        let mut moved: HashMap<BufferId, BufferId> = HashMap::new();
        for s in 0..self.steps.len() {
            for operand in &mut self.steps[s].operands {
                rename(&moved, operand);
            }
            let step = &self.steps[s];
            let Some(Place::Arena(to)) = step.results.first().map(|r| r.place) else { continue };
            let taken = step.op.in_place().iter().copied().find(|&i| {
                let Some(operand) = step.operands.get(i) else { return false };
                let Place::Arena(from) = operand.place else { return false };
                let alone = step.operands.iter().filter(|o| o.place == operand.place).count() == 1;
                alone
                    && last_use[from.index()] == s
                    && operand.layout.is_contiguous(&operand.ty)
                    && operand.layout.offset.is_empty()
                    && operand.ty == step.results[0].ty
                    && self.buffers[from.index()].bytes == self.buffers[to.index()].bytes
            });
            let Some(i) = taken else { continue };
            let Place::Arena(from) = step.operands[i].place else { continue };
            last_use[from.index()] = last_use[to.index()];
            moved.insert(to, from);
            let step = &mut self.steps[s];
            step.in_place = Some(i);
            for result in &mut step.results {
                rename(&moved, result);
            }
        }
        for port in outputs.iter_mut() {
            rename(&moved, &mut port.operand);
        }
        self.drop_unused(&moved, outputs);
    }

    /// Removes the buffers that were taken over and renumbers the rest.
    fn drop_unused(&mut self, moved: &HashMap<BufferId, BufferId>, outputs: &mut [Port]) {
        let mut new_ids: Vec<u32> = vec![0; self.buffers.len()];
        let mut kept = Vec::new();
        for (i, buffer) in self.buffers.drain(..).enumerate() {
            if !moved.contains_key(&BufferId(i as u32)) {
                new_ids[i] = kept.len() as u32;
                kept.push(buffer);
            }
        }
        self.buffers = kept;
        let renumber = |place: &mut Place| {
            if let Place::Arena(b) = place {
                *b = BufferId(new_ids[b.index()]);
            }
        };
        for step in &mut self.steps {
            step.operands.iter_mut().chain(&mut step.results).for_each(|o| renumber(&mut o.place));
        }
        self.inputs.iter_mut().chain(outputs).for_each(|p| renumber(&mut p.operand.place));
    }

    fn set_lifetimes(&mut self, outputs: &[Port]) {
        let mut seen = vec![false; self.buffers.len()];
        for port in &self.inputs {
            if let Place::Arena(b) = port.operand.place {
                seen[b.index()] = true;
            }
        }
        for (s, step) in self.steps.iter().enumerate() {
            for operand in step.operands.iter().chain(&step.results) {
                let Place::Arena(b) = operand.place else { continue };
                let buffer = &mut self.buffers[b.index()];
                if !seen[b.index()] {
                    seen[b.index()] = true;
                    buffer.first = s;
                }
                buffer.last = s;
            }
        }
        for port in outputs {
            if let Place::Arena(b) = port.operand.place {
                self.buffers[b.index()].last = self.steps.len();
            }
        }
    }
}

fn rename(moved: &HashMap<BufferId, BufferId>, operand: &mut Operand) {
    while let Place::Arena(b) = operand.place
        && let Some(&to) = moved.get(&b)
    {
        operand.place = Place::Arena(to);
    }
}
