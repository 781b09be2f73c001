//! One worker: a thread, a member of the group, a transactional producer, and the partitions that it has been given.
//!
//! The cycle: poll, apply, and every commit interval one transaction with the outputs and offsets of all partitions; then
//! the state of each. What the group does is served between two polls. Whenever it is not certain how a transaction ended,
//! every partition goes back to what its store has and applies again what lies behind it; up to where the group's offset
//! stands, without outputs.

mod rebalance;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use touchline_core::step::StepError;
use tracing::{debug, info, warn};

use super::active::{Active, HAND};
use super::clock;
use super::cluster::{Cluster, Member, Transactional};
use super::error::ProcessError;
use super::open::{SAY_EVERY, committed};
use super::status::{Doing, Restoring};
use super::transaction::{Failure, Offsets};
use super::{Config, Shared, Topics};
use crate::StoreError;

/// A worker that has been behind for so long commits so seldom: what changes again until then is published once. Those of its
/// partitions that are not behind are told of up to so much later meanwhile.
const BEHIND: Duration = Duration::from_secs(1);
/// A poll returns by then, so that a commit, a stop or an opened partition does not wait.
const POLL: Duration = Duration::from_millis(50);
/// Messages taken before anything else is looked at.
const POLLS: usize = 256;
/// For a partition with more to do than a batch. Most ticks fire what they have to within a fraction of that.
const PATIENCE: Duration = Duration::from_millis(250);
/// One after the other, a commit interval apart: a group has its next generation by then, or something else is wrong.
const ABORTS: u32 = 5;
/// Between two attempts while the broker is away.
const RETRY: Duration = Duration::from_millis(500);
/// Two processes of one name, such as one whose state directory was copied, would else chase each other.
const REJOIN: Duration = Duration::from_secs(5);
/// How fresh the status is.
const TELL_EVERY: Duration = Duration::from_millis(200);

enum Owned {
    /// On its way; the flag says that it is no longer wanted, and the other how far its restore is.
    Opening(Arc<AtomicBool>, Arc<Restoring>),
    Active(Box<Active>),
}

/// See the module.
pub(super) struct Worker<C: Cluster> {
    number: usize,
    cluster: Arc<C>,
    config: Arc<Config>,
    shared: Arc<Shared>,
    member: Arc<C::Member>,
    opener: C::Opener,
    /// `None`: a new one is needed, and every partition goes back to its store.
    producer: Option<C::Producer>,
    retry_at: Instant,
    is_subscribed: bool,
    owned: BTreeMap<i32, Owned>,
    committed_at: Instant,
    /// When there was last nothing to do.
    idle_at: Instant,
    /// Transactions since then that were aborted.
    aborted: u32,
    told_at: Instant,
    /// Since when messages are left where they are.
    held_since: Option<Instant>,
    /// When it was last said what it waits for.
    said_at: Option<Instant>,
}

impl<C: Cluster> Worker<C> {
    pub fn start(
        cluster: Arc<C>,
        config: Arc<Config>,
        shared: Arc<Shared>,
        number: usize,
    ) -> Result<Worker<C>, ProcessError> {
        let member = Arc::new(cluster.member(number).map_err(ProcessError::Client)?);
        let opener = cluster.opener(&member, number)?;
        let now = clock::now();
        Ok(Worker {
            number,
            cluster,
            config,
            shared,
            member,
            opener,
            producer: None,
            retry_at: now,
            is_subscribed: false,
            owned: BTreeMap::new(),
            committed_at: now,
            idle_at: now,
            aborted: 0,
            told_at: now,
            held_since: None,
            said_at: None,
        })
    }

    /// Works until `stop` is set, then commits, closes and leaves.
    pub fn run(mut self, stop: &AtomicBool) -> Result<(), ProcessError> {
        let worked = self.work(stop);
        let left = if worked.is_ok() { self.leave() } else { Ok(()) };
        self.member.close();
        worked.and(left)
    }

    fn work(&mut self, stop: &AtomicBool) -> Result<(), ProcessError> {
        while !stop.load(Ordering::Relaxed) {
            self.turn()?;
        }
        Ok(())
    }

    /// Whatever is to be done now; returns within a moment, unless a transaction takes longer.
    pub fn turn(&mut self) -> Result<(), ProcessError> {
        self.resync()?;
        // Only now: the offsets that a predecessor of the same name left open are settled.
        if !self.is_subscribed && self.producer.is_some() {
            self.member.subscribe().map_err(ProcessError::Refused)?;
            self.is_subscribed = true;
        }
        self.poll()?;
        self.serve()?;
        self.go_on()?;
        self.commit_if_due()?;
        self.tell();
        Ok(())
    }

