//! [`Throttle`]: how many of a pool's threads take part while other programs want the same cores.
//!
//! Threads that meet at barriers are as slow as the slowest. One that shares its core with another program holds up all: half
//! of a core taken costs half of the speed, however many cores there are. One thread fewer costs less, and the system moves those that are
//! left to the free cores. So each thread watches how long it waits, ready to run, for a core; while one waits for long, one thread
//! fewer takes part, and after a time the pool tries again: with twice as many threads more after each trial that went well, after ever longer
//! times while trials fail.

use std::time::{Duration, Instant};

/// Time after which a thread looks how long it waited.
const WINDOW: Duration = Duration::from_millis(8);
/// Windows that are longer tell nothing: the pool was idle.
const STALE: Duration = Duration::from_millis(100);
/// The part of the time that a thread may wait for a core. A core that is shared with one other program gives it a third to a half.
const BEARABLE: f32 = 0.2;
/// The time until the next trial with more threads: the first, and the longest.
const HOLD: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// How many threads take part, of a pool.
#[derive(Debug)]
pub(super) struct Throttle {
    threads: usize,
    active: usize,
    /// The part of the time that the worst thread waits, as an average that halves what is older with each window.
    waiting: f32,
    hold: Duration,
    /// Threads that the next trial adds.
    step: usize,
    /// Whether the last change was a trial, which has not failed.
    trying: bool,
    grow_at: Option<Instant>,
    grown_at: Option<Instant>,
}

impl Throttle {
    pub fn new(threads: usize) -> Throttle {
        Throttle {
            threads,
            active: threads,
            waiting: 0.0,
            hold: HOLD[0],
            step: 1,
            trying: false,
            grow_at: None,
            grown_at: None,
        }
    }

    /// Threads that take part.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Whether it is time to try more threads.
    pub fn may_grow(&self, now: Instant) -> bool {
        self.grow_at.is_some_and(|at| now >= at)
    }

    /// Threads that a trial adds now.
    pub fn step(&self) -> usize {
        let step = if self.trying { 2 * self.step } else { 1 };
        step.min(self.threads - self.active)
    }

    /// That many threads more take part, at most; the number of threads from now on.
    pub fn grow(&mut self, now: Instant, threads: usize) -> usize {
        if self.trying {
            self.hold = HOLD[0];
        }
        self.step = self.step().min(threads);
        self.active += self.step;
        self.trying = true;
        self.waiting = 0.0;
        self.grown_at = Some(now);
        self.grow_at = (self.active < self.threads).then(|| now + self.hold);
        self.active
    }

    /// Takes the part of a window that the worst thread waited; the number of threads from now on, never more than before.
    pub fn note(&mut self, now: Instant, worst: f32) -> usize {
        self.waiting = (self.waiting + worst) / 2.0;
        if self.waiting > BEARABLE && self.active > 1 {
            // A trial that fails soon makes the next one wait longer.
            let failed = self.grown_at.is_some_and(|at| now.duration_since(at) < 2 * self.hold);
            self.hold = if failed { (2 * self.hold).min(HOLD[1]) } else { HOLD[0] };
            self.active -= 1;
            self.trying = false;
            self.waiting = 0.0;
            self.grow_at = Some(now + self.hold);
        }
        self.active
    }
}

/// How long the calling thread has waited for a core.
pub(super) struct Meter {
    #[cfg(target_os = "linux")]
    file: Option<std::fs::File>,
    since: Option<(Instant, u64)>,
}

impl Meter {
    pub fn new() -> Meter {
        Meter {
            #[cfg(target_os = "linux")]
            file: std::fs::File::open("/proc/thread-self/schedstat").ok(),
            since: None,
        }
    }

    /// The part of the last window that this thread waited for a core, if it ends now; `None` within a window, or where the system does not say.
    pub fn window(&mut self, now: Instant) -> Option<f32> {
        if self.since.is_some_and(|(at, _)| now.duration_since(at) < WINDOW) {
            return None;
        }
        let waited = self.waited()?;
        let (at, before) = self.since.replace((now, waited))?;
        let window = now.duration_since(at);
        let part = waited.saturating_sub(before) as f32 / window.as_nanos() as f32;
        (window < STALE).then_some(part)
    }

