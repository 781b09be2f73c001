//! How long to wait before something is tried again.

use std::time::Duration;

use crate::store::random;

/// The first wait.
const FIRST: Duration = Duration::from_millis(500);
/// No wait is longer: a store that is back is noticed within this.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits that double, each somewhere in its upper half, so that all who wait for one store do not come at once.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff(FIRST)
    }
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST);
        let half = wait / 2;
        half + half.mul_f64(random() as f64 / u64::MAX as f64)
    }
}
