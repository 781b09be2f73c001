//! Records that are waited for: progress, ticks and rules.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use jiff::Timestamp;
use rdkafka::error::KafkaError;
use rdkafka::message::{self, Message};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};

use super::Failure;
use super::client::Context;
use super::config::Config;
use super::progress::{Entry, PARTITION};
use super::stop::Stop;

/// How often a wait looks whether it should end.
const GLANCE: Duration = Duration::from_millis(50);

/// Where a record stands, and when the broker put it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) offset: i64,
    /// `None`: the topic keeps the time stamps of its producers, which nobody may rely on.
    at: Option<Timestamp>,
}

/// Comes once the broker has acknowledged a record, or never will.
pub(super) type Receipt = Receiver<Result<Stamp, KafkaError>>;

/// What a receipt is sent through.
pub(super) struct Receipts;

/// An idempotent producer to partitions that the caller names.
pub(super) struct Writer {
    producer: ThreadedProducer<Context<Receipts>>,
    progress: String,
}

impl Writer {
    pub(super) fn new(config: &Config) -> Result<Writer, Failure> {
        let producer = config.control_producer().create_with_context(Context(Receipts)).map_err(Failure::Client)?;
        Ok(Writer { producer, progress: config.topics.progress.clone() })
    }

    /// Sends one record. Those for one partition stay in order.
    pub(super) fn send(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&str>,
        value: &[u8],
    ) -> Result<Receipt, Failure> {
        let (sender, receipt) = channel();
        let mut record =
            BaseRecord::<str, [u8], _>::with_opaque_to(topic, Box::new(sender)).partition(partition).payload(value);
        record.key = key;
        match self.producer.send(record) {
            Ok(()) => Ok(receipt),
            Err((error, _)) => Err(Failure::Write { topic: topic.to_owned(), error }),
        }
    }

    /// Sends an entry of `progress`.
    pub(super) fn note(&self, entry: &Entry) -> Result<Receipt, Failure> {
        self.send(&self.progress, PARTITION, Some(&entry.key()), &entry.to_bytes())
    }

    /// What has become of a record for this topic; `None` while nothing is known.
    pub(super) fn sent(&self, topic: &str, receipt: &Receipt) -> Result<Option<Stamp>, Failure> {
        received(topic, receipt.recv_timeout(Duration::ZERO))
    }

    /// The same of an entry.
    pub(super) fn noted(&self, receipt: &Receipt) -> Result<Option<Stamp>, Failure> {
        self.sent(&self.progress, receipt)
    }

    /// Sends an entry and waits for as long as it takes, or until told to stop: then `None`.
    pub(super) fn note_and_wait(&self, entry: &Entry, stop: &Stop<'_>) -> Result<Option<Stamp>, Failure> {
        let receipt = self.note(entry)?;
        while !stop.is_set() {
            if let Some(stamp) = received(&self.progress, receipt.recv_timeout(GLANCE))? {
                return Ok(Some(stamp));
            }
        }
        Ok(None)
    }

    /// The broker's time of an entry.
    pub(super) fn time(&self, stamp: Stamp) -> Result<Timestamp, Failure> {
        stamp.at.ok_or_else(|| Failure::Clockless { topic: self.progress.clone() })
    }
}

fn received(
    topic: &str,
    received: Result<Result<Stamp, KafkaError>, RecvTimeoutError>,
) -> Result<Option<Stamp>, Failure> {
    let failure = |error| Failure::Write { topic: topic.to_owned(), error };
    match received {
        Ok(Ok(stamp)) => Ok(Some(stamp)),
        Ok(Err(error)) => Err(failure(error)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(failure(KafkaError::Canceled)),
    }
}

impl ProducerContext for Context<Receipts> {
    type DeliveryOpaque = Box<Sender<Result<Stamp, KafkaError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, sender: Self::DeliveryOpaque) {
        let stamp = match result {
            Ok(message) => Ok(Stamp { offset: message.offset(), at: broker_time(message.timestamp()) }),
            Err((error, _)) => Err(error.clone()),
        };
        // Nobody may be waiting for it.
        let _ = sender.send(stamp);
    }
}

fn broker_time(stamp: message::Timestamp) -> Option<Timestamp> {
    match stamp {
        message::Timestamp::LogAppendTime(millis) => Timestamp::from_millisecond(millis).ok(),
        _ => None,
    }
}
