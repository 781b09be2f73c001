//! Dead letters on Kafka.
//!
//! One transaction holds the letters and, in the metadata of the group's committed offsets, which offsets have become
//! letters; so that whoever reads the records again, after a crash or a rebalance, knows. A producer that has failed in
//! any way is given up: the next one finishes or aborts what it has left.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::TopicPartitionList;
use touchline_core::dead_letter::DeadLetter;

use super::config::KafkaFeedConfig;
use super::context::Quiet;
use crate::feed::Rejection;

/// For each operation: enough for a broker that elects a leader; the sink waits meanwhile.
const WITHIN: Duration = Duration::from_secs(8);
/// A transaction that its process left open holds up readers and offsets for no longer.
const TRANSACTION_TIMEOUT_MS: &str = "10000";
/// Shorter than the transaction's, as librdkafka demands.
const MESSAGE_TIMEOUT_MS: &str = "8000";
/// Longest letter, in front of a broker's usual limit of 1 MiB. The record itself stays where it was read.
const LETTER_BYTES: usize = 900 << 10;

/// A transactional producer.
pub struct Letters {
    producer: ThreadedProducer<Quiet>,
    topic: String,
}

impl Letters {
    /// Connects, and ends what a former producer of this sink and instance has left.
    pub fn new(config: &KafkaFeedConfig) -> KafkaResult<Letters> {
        let mut client: ClientConfig = config.client.clone();
        client
            .set("transactional.id", Letters::id(config))
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
            .set("message.timeout.ms", MESSAGE_TIMEOUT_MS);
        let producer: ThreadedProducer<_> = client.create_with_context(Quiet)?;
        producer.init_transactions(WITHIN)?;
        Ok(Letters { producer, topic: config.dead_letters.clone() })
    }

    /// The transactional id.
    pub fn id(config: &KafkaFeedConfig) -> String {
        format!("{}.{}", config.group, config.instance)
    }

    /// Publishes the letters and commits the offsets as one. After an error the outcome is not known.
    pub fn publish(
        &self,
        rejections: &[Rejection<'_>],
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
    ) -> KafkaResult<()> {
        self.producer.begin_transaction()?;
        for rejection in rejections {
            let (key, letter) = (key(rejection), letter(rejection));
            let mut record = BaseRecord::to(&self.topic).key(&key).payload(&letter);
            while let Err((error, same)) = self.producer.send(record) {
                if error != KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::QueueFull) {
                    return Err(error);
                }
                record = same;
                // Whoever waits for room needs the messages before it to go.
                self.producer.flush(WITHIN)?;
            }
        }
        self.producer.send_offsets_to_transaction(offsets, group, WITHIN)?;
        self.producer.commit_transaction(WITHIN)
    }
}

fn key(rejection: &Rejection<'_>) -> String {
    format!("{}/{}/{}", rejection.lane, rejection.change.sequence, rejection.sink)
}

/// The letter, with as much of the record as fits.
fn letter(rejection: &Rejection<'_>) -> String {
    let change = rejection.change;
    let (topic, partition) = rejection.lane.as_str().rsplit_once('/').unwrap_or_default();
    let stage = format!("sink {}", rejection.sink);
    let whole = change.value.as_deref().unwrap_or_default();
    let mut raw = whole;
    loop {
        let letter = DeadLetter {
            stage: &stage,
            topic,
            partition: partition.parse().ok(),
            line: None,
            offset: change.sequence,
            error: rejection.reason,
            raw,
            raw_bytes: whole.len() as u64,
        };
        let mut letter = letter.to_json();
        letter["key"] = String::from_utf8_lossy(&change.key).into();
        let letter = letter.to_string();
        if letter.len() <= LETTER_BYTES || raw.is_empty() {
            return letter;
        }
        raw = raw.get(..raw.len() / 2).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use touchline_core::output::Topic;

    use super::*;
    use crate::sink::{Change, Lane};

    #[test]
    fn a_letter_has_all_that_fits() {
        let check = |value: Option<&[u8]>, expect: Value| {
            let change =
                Change { sequence: 7, topic: Topic::Facts, key: b"k".to_vec(), value: value.map(<[u8]>::to_vec) };
            let lane = Lane::new("a.b/3");
            let rejection = Rejection { sink: "lake", lane: &lane, change: &change, reason: "odd" };
            assert_eq!(key(&rejection), "a.b/3/7/lake");
            let letter = letter(&rejection);
            assert!(letter.len() <= LETTER_BYTES);
            let mut letter: Value = serde_json::from_str(&letter).unwrap();
            let common = json!({
                "topic": "a.b", "partition": 3, "offset": 7, "key": "k", "stage": "sink lake", "error": "odd",
            });
            for (name, value) in common.as_object().unwrap() {
                assert_eq!(letter.as_object_mut().unwrap().remove(name).as_ref(), Some(value));
            }
            assert_eq!(letter, expect);
        };
        check(Some(b"{}"), json!({ "raw": "{}" }));
        check(None, json!({ "raw": "" }));
        check(Some(b"\xff"), json!({ "raw_base64": "/w==" }));
        let long = [b'"'; 1 << 20];
        check(Some(&long), json!({ "raw": "\"".repeat(1 << 18), "raw_bytes": 1 << 20 }));
    }
}
