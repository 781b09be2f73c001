//! The topic of events, and topics in general: filled, read from end to end, and how far a group has come.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::tz::TimeZone;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use touchline::config::Config;
use touchline_core::record::Record;

use crate::common::load::each_line;
use crate::{PARTITIONS, job};

/// For a poll to say that there is nothing.
const POLL: Duration = Duration::from_millis(100);
/// For a full queue to have room again.
const FULL: Duration = Duration::from_millis(10);
/// For whatever a broker answers at once, and the last of what is on its way to it.
const ASK: Duration = Duration::from_secs(60);

/// What other stream processors do with the load: a lapse is one alert, without a warning before it or a reminder after.
const RULES: &str = r#"{"kind":"rules","lapse":{"warn_s":0,"escalate_s":3153600000}}"#;

/// Writes a load as ingest and the ticker do: events by account, what is of no account into each partition.
pub fn fill(bootstrap: &str, load: &Path) -> Result<()> {
    let mut client = ClientConfig::new();
    for (key, value) in [
        ("bootstrap.servers", bootstrap),
        ("enable.idempotence", "true"),
        ("partitioner", "murmur2_random"),
        ("compression.type", "lz4"),
        // Large batches: what is measured is not how the load came.
        ("linger.ms", "50"),
    ] {
        client.set(key, value);
    }
    let producer: ThreadedProducer<DefaultProducerContext> = client.create()?;
    let everywhere = |line: &[u8]| {
        (0..PARTITIONS).try_for_each(|partition| {
            send(&producer, BaseRecord::<[u8], _>::to(job::EVENTS).partition(partition).payload(line))
        })
    };
    everywhere(RULES.as_bytes())?;
    each_line(load, |line| match Record::parse(line, &TimeZone::UTC)? {
        Record::Event(event) => {
            send(&producer, BaseRecord::to(job::EVENTS).key(event.account.as_bytes()).payload(line))
        }
        _ => everywhere(line),
    })?;
    producer.flush(ASK).context("the load is still on its way to the broker")
}

fn send(producer: &ThreadedProducer<DefaultProducerContext>, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
    loop {
        record = match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) => record,
            Err((error, _)) => return Err(error.into()),
        };
        thread::sleep(FULL);
    }
}

/// A consumer that reads as the processor's workers do. It is no member of the group, in which nothing is rebalanced; a
/// producer may commit for it there.
pub fn consumer(config: &Config, group: &str) -> Result<BaseConsumer> {
    let mut client = touchline::kafka::client(config)?;
    for (key, value) in [
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
        ("fetch.wait.max.ms", "500"),
        ("fetch.queue.backoff.ms", "5"),
        ("queued.max.messages.kbytes", "32768"),
        ("max.partition.fetch.bytes", "1048576"),
    ] {
        client.set(key, value);
    }
    Ok(client.create()?)
}

/// Takes every record of a topic, each partition from its beginning to its end.
pub fn read(
    consumer: &BaseConsumer,
    topic: &str,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<()>,
) -> Result<()> {
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut open: BTreeSet<i32> = (0..PARTITIONS).collect();
    while !open.is_empty() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => take(&message)?,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => return Err(error).context(topic.to_owned()),
            None => {}
        }
    }
    Ok(())
}

/// How many records of a topic are committed.
pub fn count(config: &Config, topic: &str) -> Result<u64> {
    let mut count = 0;
    read(&consumer(config, "count")?, topic, |_| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// Asks about the topic of events, and how far the processor's group has come there.
pub fn observer(config: &Config) -> Result<BaseConsumer> {
    let mut client = touchline::kafka::client(config)?;
    client.set("group.id", format!("{}.processor", config.topics.prefix));
    // Otherwise an answer would wait for the end of a transaction that a dead process has left open.
    client.set("isolation.level", "read_uncommitted");
    Ok(client.create()?)
}

/// Where each partition of the topic of events ends.
pub fn ends(observer: &BaseConsumer) -> Result<BTreeMap<i32, i64>> {
    (0..PARTITIONS).map(|id| Ok((id, observer.fetch_watermarks(job::EVENTS, id, ASK)?.1))).collect()
}

/// How far the group has committed each partition.
pub fn committed(observer: &BaseConsumer) -> Result<BTreeMap<i32, i64>> {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(job::EVENTS, 0, PARTITIONS - 1);
    let found = observer.committed_offsets(list, ASK)?;
    let offset = |offset| match offset {
        Offset::Offset(offset) => Ok(offset),
        // Nobody has been there.
        Offset::Invalid => Ok(0),
        other => bail!("the group has committed {other:?}"),
    };
    let read = |element: &TopicPartitionListElem<'_>| {
        element.error()?;
        Ok((element.partition(), offset(element.offset())?))
    };
    found.elements().iter().map(read).collect()
}
