//! The Kafka feed: a sink's consumer group, of which this is one member.
//!
//! A lane is a partition, a cursor the offset that is read next, a sequence the record's offset.
//!
//! - *One thread.* The consumer is polled where the sink runs, without waiting; librdkafka wakes it when there is more. Its
//!   callbacks only queue: rebalances are served here, between polls.
//! - *Rebalances* are cooperative, members static. What is assigned is acknowledged at once and read only when the sink
//!   has claimed it, from the offset that it says. What is revoked is given back when the sink has let go of it, and what
//!   it has remembered until then is committed before.
//! - *Only what is committed* is read. Readers see neither aborted records nor the ends of transactions.
//! - *Bounded*: a buffer here, librdkafka's queue behind it; when the sink takes nothing, the partitions pause.
//! - *Retention.* An offset that is not there any more is never passed over in silence: see [`Feed::missed`].
//! - *A broker that is away, a topic that is missing* are waited for. A fatal error, such as another process with the
//!   same instance's name, costs the client, not the process.

mod client;
mod commit;
mod config;
mod context;
mod letters;
mod partition;
mod place;
mod stats;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rdkafka::message::Message;
use tokio::select;
use tokio::time::{self, Instant};
use tracing::{info, warn};

use crate::dispatcher::chain;
use crate::feed::{Event, Feed, FeedError, Rejection};
use crate::sink::{BATCH_BYTES, BATCH_CHANGES, BoxFuture, Cursor, Lane, Start};
use client::{Client, Polled};
pub use config::{KafkaFeedConfig, KafkaFeedError};
use config::{fatal, retry};
use context::{Move, lane_of};
use letters::Letters;
use partition::{Partition, offset_of};
use stats::Stats;

/// Changes and bytes that wait for the sink: a batch while it delivers another.
const BUFFER_CHANGES: usize = 2 * BATCH_CHANGES;
const BUFFER_BYTES: usize = 2 * BATCH_BYTES;
/// Before a new client takes the place of one that failed for good: two processes of one name would chase each other.
const RENEW_AFTER: Duration = Duration::from_secs(5);
/// Looks around without having been woken: the group wants to be polled.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What one sink reads from Kafka; see the module.
pub struct KafkaFeed {
    config: KafkaFeedConfig,
    /// `None` until it is made again, after a fatal error.
    client: Option<Client>,
    renew_at: Instant,
    lanes: BTreeMap<Lane, Partition>,
    /// The lane that was cut last: the others come first.
    last: Option<Lane>,
    events: VecDeque<Event>,
    /// Taken away; given back once the sink knows.
    revoking: Option<Vec<Lane>>,
    letters: Option<Letters>,
    missed: u64,
    commit_at: Instant,
    /// A partition was read from where nothing is; when to look for it.
    astray_at: Option<Instant>,
    /// When to look how far the lanes go.
    measure_at: Instant,
    is_paused: bool,
    /// A topic was not there; when to look again.
    ask_at: Option<Instant>,
    /// Everything has been handed out, as far as the last statistics told; and whether that was said.
    is_at_end: bool,
    is_idle: bool,
    is_finishing: bool,
    is_over: bool,
}

impl KafkaFeed {
    /// Joins the group. Fails only if the configuration is wrong; the cluster need not be there.
    pub fn new(config: KafkaFeedConfig) -> Result<KafkaFeed, KafkaFeedError> {
        let client = Client::new(&config)?;
        let now = Instant::now();
        Ok(KafkaFeed {
            config,
            client: Some(client),
            renew_at: now,
            lanes: BTreeMap::new(),
            last: None,
            events: VecDeque::new(),
            revoking: None,
            letters: None,
            missed: 0,
            commit_at: now,
            astray_at: None,
            measure_at: now,
            is_paused: false,
            ask_at: None,
            is_at_end: false,
            is_idle: false,
            is_finishing: false,
            is_over: false,
        })
    }

    async fn next_event(&mut self, room: usize) -> Result<Event, FeedError> {
        loop {
            self.give_back()?;
            self.renew()?;
            self.pump(room)?;
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if self.astray_at.is_some_and(|at| Instant::now() >= at) {
                self.find_way()?;
            }
            self.ask()?;
            self.measure();
            if self.is_finishing {
                if !std::mem::replace(&mut self.is_over, true) {
                    return Ok(Event::End);
                }
            } else if room > 0
                && let Some(event) = self.cut(room)
            {
                self.is_idle = false;
                return Ok(event);
            }
            if self.is_at_end && !std::mem::replace(&mut self.is_idle, true) {
                return Ok(Event::Idle);
            }
            let commit_at = self.commit()?;
            self.sleep(commit_at).await;
        }
    }

