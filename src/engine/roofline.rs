//! [`Roofline`]: what a machine can do at most, and so the least time that a step of a plan can take (Williams et al. 2009).

use super::read_bandwidth;
use crate::backends::cpu::simd::Level;
use crate::backends::cpu::simd::peak::{Arithmetic, spin};
use crate::graph::plan::{Plan, Step};
use crate::ops::Op;
use crate::tensor::DType;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// Measured limits of a number of threads together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// Bytes a second from memory.
    pub bandwidth: f64,
    /// Operations a second on f32, where a product and a sum are two.
    pub f32: f64,
    /// Operations a second on bf16, added up in f32.
    pub bf16: f64,
    /// Operations a second in dot products of bytes.
    pub int8: f64,
}

/// What holds a step back at best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Its bytes.
    Memory,
    /// Its operations.
    Compute,
}

impl Roofline {
    /// Measures this machine, with a buffer of `bytes` bytes for the bandwidth. `None` if there is no memory for it.
    pub fn measure(threads: usize, bytes: usize) -> Option<Roofline> {
        let bandwidth = read_bandwidth(threads, bytes)?;
        let peak = |arithmetic| peak(threads, arithmetic);
        let (f32, bf16) = (peak(Arithmetic::F32)?, peak(Arithmetic::Bf16)?);
        Some(Roofline { bandwidth, f32, bf16, int8: peak(Arithmetic::Int8)? })
    }

    /// The least seconds that the products with weights of a plan take, as if all their operands were at hand.
    pub fn products(&self, plan: &Plan) -> f64 {
        let products = plan.steps.iter().filter(|step| multiplies_weights(step));
        products.map(|step| self.arithmetic(step)).sum()
    }

    /// The least seconds that the operations of a step take.
    fn arithmetic(&self, step: &Step) -> f64 {
        let rate = match multiplied(step) {
            DType::Q8A => self.int8,
            DType::Bf16 => self.bf16,
            _ => self.f32,
        };
        step.flops as f64 / rate
    }

    /// The least seconds that a step can take, and why. Bytes that are in a cache may take less.
    pub fn least(&self, step: &Step) -> (f64, Limit) {
        let memory = (step.bytes_read + step.bytes_written) as f64 / self.bandwidth;
        let compute = self.arithmetic(step);
        if memory >= compute { (memory, Limit::Memory) } else { (compute, Limit::Compute) }
    }
}

fn multiplies_weights(step: &Step) -> bool {
    (0..step.operands.len()).any(|slot| step.op.is_matmul_weight(slot))
}

/// The type of the activations that a step multiplies with weights, f32 for all other steps.
fn multiplied(step: &Step) -> DType {
    let (rounded, x) = match &step.op {
        Op::QMatmul(op) => (op.activation, 1),
        Op::QMatmulGroup(op) => (op.activation, 0),
        Op::GluQMatmul(op) => (op.activation, 0),
        Op::QkvRopeAppend(op) => (op.group.activation, 0),
        _ => return DType::F32,
    };
    if rounded == DType::F32 { step.operands[x].ty.dtype } else { rounded }
}

/// Operations a second that `threads` threads reach together: the best of several passes.
fn peak(threads: usize, arithmetic: Arithmetic) -> Option<f64> {
    const PASSES: usize = 5;
    const ROUNDS: usize = 1 << 18;
    let threads = threads.max(1);
    let barrier = Barrier::new(threads);
    let spin_once = || {
        barrier.wait();
        let start = Instant::now();
        let count = spin(Level::best(), arithmetic, ROUNDS);
        (count, start, Instant::now())
    };
    let spans: Vec<Vec<(u64, Instant, Instant)>> = thread::scope(|scope| {
        let run = || (0..PASSES).map(|_| spin_once()).collect::<Vec<_>>();
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or_default()).collect()
    });
    let rate = |pass: usize| {
        let of = || spans.iter().filter_map(move |s| s.get(pass));
        let seconds = (of().map(|s| s.2).max()? - of().map(|s| s.1).min()?).as_secs_f64();
        (seconds > 0.0).then(|| of().map(|s| s.0).sum::<u64>() as f64 / seconds)
    };
    (0..PASSES).filter_map(rate).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_possible_ones() {
        let found = Roofline::measure(2, 8 << 20).unwrap();
        assert!((1e8..1e14).contains(&found.bandwidth), "{found:?}");
        assert!(
            (1e8..1e15).contains(&found.f32) && [found.bf16, found.int8].iter().all(|peak| (1e8..1e15).contains(peak)),
            "{found:?}"
        );
    }
}
