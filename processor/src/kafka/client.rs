//! The clients of a worker: how they are set up, and what librdkafka tells them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, TopicPartitionList};
use tracing::debug;

use super::Config;

/// A member that says nothing for so long is given up. The broker's default minimum; a static member that restarts is
/// back at once.
pub(super) const SESSION_MS: &str = "6000";
/// What an open transaction of a dead process may hold back readers for, and the longest that a commit is waited for.
pub(super) const TRANSACTION_MS: &str = "10000";
/// Messages that wait to be polled, in KiB, all partitions together: a second of the fastest worker.
const QUEUED_KBYTES: &str = "32768";
/// What one fetch may bring of one partition: with 64 of them behind, they share the queue.
const PARTITION_FETCH_BYTES: &str = "1048576";

/// The largest record that is written: an event or its raw bytes, every one of them escaped as JSON, and some.
const RECORD_BYTES: &str = "8388608";

/// A change of what a worker owns.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assigned(Vec<i32>),
    Revoked {
        partitions: Vec<i32>,
        /// They are another's already.
        lost: bool,
    },
}

/// Queues what happens to the group, to be served between two polls and never inside of one.
#[derive(Default)]
pub(super) struct Rebalances {
    queue: Mutex<VecDeque<Rebalance>>,
    is_closing: AtomicBool,
}

impl Rebalances {
    pub fn next(&self) -> Option<Rebalance> {
        self.lock().pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// From here on partitions are given back at once: the worker has let go of them.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

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

/// A transactional producer.
pub(super) type TransactionalProducer = BaseProducer<Quiet>;

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

/// A member of the group.
pub(super) type Member = BaseConsumer<Rebalances>;

pub(super) fn consumer(config: &Config, worker: usize) -> Result<Member, KafkaError> {
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
    client.create_with_context(Rebalances::default())
}

/// Asks about the group and the topics, and is no member.
pub(super) fn observer(config: &Config) -> Result<Member, KafkaError> {
    let mut client = config.client.clone();
    client.set("group.id", &config.group);
    // It is seldom polled, and what it has to tell would pile up.
    client.remove("debug").remove("statistics.interval.ms");
    // The broker's end of a partition, open transactions included.
    client.set("isolation.level", "read_uncommitted");
    client.create_with_context(Rebalances::default())
}

pub(super) fn producer(config: &Config, worker: usize) -> Result<TransactionalProducer, KafkaError> {
    let mut client: ClientConfig = config.client.clone();
    for (key, value) in [
        ("transactional.id", format!("{}.{}.{worker}", config.prefix, config.instance).as_str()),
        ("transaction.timeout.ms", TRANSACTION_MS),
        ("message.timeout.ms", TRANSACTION_MS),
        // Keys go where Java's clients would send them.
        ("partitioner", "murmur2_random"),
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
    client.create_with_context(Quiet)
}
