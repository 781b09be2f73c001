//! The ticker: one process's at a time, whichever owns `touchline.progress` in the group `PREFIX.ticker`.
//!
//! Its term begins with reading that topic from its beginning: the newest completeness of each source partition, the
//! rules, the last tick. It is read once a record of its own, written first, has come back. From then on, each
//! [`LOOK_EVERY`]: a mark, whose time stamp is the latest that T may be; the list of all partitions of the required
//! sources, asked for after it; T. Each [`TICK_EVERY`] T is written to `touchline.progress`, so that no later owner goes
//! back, and then, behind the rules if a partition does not have them yet, to every partition of `touchline.events`.
//! T is repeated while it stands: events that come late need a tick, old as it may be, for their alerts.
//!
//! Two tickers at once, for a moment or for longer, do no harm: each one's ticks are true, and who reads drops the older.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset;
use touchline_core::record::tick_record;
use tracing::{debug, info, warn};

use super::Failure;
use super::client::{self, Context, GroupConsumer, Member, Rebalance};
use super::clock::{Clock, Listed};
use super::config::Config;
use super::progress::{Entry, SourcePartition};
use super::stop::Stop;
use super::writer::{Receipt, Writer};
use crate::metrics::Metrics;

/// How often the clock is looked at; new partitions are seen as soon.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it ticks: an alert comes this late at the most, and 64 partitions bear it.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// How often to look after what has come.
const POLL: Duration = Duration::from_millis(10);
/// How long brokers may take to list a topic; they take milliseconds.
const LISTED_WITHIN: Duration = Duration::from_secs(2);

/// Runs until told to stop.
pub(super) fn run(config: &Config, metrics: &Metrics, stop: Stop<'_>) -> Result<(), Failure> {
    let writer = Writer::new(config)?;
    let context = Context(Member::default());
    let consumer: GroupConsumer = config.ticker_consumer().create_with_context(context).map_err(Failure::Client)?;
    consumer.subscribe(&[&config.topics.progress]).map_err(Failure::Read)?;
    let mut term = None;
    let mut ended = Ok(());
    while ended.is_ok() && !stop.is_set() {
        ended = turn(&Office { config, metrics, writer: &writer, consumer: &consumer }, &mut term);
    }
    metrics.does_not_tick();
    client::close(consumer);
    ended
}

/// What a ticker works with.
struct Office<'a> {
    config: &'a Config,
    metrics: &'a Metrics,
    writer: &'a Writer,
    consumer: &'a GroupConsumer,
}

/// The time for which this process is the ticker.
struct Term {
    clock: Clock,
    /// The offset of the first mark: what stands before it is restored.
    begins: Option<i64>,
    /// The last offset that has been read.
    read: Option<i64>,
    phase: Phase,
    looks: Instant,
    ticks: Instant,
    /// The time stamp of the newest mark, and when it was seen.
    now: Option<(Timestamp, Instant)>,
    /// What `progress` knows to have ticked.
    noted: Option<Timestamp>,
    partitions: Vec<Partition>,
    /// It is over, because the group was not heard of; until it is, nobody else may have taken over, and the clock is seen
    /// to fall behind.
    is_lost: bool,
}

/// What the term waits for.
enum Phase {
    Rest,
    /// The broker's time.
    Mark(Receipt),
    /// That no later owner goes back behind this T.
    Note(Timestamp, Receipt),
}

/// A partition of `touchline.events`.
#[derive(Default)]
struct Partition {
    /// The revision of the rules that it has from this term.
    rules: Option<u64>,
    /// Not acknowledged yet; nothing more is sent before.
    sent: Vec<Receipt>,
}