    /// Until the client has something, or it is time for a commit.
    async fn sleep(&self, commit_at: Option<Instant>) {
        let look_at = Instant::now() + LOOK_EVERY;
        let wake_at = [commit_at, self.ask_at].into_iter().flatten().fold(look_at, Instant::min);
        match &self.client {
            Some(client) => select! {
                () = client.context().wake.notified() => {}
                () = time::sleep_until(wake_at) => {}
            },
            None => time::sleep_until(self.renew_at).await,
        }
    }

    /// Takes what the client has: records into buffers, and news.
    fn pump(&mut self, room: usize) -> Result<(), FeedError> {
        let Some(client) = &self.client else { return Ok(()) };
        let (mut changes, mut bytes) = self.lanes.values().map(Partition::buffered).fold((0, 0), plus);
        if self.is_paused && changes < BUFFER_CHANGES / 2 && bytes < BUFFER_BYTES / 2 {
            client.resume(self.lanes.values()).map_err(retry)?;
            self.is_paused = false;
            self.lanes.values_mut().for_each(Partition::disturbed);
        }
        let (mut failure, mut lane) = (None, None);
        let is_drained = loop {
            let is_full = changes >= BUFFER_CHANGES || bytes >= BUFFER_BYTES;
            if is_full && room > 0 {
                break false;
            }
            if is_full && !self.is_paused {
                client.pause(self.lanes.values()).map_err(retry)?;
                self.is_paused = true;
                self.lanes.values_mut().for_each(Partition::disturbed);
            }
            match client.poll() {
                Polled::Record(message) => {
                    // They come in runs of a partition.
                    let is_same = |lane: &&Lane| self.lanes.get(*lane).is_some_and(|it| it.has(&message));
                    let lane = match lane.as_ref().filter(is_same) {
                        Some(lane) => lane,
                        None => lane.insert(lane_of(message.topic(), message.partition())),
                    };
                    let taken = self.lanes.get_mut(lane).and_then(|partition| partition.take(&message));
                    (changes, bytes) = plus((changes, bytes), taken.map_or((0, 0), |taken| (1, taken)));
                    self.is_at_end &= taken.is_none();
                }
                Polled::Astray => self.astray_at = Some(Instant::now()),
                // librdkafka says it once, and waits.
                Polled::Missing => self.ask_at = Some(Instant::now()),
                Polled::Fatal(error) => {
                    failure = Some(error);
                    break false;
                }
                Polled::Nothing => break true,
            }
        };
        match failure {
            Some(source) => {
                let action = format!("stay in the group {}", self.config.group);
                self.lose(KafkaFeedError::Cluster { action, source })
            }
            None => self.news(is_drained),
        }
    }

    /// Serves what the client has told besides records; statistics come before records that wait.
    fn news(&mut self, is_drained: bool) -> Result<(), FeedError> {
        let Some(client) = &self.client else { return Ok(()) };
        let context = client.context().clone();
        self.hear_commit();
        if let Some(stats) = context.take_stats() {
            self.look(&stats, is_drained);
        }
        // One after the other: what is revoked is given back before anything else is.
        while self.revoking.is_none()
            && let Some(moved) = context.next_move()
        {
            self.moved(moved)?;
        }
        match context.take_trouble() {
            Some(trouble) => {
                (self.is_at_end, self.is_idle) = (false, false);
                Err(retry(match context.is_denied() {
                    true => KafkaFeedError::Denied(self.config.group.clone()),
                    false => KafkaFeedError::Client(trouble),
                }))
            }
            None => Ok(()),
        }
    }

    fn look(&mut self, stats: &Stats, is_drained: bool) {
        if !self.is_paused {
            for partition in self.lanes.values_mut() {
                let ends = stats.ends(&partition.name, partition.number);
                ends.into_iter().for_each(|ends| partition.look(ends, is_drained));
            }
        }
        let is_done = |partition: &Partition| partition.is_started && partition.is_at_end();
        self.is_at_end = stats.is_connected() && self.ask_at.is_none() && self.lanes.values().all(is_done);
    }

    fn moved(&mut self, moved: Move) -> Result<(), FeedError> {
        let Some(client) = &self.client else { return Ok(()) };
        self.is_at_end = false;
        match moved {
            Move::Assign(places) => {
                // Read later, each when the sink has claimed it.
                if let Err(error) = client.assigned() {
                    return self.lose(error);
                }
                for (name, number) in places {
                    let Some((topic, _)) = self.config.topics.iter().find(|(_, topic)| *topic == name) else {
                        continue;
                    };
                    let lane = lane_of(&name, number);
                    info!(group = self.config.group, %lane, "assigned");
                    self.lanes.insert(lane.clone(), Partition::new(*topic, name, number));
                    self.events.push_back(Event::Assigned(lane));
                }
            }
            Move::Revoke(places) => {
                let lanes: Vec<Lane> = places.iter().map(|(name, number)| lane_of(name, *number)).collect();
                lanes.iter().for_each(|lane| info!(group = self.config.group, %lane, "revoked"));
                let ours = lanes.into_iter().filter(|lane| self.lanes.contains_key(lane)).collect::<Vec<_>>();
                self.events.extend(ours.iter().cloned().map(Event::Revoked));
                self.revoking = Some(ours);
            }
        }
        Ok(())
    }

