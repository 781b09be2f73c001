//! The clients of a worker: how they are set up, what librdkafka tells them, and what is asked of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, OwnedMessage};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use touchline_core::output::Topic;
use tracing::debug;

use super::cluster::{Cluster, CommittedOffset, Member, Rebalance, Transactional};
use super::error::ProcessError;
use super::open::Opener;
use super::transaction::{self, Failure, Offsets, Partitions};
use super::{Config, Topics};
use crate::outputs::OutputBatch;

/// A member that says nothing for so long is given up. The broker's default minimum; a static member that restarts is
/// back at once.
pub(super) const SESSION_MS: &str = "6000";
/// What an open transaction of a dead process may hold back readers for, and the longest that a commit is waited for.
pub(super) const TRANSACTION_MS: &str = "10000";
/// A producer's connection that is silent for so long is made anew. Not for its own sake: librdkafka waits for the group's
/// coordinator without looking at any clock, for ever if that is gone from the cluster (librdkafka#5456, #5511), and looks
/// again only when a connection of the client opens or closes. Beyond this the transaction is lost anyway.
const IDLE_MS: &str = TRANSACTION_MS;
/// Messages that wait to be polled, in KiB, all partitions together: a second of the fastest worker.
const QUEUED_KBYTES: &str = "32768";
/// What one fetch may bring of one partition: with 64 of them behind, they share the queue.
const PARTITION_FETCH_BYTES: &str = "1048576";

/// For the broker to let a new producer in.
const INIT: Duration = Duration::from_secs(5);
/// For a partition to be set to another offset.
const SEEK: Duration = Duration::from_secs(5);
/// Just after an assignment the partition is not ready to be moved, for so long.
const SEEK_AGAIN: Duration = Duration::from_millis(5);
/// For an answer from the broker; then it is asked again.
const ASK: Duration = Duration::from_secs(5);

/// The largest record that is written: an event or its raw bytes, every one of them escaped as JSON, and some.
const RECORD_BYTES: &str = "8388608";

/// Queues what happens to the group, to be served between two polls and never inside of one.
#[derive(Default)]
pub(super) struct Rebalances {
    queue: Mutex<VecDeque<Rebalance>>,
    is_closing: AtomicBool,
}

impl Rebalances {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Rebalance>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// librdkafka writes for its developers, and calls errors what is served here as a matter of course.
fn log(facility: &str, message: &str) {
    debug!(facility, message, "librdkafka");
}

/// A client of whose events nothing is said: what becomes of a producer's messages is the transaction's to say.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        log(facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "kafka");
    }
}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

impl ConsumerContext for Quiet {}

impl ClientContext for Rebalances {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        log(facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // librdkafka goes on by itself; what a worker must act upon comes out of its calls.
        debug!(%error, reason, "kafka");
    }
}

impl ConsumerContext for Rebalances {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let is_assignment = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.is_closing.load(Ordering::Relaxed) {
            if !is_assignment {
                consumer.incremental_unassign(list).ok();
            }
            return;
        }
        let partitions = list.elements().iter().map(|element| element.partition()).collect();
        self.lock().push_back(if is_assignment {
            Rebalance::Assigned(partitions)
        } else {
            Rebalance::Revoked { partitions, lost: consumer.assignment_lost() }
        });
    }
}

/// What is asked of librdkafka.
pub(super) struct Brokers(pub Arc<Config>);

impl Cluster for Brokers {
    type Member = GroupConsumer;
    type Producer = TransactionalProducer;
    type Opener = Opener;

    fn member(&self, worker: usize) -> Result<GroupConsumer, KafkaError> {
        consumer(&self.0, worker)
    }

    fn producer(&self, worker: usize) -> Result<TransactionalProducer, KafkaError> {
        producer(&self.0, worker)
    }

    fn opener(&self, member: &Arc<GroupConsumer>, worker: usize) -> Result<Opener, ProcessError> {
        Opener::start(self.0.clone(), member.clone(), worker)
    }
}

