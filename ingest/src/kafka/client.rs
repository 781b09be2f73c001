//! What all clients have in common: their logs, and callbacks that do nothing but note what happened. Whoever polls the
//! client acts on it, between two polls.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tracing::{debug, info, warn};

/// Log lines of this facility tell that a connection could not be made or was lost.
const CONNECTION: &str = "FAIL";

/// A client's context: its logs, around what its callbacks need.
pub(super) struct Context<T>(pub(super) T);

impl<T: Send + Sync> ClientContext for Context<T> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            // Of a connection, and there are many. Whoever runs this says when no broker answers, once.
            _ if facility == CONNECTION => debug!(facility, "Kafka client: {message}"),
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => warn!(facility, "Kafka client: {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => info!(facility, "Kafka client: {message}"),
            RDKafkaLogLevel::Debug => debug!(facility, "Kafka client: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, "Kafka client: {reason}");
    }
}

/// What the group has given to this member, or wants back.
#[derive(Clone, Debug)]
pub(super) enum Rebalance {
    Assigned(TopicPartitionList),
    Revoked(TopicPartitionList),
}

/// A member of a group. Callbacks only queue: assignments wait until [`Member::next`] is acted on.
#[derive(Default)]
pub(super) struct Member {
    queue: Mutex<VecDeque<Rebalance>>,
    leaving: AtomicBool,
}

/// A consumer that shares a topic with others.
pub(super) type GroupConsumer = BaseConsumer<Context<Member>>;

impl Member {
    /// The next change to act on.
    pub(super) fn next(&self) -> Option<Rebalance> {
        lock(&self.queue).pop_front()
    }

    /// A change that cannot be acted on yet.
    pub(super) fn put_back(&self, change: Rebalance) {
        lock(&self.queue).push_front(change);
    }
}

impl ConsumerContext for Context<Member> {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let is_assigned = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let change = if is_assigned { Rebalance::Assigned } else { Rebalance::Revoked }(partitions.clone());
        if self.0.leaving.load(Ordering::Acquire) {
            follow(consumer, &change);
        } else {
            lock(&self.0.queue).push_back(change);
        }
    }
}

/// Leaves the group in good order; a static member's partitions stay its own until its session ends.
pub(super) fn close(consumer: GroupConsumer) {
    let member = &consumer.context().0;
    member.leaving.store(true, Ordering::Release);
    // The client waits for an answer to each, without which it would not close.
    while let Some(change) = member.next() {
        follow(&consumer, &change);
    }
}

/// Does what the group wants, and no more.
fn follow(consumer: &GroupConsumer, change: &Rebalance) {
    let is_cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
    let followed = match change {
        Rebalance::Assigned(partitions) if is_cooperative => consumer.incremental_assign(partitions),
        Rebalance::Revoked(partitions) if is_cooperative => consumer.incremental_unassign(partitions),
        _ => consumer.unassign(),
    };
    if let Err(error) = followed {
        debug!(%error, "a partition could not be given up");
    }
}

/// Locks what no holder leaves half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