    /// Gives back what was revoked, once the sink has let go of it.
    fn give_back(&mut self) -> Result<(), FeedError> {
        if self.events.iter().any(|event| matches!(event, Event::Revoked(_))) {
            return Ok(());
        }
        let (Some(lanes), Some(client)) = (self.revoking.take(), &self.client) else { return Ok(()) };
        let gone: Vec<Partition> = lanes.iter().filter_map(|lane| self.lanes.remove(lane)).collect();
        client.give_back(&gone).or_else(|error| self.lose(error))
    }

    /// A client that has failed for good: all lanes are gone with it.
    fn lose(&mut self, error: KafkaFeedError) -> Result<(), FeedError> {
        self.client = None;
        self.letters = None;
        self.renew_at = Instant::now() + RENEW_AFTER;
        self.events = std::mem::take(&mut self.lanes).into_keys().map(Event::Revoked).collect();
        (self.revoking, self.astray_at) = (None, None);
        (self.is_paused, self.is_at_end, self.is_idle) = (false, false, false);
        let (group, instance) = (&self.config.group, &self.config.instance);
        warn!(
            group,
            instance,
            error = chain(&error),
            "the Kafka client has failed for good; another takes its place. If a second process \
            of this instance is running, stop it, or give it a name of its own"
        );
        Err(retry(error))
    }

    fn renew(&mut self) -> Result<(), FeedError> {
        // What the old one had is told first.
        if self.client.is_none() && self.events.is_empty() && Instant::now() >= self.renew_at {
            self.renew_at = Instant::now() + RENEW_AFTER;
            self.client = Some(Client::new(&self.config).map_err(retry)?);
        }
        Ok(())
    }

    /// The next batch, from a lane behind the one that had the last.
    fn cut(&mut self, room: usize) -> Option<Event> {
        let ready = |(lane, partition): (&Lane, &Partition)| partition.is_ready().then(|| lane.clone());
        let after = self.last.as_ref().and_then(|last| {
            let behind = (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
            self.lanes.range::<Lane, _>(behind).find_map(ready)
        });
        let lane = after.or_else(|| self.lanes.iter().find_map(ready))?;
        let batch = self.lanes.get_mut(&lane)?.cut(room);
        self.last = Some(lane.clone());
        Some(Event::Batch(lane, batch))
    }
}

impl Feed for KafkaFeed {
    fn next(&mut self, room: usize) -> BoxFuture<'_, Result<Event, FeedError>> {
        Box::pin(self.next_event(room))
    }

    fn start<'a>(&'a mut self, lane: &'a Lane, from: &'a Start) -> BoxFuture<'a, Result<Option<Cursor>, FeedError>> {
        Box::pin(async { self.begin(lane, from) })
    }

    fn remember(&mut self, lane: &Lane, cursor: &Cursor) -> Result<(), FeedError> {
        if let Some(partition) = self.lanes.get_mut(lane) {
            let offset = offset_of(cursor).ok_or_else(|| fatal(KafkaFeedError::Cursor(lane.clone())))?;
            partition.remember(offset);
        }
        Ok(())
    }

    fn reject<'a>(&'a mut self, rejections: &'a [Rejection<'a>]) -> BoxFuture<'a, Result<(), FeedError>> {
        Box::pin(self.write_letters(rejections))
    }

    fn lag(&self, lane: &Lane, cursor: Option<&Cursor>) -> Option<u64> {
        let partition = self.lanes.get(lane).filter(|partition| partition.is_started)?;
        let offset = cursor.and_then(offset_of).unwrap_or(partition.start);
        Some(u64::try_from(partition.end.saturating_sub(offset)).unwrap_or(0))
    }

    fn is_waiting(&self) -> bool {
        self.ask_at.is_some() || self.client.as_ref().is_some_and(|client| client.context().is_denied())
    }

    fn missed(&self) -> u64 {
        self.missed
    }

    fn finish(&mut self) {
        self.is_finishing = true;
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), FeedError>> {
        Box::pin(self.leave())
    }
}

fn plus(left: (usize, usize), right: (usize, usize)) -> (usize, usize) {
    (left.0 + right.0, left.1 + right.1)
}
