//! The rules on their way into the log.
//!
//! They are written to `touchline.progress` first, where their offset makes their revision; the ticker takes them from
//! there. A process writes its own once, when it starts, and only if they differ from the newest: of two configurations
//! the one that was started last counts. `since` is no difference: whoever writes the first rules sets it for good.

use std::time::Duration;

use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use touchline_core::rules::Rules;
use tracing::info;

use super::Failure;
use super::client::Context;
use super::completeness::Sampling;
use super::config::Config;
use super::progress::{Entry, PARTITION};
use super::stop::Stop;
use super::writer::Writer;

/// How often reading looks whether it should end.
const POLL: Duration = Duration::from_millis(50);

/// This process's rules, to be written once.
#[derive(Debug, Default)]
pub(super) struct Proposal {
    is_made: bool,
}

impl Proposal {
    /// Writes the rules, if they have not been looked at yet and are new.
    pub(super) fn make(&mut self, config: &Config, stop: Stop<'_>) -> Result<(), Failure> {
        if self.is_made {
            return Ok(());
        }
        let writer = Writer::new(config)?;
        // What stands before the mark is all that there is; and it tells the time.
        let mark = Entry::Mark { instance: config.instance.clone(), role: "rules".to_owned() };
        let Some(stamp) = writer.note_and_wait(&mark, &stop)? else { return Ok(()) };
        let Some(newest) = newest(config, stamp.offset, &stop)? else { return Ok(()) };
        if let Some(rules) = proposed(&config.rules, newest.rules.as_deref(), writer.time(stamp)?) {
            info!("this process's rules differ from those in force, and replace them");
            let entry = Entry::Rules { rules: Box::new(rules), base: newest.base };
            if writer.note_and_wait(&entry, &stop)?.is_none() {
                return Ok(());
            }
        }
        self.is_made = true;
        Ok(())
    }

    /// Writes them again if they are gone.
    pub(super) fn heed(&mut self, failure: &Failure) {
        self.is_made &= !matches!(failure, Failure::NoRules);
    }
}

/// What to write where `newest` are in force, at `now`; `None`: nothing new.
fn proposed(own: &Rules, newest: Option<&Rules>, now: Timestamp) -> Option<Rules> {
    // Compared as they would be read: numbers may differ in their last bit once they have been written.
    let written = |rules: &Rules| match Entry::parse(&rules.to_record(None)) {
        Ok(Some(Entry::Rules { rules, .. })) => Some(Rules { since: None, ..*rules }),
        _ => None,
    };
    if newest.is_some_and(|newest| Some(Rules { since: None, ..newest.clone() }) == written(own)) {
        return None;
    }
    let since = newest.and_then(|newest| newest.since).or(own.since).or(Some(now));
    Some(Rules { since, ..own.clone() })
}

/// The newest rules in `progress`.
struct Newest {
    rules: Option<Box<Rules>>,
    /// Of the revisions of this topic. Where there are no rules yet, microseconds of its first record, which two processes
    /// that start at once find the same: one that is made later begins above all revisions of the one before, as long as
    /// that has fewer than a million records a second.
    base: u64,
}

/// The newest rules in `progress` up to `end`. `None`: told to stop.
fn newest(config: &Config, end: i64, stop: &Stop<'_>) -> Result<Option<Newest>, Failure> {
    let client = config.progress_reader();
    let consumer: BaseConsumer<_> = client.create_with_context(Context(Sampling)).map_err(Failure::Client)?;
    let mut list = TopicPartitionList::new();
    let added = list.add_partition_offset(&config.topics.progress, PARTITION, Offset::Beginning);
    added.and_then(|()| consumer.assign(&list)).map_err(Failure::Read)?;
    let mut newest: Option<Newest> = None;
    while !stop.is_set() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let known = newest.get_or_insert_with(|| Newest { rules: None, base: micros(message.timestamp()) });
                if let Some(value) = message.payload()
                    && let Some(Entry::Rules { rules, base }) = Entry::parse(value)?
                {
                    *known = Newest { rules: Some(rules), base };
                }
                if message.offset() >= end {
                    return Ok(newest);
                }
            }
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(Failure::Read(error)),
            // The client tries again by itself.
            Some(Err(error)) => config.denied_ticker(&error).map_or(Ok(()), |what| Err(Failure::Denied(what)))?,
            None => {}
        }
    }
    Ok(None)
}

/// A record's time stamp in microseconds since 1970.
fn micros(at: rdkafka::Timestamp) -> u64 {
    at.to_millis().and_then(|millis| u64::try_from(millis).ok()).unwrap_or(0).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: &str = "2026-01-01T00:00:00Z";
    const NOW: &str = "2026-06-01T00:00:00Z";
    const EARLIER: &str = "2025-06-01T00:00:00Z";

    fn rules(months: u32, since: Option<&str>) -> Rules {
        let mut rules = Rules { since: since.map(|since| since.parse().unwrap()), ..Rules::default() };
        rules.lapse.months = months;
        // Does not survive being written and read to the last bit.
        rules.score.k = 10.1 + f64::EPSILON;
        rules
    }

    fn check(own: Rules, newest: Option<Rules>, expect: Option<Rules>) {
        assert_eq!(proposed(&own, newest.as_ref(), NOW.parse().unwrap()), expect);
    }

    #[test]
    fn rules_are_written_if_they_differ_and_since_is_the_first_writers() {
        check(rules(3, None), None, Some(rules(3, Some(NOW))));
        check(rules(3, Some(EARLIER)), None, Some(rules(3, Some(EARLIER))));
        check(rules(3, None), Some(rules(3, Some(THEN))), None);
        check(rules(3, Some(EARLIER)), Some(rules(3, Some(THEN))), None);
        check(rules(2, Some(EARLIER)), Some(rules(3, Some(THEN))), Some(rules(2, Some(THEN))));
    }
}