    /// Says what it is doing, now and then.
    fn tell(&mut self) {
        if clock::since(self.told_at) < TELL_EVERY {
            return;
        }
        self.told_at = clock::now();
        let mut doing = Doing { is_connected: self.producer.is_some(), ..Doing::default() };
        for owned in self.owned.values() {
            match owned {
                Owned::Opening(_, restoring) => {
                    let (bytes, total) = restoring.get();
                    doing.opening += 1;
                    doing.restored = (doing.restored.0 + bytes, doing.restored.1 + total);
                }
                Owned::Active(active) => {
                    doing.partitions += 1;
                    doing.behind += active.until.map_or(0, |until| until.offset.abs_diff(active.stand.position.offset));
                }
            }
        }
        self.shared.status.tell(self.number, doing);
        self.shared.metrics.status(self.shared.status.totals());
    }

    /// Messages, and whatever the group does, until a commit is due.
    fn poll(&mut self) -> Result<(), ProcessError> {
        if self.is_held()? {
            return Ok(());
        }
        let member = self.member.clone();
        let mut wait = if self.is_busy() { Duration::ZERO } else { self.until_commit().min(POLL) };
        for _ in 0..POLLS / HAND {
            let mut hand = Vec::with_capacity(HAND);
            while hand.len() < HAND {
                match member.poll(wait) {
                    Some(Ok(message)) => hand.push(message),
                    Some(Err(error)) => self.complain(error)?,
                    None => break,
                }
                wait = Duration::ZERO;
            }
            let is_all = hand.is_empty();
            if is_all && !self.is_busy() {
                self.idle_at = clock::now();
            }
            self.take(hand)?;
            if is_all && self.shared.until_end.is_some() {
                return self.pass();
            }
            if is_all || self.is_full() || self.has_full() || member.has_rebalance() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether a partition has enough with what it has. For a moment all wait for it; then it is paused, and the others go
    /// on: librdkafka throws away what it has fetched of a partition that is paused, and fetches it again.
    fn is_held(&mut self) -> Result<bool, ProcessError> {
        if !self.has_full() {
            self.held_since = None;
            return Ok(false);
        }
        if clock::since(*self.held_since.get_or_insert_with(clock::now)) < PATIENCE {
            return Ok(true);
        }
        let Worker { owned, member, .. } = self;
        for owned in owned.values_mut() {
            if let Owned::Active(active) = owned
                && active.is_full()
                && !std::mem::replace(&mut active.is_paused, true)
            {
                member.pause(active.number).map_err(ProcessError::Refused)?;
            }
        }
        Ok(false)
    }

    fn has_full(&self) -> bool {
        self.active().any(|active| active.is_full() && !active.is_paused)
    }

    fn take(&mut self, mut messages: Vec<<C::Member as Member>::Message<'_>>) -> Result<(), ProcessError> {
        // Until it is known how the last transaction ended, what comes will be read again.
        if self.producer.is_none() {
            return Ok(());
        }
        messages.sort_by_key(Message::partition);
        for messages in messages.chunk_by(|one, next| one.partition() == next.partition()) {
            let Some(first) = messages.first() else { continue };
            let Some(Owned::Active(active)) = self.owned.get_mut(&first.partition()) else { continue };
            active.take(messages, C::Member::detach).map_err(|source| failed(active.number, source))?;
        }
        Ok(())
    }

    /// What the log has no more of, for `--until-end`: transaction markers are offsets too.
    fn pass(&mut self) -> Result<(), ProcessError> {
        // After a doubt the member's own positions are those from before it, until all have been sought again.
        if self.producer.is_none() {
            return Ok(());
        }
        for (partition, offset) in self.member.positions().map_err(ProcessError::Refused)? {
            if let Some(Owned::Active(active)) = self.owned.get_mut(&partition) {
                active.pass(offset);
            }
        }
        Ok(())
    }

    /// librdkafka goes on by itself after most errors, and says so.
    fn complain(&mut self, error: KafkaError) -> Result<(), ProcessError> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::FencedInstanceId | RDKafkaErrorCode::Fatal) => self.rejoin(error),
            // What a state goes on from has gone from the log meanwhile.
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                Err(ProcessError::Truncated { topic: self.config.topics.events.clone(), source: error })
            }
            code => match code.and_then(|code| needs(&self.config, code)) {
                Some(needs) => Err(ProcessError::Denied { needs }),
                None => {
                    debug!(worker = self.number, %error, "poll");
                    Ok(())
                }
            },
        }
    }

    /// Another client has this one's name now: begin as a new one.
    fn rejoin(&mut self, error: KafkaError) -> Result<(), ProcessError> {
        warn!(worker = self.number, %error, "this member was replaced; it joins again");
        let all: Vec<i32> = self.owned.keys().copied().collect();
        self.give_up(&all, true)?;
        self.member.close();
        *self = Worker::start(self.cluster.clone(), self.config.clone(), self.shared.clone(), self.number)?;
        self.retry_at = clock::now() + REJOIN;
        Ok(())
    }

    fn go_on(&mut self) -> Result<(), ProcessError> {
        if self.producer.is_none() {
            return Ok(());
        }
        for owned in self.owned.values_mut() {
            let Owned::Active(active) = owned else { continue };
            if active.is_busy() {
                active.go_on().map_err(|source| failed(active.number, source))?;
            }
            if active.is_paused && !active.is_busy() {
                self.member.resume(active.number).map_err(ProcessError::Refused)?;
                active.is_paused = false;
            }
        }
        Ok(())
    }

    pub fn active(&self) -> impl Iterator<Item = &Active> {
        self.owned.values().filter_map(|owned| match owned {
            Owned::Active(active) => Some(&**active),
            Owned::Opening(..) => None,
        })
    }

    fn active_mut(&mut self) -> impl Iterator<Item = &mut Active> {
        self.owned.values_mut().filter_map(|owned| match owned {
            Owned::Active(active) => Some(&mut **active),
            Owned::Opening(..) => None,
        })
    }

    fn is_busy(&self) -> bool {
        self.active().any(Active::is_busy)
    }

    /// Whether what the batch holds in memory is enough.
    fn is_full(&self) -> bool {
        let (mut bytes, mut is_full) = (0, false);
        for active in self.active() {
            bytes += active.partition.outputs.bytes();
            is_full |= active.partition.is_full();
        }
        is_full || bytes >= BATCH_BYTES
    }

    fn until_commit(&self) -> Duration {
        if self.active().any(|active| active.partition.is_dirty) {
            let usual = self.config.settings.commit_interval;
            let interval = if clock::since(self.idle_at) < BEHIND { usual } else { usual.max(BEHIND) };
            interval.saturating_sub(clock::since(self.committed_at))
        } else {
            POLL
        }
    }

    fn commit_if_due(&mut self) -> Result<(), ProcessError> {
        if self.until_commit().is_zero() || self.is_full() { self.commit() } else { Ok(()) }
    }

    /// One transaction for all; then each state.
    fn commit(&mut self) -> Result<(), ProcessError> {
        let Some(producer) = self.producer.take() else { return Ok(()) };
        let begun = clock::now();
        let mut offsets = Offsets::default();
        for active in self.active_mut().filter(|active| active.partition.is_dirty) {
            active.partition.save();
            if active.is_live() {
                offsets.0.push((active.number, active.stand.clone()));
            }
        }
        if !offsets.0.is_empty() {
            let batches = self.active().map(|active| (active.number, &active.partition.outputs));
            match producer.commit(batches, &offsets, &self.member) {
                Ok(()) => {}
                // All of it is still here, and goes into the next transaction.
                Err(Failure::Aborted(error)) if self.aborted < ABORTS => {
                    info!(worker = self.number, %error, "a transaction was aborted; trying again");
                    self.shared.metrics.aborted();
                    self.aborted += 1;
                    self.producer = Some(producer);
                    self.committed_at = clock::now();
                    return Ok(());
                }
                Err(Failure::Aborted(error) | Failure::Unknown(error)) => return self.doubt(error),
            }
        }
        self.aborted = 0;
        self.producer = Some(producer);
        self.stored()?;
        self.shared.metrics.committed(clock::since(begun));
        self.committed_at = clock::now();
        Ok(())
    }

    /// The same until it is certain what was published: nothing of what is given up may be left.
    fn settle(&mut self) -> Result<(), ProcessError> {
        while self.producer.is_some() && self.active().any(|active| active.partition.is_dirty) {
            self.commit()?;
            if self.aborted > 0 {
                clock::sleep(self.config.settings.commit_interval);
            }
        }
        Ok(())
    }

    /// The outputs are published: now the states, in memory or beyond.
    fn stored(&mut self) -> Result<(), ProcessError> {
        let shared = self.shared.clone();
        let every = self.config.snapshots.as_ref().map(|plan| plan.every);
        let (contacts, accounts) = self.config.memory.share(shared.stores.load(Ordering::Relaxed));
        for active in self.active_mut() {
            if active.partition.is_dirty {
                active.partition.store.limit(contacts, accounts);
                let progress = active.published();
                shared.report(&progress, active.partition.machine.last_tick());
            }
            active.write_if_due()?;
            let now = clock::now();
            if let Some((uploader, every)) = shared.uploader.as_ref().zip(every)
                && now >= active.snapshot_at
            {
                active.copy(uploader)?;
                active.snapshot_at = now + every;
            }
        }
        Ok(())
    }

    /// Every partition goes back to its store, and will find out from the group's offsets what was published.
    fn doubt(&mut self, error: KafkaError) -> Result<(), ProcessError> {
        warn!(worker = self.number, %error, "it is not certain what was published; going on from the last commit");
        self.shared.metrics.aborted();
        (self.producer, self.aborted) = (None, 0);
        if let Some(needs) = error.rdkafka_error_code().and_then(|code| needs(&self.config, code)) {
            return Err(ProcessError::Denied { needs });
        }
        self.retry_at = clock::now();
        for active in self.active_mut() {
            active.abort().map_err(|source| failed(active.number, source))?;
        }
        Ok(())
    }

    /// A new producer, and every partition from the position of its store.
    fn resync(&mut self) -> Result<(), ProcessError> {
        if self.producer.is_some() || clock::now() < self.retry_at {
            return Ok(());
        }
        self.retry_at = clock::now() + RETRY;
        let producer = self.cluster.producer(self.number).map_err(ProcessError::Client)?;
        if let Err(error) = producer.enter() {
            match error.rdkafka_error_code().and_then(|code| needs(&self.config, code)) {
                Some(needs) => self.waits(&error, &format!("this user needs {needs}; trying again")),
                None => self.waits(&error, "the broker does not let a producer in; trying again"),
            }
            return Ok(());
        }
        let numbers: Vec<i32> = self.active().map(|active| active.number).collect();
        let positions = match committed(&*self.member, &numbers) {
            Ok(positions) => positions,
            Err(error) => {
                self.waits(&error, "the group's offsets are not known; asking again");
                return Ok(());
            }
        };
        for (partition, position) in positions {
            let position = position?;
            let Some(Owned::Active(active)) = self.owned.get_mut(&partition) else { continue };
            active.publish_from(position);
        }
        let sought = self.active().try_for_each(|active| self.member.seek(active.number, active.stand.position.offset));
        if let Err(error) = sought {
            self.waits(&error, "the log cannot be read from where the states stand; trying again");
            return Ok(());
        }
        self.producer = Some(producer);
        self.committed_at = clock::now();
        Ok(())
    }

    /// Says what it waits for, seldom: a broker may be away for hours.
    fn waits(&mut self, error: &KafkaError, what: &str) {
        if self.said_at.is_none_or(|at| clock::since(at) >= SAY_EVERY) {
            warn!(worker = self.number, %error, "{what}");
            self.said_at = Some(clock::now());
        }
    }

    /// Commits, closes everything, and leaves nothing behind.
    fn leave(&mut self) -> Result<(), ProcessError> {
        self.settle()?;
        let all: Vec<i32> = self.owned.keys().copied().collect();
        self.give_up(&all, false)
    }
}

/// All partitions together publish no more than this in one transaction: librdkafka keeps a copy until it is acknowledged.
const BATCH_BYTES: usize = 32 << 20;

/// Whether somebody has to allow it first.
fn needs(config: &Config, code: RDKafkaErrorCode) -> Option<String> {
    let Config { prefix, group, topics, .. } = config;
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            let Topics { events, alerts, scores, facts, dead_letters } = topics;
            Some(format!("Read on {events}, and Write on {alerts}, {scores}, {facts} and {dead_letters}"))
        }
        RDKafkaErrorCode::GroupAuthorizationFailed => Some(format!("Read on the group {group}")),
        RDKafkaErrorCode::TransactionalIdAuthorizationFailed => {
            Some(format!("Write on the transactional ids that begin with {prefix}."))
        }
        RDKafkaErrorCode::ClusterAuthorizationFailed => Some("IdempotentWrite on the cluster".to_owned()),
        _ => None,
    }
}

fn failed(partition: i32, source: StepError<StoreError>) -> ProcessError {
    ProcessError::Step { partition, source }
}
