//! [`Pool`]: threads that run one closure together. They spin while work is frequent and sleep when it is not.
//!
//! A run is one fork and one join, both a store and a spin when the threads are warm. Inside a run the threads meet at
//! [`Pool::barrier_wait`]. Spinning is bounded everywhere: a thread whose peer lost its core yields, then sleeps. While another
//! program takes a core, fewer threads take part (`throttle`). A panic in the closure is caught, breaks the barrier so that nobody waits
//! for the dead, and comes back as an error.

use super::throttle::{Meter, Throttle};
use std::any::Any;
use std::cell::{RefCell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

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
/// A thread's place at the beginning of a run.
const START: usize = usize::MAX;

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

/// A barrier for some threads: bounded spinning, then sleep; it can be broken so that nobody waits for ever.
pub struct SpinBarrier {
    /// In the upper half the number of meetings so far, in the lower one that of the threads that meet next: one number, so that whoever
    /// joins sees neither without the other.
    state: Padded<AtomicU64>,
    arrived: Padded<AtomicU32>,
    /// Threads that meet after the next meeting.
    next: AtomicU32,
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
        let threads = u32::try_from(threads).unwrap_or(u32::MAX).max(1);
        SpinBarrier {
            state: Padded(AtomicU64::new(u64::from(threads))),
            arrived: Padded::default(),
            next: AtomicU32::new(threads),
            broken: AtomicBool::new(false),
            bed: Bed::default(),
        }
    }

    /// Waits for all threads. What each wrote before is visible to all after.
    ///
    /// # Errors
    /// [`BrokenBarrier`] once [`break_it`](SpinBarrier::break_it) was called: somebody will not come.
    pub fn wait(&self) -> Result<(), BrokenBarrier> {
        // Read before this thread arrives: until then it cannot change.
        let state = self.state.0.load(Ordering::SeqCst);
        let threads = state as u32;
        if threads == 1 || self.arrived.0.fetch_add(1, Ordering::SeqCst) + 1 == threads {
            // Nobody arrives before the new state is there.
            self.arrived.0.store(0, Ordering::SeqCst);
            let next = u64::from(self.next.load(Ordering::SeqCst));
            self.state.0.store((state >> 32).wrapping_add(1) << 32 | next, Ordering::SeqCst);
            self.bed.wake_all();
        } else {
            let met = || self.state.0.load(Ordering::SeqCst) >> 32 != state >> 32;
            self.bed.wait(|| met() || self.broken.load(Ordering::SeqCst));
        }
        if self.broken.load(Ordering::SeqCst) { Err(BrokenBarrier) } else { Ok(()) }
    }

    /// Lets all waiters, now and later, return [`BrokenBarrier`].
    pub fn break_it(&self) {
        self.broken.store(true, Ordering::SeqCst);
        self.bed.wake_all();
    }

    /// Threads that meet at it now. For those it is stable between two meetings; others see it pass them by.
    fn threads(&self) -> usize {
        self.state.0.load(Ordering::SeqCst) as u32 as usize
    }

    /// After the next meeting `threads` threads will meet. For one of those that meet, before it arrives.
    fn set_next(&self, threads: usize) {
        self.next.store((threads as u32).max(1), Ordering::SeqCst);
    }

    /// Lets thread `tid` wait, which is not one of those that meet, for the meeting after which it is.
    ///
    /// # Errors
    /// As [`wait`](SpinBarrier::wait).
    fn wait_to_join(&self, tid: usize) -> Result<(), BrokenBarrier> {
        self.bed.wait(|| self.threads() > tid || self.broken.load(Ordering::SeqCst));
        if self.broken.load(Ordering::SeqCst) { Err(BrokenBarrier) } else { Ok(()) }
    }

    /// Makes the barrier usable again, for this many threads. No thread may be waiting.
    fn reset(&self, threads: usize) {
        let meetings = self.state.0.load(Ordering::SeqCst) >> 32;
        self.state.0.store(meetings << 32 | threads as u64, Ordering::SeqCst);
        self.next.store(threads as u32, Ordering::SeqCst);
        self.arrived.0.store(0, Ordering::SeqCst);
        self.broken.store(false, Ordering::SeqCst);
    }
}

