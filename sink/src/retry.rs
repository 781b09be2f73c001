//! How long to wait before trying again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// After the first failure: what heals at once costs little.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// Between later failures: a server that comes back is noticed within half a minute, and not overrun meanwhile.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Pauses that double up to a bound, each shortened at random so that many do not come back in step.
///
/// There is no last attempt: what is published is never dropped.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
    random: RandomState,
}

impl Backoff {
    /// Attempts that have failed since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The pause after another failure: from half the doubled pause to all of it.
    pub fn pause(&mut self) -> Duration {
        let doubled = RETRY_FIRST.saturating_mul(1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX));
        self.attempts = self.attempts.saturating_add(1);
        // A hash with random keys is random enough to spread pauses.
        let share = self.random.hash_one(self.attempts) as f64 / u64::MAX as f64;
        doubled.min(RETRY_MAX).mul_f64(0.5 + 0.5 * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_bounds_and_start_over() {
        let mut backoff = Backoff::default();
        let check = |backoff: &mut Backoff, attempts: u32, longest: Duration| {
            assert_eq!(backoff.attempts(), attempts);
            let pause = backoff.pause();
            assert!(longest / 2 <= pause && pause <= longest, "{pause:?} after {attempts} attempts");
        };
        for attempts in 0..100 {
            check(&mut backoff, attempts, (RETRY_FIRST * (1 << attempts.min(10))).min(RETRY_MAX));
        }
        backoff.reset();
        check(&mut backoff, 0, RETRY_FIRST);
    }
}
