//! The reader: shares the sources' partitions with its group, forwards what they hold, commits what is acknowledged, and
//! finds out when a partition is complete.
//!
//! One thread polls and forwards; a position is only looked at between two polls, so all before it has been forwarded.
//! What is under way is bounded: when it is too much, nothing is polled; after [`PATIENCE`] the partitions are paused, so
//! that polling, and with it the membership, can go on for as long as the broker is away.
//!
//! A partition that is given up is flushed, committed, and only then let go. One that was lost is let go as it is: the
//! next owner reads again what is not committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{debug, error, info, warn};

use super::Failure;
use super::client::{self, Context, GroupConsumer, Member, Rebalance};
use super::completeness::{Completeness, EndSampler, Passed};
use super::config::Config;
use super::flight::{Flights, Stint};
use super::forward::Forwarder;
use super::progress::SourcePartition;
use super::reading::{Finding, Owned, Reading, Sample};
use super::stop::Stop;
use super::writer::Writer;
use crate::metrics::Metrics;

/// How long to wait for records: what is acknowledged or sampled meanwhile is seen after it.
const POLL: Duration = Duration::from_millis(10);
/// What is in the way of reading is said so often: the client tells it several times a second, for hours if it lasts.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// How many records to forward before looking after the rest.
const BATCH: usize = 500;
/// How long to do without polling when too much is under way, before partitions are paused: pausing throws away what has
/// been fetched, so it is for a broker that is away and not for one that is busy.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often to look whether partitions are complete: an order below what anyone could notice.
const JUDGE_EVERY: Duration = Duration::from_millis(5);
/// How often to commit: what is read twice after a crash.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How often also what was committed before: nobody hears of a commit that has failed (rust-rdkafka#856), as one does that
/// meets a rebalance.
const COMMIT_ALL_EVERY: Duration = Duration::from_secs(10);
/// How long a partition that is given up may wait for its outputs; others wait for it meanwhile.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(5);
/// How long they may take when all of ingest stops.
const DRAINED_WITHIN: Duration = Duration::from_secs(8);
/// How long the group may take to tell offsets; it takes milliseconds.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// Reads until told to stop, and drains.
pub(super) fn run(config: &Config, metrics: &Metrics, stop: Stop<'_>) -> Result<(), Failure> {
    let (owned, sampler, writer) = (Owned::default(), EndSampler::new(config)?, Writer::new(config)?);
    let (samples, sampled) = channel();
    let ended = AtomicBool::new(false);
    let stop = stop.or(&ended);
    let flights = Arc::new(Flights::default());
    thread::scope(|scope| {
        let mut threads = Vec::with_capacity(config.sources.len());
        let mut passed = Vec::with_capacity(config.sources.len());
        for source in &config.sources {
            let (sender, receiver) = channel();
            passed.push(sender);
            let completeness = Completeness {
                config,
                source,
                owned: &owned,
                sampler: &sampler,
                writer: &writer,
                samples: samples.clone(),
                passed: receiver,
            };
            let ended = &ended;
            let spawned =
                thread::Builder::new().name("touchline-completeness".to_owned()).spawn_scoped(scope, move || {
                    // Without it nothing would ever be complete: all begins anew.
                    completeness.run(stop).inspect_err(|_| ended.store(true, Ordering::Relaxed))
                });
            threads.push(spawned);
        }
        let reader = Reader::new(config, metrics, flights, &owned, sampled, passed);
        let read = reader.and_then(|reader| reader.run(&stop));
        ended.store(true, Ordering::Relaxed);
        for thread in threads {
            // A thread that panicked has said so.
            thread.map_err(Failure::Thread)?.join().unwrap_or(Ok(()))?;
        }
        read
    })
}

/// A partition's topic and number.
type Key = (String, i32);

struct Reader<'a> {
    config: &'a Config,
    metrics: &'a Metrics,
    consumer: GroupConsumer,
    forwarder: Forwarder<'a>,
    flights: Arc<Flights>,
    readings: Readings<'a>,
    samples: Receiver<Sample>,
    /// To each source's [`Completeness`].
    passed: Vec<Sender<Passed>>,
    full_since: Option<Instant>,
    is_paused: bool,
    judges: Instant,
    commits: Instant,
    commits_all: Instant,
    /// When it was last said that sources cannot be read.
    said_at: Option<Instant>,
}

/// The partitions that are this process's.
struct Readings<'a> {
    config: &'a Config,
    flights: Arc<Flights>,
    owned: &'a Owned,
    all: BTreeMap<String, BTreeMap<i32, Reading>>,
    stints: Stint,
}

