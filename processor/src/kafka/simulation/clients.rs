//! What workers hold of the brokers in memory: members, producers, and an opener that takes its time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedMessage;

use super::super::Config;
use super::super::clock::{self, simulated};
use super::super::cluster::{Cluster, CommittedOffset, Member, Opening, Rebalance, Transactional};
use super::super::error::ProcessError;
use super::super::open::{Opened, Wanted, asked, open};
use super::super::position::Stand;
use super::super::transaction::{Failure, Offsets};
use super::brokers::{Brokers, Open, Published, Seat, State, message, publish};
use crate::StoreError;
use crate::outputs::OutputBatch;

fn failed(code: RDKafkaErrorCode) -> KafkaError {
    KafkaError::MetadataFetch(code)
}

/// The brokers, for the workers of one process.
pub struct Simulated {
    pub brokers: Arc<Brokers>,
    pub config: Arc<Config>,
}

impl Cluster for Simulated {
    type Member = SimulatedMember;
    type Producer = SimulatedProducer;
    type Opener = SimulatedOpener;

    fn member(&self, worker: usize) -> Result<SimulatedMember, KafkaError> {
        let client = self.brokers.state().dice.word();
        let name = format!("{}.{worker}", self.config.instance);
        Ok(SimulatedMember { brokers: self.brokers.clone(), name, client, local: Mutex::default() })
    }

    fn producer(&self, worker: usize) -> Result<SimulatedProducer, KafkaError> {
        let id = format!("{}.{worker}", self.config.instance);
        Ok(SimulatedProducer { brokers: self.brokers.clone(), id, epoch: Mutex::new(0) })
    }

    fn opener(&self, member: &Arc<SimulatedMember>, _: usize) -> Result<SimulatedOpener, ProcessError> {
        let slowness = *self.brokers.state().dice.pick(&[1, 2, 50]);
        Ok(SimulatedOpener {
            slowness,
            config: self.config.clone(),
            member: member.clone(),
            wanted: Mutex::default(),
            opened: Mutex::default(),
        })
    }
}

pub struct SimulatedMember {
    brokers: Arc<Brokers>,
    name: String,
    client: u64,
    local: Mutex<Local>,
}

/// What a client knows.
#[derive(Default)]
struct Local {
    generation: u64,
    positions: BTreeMap<i32, i64>,
    paused: BTreeSet<i32>,
    news: VecDeque<Rebalance>,
    is_subscribed: bool,
}

impl SimulatedMember {
    fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap()
    }

    fn join(&self, state: &mut State) {
        let (client, now) = (self.client, clock::now());
        if let Some(seat) = state.group.seats.get_mut(&self.name) {
            // One of this name has been here: it goes on where that one was, and nobody else hears of it.
            seat.client = client;
            seat.heard = now;
            seat.revoking.clear();
            seat.news.clear();
            let owned = seat.owned.iter().copied().collect();
            seat.news.push_back(Rebalance::Assigned(owned));
            state.hand_over();
            return;
        }
        let seat =
            Seat { client, owned: BTreeSet::new(), revoking: BTreeSet::new(), news: VecDeque::new(), heard: now };
        state.group.seats.insert(self.name.clone(), seat);
        state.share_out();
    }

    fn listen(&self, state: &mut State) -> Result<(), KafkaError> {
        let mut local = self.local();
        match state.group.seats.get_mut(&self.name) {
            Some(seat) if seat.client == self.client => {
                seat.heard = clock::now();
                local.news.append(&mut seat.news);
                local.generation = state.group.generation;
            }
            Some(_) => return Err(failed(RDKafkaErrorCode::FencedInstanceId)),
            None => {
                // The group has gone on without it.
                let partitions = local.positions.keys().copied().collect();
                local.news.clear();
                local.news.push_back(Rebalance::Revoked { partitions, lost: true });
                drop(local);
                self.join(state);
            }
        }
        Ok(())
    }
}

impl Member for SimulatedMember {
    type Message<'m> = OwnedMessage;

    fn subscribe(&self) -> Result<(), KafkaError> {
        self.local().is_subscribed = true;
        self.join(&mut self.brokers.state());
        Ok(())
    }

