//! A backend that looks like a device: the CPU's programs, memory of its own size, and tokens chosen without the engine.

use rocmforge::backends::cpu::CpuBackend;
use rocmforge::backends::{
    Backend, BackendError, DecodeRun, DeviceInfo, DeviceMemory, LoadedWeights, Program, States, WeightSource,
};
use rocmforge::graph::plan::{MemoryBill, Plan, Target, WeightSlot};
use rocmforge::tensor::Bounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub struct Device {
    cpu: CpuBackend,
    /// Bytes of its memory. States that do not fit beside the weights are refused, as the driver would.
    pub memory: usize,
    /// Runs of `decode_many`.
    pub runs: Arc<AtomicUsize>,
}

impl Device {
    pub fn new(memory: usize) -> Device {
        Device { cpu: CpuBackend::new(1).unwrap(), memory, runs: Arc::default() }
    }
}

impl Backend for Device {
    fn device(&self) -> DeviceInfo {
        DeviceInfo { id: "gpu:0".to_string(), name: "a device".to_string(), threads: 0 }
    }

    fn memory(&self) -> Option<DeviceMemory> {
        Some(DeviceMemory { free: self.memory as u64, total: self.memory as u64 })
    }

    fn target(&self) -> &dyn Target {
        self.cpu.target()
    }

    fn load(
        &self,
        weights: &[WeightSlot],
        source: Arc<dyn WeightSource>,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<LoadedWeights, BackendError> {
        self.cpu.load(weights, source, progress)
    }

    fn states(&self, plan: &Plan) -> Result<Box<dyn States>, BackendError> {
        if plan.bill.weights + plan.bill.kv > self.memory {
            return Err(BackendError::OutOfMemory { purpose: "KV cache".to_string(), bytes: plan.bill.kv });
        }
        self.cpu.states(plan)
    }

    fn lower(&self, plan: &Plan, weights: &LoadedWeights) -> Result<Box<dyn Program>, BackendError> {
        let inputs = plan.inputs.iter().map(|p| p.name.clone()).collect();
        Ok(Box::new(DeviceProgram { program: self.cpu.lower(plan, weights)?, inputs, runs: Arc::clone(&self.runs) }))
    }
}

struct DeviceProgram {
    program: Box<dyn Program>,
    inputs: Vec<String>,
    runs: Arc<AtomicUsize>,
}

impl Program for DeviceProgram {
    fn set_input(&mut self, index: usize, values: &[u8]) -> Result<(), BackendError> {
        self.program.set_input(index, values)
    }

    fn run(&mut self, states: &mut dyn States, bounds: &Bounds, cancel: &AtomicBool) -> Result<(), BackendError> {
        self.program.run(states, bounds, cancel)
    }

    fn output(&self, index: usize) -> &[f32] {
        self.program.output(index)
    }

    fn decode_many(
        &mut self,
        states: &mut dyn States,
        run: &DecodeRun<'_>,
        each: &mut dyn FnMut(u32) -> bool,
    ) -> Option<Result<usize, BackendError>> {
        if run.sampling.temperature > 0.0 {
            return None;
        }
        self.runs.fetch_add(1, Ordering::Relaxed);
        Some(self.greedy(states, run, each))
    }

    fn allocated(&self) -> MemoryBill {
        self.program.allocated()
    }
}

impl DeviceProgram {
    fn greedy(
        &mut self,
        states: &mut dyn States,
        run: &DecodeRun<'_>,
        each: &mut dyn FnMut(u32) -> bool,
    ) -> Result<usize, BackendError> {
        let mut token = run.token;
        for done in 0..run.count {
            if run.cancel.load(Ordering::Relaxed) {
                return Ok(done);
            }
            let position = (run.position + done) as i32;
            for (index, name) in self.inputs.iter().enumerate() {
                let value = match name.as_str() {
                    "tokens" => token as i32,
                    "positions" | "kv_slot" => position,
                    _ => 0,
                };
                self.program.set_input(index, &value.to_le_bytes())?;
            }
            self.program.run(states, &Bounds { t: 1, s: position as usize + 1, r: 1 }, &AtomicBool::new(false))?;
            let mut logits = self.program.output(0).to_vec();
            for &(id, bias) in run.sampling.bias {
                logits[id as usize] += bias;
            }
            let best = (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            token = best as u32;
            if !each(token) {
                return Ok(done + 1);
            }
        }
        Ok(run.count)
    }
}