type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// A number that grows in the upper half, in the lower one that of the threads that take part. A change means for these that `job`
    /// waits for them (or that `stop` is set).
    epoch: Padded<AtomicU64>,
    /// Workers that have not finished the present run.
    remaining: Padded<AtomicUsize>,
    job: UnsafeCell<Option<Job>>,
    stop: AtomicBool,
    /// One for each worker.
    start: Vec<Bed>,
    finish: Bed,
    barrier: SpinBarrier,
    /// The first panic of the present run.
    panic: Mutex<Option<String>>,
    /// Where each thread enters the closure: a place that [`Pool::checkpoint`] was told, or `START`.
    entry: Vec<AtomicUsize>,
    /// Threads that are not in the closure, and have seen that.
    away: Vec<AtomicBool>,
    /// How long each thread waits for a core: thousandths of its last window.
    waiting: Vec<AtomicU32>,
    throttle: Mutex<Throttle>,
}

thread_local! {
    static METER: RefCell<Meter> = RefCell::new(Meter::new());
}

// SAFETY: `job` is written only by the thread that holds `Pool::busy` while no worker runs (`remaining == 0`), and read by
// workers only after they saw the epoch that the writer published afterwards, and only by those that the run counts.
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

    /// Publishes a run, or the stop, which the workers of `new` enter at `entry`; the end of `new` is the number of threads that take part.
    fn publish(&self, new: Range<usize>, entry: usize) {
        for tid in new.clone() {
            self.entry[tid].store(entry, Ordering::SeqCst);
            self.away[tid].store(false, Ordering::SeqCst);
        }
        let number = (self.epoch.0.load(Ordering::SeqCst) >> 32).wrapping_add(1);
        self.epoch.0.store(number << 32 | new.end as u64, Ordering::SeqCst);
        new.for_each(|tid| self.start[tid - 1].wake_all());
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worker(&self, tid: usize) {
        let mut seen = 0;
        loop {
            self.start[tid - 1].wait(|| {
                let epoch = self.epoch.0.load(Ordering::SeqCst);
                epoch != seen && (epoch & 0xffff_ffff) > tid as u64
            });
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            // SAFETY: the epoch that we just saw was published after `job` was written; `run` does not return, and so
            // neither replaces the job nor ends the closure's borrow, before `remaining` reaches zero below.
            if let Some(job) = unsafe { *self.job.get() } {
                // SAFETY: as above: the closure lives until the join.
                self.execute(unsafe { &*job }, tid);
            }
            // Whoever came later into this run changed the epoch: that is no new work for this thread, which meets them at a barrier first.
            seen = self.epoch.0.load(Ordering::SeqCst);
            self.away[tid].store(true, Ordering::SeqCst);
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
            start: (1..threads).map(|_| Bed::default()).collect(),
            finish: Bed::default(),
            barrier: SpinBarrier::new(threads),
            panic: Mutex::new(None),
            entry: (0..threads).map(|_| AtomicUsize::new(START)).collect(),
            away: (0..threads).map(|_| AtomicBool::new(true)).collect(),
            waiting: (0..threads).map(|_| AtomicU32::new(0)).collect(),
            throttle: Mutex::new(Throttle::new(threads)),
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

    /// Threads that can take part in a run.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Threads that take part in the present run now, the first ones; [`threads`](Pool::threads), or fewer while other programs take
    /// cores. It changes at a barrier only. Those from this number on leave the closure; when they are wanted again they enter it.
    pub fn active(&self) -> usize {
        self.shared.barrier.threads()
    }

    /// Runs `f(tid)` on the threads that take part, `tid` from 0 (the caller) on, and returns when all are done.
    ///
    /// # Errors
    /// [`PoolError::Panicked`] if `f` panicked on any thread; [`PoolError::Busy`] if a run is under way.
    pub fn run(&self, f: &(dyn Fn(usize) + Sync)) -> Result<(), PoolError> {
        if self.busy.swap(true, Ordering::SeqCst) {
            return Err(PoolError::Busy);
        }
        let s = &*self.shared;
        let mut throttle = s.throttle();
        let now = Instant::now();
        let threads = if throttle.may_grow(now) { throttle.grow(now, self.threads()) } else { throttle.active() };
        drop(throttle);
        s.barrier.reset(threads);
        if !self.workers.is_empty() {
            // Also for a run that begins alone: it may invite workers later.
            // SAFETY: only the lifetime is erased, and the join below outlasts every use of the pointer.
            let job: Job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(f) };
            // SAFETY: we hold `busy` and no worker runs, so nobody reads the cell now.
            unsafe { *s.job.get() = Some(job) };
            s.remaining.0.store(threads - 1, Ordering::SeqCst);
            s.publish(1..threads, START);
        }
        s.execute(f, 0);
        s.finish.wait(|| s.remaining.0.load(Ordering::SeqCst) == 0);
        let panic = s.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.busy.store(false, Ordering::SeqCst);
        panic.map_or(Ok(()), |m| Err(PoolError::Panicked(m)))
    }

    /// Where thread `tid` begins: `None` at the start; or where [`checkpoint`](Pool::checkpoint) was told to be, after the barrier that
    /// follows it. The first thing in a closure given to [`run`](Pool::run) that has checkpoints.
    ///
    /// # Errors
    /// As [`barrier_wait`](Pool::barrier_wait).
    pub fn enter(&self, tid: usize) -> Result<Option<usize>, BrokenBarrier> {
        match self.shared.entry[tid].load(Ordering::SeqCst) {
            START => Ok(None),
            place => self.shared.barrier.wait_to_join(tid).map(|()| Some(place)),
        }
    }

    /// Lets thread `tid` look whether it waits for its core; thread 0 then decides how many take part after the next barrier. Inside the
    /// closure given to [`run`](Pool::run), before each thread's barrier at `place`; it costs a look at the clock.
    pub fn checkpoint(&self, tid: usize, place: usize) {
        if self.workers.is_empty() {
            return;
        }
        let now = Instant::now();
        // Within a thread's end there is no meter any more.
        let part = METER.try_with(|meter| meter.borrow_mut().window(now)).ok().flatten();
        let (Some(part), Some(slot)) = (part, self.shared.waiting.get(tid)) else { return };
        slot.store((part * 1000.0) as u32, Ordering::Relaxed);
        if tid == 0 {
            let active = self.active();
            let worst = self.shared.waiting[..active].iter().map(|w| w.swap(0, Ordering::Relaxed)).max();
            let mut throttle = self.shared.throttle();
            let next = throttle.note(now, worst.unwrap_or(0) as f32 / 1000.0);
            if next < active {
                self.shared.barrier.set_next(next);
            } else if throttle.may_grow(now) {
                let invited = self.invite(active, throttle.step(), place);
                if invited > 0 {
                    throttle.grow(now, invited);
                }
            }
        }
    }

    /// Has `most` threads from `tid` on enter the run at `place` with the next barrier, whose other threads are those before them; fewer if the
    /// others have not left yet. How many. For thread 0, before that barrier.
    fn invite(&self, tid: usize, most: usize, place: usize) -> usize {
        let s = &*self.shared;
        let away = s.away.iter().skip(tid).take(most).take_while(|away| away.load(Ordering::SeqCst)).count();
        if away > 0 {
            s.remaining.0.fetch_add(away, Ordering::SeqCst);
            s.barrier.set_next(tid + away);
            s.publish(tid..tid + away, place);
        }
        away
    }

    /// Meets all threads of the present run; only inside the closure given to [`run`](Pool::run), by every thread alike. A thread that
    /// is then no longer [`active`](Pool::active) leaves the closure.
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
        self.shared.publish(1..self.workers.len() + 1, START);
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

    /// Threads leave after a barrier; those that stay still meet, and the next run has all again.
    #[test]
    fn threads_leave_at_a_barrier() {
        let pool = Pool::new(4).unwrap();
        let cells: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        for _ in 0..50 {
            cells.iter().for_each(|c| c.store(0, Ordering::Relaxed));
            pool.run(&|tid| {
                for round in 1..=30u64 {
                    cells[tid].store(round, Ordering::Relaxed);
                    if tid == 0 && round % 10 == 0 {
                        pool.shared.barrier.set_next(pool.active() - 1);
                    }
                    pool.barrier_wait().unwrap();
                    let active = pool.active();
                    if tid >= active {
                        return;
                    }
                    assert_eq!(active, 4 - round as usize / 10);
                    assert!(cells[..active].iter().all(|c| c.load(Ordering::Relaxed) == round));
                    pool.barrier_wait().unwrap();
                }
            })
            .unwrap();
            let rounds: Vec<u64> = cells.iter().map(|c| c.load(Ordering::Relaxed)).collect();
            assert_eq!(rounds, [30, 30, 20, 10]);
        }
    }

    /// Threads leave and come back in the midst of a run, at the place where the others are.
    #[test]
    fn threads_come_back_at_a_barrier() {
        let pool = Pool::new(4).unwrap();
        let cells: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        for _ in 0..20 {
            let (came, left) = (AtomicU64::new(0), AtomicU64::new(0));
            pool.run(&|tid| {
                let entry = pool.enter(tid).unwrap();
                came.fetch_add(1, Ordering::SeqCst);
                let mut entered = entry.is_some();
                for place in entry.unwrap_or(0)..400 {
                    if !entered {
                        cells[tid].store(place as u64, Ordering::Relaxed);
                        if tid == 0 {
                            // Down to one thread and up again to all, over and over.
                            let active = pool.active();
                            match place / 10 % 8 {
                                0..=2 if place % 10 == 0 && active > 1 => pool.shared.barrier.set_next(active - 1),
                                4..=6 if active < 4 => {
                                    // One, two or three of them.
                                    while pool.invite(active, 1 + place % 3, place) == 0 {
                                        std::thread::yield_now();
                                    }
                                }
                                _ => {}
                            }
                        }
                        let before = pool.active();
                        pool.barrier_wait().unwrap();
                        if tid >= pool.active() {
                            left.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                        let seen = cells[..before.min(pool.active())].iter().map(|c| c.load(Ordering::Relaxed));
                        assert!(seen.clone().all(|c| c == place as u64), "{place}: {:?}", seen.collect::<Vec<_>>());
                    }
                    entered = false;
                    pool.barrier_wait().unwrap();
                }
            })
            .unwrap();
            let (came, left) = (came.into_inner(), left.into_inner());
            assert!(left >= 9 && came > left && came <= left + 4, "{came} came, {left} left");
        }
    }

    #[test]
    fn a_run_that_begins_alone_runs_its_own_closure_on_whom_it_invites() {
        let pool = Pool::new(2).unwrap();
        for round in 1..=30 {
            let mut throttle = pool.shared.throttle();
            while throttle.active() > 1 {
                throttle.note(Instant::now() + Duration::from_secs(3600), 1.0);
            }
            drop(throttle);
            let marks = [AtomicU64::new(0), AtomicU64::new(0)];
            pool.run(&|tid| {
                let entry = pool.enter(tid).unwrap();
                if tid == 0 {
                    assert_eq!(pool.active(), 1);
                    while pool.invite(1, 1, 7) == 0 {
                        std::thread::yield_now();
                    }
                    pool.barrier_wait().unwrap();
                }
                assert_eq!((entry, pool.active()), (if tid == 0 { None } else { Some(7) }, 2));
                marks[tid].store(round, Ordering::Relaxed);
                pool.barrier_wait().unwrap();
                assert!(marks.iter().all(|m| m.load(Ordering::Relaxed) == round));
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
