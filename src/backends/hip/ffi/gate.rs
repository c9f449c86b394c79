//! Captures have the driver to themselves. What other threads make or free meanwhile, in a context that all devices of a process share,
//! may wait for the device inside the driver, which invalidates a capture (`CUDA_ERROR_STREAM_CAPTURE_INVALIDATED`) or worse: seen with eight
//! threads that each loaded, captured and dropped models of their own.
//!
//! The gate is the process's, as the driver is. It is held for single calls of the driver and for captures, which take milliseconds.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

struct Gate {
    inside: Mutex<Inside>,
    changed: Condvar,
}

struct Inside {
    /// Who captures.
    capturing: Option<ThreadId>,
    /// Calls under way that make or free something.
    making: usize,
}

static GATE: Gate = Gate { inside: Mutex::new(Inside { capturing: None, making: 0 }), changed: Condvar::new() };

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, mut busy: impl FnMut(&Inside) -> bool) -> MutexGuard<'_, Inside> {
        self.changed.wait_while(self.lock(), |inside| busy(inside)).unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, change: impl FnOnce(&mut Inside)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// Held while a stream is captured: nobody else captures, makes or frees anything.
pub(super) struct Capturing(());

impl Capturing {
    /// Waits until it is alone.
    pub fn begin() -> Capturing {
        GATE.wait_while(|inside| inside.capturing.is_some() || inside.making > 0).capturing =
            Some(thread::current().id());
        Capturing(())
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        GATE.leave(|inside| inside.capturing = None);
    }
}

/// Held while the driver makes or frees something: nobody captures, but for the thread itself.
pub(super) struct Making {
    counted: bool,
}

/// Waits until nobody else captures.
pub(super) fn making() -> Making {
    let me = thread::current().id();
    let mut inside = GATE.wait_while(|inside| inside.capturing.is_some_and(|who| who != me));
    let counted = inside.capturing.is_none();
    inside.making += usize::from(counted);
    Making { counted }
}

impl Drop for Making {
    fn drop(&mut self) {
        if self.counted {
            GATE.leave(|inside| inside.making -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn captures_are_alone() {
        let (captures, makers) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for i in 0..6 {
                let (captures, makers) = (&captures, &makers);
                scope.spawn(move || {
                    for _ in 0..200 {
                        if i < 2 {
                            let _capturing = Capturing::begin();
                            assert_eq!(captures.fetch_add(1, Ordering::SeqCst), 0);
                            assert_eq!(makers.load(Ordering::SeqCst), 0);
                            // Its own thread may make something.
                            drop(making());
                            thread::yield_now();
                            captures.fetch_sub(1, Ordering::SeqCst);
                        } else {
                            let _making = making();
                            makers.fetch_add(1, Ordering::SeqCst);
                            assert_eq!(captures.load(Ordering::SeqCst), 0);
                            thread::yield_now();
                            makers.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
    }
}
