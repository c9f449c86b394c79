//! [`Pool`]: threads that run one closure together. They spin while work is frequent and sleep when it is not.
//!
//! A run is one fork and one join, both a store and a spin when the threads are warm. Inside a run the threads meet at
//! [`Pool::barrier_wait`]. Spinning is bounded everywhere: a thread whose peer lost its core yields, then sleeps. A panic in
//! the closure is caught, breaks the barrier so that nobody waits for the dead, and comes back as an error.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What can go wrong with a pool.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The system refused a thread.
    #[error("could not start worker thread {index} of {threads}: {source}")]
    Spawn {
        /// Which worker.
        index: usize,
        /// The pool's size.
        threads: usize,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A pool has at least one thread.
    #[error("a thread pool needs at least one thread")]
    NoThreads,
    /// The closure panicked on a thread. The pool stays usable.
    #[error("a kernel thread panicked: {0}")]
    Panicked(String),
    /// `run` was called while a run is under way (from another thread, or from inside the closure).
    #[error("the thread pool is already running something")]
    Busy,
}

/// A barrier was left early because a participant panicked: return from the closure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another kernel thread panicked")]
pub struct BrokenBarrier;

/// Rounds of `spin_loop` before a waiter yields: some 50–200 µs, several times what a kernel step takes.
const SPINS: u32 = 4_000;
/// Yields before a waiter sleeps.
const YIELDS: u32 = 64;

