//! The sampler's arguments.

use crate::engine::SamplerOptions;
use clap::Args;
use std::hash::{BuildHasher, Hasher, RandomState};

const HEADING: &str = "Sampling (in this order: bias, penalties, top-k, typical, top-p, min-p, temperature)";

/// How tokens are chosen.
#[derive(Args, Debug)]
pub struct SamplingArgs {
    /// Temperature; 0 always takes the most probable token
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true, help_heading = HEADING)]
    pub temp: f32,
    /// Start of the random numbers; without it every run differs
    #[arg(short, long, value_name = "S", help_heading = HEADING)]
    pub seed: Option<u64>,
    /// Keep the K most probable tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 40, help_heading = HEADING)]
    pub top_k: usize,
    /// Keep the most probable tokens that together have the probability P; 1 keeps all
    #[arg(long, value_name = "P", default_value_t = 0.95, help_heading = HEADING)]
    pub top_p: f32,
    /// Keep tokens at least P times as probable as the most probable one; 0 keeps all
    #[arg(long, value_name = "P", default_value_t = 0.05, help_heading = HEADING)]
    pub min_p: f32,
    /// Keep the tokens with the most typical probabilities, up to P together; 1 keeps all
    #[arg(long, value_name = "P", default_value_t = 1.0, help_heading = HEADING)]
    pub typical: f32,
    /// Divides the logits of tokens that occurred; 1 is off
    #[arg(long, value_name = "X", default_value_t = 1.0, help_heading = HEADING)]
    pub repeat_penalty: f32,
    /// Subtracted once for each time that a token occurred
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true, help_heading = HEADING)]
    pub frequency_penalty: f32,
    /// Subtracted once from tokens that occurred
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true, help_heading = HEADING)]
    pub presence_penalty: f32,
    /// Tokens that the penalties look back at; -1 is all
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true, help_heading = HEADING)]
    pub repeat_last_n: i64,
    /// Added to the logit of a token, as 15043+1.5 or 15043-inf; can be repeated
    #[arg(long, value_name = "ID±X", value_parser = logit_bias, help_heading = HEADING)]
    pub logit_bias: Vec<(u32, f32)>,
}

impl SamplingArgs {
    /// As the sampler takes them; without `--seed` with a random seed.
    pub fn options(&self) -> SamplerOptions {
        SamplerOptions {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical,
            repeat_penalty: self.repeat_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            penalty_last_n: usize::try_from(self.repeat_last_n).unwrap_or(usize::MAX),
            logit_bias: self.logit_bias.clone(),
            // 32 bits are enough, and a seed that is shown should be easy to type.
            seed: self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() & 0xffff_ffff),
        }
    }
}

fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let split = text.find(['+', '-', '=']).map(|at| text.split_at(at));
    let parsed = split.and_then(|(id, bias)| {
        let bias: f32 = bias.strip_prefix('=').unwrap_or(bias).parse().ok()?;
        Some((id.parse().ok()?, bias))
    });
    parsed.ok_or_else(|| "an id and a signed number are needed, as 15043+1.5 or 15043-inf".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases() {
        assert_eq!(logit_bias("15043+1.5"), Ok((15043, 1.5)));
        assert_eq!(logit_bias("7-2"), Ok((7, -2.0)));
        assert_eq!(logit_bias("7-inf"), Ok((7, f32::NEG_INFINITY)));
        assert_eq!(logit_bias("7=-0.5"), Ok((7, -0.5)));
        for bad in ["", "7", "+1", "x+1", "7+y", "-1+1"] {
            assert!(logit_bias(bad).is_err(), "{bad}");
        }
    }
}