    /// Nanoseconds in which the thread was ready and had no core, since it began: the second figure of Linux's `schedstat`.
    #[cfg(target_os = "linux")]
    fn waited(&self) -> Option<u64> {
        use std::os::unix::fs::FileExt;
        let mut text = [0; 96];
        let n = self.file.as_ref()?.read_at(&mut text, 0).ok()?;
        std::str::from_utf8(&text[..n]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    #[cfg(not(target_os = "linux"))]
    fn waited(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_core_that_is_shared_costs_a_thread_and_a_free_one_gives_it_back() {
        let (start, mut throttle) = (Instant::now(), Throttle::new(4));
        assert_eq!(throttle.active(), 4);
        assert_eq!(throttle.note(start + ms(8), 0.3), 4, "one window may be a chance");
        assert_eq!(throttle.note(start + ms(16), 0.5), 3);
        assert_eq!(throttle.note(start + ms(24), 0.0), 3);
        assert!(!throttle.may_grow(start + ms(60)) && throttle.may_grow(start + ms(70)));
        assert_eq!(throttle.grow(start + ms(70), 4), 4);
        assert_eq!(throttle.note(start + ms(78), 0.0), 4);
        assert!(!throttle.may_grow(start + ms(5000)));
    }

    #[test]
    fn trials_that_fail_become_rare() {
        let (mut now, mut throttle) = (Instant::now(), Throttle::new(2));
        let mut trials = Vec::new();
        for _ in 0..4000 {
            now += ms(8);
            if throttle.may_grow(now) {
                throttle.grow(now, 1);
                trials.push(now);
            }
            if throttle.active() == 2 {
                throttle.note(now, 0.5);
            }
        }
        // In 32 s.
        assert!((20..80).contains(&trials.len()), "{}", trials.len());
        let gaps: Vec<Duration> = trials.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(gaps[gaps.len() - 4..].iter().any(|&gap| gap >= HOLD[1]), "{gaps:?}");
    }

    #[test]
    fn many_threads_come_back_soon_after_a_storm() {
        let (mut now, mut throttle) = (Instant::now(), Throttle::new(32));
        while throttle.active() > 1 {
            now += ms(8);
            throttle.note(now, 0.9);
            if throttle.may_grow(now) {
                throttle.grow(now, 32);
            }
        }
        let over = now;
        let mut steps = Vec::new();
        while throttle.active() < 32 {
            now += ms(8);
            let before = throttle.note(now, 0.0);
            if throttle.may_grow(now) {
                steps.push(throttle.grow(now, 6) - before);
            }
        }
        assert_eq!(steps, [1, 2, 4, 6, 6, 6, 6]);
        assert!(now - over < HOLD[1] + 8 * HOLD[0], "{:?}", now - over);
        assert!(throttle.step() == 0 && !throttle.may_grow(now + ms(9000)));
    }

    #[test]
    fn short_hiccups_and_single_threads_change_nothing() {
        let (mut now, mut throttle) = (Instant::now(), Throttle::new(2));
        for i in 0..100 {
            now += ms(8);
            assert_eq!(throttle.note(now, if i % 8 == 0 { 0.38 } else { 0.0 }), 2);
        }
        let mut alone = Throttle::new(1);
        assert_eq!((alone.note(now, 0.9), alone.note(now, 0.9), alone.may_grow(now + ms(900))), (1, 1, false));
    }

    /// Two threads for one core: each waits while the other runs.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_that_waits_for_a_core_sees_it() {
        let threads = 4 * std::thread::available_parallelism().unwrap().get();
        let most = std::thread::scope(|scope| {
            let watch = || {
                let mut meter = Meter::new();
                let (start, mut most) = (Instant::now(), None::<f32>);
                while start.elapsed() < ms(400) {
                    if let Some(part) = meter.window(Instant::now()) {
                        most = Some(most.map_or(part, |m| m.max(part)));
                    }
                }
                most
            };
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(watch)).collect();
            all.into_iter()
                .filter_map(|t| t.join().unwrap())
                .fold(None, |m: Option<f32>, p| Some(m.map_or(p, |m| m.max(p))))
        });
        // A system without schedstat says nothing.
        assert!(most.is_none_or(|part| part > BEARABLE), "{most:?}");
    }
}
