//! Speed: prompt and decode tokens a second as llama-bench measures them, and the memory bandwidth to compare with.

use super::{EngineError, Sampler, SamplerOptions, Session};
use crate::backends::cpu::Level;
use crate::backends::cpu::simd::bandwidth::checksum;
use crate::backends::cpu::simd::memory::AlignedBuf;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BenchTest {
    /// Evaluating this many tokens at once.
    Prompt(usize),
    /// Evaluating this many tokens one after the other.
    Decode(usize),
}

impl BenchTest {
    /// Tokens of a repetition.
    pub fn tokens(self) -> usize {
        match self {
            BenchTest::Prompt(n) | BenchTest::Decode(n) => n,
        }
    }

    /// llama-bench's name: `pp512`, `tg128`, `tg128 @ d4096`.
    pub fn name(self, depth: usize) -> String {
        let name = match self {
            BenchTest::Prompt(n) => format!("pp{n}"),
            BenchTest::Decode(n) => format!("tg{n}"),
        };
        if depth == 0 { name } else { format!("{name} @ d{depth}") }
    }
}

/// Seconds of each repetition of a test.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchResult {
    /// What was timed.
    pub test: BenchTest,
    /// Tokens that were in the cache before.
    pub depth: usize,
    /// How long each repetition took.
    pub times: Vec<Duration>,
    /// Whether the device chose the tokens to decode, without the host in between.
    pub on_device: bool,
}

impl BenchResult {
    /// Tokens a second of each repetition.
    pub fn speeds(&self) -> Vec<f64> {
        self.times.iter().map(|time| self.test.tokens() as f64 / time.as_secs_f64().max(1e-9)).collect()
    }

    /// The mean of the speeds.
    pub fn mean(&self) -> f64 {
        let speeds = self.speeds();
        speeds.iter().sum::<f64>() / speeds.len() as f64
    }

    /// The sample standard deviation of the speeds; 0 for a single one.
    pub fn standard_deviation(&self) -> f64 {
        let speeds = self.speeds();
        if speeds.len() < 2 {
            return 0.0;
        }
        let mean = self.mean();
        (speeds.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (speeds.len() - 1) as f64).sqrt()
    }

    /// The median of the speeds.
    pub fn median(&self) -> f64 {
        let mut speeds = self.speeds();
        speeds.sort_by(f64::total_cmp);
        let middle = speeds.len() / 2;
        if speeds.len() % 2 == 1 { speeds[middle] } else { (speeds[middle - 1] + speeds[middle]) / 2.0 }
    }
}

/// Times a test on random tokens, after one repetition that does not count. The cache is filled to `depth` first, untimed. Where the
/// model runs on a device that decodes on its own, decoding goes on from a random token with the tokens that it chooses by `sampling`;
/// elsewhere with those that a [`Sampler`] chooses, or at a temperature of 0 with random ones.
///
/// # Errors
/// Those of [`Session::prefill`]; no repetitions or no tokens; options that [`Sampler::new`] refuses.
pub fn bench(
    session: &mut Session,
    test: BenchTest,
    depth: usize,
    repetitions: usize,
    sampling: &SamplerOptions,
) -> Result<BenchResult, EngineError> {
    bench_paced(session, test, depth, repetitions, sampling, &mut |_| true)
}

/// [`bench()`] at the caller's pace: `next` is called when the test is prepared, with nothing, and after each repetition, with its time.
/// The session does nothing while it runs, and stops where it returns `false`.
///
/// # Errors
/// As [`bench()`].
pub fn bench_paced(
    session: &mut Session,
    test: BenchTest,
    depth: usize,
    repetitions: usize,
    sampling: &SamplerOptions,
    next: &mut dyn FnMut(Option<Duration>) -> bool,
) -> Result<BenchResult, EngineError> {
    let refuse = |name, reason: &str| Err(EngineError::Option { name, reason: reason.to_string() });
    if repetitions == 0 {
        return refuse("repetitions", "there must be at least one");
    }
    if test.tokens() == 0 {
        return refuse("tokens", "there must be at least one to time");
    }
    let needed = depth.saturating_add(test.tokens());
    if needed > session.context() {
        return Err(EngineError::ContextFull { needed, context: session.context() });
    }
    let mut sampler = Sampler::new(sampling.clone())?;
    let vocabulary = session.model().config().n_vocab as u32;
    let mut rng = Pcg64::seed_from_u64(1);
    let mut random = |n: usize| (0..n).map(|_| rng.random_range(0..vocabulary)).collect::<Vec<u32>>();
    session.truncate(0);
    if depth > 0 {
        session.prefill(&random(depth), &mut |_, _| ())?;
    }
    let mut times = Vec::new();
    let mut on_device = false;
    for repetition in 0..=repetitions {
        let ids = random(test.tokens());
        session.truncate(depth);
        let start = Instant::now();
        match test {
            BenchTest::Prompt(_) => session.prefill(&ids, &mut |_, _| ())?,
            BenchTest::Decode(_) => on_device = decode(session, &ids, &mut sampler)?,
        }
        let time = (repetition > 0).then(|| start.elapsed());
        times.extend(time);
        if !next(time) {
            break;
        }
    }
    Ok(BenchResult { test, depth, times, on_device })
}