/// A consumer of the topic of events.
pub(super) struct GroupConsumer {
    pub topic: String,
    pub consumer: BaseConsumer<Rebalances>,
}

impl GroupConsumer {
    fn list(&self, partitions: &[i32], offset: Offset) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(&self.topic, *partition, offset)?;
        }
        Ok(list)
    }
}

impl Member for GroupConsumer {
    type Message<'m> = BorrowedMessage<'m>;

    fn subscribe(&self) -> Result<(), KafkaError> {
        self.consumer.subscribe(&[&self.topic])
    }

    fn poll(&self, within: Duration) -> Option<Result<BorrowedMessage<'_>, KafkaError>> {
        self.consumer.poll(within)
    }

    fn detach(message: &BorrowedMessage<'_>) -> OwnedMessage {
        message.detach()
    }

    fn rebalance(&self) -> Option<Rebalance> {
        self.consumer.context().lock().pop_front()
    }

    fn has_rebalance(&self) -> bool {
        !self.consumer.context().lock().is_empty()
    }

    fn assign(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        // Where to begin is known once the state is open.
        let list = self.list(partitions, Offset::Beginning)?;
        self.consumer.incremental_assign(&list)?;
        self.consumer.pause(&list)
    }

    fn unassign(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.consumer.incremental_unassign(&self.list(partitions, Offset::Invalid)?)
    }

    fn seek(&self, partition: i32, offset: i64) -> Result<(), KafkaError> {
        let list = self.list(&[partition], Offset::Offset(offset))?;
        let deadline = Instant::now() + SEEK;
        loop {
            let sought = self
                .consumer
                .seek_partitions(list.clone(), SEEK)
                .and_then(|done| done.elements().iter().try_for_each(|element| element.error()));
            match sought {
                Err(_) if Instant::now() < deadline => thread::sleep(SEEK_AGAIN),
                sought => return sought,
            }
        }
    }

    fn pause(&self, partition: i32) -> Result<(), KafkaError> {
        self.consumer.pause(&self.list(&[partition], Offset::Invalid)?)
    }

    fn resume(&self, partition: i32) -> Result<(), KafkaError> {
        self.consumer.resume(&self.list(&[partition], Offset::Invalid)?)
    }

    fn positions(&self) -> Result<Vec<(i32, i64)>, KafkaError> {
        let positions = self.consumer.position()?;
        let known = |element: &TopicPartitionListElem<'_>| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        };
        Ok(positions.elements().iter().filter_map(known).collect())
    }

    fn committed(&self, partitions: &[i32]) -> Result<Vec<(i32, Option<CommittedOffset>)>, KafkaError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.consumer.committed_offsets(self.list(partitions, Offset::Invalid)?, ASK)?;
        let read = |element: &TopicPartitionListElem<'_>| {
            // A partition that could not be told of looks like one that nobody has committed, but for this.
            element.error()?;
            let committed = match element.offset() {
                Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
                _ => None,
            };
            Ok((element.partition(), committed))
        };
        found.elements().iter().map(read).collect()
    }

    fn bounds(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.consumer.fetch_watermarks(&self.topic, partition, ASK)
    }

    fn close(&self) {
        self.consumer.context().is_closing.store(true, Ordering::Relaxed);
    }
}

/// A producer of transactions.
pub(super) struct TransactionalProducer {
    producer: BaseProducer<Quiet>,
    topics: Topics,
    /// How many each topic has, once it is let in.
    partitions: OnceLock<Partitions>,
}

impl Transactional<GroupConsumer> for TransactionalProducer {
    fn enter(&self) -> Result<(), KafkaError> {
        self.producer.init_transactions(INIT)?;
        let mut partitions = Partitions::default();
        for (topic, partitions) in Topic::ALL.into_iter().zip(&mut partitions) {
            *partitions = self.count_partitions(self.topics.name(topic))?;
        }
        self.partitions.get_or_init(|| partitions);
        Ok(())
    }