    fn poll(&self, within: Duration) -> Option<Result<OwnedMessage, KafkaError>> {
        let mut state = self.brokers.state();
        if state.is_away() || !self.local().is_subscribed {
            simulated::pass(within);
            return None;
        }
        if let Err(error) = self.listen(&mut state) {
            return Some(Err(error));
        }
        let mut local = self.local();
        let Local { positions, paused, .. } = &mut *local;
        let ready: Vec<i32> = positions
            .iter()
            .filter(|(partition, from)| !paused.contains(partition) && **from < state.logs[**partition as usize].end)
            .map(|(partition, _)| *partition)
            .collect();
        if ready.is_empty() || state.dice.one_in(8) {
            simulated::pass(within);
            return None;
        }
        let partition = *state.dice.pick(&ready);
        let log = &state.logs[partition as usize];
        let position = positions.get_mut(&partition).unwrap();
        let Some((offset, payload)) = log.records.range(*position..).next() else {
            *position = log.end;
            return None;
        };
        *position = offset + 1;
        Some(Ok(message(partition, *offset, payload)))
    }

    fn detach(message: &OwnedMessage) -> OwnedMessage {
        message.clone()
    }

    fn rebalance(&self) -> Option<Rebalance> {
        let news = self.local().news.pop_front()?;
        self.brokers.state().trace.push(format!("{}: {news:?}", self.name));
        Some(news)
    }

    fn has_rebalance(&self) -> bool {
        !self.local().news.is_empty()
    }

    fn assign(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        let mut local = self.local();
        local.positions.extend(partitions.iter().map(|partition| (*partition, 0)));
        local.paused.extend(partitions);
        Ok(())
    }

    fn unassign(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        let (mut state, mut local) = (self.brokers.state(), self.local());
        for partition in partitions {
            local.positions.remove(partition);
            local.paused.remove(partition);
        }
        if let Some(seat) = state.group.seats.get_mut(&self.name).filter(|seat| seat.client == self.client) {
            for partition in partitions {
                // What was revoked, or else it is another time that it is had.
                if seat.revoking.remove(partition) {
                    seat.owned.remove(partition);
                }
            }
            state.hand_over();
        }
        Ok(())
    }

    fn seek(&self, partition: i32, offset: i64) -> Result<(), KafkaError> {
        let mut state = self.brokers.state();
        if state.is_away() || (!state.is_calm && state.dice.one_in(20)) {
            return Err(failed(RDKafkaErrorCode::OperationTimedOut));
        }
        let mut local = self.local();
        if let Some(position) = local.positions.get_mut(&partition) {
            *position = offset;
        }
        Ok(())
    }

    fn pause(&self, partition: i32) -> Result<(), KafkaError> {
        self.local().paused.insert(partition);
        Ok(())
    }

    fn resume(&self, partition: i32) -> Result<(), KafkaError> {
        self.local().paused.remove(&partition);
        Ok(())
    }

    fn positions(&self) -> Result<Vec<(i32, i64)>, KafkaError> {
        Ok(self.local().positions.iter().map(|(partition, position)| (*partition, *position)).collect())
    }

    fn committed(&self, partitions: &[i32]) -> Result<Vec<(i32, Option<CommittedOffset>)>, KafkaError> {
        let state = self.brokers.state();
        let open = state.transactions.values().filter_map(|transactions| transactions.open.as_ref());
        let is_pending = open.flat_map(|open| &open.offsets).any(|(partition, _)| partitions.contains(partition));
        if state.is_away() || is_pending {
            simulated::pass(Duration::from_secs(1));
            return Err(failed(RDKafkaErrorCode::OperationTimedOut));
        }
        Ok(partitions.iter().map(|partition| (*partition, state.committed.get(partition).cloned())).collect())
    }

    fn bounds(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        Ok((0, self.brokers.state().logs[partition as usize].end))
    }

    fn close(&self) {}
}

pub struct SimulatedProducer {
    brokers: Arc<Brokers>,
    id: String,
    epoch: Mutex<u64>,
}