impl Readings<'_> {
    fn get(&mut self, topic: &str, partition: i32) -> Option<&mut Reading> {
        self.all.get_mut(topic)?.get_mut(&partition)
    }

    fn iter(&mut self) -> impl Iterator<Item = (&str, i32, &mut Reading)> {
        self.all.iter_mut().flat_map(partitions)
    }

    /// Reading of a partition begins, or begins anew.
    fn begin(&mut self, topic: &str, partition: i32, committed: Option<i64>) {
        let reads = |source: &super::Source| source.topics.iter().any(|each| each == topic);
        let Some(source) = self.config.sources.iter().position(reads) else { return };
        self.end(topic, partition);
        self.stints += 1;
        self.flights.begin(self.stints, topic, partition);
        self.owned.put(self.named(source, topic, partition), self.stints, committed);
        let reading = Reading::new(self.stints, source, committed);
        self.all.entry(topic.to_owned()).or_default().insert(partition, reading);
    }

    /// It is over.
    fn end(&mut self, topic: &str, partition: i32) {
        let Some(reading) = self.all.get_mut(topic).and_then(|partitions| partitions.remove(&partition)) else {
            return;
        };
        self.flights.end(reading.stint);
        self.owned.remove(&self.named(reading.source, topic, partition));
    }

    fn named(&self, source: usize, topic: &str, partition: i32) -> SourcePartition {
        SourcePartition { source: self.config.sources[source].name.clone(), topic: topic.to_owned(), partition }
    }

    /// What may be committed and is not, of all partitions or of some.
    fn uncommitted(&mut self, of: Option<&[Key]>) -> TopicPartitionList {
        let flights = Arc::clone(&self.flights);
        let mut list = TopicPartitionList::new();
        for (topic, partition, reading) in self.iter() {
            if of.is_some_and(|of| !of.iter().any(|(each, number)| each == topic && *number == partition)) {
                continue;
            }
            let done = reading.done(flights.oldest(reading.stint));
            if let Some(offset) = done
                && done != reading.committed
                && list.add_partition_offset(topic, partition, Offset::Offset(offset)).is_ok()
            {
                reading.committed = done;
            }
        }
        list
    }
}

