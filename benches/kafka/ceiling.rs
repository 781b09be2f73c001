//! What no processor on this client can be cheaper than: reading, reading and parsing, reading and writing exactly once.
//!
//! CPU and wall time are those of the whole process, as they are of `touchline process`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::tz::TimeZone;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use touchline::config::{self, Config};
use touchline_core::record::Record;

use crate::common::{Figures, used};
use crate::{PARTITIONS, job, log};

/// Of the group and of the producer.
const NAME: &str = "ceiling";
/// Where [`produce`] writes: two topics, as alerts and scores are.
pub const OUTPUTS: [&str; 2] = ["ceiling.alerts", "ceiling.scores"];
/// A record that is written: the beginning of the one that was read.
const OUT_BYTES: usize = 80;
/// For room in the producer's queue.
const ROOM: Duration = Duration::from_millis(5);
/// For a broker to end a transaction.
const WITHIN: Duration = Duration::from_secs(30);

/// Takes each record out of the client, and looks at its key.
pub fn null(config: &Path) -> Result<Figures> {
    let begun = Instant::now();
    let mut events = 0;
    log::read(&log::consumer(&config::load(config)?, NAME)?, job::EVENTS, |message| {
        events += u64::from(message.key().is_some());
        Ok(())
    })?;
    figures(events, begun)
}

/// And parses it, as the processor does.
pub fn parse(config: &Path) -> Result<Figures> {
    let begun = Instant::now();
    let mut events = 0;
    log::read(&log::consumer(&config::load(config)?, NAME)?, job::EVENTS, |message| {
        let payload = message.payload().context("a record without a value")?;
        let record = Record::parse(payload, &TimeZone::UTC)?;
        events += u64::from(matches!(std::hint::black_box(record), Record::Event(_)));
        Ok(())
    })?;
    figures(events, begun)
}

/// Writes two small records for each event, and every commit interval a transaction with the offsets.
pub fn produce(config: &Path) -> Result<Figures> {
    let begun = Instant::now();
    let config = config::load(config)?;
    let consumer = log::consumer(&config, NAME)?;
    let mut cycle = Cycle::new(&config)?;
    let mut events = 0;
    log::read(&consumer, job::EVENTS, |message| {
        events += u64::from(message.key().is_some());
        cycle.take(message)?;
        if cycle.begun.elapsed() >= config.processor.commit_interval { cycle.commit(&consumer) } else { Ok(()) }
    })?;
    cycle.commit(&consumer)?;
    figures(events, begun)
}

fn figures(events: u64, begun: Instant) -> Result<Figures> {
    let (used, wall_s) = (used()?, begun.elapsed().as_secs_f64());
    Ok(Figures { events, cpu_s: used.cpu_s, wall_s, max_rss_mb: used.max_rss_mb, alerts: 0, note: String::new() })
}

/// The commit cycle, without a state.
struct Cycle {
    producer: BaseProducer,
    begun: Instant,
    /// Where each partition goes on; `None`: nothing was read of it since the last commit.
    next: [Option<i64>; PARTITIONS as usize],
}

impl Cycle {
    fn new(config: &Config) -> Result<Cycle> {
        let mut client = touchline::kafka::client(config)?;
        // As the processor's.
        for (key, value) in [
            ("transactional.id", NAME),
            ("partitioner", "murmur2_random"),
            ("compression.type", "lz4"),
            ("linger.ms", "1"),
            ("batch.num.messages", "10000"),
            ("queue.buffering.max.messages", "1000000"),
            ("queue.buffering.max.kbytes", "131072"),
        ] {
            client.set(key, value);
        }
        let producer: BaseProducer = client.create()?;
        producer.init_transactions(WITHIN)?;
        producer.begin_transaction()?;
        Ok(Cycle { producer, begun: Instant::now(), next: [None; PARTITIONS as usize] })
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<()> {
        self.next[usize::try_from(message.partition())?] = Some(message.offset() + 1);
        // A tick has no key, and nothing is written for it.
        let (Some(key), Some(payload)) = (message.key(), message.payload()) else { return Ok(()) };
        let payload = &payload[..payload.len().min(OUT_BYTES)];
        OUTPUTS.iter().try_for_each(|topic| self.send(BaseRecord::to(topic).key(key).payload(payload)))
    }

    fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) => record,
                Err((error, _)) => return Err(error.into()),
            };
            self.producer.poll(ROOM);
        }
    }

    fn commit(&mut self, consumer: &BaseConsumer) -> Result<()> {
        let mut offsets = TopicPartitionList::new();
        for (partition, next) in (0..).zip(&mut self.next) {
            if let Some(next) = next.take() {
                offsets.add_partition_offset(job::EVENTS, partition, Offset::Offset(next))?;
            }
        }
        let group = consumer.group_metadata().context("the consumer has no group")?;
        self.producer.send_offsets_to_transaction(&offsets, &group, WITHIN)?;
        self.producer.commit_transaction(WITHIN)?;
        self.producer.begin_transaction()?;
        self.begun = Instant::now();
        Ok(())
    }
}
