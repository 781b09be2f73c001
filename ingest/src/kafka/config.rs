//! What the Kafka side of ingest is told, and the clients' properties that follow from it.

use std::time::Duration;

use jiff::tz::TimeZone;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use touchline_core::rules::Rules;

use crate::formats::canonical::{Decoder, Zones};
use crate::identity::Identity;

/// Everything that [`super::run`] needs, valid and resolved: secrets are in `client` as they are.
#[derive(Clone, Debug)]
pub struct Config {
    /// `bootstrap.servers` and whatever else the user sets. What correctness needs is set over it, what only speed needs
    /// gives way to it.
    pub client: ClientConfig,
    /// Names this process among all that share the groups, the same after a restart: its static membership.
    pub instance: String,
    /// Before the names of the consumer groups: `PREFIX.ingest`, `PREFIX.ticker`.
    pub prefix: String,
    /// Where outputs go. These topics exist.
    pub topics: Topics,
    /// What is read. No topic stands in two of them.
    pub sources: Vec<Source>,
    /// For events that do not say whose they are.
    pub identity: Identity,
    /// Whose `required` names the sources that hold the clock.
    pub rules: Rules,
}

/// The topics that ingest writes.
#[derive(Clone, Debug)]
pub struct Topics {
    /// Events, ticks and rules: what the processor reads.
    pub events: String,
    /// How many of its partitions are used: the first ones.
    pub partitions: u32,
    /// Completeness and rules: one partition, compacted, with the broker's time stamps.
    pub progress: String,
    /// What could not be taken.
    pub dead_letters: String,
}

/// One source of events.
#[derive(Clone, Debug)]
pub struct Source {
    /// The `source` that its events say; its zone and priority go by that, its completeness by its topics.
    pub name: String,
    /// Its topics, which need not exist yet.
    pub topics: Vec<String>,
    /// What its records are.
    pub format: RecordFormat,
    /// The zone of its bare dates.
    pub zone: TimeZone,
    /// How long after it happened an event may arrive.
    pub max_delay: Duration,
}

/// What the records of a source are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordFormat {
    /// The value is one canonical event.
    #[default]
    Canonical,
}

/// The groups: who reads the sources, and who ticks.
const SOURCES: &str = "ingest";
const TICKER: &str = "ticker";
/// The longest a session of a static member lives without a heartbeat: how long its partitions stay where they are when
/// it is gone for good. Brokers allow no shorter one by default.
const SESSION_MS: &str = "6000";
/// Of what a consumer has fetched and nobody has read yet.
const FETCHED_KBYTES: &str = "32768";
/// The largest record that is produced: the raw bytes of a dead letter, every one of them escaped as JSON, and some.
const RECORD_BYTES: &str = "8388608";
/// More than [`super::flight`] ever lets in, so that a full queue is seen there and not here.
const QUEUED_RECORDS: &str = "200000";
/// The same in kilobytes.
const QUEUED_KBYTES: &str = "524288";

