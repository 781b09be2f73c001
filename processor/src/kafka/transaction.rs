//! Outputs and offsets in one transaction.

use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use touchline_core::output::Topic;

use super::Topics;
use super::client::Quiet;
use super::position::Stand;
use crate::outputs::{Output, OutputBatch};

/// Beyond what an open transaction may take, its outcome is in doubt.
const PATIENCE: Duration = Duration::from_secs(10);
/// For room in the queue.
const ROOM: Duration = Duration::from_millis(5);

/// What became of a transaction that failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was published, and the producer can go on: so it is when the group has a new generation.
    Aborted(KafkaError),
    /// Nobody knows, and the producer is good for nothing any more: the next one of its name settles the transaction, and
    /// then the group's offsets tell.
    Unknown(KafkaError),
}

/// Where partitions stand with what is published.
#[derive(Debug, Default)]
pub(super) struct Offsets(pub Vec<(i32, Stand)>);

impl Offsets {
    pub fn list(&self, topic: &str) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, stand) in &self.0 {
            let mut element = list.add_partition(topic, *partition);
            element.set_offset(Offset::Offset(stand.position.offset))?;
            element.set_metadata(stand.metadata());
        }
        Ok(list)
    }
}

/// How many partitions the topics have, by number.
pub(super) type Partitions = [i32; Topic::ALL.len()];

/// Publishes batches and commits offsets: all or nothing.
pub(super) fn commit<'a>(
    producer: &BaseProducer<Quiet>,
    topics: (&Topics, &Partitions),
    batches: impl Iterator<Item = (i32, &'a OutputBatch)>,
    offsets: &TopicPartitionList,
    group: &ConsumerGroupMetadata,
) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    match publish(producer, topics, batches, offsets, group, deadline) {
        Ok(()) => Ok(()),
        Err(error) if requires_abort(&error) => match abort(producer, deadline) {
            Ok(()) => Err(Failure::Aborted(error)),
            Err(_) => Err(Failure::Unknown(error)),
        },
        Err(error) => Err(Failure::Unknown(error)),
    }
}

fn abort(producer: &BaseProducer<Quiet>, deadline: Instant) -> Result<(), KafkaError> {
    // librdkafka waits for what is on its way, of which it is heard only in a poll, and there is none in its own abort.
    producer.purge(PurgeConfig::default().queue());
    producer.flush(deadline.saturating_duration_since(Instant::now()))?;
    until(deadline, |left| producer.abort_transaction(left))
}

fn requires_abort(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.txn_requires_abort())
}

fn publish<'a>(
    producer: &BaseProducer<Quiet>,
    topics: (&Topics, &Partitions),
    batches: impl Iterator<Item = (i32, &'a OutputBatch)>,
    offsets: &TopicPartitionList,
    group: &ConsumerGroupMetadata,
    deadline: Instant,
) -> Result<(), KafkaError> {
    producer.begin_transaction()?;
    for (number, batch) in batches {
        batch.iter().try_for_each(|output| send(producer, topics, number, output, deadline))?;
    }
    until(deadline, |left| producer.send_offsets_to_transaction(offsets, group, left))?;
    until(deadline, |left| producer.commit_transaction(left))
}

/// Asks again while the error says so.
fn until(deadline: Instant, ask: impl Fn(Duration) -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match ask(left) {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && !left.is_zero() => {}
            answer => return answer,
        }
    }
}

fn send(
    producer: &BaseProducer<Quiet>,
    (topics, partitions): (&Topics, &Partitions),
    number: i32,
    output: Output<'_>,
    deadline: Instant,
) -> Result<(), KafkaError> {
    // All of an account in one partition, whatever the keys: what is said of a contact last is read last.
    let partition = number % partitions[output.topic as usize].max(1);
    let mut record = BaseRecord::to(topics.name(output.topic)).key(output.key).partition(partition);
    if let Some(value) = output.value {
        record = record.payload(value);
        if output.topic == Topic::DeadLetters {
            record = record.headers(headers(value));
        }
    }
    loop {
        record = match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) if Instant::now() < deadline => {
                record
            }
            Err((error, _)) => return Err(error),
        };
        producer.poll(ROOM);
    }
}

/// What a dead letter says of itself, for who looks at no value.
fn headers(letter: &[u8]) -> OwnedHeaders {
    let letter: Value = serde_json::from_slice(letter).unwrap_or_default();
    ["topic", "partition", "offset", "stage", "error"].into_iter().fold(OwnedHeaders::new(), |headers, key| {
        let text = match &letter[key] {
            Value::Null => return headers,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        headers.insert(Header { key, value: Some(&text) })
    })
}