impl<'a> Reader<'a> {
    fn new(
        config: &'a Config,
        metrics: &'a Metrics,
        flights: Arc<Flights>,
        owned: &'a Owned,
        samples: Receiver<Sample>,
        passed: Vec<Sender<Passed>>,
    ) -> Result<Reader<'a>, Failure> {
        let context = Context(Member::default());
        let consumer: GroupConsumer = config.source_consumer().create_with_context(context).map_err(Failure::Client)?;
        let topics: Vec<&str> = config.sources.iter().flat_map(|source| &source.topics).map(String::as_str).collect();
        if !topics.is_empty() {
            consumer.subscribe(&topics).map_err(Failure::Read)?;
        }
        let forwarder = Forwarder::new(config, metrics, Arc::clone(&flights))?;
        let now = Instant::now();
        let readings = Readings { config, flights: Arc::clone(&flights), owned, all: BTreeMap::new(), stints: 0 };
        Ok(Reader {
            config,
            metrics,
            consumer,
            forwarder,
            flights,
            readings,
            samples,
            passed,
            full_since: None,
            is_paused: false,
            judges: now,
            commits: now,
            commits_all: now,
            said_at: None,
        })
    }

    fn run(mut self, stop: &Stop<'_>) -> Result<(), Failure> {
        let mut ended = Ok(());
        while ended.is_ok() && !stop.is_set() {
            ended = self.turn();
        }
        if ended.is_ok() {
            let all: Vec<Key> =
                self.readings.iter().map(|(topic, partition, _)| (topic.to_owned(), partition)).collect();
            self.finish(&all, DRAINED_WITHIN);
        }
        client::close(self.consumer);
        ended
    }

    fn turn(&mut self) -> Result<(), Failure> {
        self.follow()?;
        if self.flights.wait_for_room(POLL) {
            self.resume()?;
            self.read()?;
        } else {
            self.hold()?;
        }
        self.forwarder.serve()?;
        self.metrics.in_flight.set(i64::try_from(self.flights.records()).unwrap_or(i64::MAX));
        if Instant::now() >= self.judges {
            self.judges = Instant::now() + JUDGE_EVERY;
            self.judge()?;
        }
        if Instant::now() >= self.commits {
            self.commits = Instant::now() + COMMIT_EVERY;
            self.commit();
        }
        Ok(())
    }

    /// Forwards what there is, until there is no more, something else is to be done, or too much is under way.
    fn read(&mut self) -> Result<(), Failure> {
        let mut patience = POLL;
        for _ in 0..BATCH {
            let Some(polled) = self.consumer.poll(patience) else { return Ok(()) };
            match polled {
                Ok(message) => forward(&message, &mut self.readings, &mut self.forwarder)?,
                Err(error) => heed(error, self.config, &mut self.said_at)?,
            }
            if self.flights.is_full() {
                return Ok(());
            }
            patience = Duration::ZERO;
        }
        Ok(())
    }

    /// Too much is under way.
    fn hold(&mut self) -> Result<(), Failure> {
        let since = *self.full_since.get_or_insert_with(Instant::now);
        if !self.is_paused && since.elapsed() >= PATIENCE {
            warn!("the broker does not acknowledge: reading waits for it");
            self.consumer.assignment().and_then(|all| self.consumer.pause(&all)).map_err(Failure::Read)?;
            self.is_paused = true;
        }
        if self.is_paused
            && let Some(polled) = self.consumer.poll(Duration::ZERO)
        {
            match polled {
                // Its partition was assigned or paused at this moment.
                Ok(message) => forward(&message, &mut self.readings, &mut self.forwarder)?,
                Err(error) => heed(error, self.config, &mut self.said_at)?,
            }
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Failure> {
        self.full_since = None;
        if std::mem::take(&mut self.is_paused) {
            info!("the broker acknowledges again: reading goes on");
            self.consumer.assignment().and_then(|all| self.consumer.resume(&all)).map_err(Failure::Read)?;
        }
        Ok(())
    }

    /// Acts on what the group wants.
    fn follow(&mut self) -> Result<(), Failure> {
        while let Some(change) = self.consumer.context().0.next() {
            match change {
                Rebalance::Assigned(partitions) => match self.take_over(&partitions) {
                    Ok(()) => {}
                    Err(error) => {
                        debug!(%error, "where to begin is not known yet");
                        self.consumer.context().0.put_back(Rebalance::Assigned(partitions));
                        return Ok(());
                    }
                },
                Rebalance::Revoked(partitions) => {
                    let keys = keys(&partitions);
                    if self.consumer.assignment_lost() {
                        warn!(
                            partitions = keys.len(),
                            "partitions were lost: the group did not hear from this process"
                        );
                    } else {
                        self.finish(&keys, GIVEN_UP_WITHIN);
                    }
                    self.consumer.incremental_unassign(&partitions).map_err(Failure::Read)?;
                    keys.iter().for_each(|(topic, partition)| self.readings.end(topic, *partition));
                }
            }
        }
        Ok(())
    }

    /// Begins to read partitions where their offsets are committed.
    fn take_over(&mut self, partitions: &TopicPartitionList) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        if partitions.count() > 0 {
            let told = self.consumer.committed_offsets(partitions.clone(), TOLD_WITHIN)?;
            for element in told.elements() {
                element.error()?;
                let begin = match element.offset() {
                    Offset::Offset(offset) => Offset::Offset(offset),
                    _ => Offset::Beginning,
                };
                list.add_partition_offset(element.topic(), element.partition(), begin)?;
            }
        }
        self.consumer.incremental_assign(&list)?;
        if self.is_paused {
            self.consumer.pause(&list)?;
        }
        for element in list.elements() {
            let committed = offset(element.offset());
            self.readings.begin(element.topic(), element.partition(), committed);
        }
        Ok(())
    }

    /// Brings partitions to an end: what has been read of them is acknowledged and committed, if time allows.
    fn finish(&mut self, keys: &[Key], within: Duration) {
        let deadline = Instant::now() + within;
        let stint = |(topic, partition): &Key| Some(self.readings.get(topic, *partition)?.stint);
        let stints: Vec<_> = keys.iter().filter_map(stint).collect();
        while !self.flights.wait_for(&stints, deadline.saturating_duration_since(Instant::now())) {
            if Instant::now() >= deadline || self.forwarder.serve().is_err() {
                warn!("some of what was read is not acknowledged, and will be read again");
                break;
            }
        }
        let committed = self.position().and_then(|()| {
            let list = self.readings.uncommitted(Some(keys));
            if list.count() > 0 { self.consumer.commit(&list, CommitMode::Sync) } else { Ok(()) }
        });
        if let Err(error) = committed {
            warn!(%error, "some offsets are not committed, and will be read again");
        }
    }

    fn commit(&mut self) {
        if Instant::now() >= self.commits_all {
            self.commits_all = Instant::now() + COMMIT_ALL_EVERY;
            self.readings.iter().for_each(|(_, _, reading)| reading.committed = None);
        }
        let list = self.readings.uncommitted(None);
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Async)
        {
            debug!(%error, "offsets are committed later");
        }
    }

    /// Notes how far the consumer has come.
    fn position(&mut self) -> KafkaResult<()> {
        for element in self.consumer.position()?.elements() {
            if let Some(reading) = self.readings.get(element.topic(), element.partition()) {
                reading.is_at(offset(element.offset()));
            }
        }
        Ok(())
    }

    /// Finds out what has become complete.
    fn judge(&mut self) -> Result<(), Failure> {
        while let Ok(sample) = self.samples.try_recv() {
            self.sample(sample)?;
        }
        if !self.readings.iter().any(|(_, _, reading)| reading.is_sampled()) {
            return Ok(());
        }
        self.position().map_err(Failure::Read)?;
        let flights = Arc::clone(&self.flights);
        let (sources, owned, passed) = (&self.config.sources, self.readings.owned, &self.passed);
        for (topic, partition, reading) in self.readings.iter() {
            let source = sources[reading.source].name.clone();
            let of = SourcePartition { source, topic: topic.to_owned(), partition };
            if let Some(through) = reading.judge(flights.oldest(reading.stint)) {
                // It may have ended.
                let _ = passed[reading.source].send((of.clone(), through));
            }
            owned.put(of, reading.stint, reading.position());
        }
        Ok(())
    }

    fn sample(&mut self, sample: Sample) -> Result<(), Failure> {
        let (topic, partition) = (sample.of.topic.clone(), sample.of.partition);
        let Some(reading) = self.readings.get(&topic, partition) else { return Ok(()) };
        if reading.stint != sample.stint {
            return Ok(());
        }
        match reading.sample(sample) {
            Some(Finding::Expired(from, to)) => {
                error!(
                    topic,
                    partition, from, to, "records were deleted before they were read: lengthen the topic's retention"
                );
                self.metrics.expired.inc_by(to.abs_diff(from));
            }
            Some(Finding::Torn) => {
                warn!(
                    topic,
                    partition, "the partition ends before what was read of it; it is read again from its beginning"
                );
                self.consumer.seek(&topic, partition, Offset::Beginning, TOLD_WITHIN).map_err(Failure::Read)?;
            }
            None => {}
        }
        Ok(())
    }
}

