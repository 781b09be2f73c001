//! Time, as a worker measures it. A test can have its own ([`simulated`]).

use std::time::{Duration, Instant};

pub(crate) fn now() -> Instant {
    #[cfg(test)]
    if let Some(now) = simulated::now() {
        return now;
    }
    Instant::now()
}

pub(crate) fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

pub(crate) fn sleep(lasting: Duration) {
    #[cfg(test)]
    if simulated::now().is_some() {
        return simulated::pass(lasting);
    }
    std::thread::sleep(lasting);
}

/// The time of a test, which passes when it says so.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    thread_local! {
        static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    /// From here on, on this thread.
    pub fn begin() {
        NOW.set(Some(Instant::now()));
    }

    pub fn now() -> Option<Instant> {
        NOW.get()
    }

    pub fn pass(lasting: Duration) {
        NOW.set(NOW.get().map(|now| now + lasting));
    }
}
