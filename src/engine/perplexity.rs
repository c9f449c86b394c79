//! [`perplexity`]: how well a model predicts a text, counted as llama.cpp counts.
//!
//! The text is cut into chunks of `context` tokens, one after the other; what does not fill a chunk is left out. Each
//! chunk is evaluated on its own. If the model's texts begin with BOS, BOS takes the place of the chunk's first token.
//! Scored are the tokens of the second half, from position `context / 2 + 1` to the last: `context - 1 - context / 2`
//! predictions a chunk, so that each has at least half of the context before it.
//! The perplexity is exp of the mean of their negative log-likelihoods, with log-softmax in f64.

use super::{EngineError, Session};

/// How to cut a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerplexityOptions {
    /// Tokens of a chunk, at least 4 and at most the session's context.
    pub context: usize,
    /// Chunks at most; `None` takes all.
    pub chunks: Option<usize>,
    /// The token that replaces the first of each chunk.
    pub bos: Option<u32>,
}

/// Sums over the tokens scored so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perplexity {
    /// Chunks that were scored.
    pub chunks: usize,
    /// Chunks there will be.
    pub chunks_total: usize,
    /// Tokens that were scored.
    pub scored: usize,
    sum: f64,
    sum_of_squares: f64,
}

impl Perplexity {
    /// The mean negative log-likelihood, in nats a token.
    pub fn nll(&self) -> f64 {
        self.sum / self.scored as f64
    }

    /// exp of [`nll`](Perplexity::nll).
    pub fn ppl(&self) -> f64 {
        self.nll().exp()
    }

    /// The standard error of [`ppl`](Perplexity::ppl), if the tokens were independent.
    pub fn ppl_error(&self) -> f64 {
        if self.scored < 2 {
            return f64::NAN;
        }
        let variance = (self.sum_of_squares / self.scored as f64 - self.nll().powi(2)).max(0.0);
        (variance / (self.scored - 1) as f64).sqrt() * self.ppl()
    }

    fn add(&mut self, nll: f64) {
        self.scored += 1;
        self.sum += nll;
        self.sum_of_squares += nll * nll;
    }
}

/// The perplexity of a text's tokens. The session is emptied for each chunk; `each` is called after each.
///
/// # Errors
/// Options that cannot be, fewer tokens than a chunk has, and those of [`Session::prefill`].
pub fn perplexity(
    session: &mut Session,
    ids: &[u32],
    options: &PerplexityOptions,
    each: &mut dyn FnMut(&Perplexity),
) -> Result<Perplexity, EngineError> {
    let bad = |name, reason| Err(EngineError::Option { name, reason });
    let context = options.context;
    if context < 4 || context > session.context() {
        return bad("context", format!("{context} must be from 4 to the session's {}", session.context()));
    }
    let total = (ids.len() / context).min(options.chunks.unwrap_or(usize::MAX));
    if total == 0 {
        let reason = format!(
            "the text has {} tokens, a chunk needs {context}: give a longer text or a smaller context",
            ids.len()
        );
        return bad(if options.chunks == Some(0) { "chunks" } else { "context" }, reason);
    }
    let mut result = Perplexity { chunks_total: total, ..Perplexity::default() };
    for chunk in ids.chunks_exact(context).take(total) {
        score_chunk(session, chunk, options.bos, &mut result)?;
        result.chunks += 1;
        each(&result);
    }
    Ok(result)
}

fn score_chunk(
    session: &mut Session,
    chunk: &[u32],
    bos: Option<u32>,
    result: &mut Perplexity,
) -> Result<(), EngineError> {
    let first = chunk.len() / 2;
    let mut tokens = chunk.to_vec();
    if let Some(bos) = bos {
        tokens[0] = bos;
    }
    session.truncate(0);
    session.prefill(&tokens[..first], &mut |_, _| ())?;
    let mut outside = None;
    // The last token is predicted, nothing is predicted from it.
    session.prefill_all(&tokens[first..tokens.len() - 1], &mut |index, logits| {
        let target = first + index + 1;
        match negative_log_likelihood(logits, tokens[target]) {
            Some(nll) => result.add(nll),
            None => outside = Some((tokens[target], target, logits.len())),
        }
    })?;
    match outside {
        Some((id, index, vocabulary)) => Err(EngineError::TokenOutOfVocabulary { id, index, vocabulary }),
        None => Ok(()),
    }
}

/// −ln softmax(logits)\[id\]; `None` if there is no such logit.
pub fn negative_log_likelihood(logits: &[f32], id: u32) -> Option<f64> {
    let logit = f64::from(*logits.get(id as usize)?);
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
    Some(sum.ln() + (largest - logit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn log_likelihood_of_small_distributions() {
        let even = negative_log_likelihood(&[2.5; 8], 3).unwrap();
        assert!(close(even, 8f64.ln()), "{even}");
        let half = negative_log_likelihood(&[0.0, 0.0, f32::NEG_INFINITY], 1).unwrap();
        assert!(close(half, 2f64.ln()), "{half}");
        let never = negative_log_likelihood(&[0.0, 0.0, f32::NEG_INFINITY], 2).unwrap();
        assert_eq!(never, f64::INFINITY);
        assert_eq!(negative_log_likelihood(&[0.0; 3], 3), None);
    }

    #[test]
    fn log_likelihood_of_large_logits_does_not_overflow() {
        let sure = negative_log_likelihood(&[1e30, -1e30], 0).unwrap();
        assert!(close(sure, 0.0), "{sure}");
        let small = negative_log_likelihood(&[-3e38, -3e38], 0).unwrap();
        assert!(close(small, 2f64.ln()), "{small}");
        let nan = negative_log_likelihood(&[f32::NAN, 1.0], 1).unwrap();
        assert!(nan.is_nan(), "a NaN must be seen in the result");
    }

    #[test]
    fn means_and_their_error() {
        let mut p = Perplexity::default();
        for nll in [1.0, 2.0, 3.0] {
            p.add(nll);
        }
        assert!(close(p.nll(), 2.0) && close(p.ppl(), 2f64.exp()));
        // Variance 2/3, over n - 1 = 2: the error of the mean is sqrt(1/3).
        assert!(close(p.ppl_error(), (1f64 / 3.0).sqrt() * 2f64.exp()));
    }
}