/// Decodes as many tokens as there are `ids`, from the first one on; whether the device chose them.
fn decode(session: &mut Session, ids: &[u32], sampler: &mut Sampler) -> Result<bool, EngineError> {
    if let Some(choice) = sampler.for_device(ids.len(), session.model().config().n_vocab) {
        let sampling = choice.sampling(sampler.options());
        if let Some(outcome) = session.decode_many(ids[0], ids.len(), sampling, &mut |_| true) {
            sampler.skip(ids.len());
            return if outcome? == ids.len() { Ok(true) } else { Err(EngineError::Cancelled) };
        }
    }
    let mut chosen = ids[0];
    for &id in ids {
        if sampler.options().temperature > 0.0 {
            chosen = sampler.sample(session.decode(chosen)?)?;
            sampler.accept(chosen);
        } else {
            black_box(session.decode(id)?);
        }
    }
    Ok(false)
}

/// Bytes a second that `threads` threads read from memory together: the best of several passes over a buffer of
/// `bytes` bytes, which should be many times the caches. `None` if there is no memory for the buffer.
pub fn read_bandwidth(threads: usize, bytes: usize) -> Option<f64> {
    const PASSES: usize = 5;
    let threads = threads.max(1);
    let bytes = (bytes / threads).max(1);
    let mut buffers = Vec::new();
    for _ in 0..threads {
        buffers.push(AlignedBuf::zeroed(bytes).ok()?);
    }
    let barrier = Barrier::new(threads);
    // Each thread fills its own part, so that the pages lie near the processor that reads them.
    let spans: Vec<Vec<(Instant, Instant)>> = thread::scope(|scope| {
        let handles: Vec<_> = buffers
            .into_iter()
            .map(|mut buffer| {
                let barrier = &barrier;
                scope.spawn(move || {
                    buffer.as_mut_slice().fill(1);
                    (0..PASSES)
                        .map(|_| {
                            barrier.wait();
                            let start = Instant::now();
                            black_box(checksum(Level::best(), buffer.as_slice()));
                            (start, Instant::now())
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or_default()).collect()
    });
    let seconds = (0..PASSES).filter_map(|pass| {
        let start = spans.iter().filter_map(|s| s.get(pass)).map(|s| s.0).min()?;
        let end = spans.iter().filter_map(|s| s.get(pass)).map(|s| s.1).max()?;
        Some((end - start).as_secs_f64())
    });
    let best = seconds.fold(f64::INFINITY, f64::min);
    (best > 0.0 && best.is_finite()).then(|| (bytes * threads) as f64 / best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_known_times() {
        let times = [1.0, 2.0, 4.0].map(Duration::from_secs_f64).to_vec();
        let result = BenchResult { test: BenchTest::Decode(8), depth: 0, times, on_device: false };
        assert_eq!(result.speeds(), [8.0, 4.0, 2.0]);
        assert!((result.mean() - 14.0 / 3.0).abs() < 1e-12);
        assert_eq!(result.median(), 4.0);
        // Deviations 10/3, -2/3, -8/3: squares sum to 168/9, halved 28/3.
        assert!((result.standard_deviation() - (28f64 / 3.0).sqrt()).abs() < 1e-12);
        let even = BenchResult { times: result.times[..2].to_vec(), ..result.clone() };
        assert_eq!(even.median(), 6.0);
        let single = BenchResult { times: result.times[..1].to_vec(), ..result };
        assert_eq!((single.median(), single.standard_deviation()), (8.0, 0.0));
    }

    #[test]
    fn names_are_those_of_llama_bench() {
        assert_eq!(BenchTest::Prompt(512).name(0), "pp512");
        assert_eq!(BenchTest::Decode(128).name(4096), "tg128 @ d4096");
    }

    #[test]
    fn bandwidth_is_a_possible_one() {
        let found = read_bandwidth(2, 8 << 20).unwrap();
        assert!((1e8..1e14).contains(&found), "{found} bytes a second");
    }
}
