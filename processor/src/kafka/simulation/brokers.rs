//! Brokers in memory, as a worker meets them: a log, a group, transactions; and what goes wrong with them, by dice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::message::{OwnedMessage, Timestamp};
use touchline_core::output::Topic;
use touchline_harness::Dice;

use super::super::clock;
use super::super::cluster::{CommittedOffset, Rebalance};
use crate::outputs::OutputBatch;

/// As the processor asks for: `client::SESSION_MS`, `client::TRANSACTION_MS`.
const SESSION: Duration = Duration::from_secs(6);
const TRANSACTION: Duration = Duration::from_secs(10);

/// What is read with `read_committed`: each value that a key has had in a topic, in order.
pub type Published = BTreeMap<(Topic, Vec<u8>), Vec<Option<Vec<u8>>>>;

/// Adds what a batch publishes.
pub fn publish<'a>(published: &mut Published, batches: impl Iterator<Item = &'a OutputBatch>) {
    for output in batches.flat_map(OutputBatch::iter) {
        let values = published.entry((output.topic, output.key.to_vec())).or_default();
        values.push(output.value.map(<[u8]>::to_vec));
    }
}

/// The brokers of one simulation.
pub struct Brokers(Mutex<State>);

pub struct State {
    pub dice: Dice,
    pub logs: Vec<Log>,
    pub group: Group,
    pub transactions: BTreeMap<String, Transactions>,
    pub committed: BTreeMap<i32, CommittedOffset>,
    pub published: Published,
    pub away_until: Instant,
    /// Nothing goes wrong any more.
    pub is_calm: bool,
    /// A process that has no time left.
    pub doomed: Option<String>,
    /// What has happened, for a comparison of two runs.
    pub trace: Vec<String>,
}

#[derive(Default)]
pub struct Log {
    /// By offset, with gaps: the ends of transactions are offsets, too.
    pub records: BTreeMap<i64, Vec<u8>>,
    pub end: i64,
}

#[derive(Default)]
pub struct Group {
    pub generation: u64,
    pub seats: BTreeMap<String, Seat>,
    /// Who is to have each partition.
    pub targets: BTreeMap<i32, String>,
}

/// A member, as the group knows it.
pub struct Seat {
    /// Which client of this name it is.
    pub client: u64,
    pub owned: BTreeSet<i32>,
    pub revoking: BTreeSet<i32>,
    pub news: VecDeque<Rebalance>,
    pub heard: Instant,
}

/// All of one transactional id.
#[derive(Default)]
pub struct Transactions {
    pub epoch: u64,
    pub open: Option<Open>,
}

pub struct Open {
    pub published: Published,
    pub offsets: Vec<(i32, CommittedOffset)>,
    /// The coordinator has promised to commit it.
    pub is_prepared: bool,
    pub since: Instant,
}

/// A record, as it is read.
pub fn message(partition: i32, offset: i64, payload: &[u8]) -> OwnedMessage {
    let (payload, topic) = (Some(payload.to_vec()), "events".to_owned());
    OwnedMessage::new(payload, None, topic, Timestamp::NotAvailable, partition, offset, None)
}

