//! What librdkafka tells besides records. It calls back from within a poll, on the feed's own thread: what it says is
//! queued here, and served by the feed's loop.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::stats::Stats;
use crate::sink::Lane;

/// A topic and a partition.
pub type Place = (String, i32);

/// What a rebalance says.
#[derive(Debug)]
pub enum Move {
    Assign(Vec<Place>),
    Revoke(Vec<Place>),
}

/// See the module.
#[derive(Default)]
pub struct Context {
    /// Told whenever there may be something to poll.
    pub wake: Arc<Notify>,
    moves: Mutex<VecDeque<Move>>,
    commit: Mutex<Option<KafkaResult<()>>>,
    stats: Mutex<Option<Stats>>,
    trouble: Mutex<Option<String>>,
    /// The group may not be joined, which librdkafka says once.
    is_denied: AtomicBool,
    /// A callback has been served since the last look.
    has_served: AtomicBool,
    /// Nobody serves the queues any more.
    is_closing: AtomicBool,
}

impl Context {
    pub fn next_move(&self) -> Option<Move> {
        lock(&self.moves).pop_front()
    }

    /// The commit under way has ended.
    pub fn committed(&self, result: KafkaResult<()>) {
        *lock(&self.commit) = Some(result);
        self.wake.notify_one();
    }

    /// How the commit under way has ended, once.
    pub fn take_commit(&self) -> Option<KafkaResult<()>> {
        lock(&self.commit).take()
    }

    pub fn take_stats(&self) -> Option<Stats> {
        lock(&self.stats).take()
    }

    pub fn take_trouble(&self) -> Option<String> {
        lock(&self.trouble).take()
    }

    /// Whether the group may not be joined.
    pub fn is_denied(&self) -> bool {
        self.is_denied.load(Ordering::Relaxed)
    }

    /// Whether a poll that returned nothing has served a callback instead: then there may be more.
    pub fn take_served(&self) -> bool {
        self.has_served.swap(false, Ordering::Relaxed)
    }

    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    fn served(&self) {
        self.has_served.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Connections that break are told many times a second; the sink's progress tells people once.
        debug!(severity = ?level, facility, "{message}");
        self.served();
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice(statistics) {
            Ok(stats) => *lock(&self.stats) = Some(stats),
            Err(error) => warn!(%error, "statistics of librdkafka do not read"),
        }
        self.served();
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
            self.is_denied.store(true, Ordering::Relaxed);
        }
        *lock(&self.trouble) = Some(format!("{error}: {reason}"));
        self.served();
    }
}

/// A producer's: what became of it, its calls say.
pub struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(severity = ?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "kafka");
    }
}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Context>, code: Code, list: &mut TopicPartitionList) {
        if self.is_closing.load(Ordering::Relaxed) {
            // Whatever is asked for, a consumer that closes has nothing.
            if let Err(error) = consumer.unassign() {
                debug!(%error, "leaving the group");
            }
            return;
        }
        let places = list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect();
        let moved = match code {
            Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.is_denied.store(false, Ordering::Relaxed);
                Move::Assign(places)
            }
            _ => Move::Revoke(places),
        };
        lock(&self.moves).push_back(moved);
        self.served();
    }
}

/// The lane of a partition.
pub fn lane_of(topic: &str, partition: i32) -> Lane {
    Lane::new(format!("{topic}/{partition}"))
}

/// A lock that a panic elsewhere does not make useless: what it guards is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
