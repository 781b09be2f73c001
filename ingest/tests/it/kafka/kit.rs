//! Topics of a test's own, processes that ingest, and what comes out of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use prometheus::Registry;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use touchline_core::record::Record;
use touchline_core::rules::Rules;
use touchline_harness::{Kafka, eventually};
use touchline_ingest::Identity;
use touchline_ingest::kafka::{Config, RecordFormat, Source, StartError, Topics, run};

/// For whatever takes a few seconds, on a machine that does other things as well.
pub const WITHIN: Duration = Duration::from_secs(90);
/// How many partitions the events have.
pub const PARTITIONS: i32 = 3;

/// A corridor's topics, and what feeds them.
pub struct Corridor<'a> {
    pub kafka: &'a Kafka,
    pub prefix: String,
}

impl<'a> Corridor<'a> {
    pub fn new(kafka: &'a Kafka) -> Corridor<'a> {
        Corridor::with(kafka, &[], &[])
    }

    /// With settings of `events` and `dead_letters`.
    pub fn with(kafka: &'a Kafka, events: &[(&str, &str)], dead_letters: &[(&str, &str)]) -> Corridor<'a> {
        let corridor = Corridor { kafka, prefix: kafka.unique("touchline") };
        let dated = ("message.timestamp.type", "LogAppendTime");
        kafka.create_topic(&corridor.topic("events"), PARTITIONS, &[events, &[dated]].concat());
        corridor.make_progress();
        kafka.create_topic(&corridor.topic("dead_letters"), 1, dead_letters);
        corridor
    }

    fn make_progress(&self) {
        let config = [("cleanup.policy", "compact"), ("message.timestamp.type", "LogAppendTime")];
        self.kafka.create_topic(&self.topic("progress"), 1, &config);
    }

    /// Deletes `progress`, and makes it again.
    pub fn forget_progress(&self) {
        self.kafka.delete_topic(&self.topic("progress"));
        self.make_progress();
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Creates a source's topic, dated by the broker.
    pub fn source(&self, name: &str, partitions: i32) -> String {
        self.kafka.create_topic(&self.topic(name), partitions, &[("message.timestamp.type", "LogAppendTime")]);
        self.topic(name)
    }

    /// A process's configuration, see [`config_of`].
    pub fn config(&self, instance: &str, sources: &[&str]) -> Config {
        config_of(self.kafka.client().get("bootstrap.servers").unwrap(), &self.prefix, instance, sources)
    }

    /// How many offsets of `events` are taken.
    pub fn written(&self) -> i64 {
        let client: BaseConsumer = self.kafka.client().create().unwrap();
        let end = |partition| client.fetch_watermarks(&self.topic("events"), partition, WITHIN).unwrap().1;
        (0..PARTITIONS).map(end).sum()
    }

    /// The rules that stand in `progress`, in order.
    pub fn rules(&self) -> Vec<Rules> {
        let records = self.kafka.read_committed(&self.topic("progress")).into_iter();
        let rules = |record: touchline_harness::Record| match Record::parse(&record.value?, &TimeZone::UTC) {
            Ok(Record::Rules { rules, .. }) => Some(*rules),
            _ => None,
        };
        records.filter_map(rules).collect()
    }

    /// Puts an event of this id into a source's topic. When the broker got it.
    pub fn produce(&self, source: &str, partition: i32, id: &str) {
        self.kafka.produce(&self.topic(source), Some(partition), None, Some(event(source, id).as_bytes()));
    }

    /// What stands in `events`.
    pub fn log(&self) -> Log {
        let mut log = Log::default();
        for record in self.kafka.read_committed(&self.topic("events")) {
            let value = record.value.unwrap();
            let partition = log.partitions.entry(record.partition).or_default();
            partition.push(match Record::parse(&value, &TimeZone::UTC).unwrap() {
                Record::Event(event) => {
                    assert_eq!(record.key.as_deref(), Some(event.account.as_bytes()));
                    Entry::Event(event.id.to_string())
                }
                Record::Tick { through, rules } => Entry::Tick(through, rules),
                Record::Rules { rules, revision } => Entry::Rules(revision.unwrap(), rules),
            });
        }
        log
    }

    /// When the broker got each event of a source, by id.
    pub fn arrivals(&self, source: &str) -> BTreeMap<String, Timestamp> {
        let records = self.kafka.read_committed(&self.topic(source)).into_iter();
        let arrival = |record: touchline_harness::Record| {
            let value = record.value?;
            let Ok(Record::Event(event)) = Record::parse(&value, &TimeZone::UTC) else { return None };
            Some((event.id.to_string(), Timestamp::from_millisecond(record.timestamp?).ok()?))
        };
        records.filter_map(arrival).collect()
    }

    /// That no tick says of a moment that all is in, while an event that had arrived by then comes behind it.
    #[track_caller]
    pub fn check_honesty(&self, sources: &[&str]) {
        let arrivals: BTreeMap<_, _> = sources.iter().flat_map(|source| self.arrivals(source)).collect();
        for (partition, entries) in self.log().partitions {
            let mut through = Timestamp::MIN;
            // What comes again is known already.
            let mut known = BTreeSet::new();
            for entry in entries {
                match entry {
                    Entry::Tick(tick, _) => through = through.max(tick),
                    Entry::Event(id) if !known.insert(id.clone()) => {}
                    Entry::Event(id) => {
                        let arrived = arrivals[&id];
                        assert!(
                            through <= arrived,
                            "partition {partition}: {id} arrived at {arrived}, behind a tick {through}"
                        );
                    }
                    Entry::Rules(..) => {}
                }
            }
        }
    }
}

/// A process's configuration: all sources are required, each with one topic of its name behind the prefix.
pub fn config_of(bootstrap: &str, prefix: &str, instance: &str, sources: &[&str]) -> Config {
    let topic = |name: &str| format!("{prefix}.{name}");
    let source = |name: &&str| Source {
        name: (*name).to_owned(),
        topics: vec![topic(name)],
        format: RecordFormat::Canonical,
        zone: TimeZone::UTC,
        max_delay: Duration::ZERO,
    };
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", bootstrap).set_log_level(RDKafkaLogLevel::Emerg);
    Config {
        client,
        instance: instance.to_owned(),
        prefix: prefix.to_owned(),
        topics: Topics {
            events: topic("events"),
            partitions: PARTITIONS.cast_unsigned(),
            progress: topic("progress"),
            dead_letters: topic("dead_letters"),
        },
        sources: sources.iter().map(source).collect(),
        identity: Identity::new(["ours.example".to_owned()]),
        rules: Rules { required: sources.iter().map(|name| (*name).to_owned()).collect(), ..Rules::default() },
    }
}

/// A call, of an account that its id decides.
pub fn event(source: &str, id: &str) -> String {
    format!(
        r#"{{"id":"{id}","source":"{source}","kind":"engagement","occurred_at":"2024-03-05T10:11:12Z","account":"account of {id}","contact":"ann","vehicle":"call"}}"#
    )
}

/// What stands in `events`, by partition.
#[derive(Debug, Default)]
pub struct Log {
    pub partitions: BTreeMap<i32, Vec<Entry>>,
}

#[derive(Debug, PartialEq)]
pub enum Entry {
    /// Its id.
    Event(String),
    Tick(Timestamp, Option<u64>),
    Rules(u64, Box<Rules>),
}

impl Log {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.partitions.values().flatten()
    }

    /// How often each event is there, by id.
    pub fn events(&self) -> BTreeMap<&str, usize> {
        let mut events = BTreeMap::new();
        for entry in self.entries() {
            if let Entry::Event(id) = entry {
                *events.entry(&**id).or_default() += 1;
            }
        }
        events
    }

    /// The last tick of the partition whose last tick is the earliest.
    pub fn through(&self) -> Option<Timestamp> {
        let last = |partition| {
            let ticks = self.partitions.get(&partition)?.iter();
            ticks.filter_map(|entry| if let Entry::Tick(through, _) = entry { Some(*through) } else { None }).max()
        };
        (0..PARTITIONS).map(last).min().flatten()
    }
}

/// A process, on a thread.
pub struct Process {
    pub registry: Registry,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), StartError>>>,
}

impl Process {
    pub fn start(config: Config) -> Process {
        let (registry, stop) = (Registry::new(), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (registry, stop) = (registry.clone(), Arc::clone(&stop));
            std::thread::spawn(move || run(&config, &registry, &stop))
        };
        Process { registry, stop, thread: Some(thread) }
    }

    /// Stops it in order.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap().unwrap();
    }

    /// A metric's value; with a label, of that value.
    pub fn metric(&self, name: &str, label: Option<&str>) -> Option<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name)?;
        let is_meant = |metric: &&prometheus::proto::Metric| {
            label.is_none_or(|label| metric.get_label().iter().any(|pair| pair.value() == label))
        };
        let metric = family.get_metric().iter().find(is_meant)?;
        Some(metric.get_counter().get_value() + metric.get_gauge().get_value())
    }

    /// How far a source's completeness is behind, as the ticker says.
    pub fn lag(&self, source: &str) -> Option<f64> {
        self.metric("touchline_source_lag_seconds", Some(source))
    }

    /// Waits until it is the ticker, the clock is close, and every partition has a tick from behind the moment of the call:
    /// what has been produced before that is read.
    #[track_caller]
    pub fn is_in_time(&self, corridor: &Corridor<'_>) {
        let called = Timestamp::now();
        eventually(WITHIN, "the clock is close to the broker's time", || {
            self.metric("touchline_clock_lag_seconds", None).is_some_and(|lag| lag < 1.0)
                && corridor.log().through() > Some(called)
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