/// Does what there is to do, or waits for it a moment.
fn turn(office: &Office<'_>, term: &mut Option<Term>) -> Result<(), Failure> {
    while let Some(change) = office.consumer.context().0.next() {
        office.follow(change, term)?;
    }
    match office.consumer.poll(POLL) {
        Some(Ok(message)) => {
            if let Some(term) = term.as_mut() {
                let entry = message.payload().map_or(Ok(None), Entry::parse)?;
                term.heed(office, message.offset(), entry);
            }
        }
        Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(Failure::Read(error)),
        Some(Err(error)) => match office.config.denied_ticker(&error) {
            Some(what) => return Err(Failure::Denied(what)),
            None => debug!(%error, "the progress topic is read on as soon as that is possible"),
        },
        None => {}
    }
    term.as_mut().map_or(Ok(()), |term| term.step(office))
}

impl Office<'_> {
    /// A cooperative group tells every member of every change, most often that nothing has changed for it.
    fn follow(&self, change: Rebalance, term: &mut Option<Term>) -> Result<(), Failure> {
        match change {
            Rebalance::Assigned(mut partitions) => {
                if term.as_ref().is_some_and(|term| term.is_lost) {
                    *term = None;
                    self.metrics.does_not_tick();
                }
                partitions.set_all_offsets(Offset::Beginning).map_err(Failure::Read)?;
                self.consumer.incremental_assign(&partitions).map_err(Failure::Read)?;
                if partitions.count() > 0 {
                    info!("this process is the ticker");
                    *term = Some(Term::new());
                }
            }
            Rebalance::Revoked(partitions) => {
                let is_lost = self.consumer.assignment_lost();
                self.consumer.incremental_unassign(&partitions).map_err(Failure::Read)?;
                if partitions.count() == 0 {
                    return Ok(());
                }
                match term {
                    Some(term) if is_lost => {
                        warn!("the brokers have not been heard of: nobody may tick until they are");
                        term.is_lost = true;
                    }
                    _ => {
                        info!("this process is not the ticker any more");
                        *term = None;
                        self.metrics.does_not_tick();
                    }
                }
            }
        }
        Ok(())
    }

    /// All partitions of a source, by its name.
    fn list(&self, source: &str) -> Listed {
        let Some(source) = self.config.sources.iter().find(|each| each.name == source) else {
            return Listed::Unknown;
        };
        let mut listed = Vec::new();
        for topic in &source.topics {
            match self.partitions(topic) {
                Some(partitions) => listed.extend(partitions.into_iter().map(|partition| SourcePartition {
                    source: source.name.clone(),
                    topic: topic.clone(),
                    partition,
                })),
                None => return Listed::Unknown,
            }
        }
        Listed::Partitions(listed)
    }

    /// The partitions of a topic as brokers have them now; `None` if it does not exist, or nobody tells.
    fn partitions(&self, topic: &str) -> Option<Vec<i32>> {
        match self.consumer.fetch_metadata(Some(topic), LISTED_WITHIN) {
            Ok(metadata) => {
                let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none())?;
                Some(found.partitions().iter().map(|partition| partition.id()).collect())
            }
            Err(error) => {
                debug!(topic, %error, "the partitions cannot be listed");
                None
            }
        }
    }
}

impl Term {
    fn new() -> Term {
        let now = Instant::now();
        Term {
            clock: Clock::default(),
            begins: None,
            read: None,
            phase: Phase::Rest,
            looks: now,
            ticks: now,
            now: None,
            noted: None,
            partitions: Vec::new(),
            is_lost: false,
        }
    }

    fn heed(&mut self, office: &Office<'_>, offset: i64, entry: Option<Entry>) {
        self.read = Some(offset);
        if let Some(entry) = entry
            && self.clock.heed(offset, entry)
        {
            // Other sources may be required.
            office.metrics.does_not_tick();
        }
    }

    fn step(&mut self, office: &Office<'_>) -> Result<(), Failure> {
        if self.is_lost {
            self.wait(office, Phase::Rest);
            return Ok(());
        }
        match std::mem::replace(&mut self.phase, Phase::Rest) {
            Phase::Rest if Instant::now() >= self.looks => {
                self.looks = due_again(self.looks, LOOK_EVERY);
                self.phase = Phase::Mark(office.writer.note(&office.mark())?);
            }
            Phase::Rest => {}
            Phase::Mark(receipt) => match office.writer.noted(&receipt)? {
                Some(stamp) => {
                    self.begins.get_or_insert(stamp.offset);
                    self.now = Some((office.writer.time(stamp)?, Instant::now()));
                    self.look(office)?;
                }
                None => self.wait(office, Phase::Mark(receipt)),
            },
            Phase::Note(through, receipt) => match office.writer.noted(&receipt)? {
                Some(_) => {
                    self.noted = Some(through);
                    self.tick(office, through)?;
                }
                None => self.wait(office, Phase::Note(through, receipt)),
            },
        }
        Ok(())
    }