/// Sleepers on a condition that is published by an atomic: the publisher pays a system call only if somebody sleeps.
#[derive(Default)]
struct Bed {
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Bed {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done()`: spins, yields, then sleeps. `done` must read with `SeqCst`.
    fn wait(&self, done: impl Fn() -> bool) {
        for _ in 0..SPINS {
            if done() {
                return;
            }
            std::hint::spin_loop();
        }
        for _ in 0..YIELDS {
            if done() {
                return;
            }
            std::thread::yield_now();
        }
        // The sleeper announces itself, then looks again; the publisher publishes, then looks for sleepers. With SeqCst on
        // all four accesses at least one of them sees the other, so no wake-up is lost.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.lock();
        while !done() {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes sleepers after the condition was published (with `SeqCst`).
    fn wake_all(&self) {
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            // Under the lock, so that a sleeper between its last look and its wait is not missed.
            drop(self.lock());
            self.wake.notify_all();
        }
    }
}

/// A barrier for a fixed number of threads: bounded spinning, then sleep; it can be broken so that nobody waits for ever.
pub struct SpinBarrier {
    threads: u32,
    arrived: Padded<AtomicU32>,
    generation: Padded<AtomicU32>,
    broken: AtomicBool,
    bed: Bed,
}

/// Keeps a value on cache lines of its own (two, as processors fetch lines in pairs).
#[repr(align(128))]
#[derive(Default)]
struct Padded<T>(T);

impl SpinBarrier {
    /// A barrier that `threads` threads wait at.
    pub fn new(threads: usize) -> SpinBarrier {
        SpinBarrier {
            threads: u32::try_from(threads).unwrap_or(u32::MAX).max(1),
            arrived: Padded::default(),
            generation: Padded::default(),
            broken: AtomicBool::new(false),
            bed: Bed::default(),
        }
    }

    /// Waits for all threads. What each wrote before is visible to all after.
    ///
    /// # Errors
    /// [`BrokenBarrier`] once [`break_it`](SpinBarrier::break_it) was called: somebody will not come.
    pub fn wait(&self) -> Result<(), BrokenBarrier> {
        if self.threads > 1 {
            let generation = self.generation.0.load(Ordering::SeqCst);
            if self.arrived.0.fetch_add(1, Ordering::SeqCst) + 1 == self.threads {
                self.arrived.0.store(0, Ordering::SeqCst);
                self.generation.0.fetch_add(1, Ordering::SeqCst);
                self.bed.wake_all();
            } else {
                self.bed.wait(|| {
                    self.generation.0.load(Ordering::SeqCst) != generation || self.broken.load(Ordering::SeqCst)
                });
            }
        }
        if self.broken.load(Ordering::SeqCst) { Err(BrokenBarrier) } else { Ok(()) }
    }

    /// Lets all waiters, now and later, return [`BrokenBarrier`].
    pub fn break_it(&self) {
        self.broken.store(true, Ordering::SeqCst);
        self.bed.wake_all();
    }

    /// Makes the barrier usable again. No thread may be waiting.
    fn reset(&self) {
        self.arrived.0.store(0, Ordering::SeqCst);
        self.broken.store(false, Ordering::SeqCst);
    }
}

type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// Counts runs; a change means that `job` holds new work (or that `stop` is set).
    epoch: Padded<AtomicU32>,
    /// Workers that have not finished the present run.
    remaining: Padded<AtomicUsize>,
    job: UnsafeCell<Option<Job>>,
    stop: AtomicBool,
    start: Bed,
    finish: Bed,
    barrier: SpinBarrier,
    /// The first panic of the present run.
    panic: Mutex<Option<String>>,
}

// SAFETY: `job` is written only by the thread that holds `Pool::busy` while no worker runs (`remaining == 0`), and read by
// workers only after they saw the epoch that the writer published afterwards.
unsafe impl Sync for Shared {}
// SAFETY: the job pointer is only dereferenced while `run` keeps the closure alive.
unsafe impl Send for Shared {}

impl Shared {
    /// Runs the closure on this thread; a panic is noted and breaks the barrier.
    fn execute(&self, f: &(dyn Fn(usize) + Sync), tid: usize) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| f(tid))) {
            let mut slot = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            slot.get_or_insert_with(|| message(&*payload));
            drop(slot);
            self.barrier.break_it();
        }
    }

    fn worker(&self, tid: usize) {
        let mut seen = 0;
        loop {
            self.start.wait(|| self.epoch.0.load(Ordering::SeqCst) != seen);
            seen = seen.wrapping_add(1);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            // SAFETY: the epoch that we just saw was published after `job` was written; `run` does not return, and so
            // neither replaces the job nor ends the closure's borrow, before `remaining` reaches zero below.
            if let Some(job) = unsafe { *self.job.get() } {
                // SAFETY: as above: the closure lives until the join.
                self.execute(unsafe { &*job }, tid);
            }
            if self.remaining.0.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.finish.wake_all();
            }
        }
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| s.to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

/// Threads that run one closure together: `threads − 1` workers and the caller. Dropping the pool joins the workers.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    busy: AtomicBool,
}

impl Pool {
    /// A pool of `threads` threads, the caller of [`run`](Pool::run) counted. Use no more than
    /// `std::thread::available_parallelism`, else spinning threads wait for each other's core.
    ///
    /// # Errors
    /// [`PoolError::NoThreads`] for 0; [`PoolError::Spawn`] if the system refuses a thread (those started are joined).
    pub fn new(threads: usize) -> Result<Pool, PoolError> {
        if threads == 0 {
            return Err(PoolError::NoThreads);
        }
        let shared = Arc::new(Shared {
            epoch: Padded::default(),
            remaining: Padded::default(),
            job: UnsafeCell::new(None),
            stop: AtomicBool::new(false),
            start: Bed::default(),
            finish: Bed::default(),
            barrier: SpinBarrier::new(threads),
            panic: Mutex::new(None),
        });
        let mut pool = Pool { shared, workers: Vec::new(), busy: AtomicBool::new(false) };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = std::thread::Builder::new()
                .name(format!("rocmforge-{index}"))
                .spawn(move || shared.worker(index))
                .map_err(|source| PoolError::Spawn { index, threads, source })?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Threads that take part in a run.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `f(tid)` on every thread, `tid` from 0 (the caller) to `threads − 1`, and returns when all are done.
    ///
    /// # Errors
    /// [`PoolError::Panicked`] if `f` panicked on any thread; [`PoolError::Busy`] if a run is under way.
    pub fn run(&self, f: &(dyn Fn(usize) + Sync)) -> Result<(), PoolError> {
        if self.busy.swap(true, Ordering::SeqCst) {
            return Err(PoolError::Busy);
        }
        let s = &*self.shared;
        s.barrier.reset();
        if !self.workers.is_empty() {
            // SAFETY: only the lifetime is erased, and the join below outlasts every use of the pointer.
            let job: Job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(f) };
            // SAFETY: we hold `busy` and no worker runs, so nobody reads the cell now.
            unsafe { *s.job.get() = Some(job) };
            s.remaining.0.store(self.workers.len(), Ordering::SeqCst);
            s.epoch.0.fetch_add(1, Ordering::SeqCst);
            s.start.wake_all();
        }
        s.execute(f, 0);
        s.finish.wait(|| s.remaining.0.load(Ordering::SeqCst) == 0);
        let panic = s.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.busy.store(false, Ordering::SeqCst);
        panic.map_or(Ok(()), |m| Err(PoolError::Panicked(m)))
    }

    /// Meets all threads of the present run; only inside the closure given to [`run`](Pool::run), by every thread alike.
    ///
    /// # Errors
    /// [`BrokenBarrier`] if a thread of this run panicked: return from the closure.
    pub fn barrier_wait(&self) -> Result<(), BrokenBarrier> {
        self.shared.barrier.wait()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.0.fetch_add(1, Ordering::SeqCst);
        self.shared.start.wake_all();
        for w in self.workers.drain(..) {
            // A worker catches its panics; there is nothing to report from a drop.
            let _ = w.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    #[test]
    fn every_thread_runs_once_a_run() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads).unwrap();
            let counts: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(0)).collect();
            for round in 1..=500 {
                pool.run(&|tid| {
                    counts[tid].fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == round));
            }
        }
    }

    /// More threads than cores, so that spinning, yielding and sleeping are all taken; plain writes before a barrier must
    /// be seen after it.
    #[test]
    fn barriers_order_writes() {
        let threads = 2 * std::thread::available_parallelism().unwrap().get() + 1;
        let pool = Pool::new(threads).unwrap();
        let cells: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(0)).collect();
        for _ in 0..3 {
            pool.run(&|tid| {
                for round in 1..=60u64 {
                    if round % 20 == 0 && tid == 1 {
                        std::thread::sleep(Duration::from_millis(3));
                    }
                    cells[tid].store(round, Ordering::Relaxed);
                    pool.barrier_wait().unwrap();
                    assert!(cells.iter().all(|c| c.load(Ordering::Relaxed) == round));
                    pool.barrier_wait().unwrap();
                }
            })
            .unwrap();
        }
    }

    #[test]
    fn workers_wake_from_sleep() {
        let pool = Pool::new(3).unwrap();
        let n = AtomicU64::new(0);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(15));
            pool.run(&|_| {
                n.fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();
        }
        assert_eq!(n.load(Ordering::Relaxed), 15);
    }

    #[test]
    fn a_panic_is_an_error_and_hangs_nobody() {
        let pool = Pool::new(3).unwrap();
        for bad in 0..3 {
            let e = pool.run(&|tid| {
                if tid == bad {
                    panic!("thread {tid} fell");
                }
                assert_eq!(pool.barrier_wait(), Err(BrokenBarrier));
            });
            match e {
                Err(PoolError::Panicked(m)) => assert_eq!(m, format!("thread {bad} fell")),
                other => panic!("{other:?}"),
            }
            // And the pool still works, barrier included.
            pool.run(&|_| pool.barrier_wait().unwrap()).unwrap();
        }
    }

    #[test]
    fn a_run_inside_a_run_is_refused() {
        let pool = Pool::new(2).unwrap();
        pool.run(&|_| assert!(matches!(pool.run(&|_| ()), Err(PoolError::Busy)))).unwrap();
        assert!(matches!(Pool::new(0), Err(PoolError::NoThreads)));
    }
}
