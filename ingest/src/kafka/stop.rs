//! Being told to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often a pause looks whether it should end.
const GLANCE: Duration = Duration::from_millis(50);

/// Set from outside for all of ingest, or from inside for one session of it.
#[derive(Clone, Copy)]
pub(super) struct Stop<'a> {
    outer: &'a AtomicBool,
    inner: Option<&'a AtomicBool>,
}

impl<'a> Stop<'a> {
    pub(super) fn new(outer: &'a AtomicBool) -> Stop<'a> {
        Stop { outer, inner: None }
    }

    /// Set if this one is, or `inner`.
    pub(super) fn or(self, inner: &'a AtomicBool) -> Stop<'a> {
        Stop { outer: self.outer, inner: Some(inner) }
    }

    pub(super) fn is_set(&self) -> bool {
        self.outer.load(Ordering::Relaxed) || self.inner.is_some_and(|inner| inner.load(Ordering::Relaxed))
    }

    /// Sleeps, at most so long.
    pub(super) fn pause(&self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        while !self.is_set() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(GLANCE));
        }
    }
}
