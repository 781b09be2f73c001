//! The rules on their way into the log.
//!
//! They are written to `touchline.progress` first, where their offset becomes their revision; the ticker takes them from
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
        if let Some(rules) = proposed(&config.rules, newest.as_ref(), writer.time(stamp)?) {
            info!("this process's rules differ from those in force, and replace them");
            if writer.note_and_wait(&Entry::Rules(Box::new(rules)), &stop)?.is_none() {
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
    let written = |rules: &Rules| match Entry::parse(&Entry::Rules(Box::new(rules.clone())).to_bytes()) {
        Ok(Some(Entry::Rules(rules))) => Some(Rules { since: None, ..*rules }),
        _ => None,
    };
    if newest.is_some_and(|newest| Some(Rules { since: None, ..newest.clone() }) == written(own)) {
        return None;
    }
    let since = newest.and_then(|newest| newest.since).or(own.since).or(Some(now));
    Some(Rules { since, ..own.clone() })
}

/// The newest rules in `progress` up to `end`. The outer `None`: told to stop.
fn newest(config: &Config, end: i64, stop: &Stop<'_>) -> Result<Option<Option<Rules>>, Failure> {
    let client = config.progress_reader();
    let consumer: BaseConsumer<_> = client.create_with_context(Context(Sampling)).map_err(Failure::Client)?;
    let mut list = TopicPartitionList::new();
    let added = list.add_partition_offset(&config.topics.progress, PARTITION, Offset::Beginning);
    added.and_then(|()| consumer.assign(&list)).map_err(Failure::Read)?;
    let mut newest = None;
    while !stop.is_set() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                if let Some(value) = message.payload()
                    && let Some(Entry::Rules(rules)) = Entry::parse(value)?
                {
                    newest = Some(*rules);
                }
                if message.offset() >= end {
                    return Ok(Some(newest));
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