    /// The broker is slow, or away: the clock is seen to fall behind.
    fn wait(&mut self, office: &Office<'_>, phase: Phase) {
        if Instant::now() >= self.looks {
            self.looks = due_again(self.looks, LOOK_EVERY);
            self.show_lag(office);
        }
        self.phase = phase;
    }

    /// Lists what is required, and moves the clock.
    fn look(&mut self, office: &Office<'_>) -> Result<(), Failure> {
        let Some((now, _)) = self.now else { return Ok(()) };
        if self.read < self.begins {
            // Not all is restored.
            return Ok(());
        }
        if self.clock.rules().is_none() {
            return Err(Failure::NoRules);
        }
        let required: Vec<_> =
            self.clock.required().iter().map(|source| (source.clone(), office.list(source))).collect();
        let complete: Vec<_> = required.iter().map(|(_, listed)| self.clock.complete(listed)).collect();
        let through = self.clock.advance(now, complete.iter().copied());
        let behind = complete.iter().map(|complete| complete.map_or(f64::INFINITY, |at| seconds(at, now)));
        office.metrics.sources_are_behind(required.iter().map(|(source, _)| &**source).zip(behind));
        self.show_lag(office);
        if let Some(through) = through
            && Instant::now() >= self.ticks
        {
            self.ticks = due_again(self.ticks, TICK_EVERY);
            if self.noted == Some(through) {
                self.tick(office, through)?;
            } else {
                self.phase = Phase::Note(through, office.writer.note(&Entry::Clock { through })?);
            }
        }
        Ok(())
    }

    fn show_lag(&self, office: &Office<'_>) {
        let Some((now, seen)) = self.now else { return };
        let lag = self.clock.through().map_or(f64::INFINITY, |through| seconds(through, now));
        office.metrics.clock_is_behind(lag + seen.elapsed().as_secs_f64());
    }

    /// Appends T to every partition that has the last one, behind the rules where they are new.
    fn tick(&mut self, office: &Office<'_>, through: Timestamp) -> Result<(), Failure> {
        let events = &office.config.topics.events;
        if self.partitions.is_empty() {
            if office.partitions(events).is_none() {
                warn!(topic = %events, "there is no such topic yet to tick in");
                return Ok(());
            }
            self.partitions.resize_with(office.config.topics.partitions as usize, Partition::default);
        }
        let Some(known) = self.clock.rules() else { return Ok(()) };
        let rules = known.rules.to_record(Some(known.revision));
        let tick = tick_record(through, Some(known.revision));
        for (number, partition) in (0..).zip(&mut self.partitions) {
            let mut waits = Vec::new();
            for receipt in partition.sent.drain(..) {
                if office.writer.sent(events, &receipt)?.is_none() {
                    waits.push(receipt);
                }
            }
            partition.sent = waits;
            if !partition.sent.is_empty() {
                // Its broker is away; the next tick will do.
                continue;
            }
            if partition.rules != Some(known.revision) {
                partition.sent.push(office.writer.send(events, number, None, &rules)?);
                partition.rules = Some(known.revision);
            }
            partition.sent.push(office.writer.send(events, number, None, &tick)?);
        }
        Ok(())
    }
}

impl Office<'_> {
    fn mark(&self) -> Entry {
        Entry::Mark { instance: self.config.instance.clone(), role: "ticker".to_owned() }
    }
}

/// When something that was due is due again: in step, unless it is far behind.
fn due_again(was: Instant, every: Duration) -> Instant {
    (was + every).max(Instant::now())
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}
