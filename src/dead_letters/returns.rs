//! Records on their way back to where a stage reads them.
//!
//! Written as ingest writes: to the partition that the Java client would choose, acknowledged by all. What the brokers have
//! not acknowledged when the command ends counts as not given back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Message};

use super::replay::Failures;
use crate::cli::Misconfigured;
use crate::cluster::{self, Heard};

/// For a record to be acknowledged; brokers that take longer are away.
const TIMEOUT_MS: &str = "30000";
/// For all that is on its way, at the end: what one takes, and the client's own word on it.
const FLUSH: Duration = Duration::from_secs(35);
/// Waits for room in the client's queue.
const ROOM: Duration = Duration::from_millis(100);
/// Of records on their way: some of the largest.
const QUEUED_KBYTES: &str = "65536";

const PRODUCER: [(&str, &str); 7] = [
    ("acks", "all"),
    ("allow.auto.create.topics", "false"),
    ("enable.idempotence", "true"),
    ("message.max.bytes", "8388608"),
    ("message.timeout.ms", TIMEOUT_MS),
    ("partitioner", "murmur2_random"),
    ("queue.buffering.max.kbytes", QUEUED_KBYTES),
];
/// Other names of what stands above, and what cannot be beside it.
const REFUSED: [&str; 3] = ["delivery.timeout.ms", "request.required.acks", "transactional.id"];

/// What is given back.
pub(crate) struct Returned<'a> {
    pub topic: &'a str,
    /// `None`: the key's.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
    pub headers: Option<OwnedHeaders>,
}

/// What has become of what was sent.
#[derive(Default)]
pub(crate) struct Outcome {
    pub acknowledged: u64,
    pub refused: Failures,
}

/// A producer.
pub(crate) struct Returns {
    producer: ThreadedProducer<Receipts>,
}

struct Receipts {
    outcome: Arc<Mutex<Outcome>>,
    heard: Heard,
}

impl ClientContext for Receipts {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.heard.log(level, facility, message);
    }

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Receipts {
    type DeliveryOpaque = Box<String>;

    fn delivery(&self, result: &DeliveryResult<'_>, origin: Box<String>) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => outcome.acknowledged += 1,
            Err((error, message)) => {
                let complaint = self.heard.complaint().filter(|_| is_silence(error)).map(|it| format!(" ({it})"));
                let why =
                    format!("topic {} did not take it: {error}{}", message.topic(), complaint.unwrap_or_default());
                outcome.refused.add(*origin, why);
            }
        }
    }
}

fn is_silence(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut)
}

impl Returns {
    /// Connects to nothing yet.
    pub fn new(client: &ClientConfig) -> Result<Returns> {
        let mut client = client.clone();
        for key in REFUSED {
            client.remove(key);
        }
        for (key, value) in PRODUCER {
            client.set(key, value);
        }
        client.set_log_level(RDKafkaLogLevel::Warning);
        match client.create_with_context(Receipts { outcome: Arc::default(), heard: Heard::default() }) {
            Ok(producer) => Ok(Returns { producer }),
            Err(error) => bail!(Misconfigured(cluster::unfit(&error))),
        }
    }

    /// Sends one that came from `origin`; waits while too much is on its way.
    pub fn send(&self, origin: String, returned: Returned<'_>) -> Result<()> {
        let Returned { topic, partition, key, value, headers } = returned;
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, Box::new(origin)).payload(value);
        (record.partition, record.key, record.headers) = (partition, key, headers);
        while let Err((error, same)) = self.producer.send(record) {
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => {
                    record = same;
                    // It says whether all has gone, which is not what is waited for.
                    let _ = self.producer.flush(ROOM);
                }
                // What no topic takes is not the end of the others.
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                    self.outcome()
                        .refused
                        .add(*same.delivery_opaque, format!("topic {topic} did not take it: {error}"));
                    return Ok(());
                }
                _ => return Err(error).with_context(|| format!("nothing can be written to topic {topic}")),
            }
        }
        Ok(())
    }

    fn outcome(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.producer.context().outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all is acknowledged or refused.
    pub fn finish(self) -> Result<Outcome> {
        self.producer.flush(FLUSH).context("the brokers have not acknowledged what was given back: run this again")?;
        Ok(std::mem::take(&mut *self.outcome()))
    }
}
