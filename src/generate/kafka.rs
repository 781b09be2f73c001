//! The load as records of a topic, keyed by account; and the story as news of today.
//!
//! *Live.* The first year of the story ends when the first line is asked for. What shows up later happens when it is sent:
//! each line's moments are moved so that it arrives now, as late as it ever was. (A second copy of such a line is no copy
//! then, since it tells another moment.)

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use memchr::{memchr, memmem};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext};

use super::Output;
use super::clock::midnight;

/// The story's first day that happens now.
const LIVE_FROM_DAY: u64 = 365;
/// What stands before the account in a line; nothing in lines is escaped.
const ACCOUNT: &[u8] = br#""account":""#;
/// Turns that were missed by so much are made up for: a machine that sleeps in steps of milliseconds sends as many all the
/// same, and one that was away does not flood.
const CATCH_UP: Duration = Duration::from_millis(100);
/// For a full queue to have room again: its thread empties it meanwhile.
const FULL: Duration = Duration::from_millis(10);
/// For a broker to say whether there is the topic.
const ASK: Duration = Duration::from_secs(30);
/// For what is still on its way at the end; librdkafka gives up on a record after five minutes.
const FLUSH: Duration = Duration::from_secs(310);

/// Sends lines to a topic.
pub struct Producer {
    producer: ThreadedProducer<Failures>,
    topic: String,
    pace: Option<Rate>,
    /// Between the story's first year and the one that has just passed, in milliseconds; unless the story is told as it is.
    past: Option<i64>,
}

/// So many a second, since the first.
struct Rate {
    each: Duration,
    next: Instant,
}

/// The first record that could not be delivered.
#[derive(Clone, Default)]
struct Failures(Arc<Mutex<Option<KafkaError>>>);

impl Producer {
    /// One that sends at most `rate` lines a second; `live`: of what happens now, and the past at once.
    ///
    /// # Errors
    ///
    /// The client's settings are wrong, no broker answers, or there is no such topic.
    pub fn new(topic: &str, client: &ClientConfig, rate: Option<u32>, is_live: bool) -> io::Result<Producer> {
        let mut client = client.clone();
        // In order, none lost and none twice, but for what is in the load itself; accounts where the Java client has them.
        client.set("enable.idempotence", "true").set("acks", "all");
        client.set("partitioner", "murmur2_random").set("compression.type", "lz4");
        let producer: ThreadedProducer<_> =
            client.create_with_context(Failures::default()).map_err(io::Error::other)?;
        // Without a look the first record would wait half a minute for the topic to appear.
        let metadata = producer.client().fetch_metadata(Some(topic), ASK).map_err(|error| failed(topic, &error))?;
        if let Some(error) = metadata.topics().iter().find_map(MetadataTopic::error) {
            return Err(failed(topic, &KafkaError::MetadataFetch(error.into())));
        }
        let pace = rate.map(|rate| Rate { each: Duration::from_secs(1) / rate.max(1), next: Instant::now() });
        let past = is_live.then(|| now().saturating_sub_unsigned(midnight(LIVE_FROM_DAY)));
        Ok(Producer { producer, topic: topic.to_owned(), pace, past })
    }

    fn send(&self, line: &[u8]) -> io::Result<()> {
        let mut record = BaseRecord::to(&self.topic).payload(line);
        record.key = account(line);
        while let Err((error, back)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(failed(&self.topic, &error));
            }
            thread::sleep(FULL);
            record = back;
        }
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        self.producer.context().first().map_or(Ok(()), |error| Err(failed(&self.topic, &error)))
    }
}

impl Output for Producer {
    fn moved(&mut self, arrives: u64) -> io::Result<i64> {
        self.check()?;
        let is_past = self.past.is_some() && arrives < midnight(LIVE_FROM_DAY);
        if let Some(pace) = self.pace.as_mut().filter(|_| !is_past) {
            pace.wait();
        }
        Ok(match self.past {
            None => 0,
            Some(past) if is_past => past,
            Some(_) => now().saturating_sub_unsigned(arrives),
        })
    }

    fn take(&mut self, lines: &mut Vec<u8>, is_end: bool) -> io::Result<()> {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.send(line)?;
        }
        lines.clear();
        if is_end {
            self.producer.flush(FLUSH).map_err(|error| failed(&self.topic, &error))?;
            self.check()?;
        }
        Ok(())
    }
}

impl Rate {
    /// Waits for the next one's turn.
    fn wait(&mut self) {
        let now = Instant::now();
        thread::sleep(self.next.saturating_duration_since(now));
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        self.next = self.next.max(earliest) + self.each;
    }
}

impl Failures {
    fn first(&self) -> Option<KafkaError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    }
}

fn failed(topic: &str, error: &KafkaError) -> io::Error {
    io::Error::other(format!("topic {topic} cannot be written: {error}"))
}

fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

fn account(line: &[u8]) -> Option<&[u8]> {
    let start = memmem::find(line, ACCOUNT)? + ACCOUNT.len();
    let end = memchr(b'"', &line[start..])?;
    Some(&line[start..start + end])
}