impl Transactional<SimulatedMember> for SimulatedProducer {
    fn enter(&self) -> Result<(), KafkaError> {
        let mut state = self.brokers.state();
        if state.is_away() || (!state.is_calm && state.dice.one_in(10)) {
            return Err(failed(RDKafkaErrorCode::OperationTimedOut));
        }
        state.settle(&self.id);
        let transactions = state.transactions.entry(self.id.clone()).or_default();
        transactions.epoch += 1;
        *self.epoch.lock().unwrap() = transactions.epoch;
        Ok(())
    }

    fn commit<'a>(
        &self,
        batches: impl Iterator<Item = (i32, &'a OutputBatch)>,
        offsets: &Offsets,
        member: &SimulatedMember,
    ) -> Result<(), Failure> {
        let state = &mut *self.brokers.state();
        let unknown = || Failure::Unknown(failed(RDKafkaErrorCode::OperationTimedOut));
        if state.is_away() || state.transactions[&self.id].epoch != *self.epoch.lock().unwrap() {
            return Err(unknown());
        }
        let mut open =
            Open { published: Published::new(), offsets: Vec::new(), is_prepared: false, since: clock::now() };
        publish(&mut open.published, batches.map(|(_, batch)| batch));
        let is_member = state.group.seats.get(&member.name).is_some_and(|seat| seat.client == member.client)
            && state.group.generation == member.local().generation;
        let offset = |(partition, stand): &(i32, Stand)| (*partition, (stand.position.offset, stand.metadata()));
        let outcome = if state.is_calm { 20 } else { state.dice.below(30) };
        state.trace.push(format!("{}: {outcome} {is_member} {:?}", self.id, offsets.0));
        if outcome < 6 && state.dice.one_in(3) {
            // It never hears of it.
            state.doomed = self.id.split('.').next().map(str::to_owned);
        }
        let mut leave_open = |open| state.transactions.get_mut(&self.id).unwrap().open = Some(open);
        match outcome {
            0 => {
                leave_open(open);
                return Err(unknown());
            }
            _ if !is_member => return Err(Failure::Aborted(failed(RDKafkaErrorCode::IllegalGeneration))),
            1 => return Err(Failure::Aborted(failed(RDKafkaErrorCode::OperationTimedOut))),
            _ => open.offsets = offsets.0.iter().map(offset).collect(),
        }
        match outcome {
            2 => return Err(unknown()),
            3 => leave_open(open),
            4 => {
                open.is_prepared = true;
                leave_open(open);
            }
            5 => state.commit(open),
            _ => {
                state.commit(open);
                return Ok(());
            }
        }
        Err(unknown())
    }
}

pub struct SimulatedOpener {
    /// In how many turns it does something.
    slowness: u64,
    config: Arc<Config>,
    member: Arc<SimulatedMember>,
    wanted: Mutex<VecDeque<Wanted>>,
    opened: Mutex<VecDeque<Opened>>,
}

impl Opening for SimulatedOpener {
    fn want(&self, wanted: Wanted) {
        self.wanted.lock().unwrap().push_back(wanted);
    }

    /// Much can happen between a wish, its fulfilment, and the news of it.
    fn opened(&self) -> Option<Opened> {
        let (is_working, is_told) = {
            let State { dice, is_calm, .. } = &mut *self.member.brokers.state();
            let slowness = if *is_calm { 1 } else { self.slowness };
            (dice.one_in(slowness), dice.one_in(slowness))
        };
        let mut all = self.wanted.lock().unwrap();
        if is_working && let Some(wanted) = all.pop_front() {
            let is_given_up = wanted.is_given_up.load(Ordering::Relaxed);
            let active = match asked(&*self.member, wanted.partition) {
                _ if is_given_up => Some(None),
                Err(_) => None,
                Ok(Err(error)) => Some(Some(Err(error))),
                Ok(Ok(log)) => match open(&self.config, &wanted, &log) {
                    Err(ProcessError::Store(StoreError::Locked { .. })) => None,
                    opened => Some(opened.transpose()),
                },
            };
            match active {
                Some(active) => self.opened.lock().unwrap().push_back(Opened { wanted, active }),
                None => all.push_front(wanted),
            }
        }
        if is_told { self.opened.lock().unwrap().pop_front() } else { None }
    }
}
