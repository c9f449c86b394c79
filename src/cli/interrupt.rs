//! Ctrl-C becomes a [`Cancel`].

use crate::engine::Cancel;

/// From now on Ctrl-C asks what runs to stop; a second one ends the process at once.
///
/// Called after all input is read: until then Ctrl-C ends the process as usual.
pub fn install() -> Cancel {
    let cancel = Cancel::default();
    let handler = cancel.clone();
    // There can be a handler already only if a program installs two; the first then stays.
    let _ = ctrlc::set_handler(move || {
        if handler.is_cancelled() {
            std::process::exit(130);
        }
        handler.cancel();
    });
    cancel
}
