//! A backend that runs nothing and records everything: plan tests need no device.

use super::{Backend, BackendError, LoadedWeights, Program, States, WeightSource, Weights};
use crate::graph::passes::Capabilities;
use crate::graph::plan::{MemoryBill, Plan, Target, WeightMemory, WeightSlot};
use crate::tensor::{Bounds, DType};
use std::any::Any;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// Records the allocations and runs that a real backend would make.
#[derive(Clone, Debug, Default)]
pub struct NullBackend {
    log: Arc<Mutex<Vec<Event>>>,
}

/// What the backend was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Memory for a purpose.
    Allocate {
        /// What for.
        purpose: String,
        /// How much.
        bytes: usize,
    },
    /// A step of a run, by its node.
    Step(String),
}

impl NullBackend {
    /// What was recorded so far.
    pub fn events(&self) -> Vec<Event> {
        self.log.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn record(&self, event: Event) {
        self.log.lock().unwrap_or_else(|e| e.into_inner()).push(event);
    }

    fn allocate(&self, purpose: impl Into<String>, bytes: usize) {
        self.record(Event::Allocate { purpose: purpose.into(), bytes });
    }
}

impl Capabilities for NullBackend {
    fn activation_type(&self, _: DType, _: usize, _: usize) -> DType {
        DType::F32
    }
}

impl Target for NullBackend {
    fn name(&self) -> &str {
        "null"
    }

    fn alignment(&self) -> usize {
        64
    }

    fn weight_memory(&self, weight: &WeightSlot) -> WeightMemory {
        let bytes = weight.ty.bytes(&Bounds { t: 1, s: 1, r: 1 }).unwrap_or(0);
        WeightMemory { allocated: bytes, mapped: 0 }
    }

    fn scratch_bytes(&self, _: &Plan) -> usize {
        0
    }
}

impl Backend for NullBackend {
    fn target(&self) -> &dyn Target {
        self
    }

    fn load(
        &self,
        weights: &[WeightSlot],
        _: Arc<dyn WeightSource>,
        _: &mut dyn FnMut(u64) -> bool,
    ) -> Result<LoadedWeights, BackendError> {
        for weight in weights {
            self.allocate(&weight.name, self.weight_memory(weight).allocated);
        }
        Ok(Arc::new(NullWeights(weights.iter().map(|w| self.weight_memory(w).allocated).sum())))
    }

    fn states(&self, plan: &Plan) -> Result<Box<dyn States>, BackendError> {
        for state in &plan.states {
            self.allocate(&state.name, state.bytes);
        }
        Ok(Box::new(NullStates(plan.bill.kv)))
    }

    fn lower(&self, plan: &Plan, _: &LoadedWeights) -> Result<Box<dyn Program>, BackendError> {
        self.allocate("arena", plan.arena.bytes);
        let steps = plan.steps.iter().map(|s| s.describe()).collect();
        let outputs = plan.outputs.iter().map(|o| vec![0.0; o.operand.ty.shape.elements(&plan.bounds).unwrap_or(0)]);
        Ok(Box::new(NullProgram { backend: self.clone(), steps, outputs: outputs.collect(), arena: plan.arena.bytes }))
    }
}

struct NullWeights(usize);

impl Weights for NullWeights {
    fn allocated(&self) -> usize {
        self.0
    }
}

struct NullStates(usize);

impl States for NullStates {
    fn bytes(&self) -> usize {
        self.0
    }

    fn write(&mut self, _: usize, _: &[u8]) -> Result<(), BackendError> {
        Ok(())
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

struct NullProgram {
    backend: NullBackend,
    steps: Vec<String>,
    outputs: Vec<Vec<f32>>,
    arena: usize,
}

impl Program for NullProgram {
    fn set_input(&mut self, _: usize, _: &[u8]) -> Result<(), BackendError> {
        Ok(())
    }

    fn run(&mut self, _: &mut dyn States, _: &Bounds, _: &AtomicBool) -> Result<(), BackendError> {
        for step in &self.steps {
            self.backend.record(Event::Step(step.clone()));
        }
        Ok(())
    }

    fn output(&self, index: usize) -> &[f32] {
        self.outputs.get(index).map_or(&[], |o| o)
    }

    fn allocated(&self) -> MemoryBill {
        MemoryBill { arena: self.arena, ..MemoryBill::default() }
    }
}