/// What any client of ours does, unless told otherwise: finds new topics, partitions and returned brokers in seconds.
const CLIENT_DEFAULTS: [(&str, &str); 3] = [
    ("client.id", "touchline-ingest"),
    ("reconnect.backoff.max.ms", "1000"),
    ("topic.metadata.refresh.interval.ms", "5000"),
];
/// The same of consumers. The pause of a second after a full queue is theirs by default, and would be seen in alerts.
const CONSUMER_DEFAULTS: [(&str, &str); 3] = [
    ("fetch.queue.backoff.ms", "10"),
    ("heartbeat.interval.ms", "1500"),
    ("queued.max.messages.kbytes", FETCHED_KBYTES),
];
/// What consumers do, whatever they are told: offsets are committed once outputs are acknowledged, events of aborted
/// transactions never happened, and what is new is read from its beginning.
const CONSUMER: [(&str, &str); 8] = [
    ("allow.auto.create.topics", "false"),
    ("auto.offset.reset", "earliest"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("group.protocol", "classic"),
    ("isolation.level", "read_committed"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", SESSION_MS),
];
/// What producers do unless told otherwise.
const PRODUCER_DEFAULTS: [(&str, &str); 1] = [("compression.type", "lz4")];
/// What producers do, whatever they are told: keys go where the Java client would put them, and a record that the broker
/// does not take is sent until it does.
const PRODUCER: [(&str, &str); 8] = [
    ("acks", "all"),
    ("allow.auto.create.topics", "false"),
    ("enable.idempotence", "true"),
    ("message.max.bytes", RECORD_BYTES),
    ("message.timeout.ms", "0"),
    ("partitioner", "murmur2_random"),
    ("queue.buffering.max.kbytes", QUEUED_KBYTES),
    ("queue.buffering.max.messages", QUEUED_RECORDS),
];
/// Other names of what stands above, and what cannot be beside it.
const REFUSED: [&str; 3] = ["delivery.timeout.ms", "request.required.acks", "transactional.id"];

impl Config {
    /// The consumer groups, each with the topics that it shares out.
    pub fn groups(&self) -> [(String, Vec<String>); 2] {
        let sources = self.sources.iter().flat_map(|source| &source.topics).cloned().collect();
        [(self.group(SOURCES), sources), (self.group(TICKER), vec![self.topics.progress.clone()])]
    }

    fn group(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Whether clients can be made of the properties.
    pub(super) fn check(&self) -> KafkaResult<()> {
        let clients = [self.source_consumer(), self.ticker_consumer(), self.end_sampler(), self.event_producer()];
        clients.iter().try_for_each(|client| client.create_native_config().map(drop))
    }

    /// What the reader may not read, if that is what the error says.
    pub(super) fn denied_reader(&self, error: &KafkaError) -> Option<String> {
        let topics = self.sources.iter().flat_map(|source| &source.topics).map(String::as_str).collect::<Vec<_>>();
        self.denied(error, SOURCES, &topics.join(", "))
    }

    /// What the ticker may not read, if that is what the error says.
    pub(super) fn denied_ticker(&self, error: &KafkaError) -> Option<String> {
        self.denied(error, TICKER, &self.topics.progress)
    }

    fn denied(&self, error: &KafkaError, group: &str, topics: &str) -> Option<String> {
        match error.rdkafka_error_code()? {
            RDKafkaErrorCode::TopicAuthorizationFailed => Some(topics.to_owned()),
            RDKafkaErrorCode::GroupAuthorizationFailed => Some(format!("the group {}", self.group(group))),
            _ => None,
        }
    }

    /// What turns the records of all sources into events.
    pub(super) fn decoder(&self) -> Decoder {
        let zones = self.sources.iter().map(|source| (source.name.clone(), source.zone.clone()));
        Decoder { zones: Zones::new(zones), identity: self.identity.clone() }
    }

    /// The group that shares the sources' partitions.
    pub(super) fn source_consumer(&self) -> ClientConfig {
        self.consumer(SOURCES)
    }

    /// The group whose one active member is the ticker.
    pub(super) fn ticker_consumer(&self) -> ClientConfig {
        self.consumer(TICKER)
    }

    /// For reading `progress` without joining anything.
    pub(super) fn progress_reader(&self) -> ClientConfig {
        let mut client = self.consumer(TICKER);
        client.remove("group.instance.id");
        client
    }

    /// For asking where partitions end: under `read_committed` an open transaction would count as seen.
    pub(super) fn end_sampler(&self) -> ClientConfig {
        with(&self.client, &[&CLIENT_DEFAULTS], &[("isolation.level", "read_uncommitted")])
    }

    /// For events and dead letters.
    pub(super) fn event_producer(&self) -> ClientConfig {
        with(&self.client, &[&CLIENT_DEFAULTS, &PRODUCER_DEFAULTS], &PRODUCER)
    }

    /// For what was refused in a batch: topics limit those, and not records.
    pub(super) fn single_producer(&self) -> ClientConfig {
        let mut client = self.event_producer();
        client.set("batch.num.messages", "1");
        client
    }

    /// For `progress`, ticks and rules: few, and each waited for.
    pub(super) fn control_producer(&self) -> ClientConfig {
        let mut client = with(&self.client, &[&CLIENT_DEFAULTS], &PRODUCER);
        client.set("linger.ms", "0");
        client
    }

    fn consumer(&self, group: &str) -> ClientConfig {
        let mut client = with(&self.client, &[&CLIENT_DEFAULTS, &CONSUMER_DEFAULTS], &CONSUMER);
        client.set("group.id", self.group(group));
        client.set("group.instance.id", &self.instance);
        client
    }
}

/// The user's properties over `defaults`, under `fixed`.
fn with(user: &ClientConfig, defaults: &[&[(&str, &str)]], fixed: &[(&str, &str)]) -> ClientConfig {
    let mut client = user.clone();
    for key in REFUSED {
        client.remove(key);
    }
    for (key, value) in defaults.iter().copied().flatten() {
        if client.get(key).is_none() {
            client.set(*key, *value);
        }
    }
    for (key, value) in fixed {
        client.set(*key, *value);
    }
    client
}
