//! When a message is tried again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// The pauses that Standard Webhooks gives as its example: ten attempts within three days.
pub const STANDARD_SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5),
    minutes(5),
    minutes(30),
    minutes(2 * 60),
    minutes(5 * 60),
    minutes(10 * 60),
    minutes(14 * 60),
    minutes(20 * 60),
    minutes(24 * 60),
];
/// A receiver that comes back is noticed within this time.
pub const PROBE_EVERY: Duration = Duration::from_secs(30);
/// A pause is shortened by up to this share, so that many do not come back in step.
const JITTER: f64 = 0.2;
/// A receiver that asks for more is asked again after this.
const RETRY_AFTER_MAX: Duration = minutes(60);

/// The pauses between the attempts of one message.
#[derive(Debug)]
pub struct Schedule {
    pauses: Vec<Duration>,
    random: RandomState,
    drawn: u64,
}

impl Schedule {
    /// One attempt more than there are pauses.
    pub fn new(pauses: Vec<Duration>) -> Schedule {
        Schedule { pauses, random: RandomState::new(), drawn: 0 }
    }

    /// The pause after so many failed attempts, one at least; `None`: there is no further one.
    pub fn pause(&mut self, attempts: usize) -> Option<Duration> {
        let pause = *self.pauses.get(attempts.saturating_sub(1))?;
        Some(self.jittered(pause))
    }

    /// The pause before it is tried whether anything gets through again, after so many attempts of that.
    pub fn probe(&mut self, attempts: usize) -> Duration {
        let pause = self.pauses.get(attempts).or(self.pauses.last()).copied().unwrap_or(PROBE_EVERY);
        self.jittered(pause.min(PROBE_EVERY))
    }

    /// From the first attempt to the last, if each fails at once.
    pub fn span(&self) -> Duration {
        self.pauses.iter().sum()
    }

    fn jittered(&mut self, pause: Duration) -> Duration {
        self.drawn += 1;
        // A hash with random keys is random enough to spread pauses.
        let share = self.random.hash_one(self.drawn) as f64 / u64::MAX as f64;
        pause.mul_f64(1.0 - JITTER * share)
    }
}

/// What `Retry-After` asks for: seconds, or a date. `None` if it is neither.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let asked = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that overflow ask for longer than we wait.
        value.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let date = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
        // A date that has passed asks for nothing.
        Duration::try_from(date.duration_since(now)).unwrap_or_default()
    };
    Some(asked.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_follow_the_schedule_and_end() {
        let mut schedule = Schedule::new(STANDARD_SCHEDULE.to_vec());
        for (number, pause) in STANDARD_SCHEDULE.into_iter().enumerate() {
            for _ in 0..100 {
                let drawn = schedule.pause(number + 1).unwrap();
                assert!(pause.mul_f64(1.0 - JITTER) <= drawn && drawn <= pause, "{drawn:?} for {pause:?}");
            }
        }
        assert_eq!(schedule.pause(10), None);
        assert_eq!(schedule.span(), Duration::from_secs(272_105));
        assert_ne!(schedule.pause(9), schedule.pause(9));
    }

    #[test]
    fn probes_are_no_further_apart_than_half_a_minute() {
        let check = |pauses: &[u64], expected: &[u64]| {
            let mut schedule = Schedule::new(pauses.iter().copied().map(Duration::from_secs).collect());
            for (attempts, seconds) in expected.iter().enumerate() {
                let (pause, longest) = (schedule.probe(attempts), Duration::from_secs(*seconds));
                assert!(longest.mul_f64(1.0 - JITTER) <= pause && pause <= longest, "{pause:?} of {longest:?}");
            }
        };
        check(&[5, 300, 1_800], &[5, 30, 30, 30, 30]);
        check(&[1, 2], &[1, 2, 2, 2]);
        check(&[], &[30, 30]);
    }

    #[test]
    fn what_retry_after_asks_for() {
        let now: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        let check = |value: &str, seconds: Option<u64>| {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        };
        check("120", Some(120));
        check(" 0 ", Some(0));
        check("86400", Some(3_600));
        check("99999999999999999999999", Some(3_600));
        check("Sun, 06 Nov 1994 08:50:07 GMT", Some(30));
        check("Sun, 06 Nov 1994 08:49:07 GMT", Some(0));
        check("Mon, 07 Nov 1994 08:49:37 GMT", Some(3_600));
        for nonsense in ["", "soon", "-1", "1.5", "12 apples", "1994-11-06"] {
            check(nonsense, None);
        }
    }
}
