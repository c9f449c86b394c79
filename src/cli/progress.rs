//! Progress bars, on stderr and only if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for bytes of weights.
pub fn bytes(what: &str) -> ProgressBar {
    styled(what, "{msg:>8} [{bar:30}] {bytes}/{total_bytes} {eta}")
}

/// A bar for tokens.
pub fn tokens(what: &str) -> ProgressBar {
    styled(what, "{msg:>8} [{bar:30}] {pos}/{len} tokens {eta}")
}

fn styled(what: &str, template: &str) -> ProgressBar {
    // `new` draws to stderr, and nothing at all if stderr is no terminal.
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what.to_string());
    bar
}

/// Shows where it is.
pub fn set(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}