impl Brokers {
    pub fn new(seed: u64, partitions: usize) -> Arc<Brokers> {
        Arc::new(Brokers(Mutex::new(State {
            dice: Dice(seed),
            logs: (0..partitions).map(|_| Log::default()).collect(),
            group: Group::default(),
            transactions: BTreeMap::new(),
            committed: BTreeMap::new(),
            published: Published::new(),
            away_until: clock::now(),
            is_calm: false,
            doomed: None,
            trace: Vec::new(),
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    /// Time has passed: who is not heard of loses his seat, and transactions that last too long are ended.
    pub fn look(&mut self) {
        let now = clock::now();
        if self.is_away() {
            // Nobody can be heard by brokers that are away, and a coordinator that is back waits anew.
            self.group.seats.values_mut().for_each(|seat| seat.heard = now);
            return;
        }
        let seats = self.group.seats.len();
        self.group.seats.retain(|_, seat| now.duration_since(seat.heard) < SESSION);
        if self.group.seats.len() < seats {
            self.share_out();
        }
        for id in self.transactions.keys().cloned().collect::<Vec<_>>() {
            let Some(open) = &self.transactions[&id].open else { continue };
            let is_over =
                if open.is_prepared { self.dice.one_in(5) } else { now.duration_since(open.since) > TRANSACTION };
            if is_over {
                self.settle(&id);
            }
        }
    }

    pub fn go_away(&mut self, lasting: Duration) {
        self.away_until = clock::now() + lasting;
    }

    pub fn is_away(&self) -> bool {
        !self.is_calm && clock::now() < self.away_until
    }

    /// The next record of a partition, and perhaps the end of a transaction.
    pub fn append(&mut self, partition: usize, record: &str) {
        let is_marked = self.dice.one_in(6);
        let log = &mut self.logs[partition];
        log.records.insert(log.end, record.as_bytes().to_vec());
        log.end += 1 + i64::from(is_marked);
    }

    pub fn is_done(&self) -> bool {
        let is_open = self.transactions.values().any(|transactions| transactions.open.is_some());
        let is_read =
            |(partition, end): (i32, i64)| self.committed.get(&partition).is_some_and(|(offset, _)| *offset >= end);
        !is_open && (0..).zip(self.ends()).all(is_read)
    }

    /// The records of each partition, by offset.
    pub fn logs(&self) -> Vec<BTreeMap<i64, Vec<u8>>> {
        self.logs.iter().map(|log| log.records.clone()).collect()
    }

    /// The offset behind the last record of each partition.
    pub fn ends(&self) -> Vec<i64> {
        self.logs.iter().map(|log| log.records.keys().next_back().map_or(0, |last| last + 1)).collect()
    }

    /// Ends a transaction that nobody else will end.
    pub fn settle(&mut self, id: &str) {
        let Some(transactions) = self.transactions.get_mut(id) else { return };
        let Some(open) = transactions.open.take() else { return };
        self.trace.push(format!("settled {id}: {}", open.is_prepared));
        if open.is_prepared {
            self.commit(open);
        } else {
            // Its producer is shut out.
            transactions.epoch += 1;
        }
    }

    pub fn commit(&mut self, open: Open) {
        for (key, values) in open.published {
            self.published.entry(key).or_default().extend(values);
        }
        self.committed.extend(open.offsets);
    }

    /// Who is to have what, now that others are there.
    pub fn share_out(&mut self) {
        let State { group, dice, logs, .. } = self;
        group.generation += 1;
        let names: Vec<String> = group.seats.keys().cloned().collect();
        for partition in (0..).take(logs.len()) {
            let stays = group.targets.get(&partition).is_some_and(|name| names.contains(name)) && dice.one_in(2);
            if !stays && !names.is_empty() {
                group.targets.insert(partition, dice.pick(&names).clone());
            }
        }
        self.hand_over();
    }

    /// Whoever has what another is to have is asked for it; what nobody has is assigned.
    pub fn hand_over(&mut self) {
        let Group { generation, seats, targets } = &mut self.group;
        for (partition, target) in targets {
            match seats.iter_mut().find(|(_, seat)| seat.owned.contains(partition)) {
                Some((name, _)) if name == target => {}
                Some((_, seat)) => {
                    if seat.revoking.insert(*partition) {
                        seat.news.push_back(Rebalance::Revoked { partitions: vec![*partition], lost: false });
                    }
                }
                None => {
                    if let Some(seat) = seats.get_mut(target) {
                        *generation += 1;
                        seat.owned.insert(*partition);
                        seat.news.push_back(Rebalance::Assigned(vec![*partition]));
                    }
                }
            }
        }
    }
}