fn partitions<'a>(
    (topic, partitions): (&'a String, &'a mut BTreeMap<i32, Reading>),
) -> impl Iterator<Item = (&'a str, i32, &'a mut Reading)> {
    partitions.iter_mut().map(move |(partition, reading)| (&**topic, *partition, reading))
}

/// Forwards one record.
fn forward(
    message: &BorrowedMessage<'_>,
    readings: &mut Readings<'_>,
    forwarder: &mut Forwarder<'_>,
) -> Result<(), Failure> {
    let (topic, partition) = (message.topic(), message.partition());
    // One that is not there was given up while its last records were still on their way to us.
    let Some(reading) = readings.get(topic, partition) else { return Ok(()) };
    if reading.read(message.offset()) {
        return forwarder.forward(message, reading.stint, reading.source);
    }
    warn!(topic, partition, "the partition begins anew: its topic was deleted, or cut short");
    readings.begin(topic, partition, Some(message.offset()));
    // Of the reading that has just begun it is the first record.
    forward(message, readings, forwarder)
}

/// What polling tells besides records.
fn heed(error: KafkaError, config: &Config, said_at: &mut Option<Instant>) -> Result<(), Failure> {
    match error {
        // Of a member that was fenced, for one.
        KafkaError::MessageConsumptionFatal(_) => Err(Failure::Read(error)),
        // A topic that does not exist yet, a broker that is away: the client tries again by itself.
        error => {
            if said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                let needs = config.denied_reader(&error).map(|what| format!(": this user needs Read on {what}"));
                warn!(%error, "some sources cannot be read now{}", needs.unwrap_or_default());
                *said_at = Some(Instant::now());
            }
            Ok(())
        }
    }
}

fn keys(partitions: &TopicPartitionList) -> Vec<Key> {
    partitions.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
}

fn offset(offset: Offset) -> Option<i64> {
    match offset {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}
