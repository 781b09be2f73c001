//! The cluster as commands ask it: every question has a deadline, and whoever gets no answer is told what the client has
//! heard instead of one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::groups::GroupList;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::metadata::Metadata;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::cli::Misconfigured;

/// For an answer: what takes longer is down, or not let in.
pub const WITHIN: Duration = Duration::from_secs(6);
/// Without a record, while there are some: more than a broker's fail-over takes.
const SILENCE: Duration = Duration::from_secs(30);
/// How often silence is looked at.
const POLL: Duration = Duration::from_millis(200);
/// What a reader has fetched and not yet handed out.
const FETCHED_KBYTES: &str = "16384";

/// Log lines of this facility say that consumers have no use for what producers are told.
const CONFIGURATION: &str = "CONFWARN";
/// Events of a client that are looked through for its complaint: more than it has in the time of an answer.
const EVENTS: usize = 1_000;
/// The same of a client that is asked again and again.
const EVENTS_A_QUESTION: usize = 16;

/// What readers do, whatever they are told.
const READER: [(&str, &str); 7] = [
    ("allow.auto.create.topics", "false"),
    ("auto.offset.reset", "earliest"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("isolation.level", "read_committed"),
    ("queued.max.messages.kbytes", FETCHED_KBYTES),
];

/// A client's context that keeps its last complaint. A call that waits for a broker says only that it waited.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<Mutex<Option<String>>>);

impl Heard {
    /// The last complaint of the client.
    pub fn complaint(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Heard {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel::{Alert, Critical, Emerg, Error, Warning};
        if matches!(level, Emerg | Alert | Critical | Error | Warning) && facility != CONFIGURATION {
            // Which of the client's threads says it is of no use to anybody.
            let plain = message.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map_or(message, |it| it.1);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(plain.trim_end().to_owned());
        }
    }

    // The log has said it before, and better.
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Heard {}

/// A property that the client does not take. Its value, which may be a secret, is not repeated.
pub fn unfit(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, what, key, _) => format!("[kafka.properties] {key}: {what}"),
        other => format!("the Kafka client cannot be set up: {other}. Look at [kafka.properties]"),
    }
}

/// Settings of a topic by name.
pub type Settings = HashMap<String, String>;

/// What the brokers tell of these topics, which are there; less, where they do not let us see it.
pub fn settings(client: &ClientConfig, topics: &[&str]) -> HashMap<String, Settings> {
    let asked: Vec<_> = topics.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let options = AdminOptions::new().request_timeout(Some(WITHIN));
    let admin: KafkaResult<AdminClient<DefaultClientContext>> = client.create();
    let (Ok(admin), Ok(runtime)) = (admin, tokio::runtime::Builder::new_current_thread().build()) else {
        return HashMap::new();
    };
    let described =
        if asked.is_empty() { Ok(Vec::new()) } else { runtime.block_on(admin.describe_configs(&asked, &options)) };
    let of = |resource: ConfigResource| -> Settings {
        resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
    };
    let described = topics.iter().zip(described.unwrap_or_default());
    let described = described.filter_map(|(name, settings)| Some(((*name).to_owned(), of(settings.ok()?))));
    // A refusal comes as a topic without any.
    described.filter(|(_, settings)| !settings.is_empty()).collect()
}

/// Reads what stands committed in partitions, without joining a group.
pub struct Reader {
    consumer: BaseConsumer<Heard>,
    servers: String,
}

impl Reader {
    /// Connects to nothing yet. `group` is what brokers ask of whoever reads; nothing is stored under it.
    pub fn new(client: &ClientConfig, group: &str) -> Result<Reader> {
        let mut client = client.clone();
        for (key, value) in READER {
            client.set(key, value);
        }
        client.set("group.id", group).set_log_level(RDKafkaLogLevel::Warning);
        client.remove("group.instance.id");
        // It would bury the one line that counts, and what nobody polls for would pile up.
        client.remove("debug").remove("statistics.interval.ms");
        let servers = client.get("bootstrap.servers").unwrap_or_default().to_owned();
        match client.create_with_context(Heard::default()) {
            Ok(consumer) => Ok(Reader { consumer, servers }),
            Err(error) => bail!(Misconfigured(unfit(&error))),
        }
    }

    /// What the brokers tell of themselves, and of one topic or all.
    pub fn metadata(&self, topic: Option<&str>) -> Result<Metadata> {
        self.consumer.fetch_metadata(topic, WITHIN).or_else(|error| bail!(self.unanswered(&error)))
    }

    /// What the brokers tell of a consumer group.
    pub fn group(&self, name: &str) -> Result<GroupList> {
        // Who asks now and then for months is told of each connection that breaks, which would pile up.
        self.hear(EVENTS_A_QUESTION);
        self.consumer.fetch_group_list(Some(name), WITHIN).or_else(|error| bail!(self.unanswered(&error)))
    }

    /// Serves what the client has to tell besides records.
    fn hear(&self, events: usize) {
        for _ in 0..events {
            self.consumer.poll(Duration::ZERO);
        }
    }

    /// Why nobody answered.
    fn unanswered(&self, error: &KafkaError) -> String {
        // A client tells what it has heard only to who polls it, one event a poll, most of which return nothing. No message
        // is lost by it: nothing is assigned yet.
        self.hear(EVENTS);
        let silent = "nothing there speaks Kafka as it is configured: is it the port, security.protocol, a firewall?";
        let reason = match self.consumer.context().complaint() {
            Some(complaint) => complaint,
            None if error.rdkafka_error_code() == Some(RDKafkaErrorCode::BrokerTransportFailure) => silent.to_owned(),
            None => error.to_string(),
        };
        format!("no answer from {}: {reason}. Look at [kafka], and whether the brokers run", self.servers)
    }

    /// The numbers of a topic's partitions; none if there is no such topic.
    pub fn partitions(&self, topic: &str) -> Result<Vec<i32>> {
        let metadata = self.metadata(Some(topic))?;
        let found = metadata.topics().iter().filter(|found| found.name() == topic && found.error().is_none());
        Ok(found.flat_map(|found| found.partitions()).map(|partition| partition.id()).collect())
    }

    /// Where each partition of a topic ends.
    pub fn ends(&self, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let mut ends = BTreeMap::new();
        for partition in self.partitions(topic)? {
            let bounds = self.consumer.fetch_watermarks(topic, partition, WITHIN);
            ends.insert(partition, bounds.or_else(|error| bail!(self.unanswered(&error)))?.1);
        }
        Ok(ends)
    }

    /// What the reader's group has committed of a partition, if anything.
    pub fn committed(&self, topic: &str, partition: i32) -> Result<Option<i64>> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, partition);
        let found = self.consumer.committed_offsets(asked, WITHIN).or_else(|error| bail!(self.unanswered(&error)))?;
        let Some(element) = found.find_partition(topic, partition) else { return Ok(None) };
        element.error()?;
        Ok(element.offset().to_raw().filter(|offset| *offset >= 0))
    }

    /// Hands out the records of partitions, from an offset each, or where the log now begins, up to where it now ends.
    /// Returns the offset behind each end.
    pub fn read(
        &self,
        topic: &str,
        from: &BTreeMap<i32, i64>,
        mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<()>,
    ) -> Result<BTreeMap<i32, i64>> {
        let (mut ends, mut open) = (BTreeMap::new(), BTreeMap::new());
        let mut assignment = TopicPartitionList::new();
        for (&partition, &from) in from {
            let bounds = self.consumer.fetch_watermarks(topic, partition, WITHIN);
            let (first, end) = bounds.or_else(|error| bail!(self.unanswered(&error)))?;
            if from.max(first) < end {
                assignment.add_partition_offset(topic, partition, Offset::Offset(from.max(first)))?;
                open.insert(partition, end);
            }
            ends.insert(partition, end.max(from));
        }
        self.consumer.assign(&assignment)?;
        let mut heard_at = Instant::now();
        while !open.is_empty() {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    let end = open.get(&message.partition()).copied();
                    if end.is_some_and(|end| message.offset() < end) {
                        each(&message)?;
                    }
                    if end.is_some_and(|end| message.offset() + 1 >= end) {
                        open.remove(&message.partition());
                    }
                    heard_at = Instant::now();
                }
                // Behind the last record there may be the ends of transactions, which are never handed out.
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
                Some(Err(error)) if error.rdkafka_error_code().is_none() => bail!("{topic} cannot be read: {error}"),
                // It goes on by itself, or never does.
                Some(Err(_)) | None if heard_at.elapsed() < SILENCE => {}
                Some(Err(_)) | None => {
                    let reason = self.consumer.context().complaint().unwrap_or_else(|| "no reason is known".to_owned());
                    bail!("{topic}: no record has come for {} s: {reason}", SILENCE.as_secs());
                }
            }
        }
        self.consumer.unassign()?;
        Ok(ends)
    }
}
