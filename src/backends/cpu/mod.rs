//! The CPU backend: packed weights, one fork a run, threads that walk the same steps with barriers where the plan needs them.

pub mod simd;
mod target;
mod weights;

pub use simd::Level;
pub use target::CpuTarget;

use super::{Backend, BackendError, DeviceInfo, LoadedWeights, Program, States, WeightSource};
use crate::graph::plan::{Plan, Target, WeightSlot};
use simd::pool::Pool;
use simd::program::{CpuProgram, CpuStates};
use std::any::Any;
use std::sync::{Arc, Mutex};
use weights::CpuWeights;

/// Runs plans on the processor. Programs of one backend share its threads and take turns.
#[derive(Clone)]
pub struct CpuBackend {
    target: CpuTarget,
    level: Level,
    pool: Arc<Mutex<Pool>>,
}

impl CpuBackend {
    /// A backend with `threads` threads (0: as many as this process may use) and the best kernels that the machine has.
    ///
    /// # Errors
    /// [`BackendError::Threads`] if the system refuses a thread.
    pub fn new(threads: usize) -> Result<CpuBackend, BackendError> {
        CpuBackend::with_level(threads, Level::best())
    }

    /// A backend with the kernels of one level; one that the machine lacks is lowered to the best there is.
    ///
    /// # Errors
    /// As [`CpuBackend::new`].
    pub fn with_level(threads: usize, level: Level) -> Result<CpuBackend, BackendError> {
        let available = || std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads = if threads == 0 { available() } else { threads };
        let pool = Pool::new(threads).map_err(|e| BackendError::Threads(e.to_string()))?;
        let level = level.or_best();
        Ok(CpuBackend { target: CpuTarget::of_level(threads, level), level, pool: Arc::new(Mutex::new(pool)) })
    }

    /// Leaves the weights in the mapped file instead of repacking them, for machines that are short of memory.
    #[must_use]
    pub fn without_repack(mut self) -> CpuBackend {
        self.target.repack = false;
        self
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.target.threads
    }

    /// The kernels' level.
    pub fn level(&self) -> Level {
        self.level
    }
}

impl Backend for CpuBackend {
    fn device(&self) -> DeviceInfo {
        DeviceInfo { id: "cpu".to_string(), name: std::env::consts::ARCH.to_string(), threads: self.threads() }
    }

    fn target(&self) -> &dyn Target {
        &self.target
    }

    fn load(
        &self,
        weights: &[WeightSlot],
        source: Arc<dyn WeightSource>,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<LoadedWeights, BackendError> {
        Ok(Arc::new(CpuWeights::load(weights, source, self.target.repack, &self.pool, progress)?))
    }

    fn states(&self, plan: &Plan) -> Result<Box<dyn States>, BackendError> {
        Ok(Box::new(CpuStates::new(plan)?))
    }

    fn lower(&self, plan: &Plan, weights: &LoadedWeights) -> Result<Box<dyn Program>, BackendError> {
        let weights: Arc<dyn Any + Send + Sync> = Arc::clone(weights) as _;
        let weights = weights.downcast::<CpuWeights>().map_err(|_| BackendError::Foreign("weights"))?;
        Ok(Box::new(CpuProgram::new(plan, weights, Arc::clone(&self.pool), self.level, self.target.repack)?))
    }
}