    fn commit<'a>(
        &self,
        batches: impl Iterator<Item = (i32, &'a OutputBatch)>,
        offsets: &Offsets,
        member: &GroupConsumer,
    ) -> Result<(), Failure> {
        // Of now: a generation of before would be refused.
        let group = member.consumer.group_metadata().ok_or(Failure::Unknown(KafkaError::Canceled))?;
        let list = offsets.list(&member.topic).map_err(Failure::Unknown)?;
        let partitions = self.partitions.get().ok_or(Failure::Unknown(KafkaError::Canceled))?;
        transaction::commit(&self.producer, (&self.topics, partitions), batches, &list, &group)
    }
}

impl TransactionalProducer {
    fn count_partitions(&self, topic: &str) -> Result<i32, KafkaError> {
        let found = self.producer.client().fetch_metadata(Some(topic), ASK)?;
        let topic = found.topics().first();
        let count = topic.and_then(|topic| i32::try_from(topic.partitions().len()).ok()).unwrap_or_default();
        let why = topic.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
        if count > 0 && why.is_none() {
            return Ok(count);
        }
        Err(KafkaError::MetadataFetch(why.unwrap_or(RDKafkaErrorCode::UnknownTopicOrPartition)))
    }
}

fn consumer(config: &Config, worker: usize) -> Result<GroupConsumer, KafkaError> {
    let mut client = config.client.clone();
    for (key, value) in [
        ("group.id", config.group.as_str()),
        ("group.instance.id", &format!("{}.{worker}", config.instance)),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("session.timeout.ms", SESSION_MS),
        // How soon a member hears of a rebalance, and how little of the session of one that has left is to be waited for.
        ("heartbeat.interval.ms", "500"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        // A hole in the log must not be skipped over.
        ("auto.offset.reset", "error"),
        ("isolation.level", "read_committed"),
        // A fetch waits on the broker for news, and not at all beside it: the default adds a second to an alert.
        ("fetch.wait.max.ms", "500"),
        ("fetch.queue.backoff.ms", "5"),
        ("queued.max.messages.kbytes", QUEUED_KBYTES),
        ("max.partition.fetch.bytes", PARTITION_FETCH_BYTES),
    ] {
        client.set(key, value);
    }
    create(config, &client)
}

/// Asks about the group and the topics, and is no member.
pub(super) fn observer(config: &Config) -> Result<GroupConsumer, KafkaError> {
    let mut client = config.client.clone();
    client.set("group.id", &config.group);
    // It is seldom polled, and what it has to tell would pile up.
    client.remove("debug").remove("statistics.interval.ms");
    // The broker's end of a partition, open transactions included.
    client.set("isolation.level", "read_uncommitted");
    create(config, &client)
}

fn create(config: &Config, client: &ClientConfig) -> Result<GroupConsumer, KafkaError> {
    let consumer = client.create_with_context(Rebalances::default())?;
    Ok(GroupConsumer { topic: config.topics.events.clone(), consumer })
}

fn producer(config: &Config, worker: usize) -> Result<TransactionalProducer, KafkaError> {
    let mut client: ClientConfig = config.client.clone();
    for (key, value) in [
        ("transactional.id", format!("{}.{}.{worker}", config.prefix, config.instance).as_str()),
        ("transaction.timeout.ms", TRANSACTION_MS),
        ("message.timeout.ms", TRANSACTION_MS),
        ("connections.max.idle.ms", IDLE_MS),
        ("compression.type", "lz4"),
        // A fact is its event and some more; an event has up to 1 MiB. What a topic takes is the topic's to say.
        ("message.max.bytes", RECORD_BYTES),
        // A commit hands over a whole batch and then waits for it.
        ("linger.ms", "1"),
        ("batch.num.messages", "10000"),
        // Above what a batch can hold, so that a full queue is rare.
        ("queue.buffering.max.messages", "1000000"),
        ("queue.buffering.max.kbytes", "131072"),
    ] {
        client.set(key, value);
    }
    let producer = client.create_with_context(Quiet)?;
    Ok(TransactionalProducer { producer, topics: config.topics.clone(), partitions: OnceLock::new() })
}
