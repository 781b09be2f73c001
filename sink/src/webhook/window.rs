//! What has been taken and has not settled: pure, with time as an argument.
//!
//! Invariants:
//! - Messages of one key are sent one at a time, in the lane's order. Others pass one that waits to be tried again.
//! - The notice that a contact has been erased comes behind every alert that names it.
//! - Every change taken in is settled once: accepted by the receiver, or rejected when its schedule is over.
//! - What is told of a lane never goes past a pending change, so a crash repeats at most [`WINDOW_CHANGES`] and a batch.
//! - A message has had its schedule's attempts, over its schedule's time, before it is rejected. Attempts beyond the
//!   schedule (probes, and those at once when an endpoint is back) do not count. The one exception is a message that
//!   alone keeps a window of delivered ones from being remembered, see [`Window::make_room`].
//! - While nothing gets through, the schedules of those run that have begun; no other begins before these are over.

mod sort;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;
use touchline_core::notice::{Left, Notice, Notices};
use touchline_core::output::Topic;

use super::digest::{self, RunKey};
use super::endpoint::{Endpoint, Failure, Fault, Ticket};
use super::lane::{LaneState, Member, Run};
use super::message::{Envelope, Message};
use super::schedule::{PROBE_EVERY, Schedule};
use crate::sink::{Batch, Change, Lane, Settled};
use sort::Sort;

/// Most changes between the oldest pending one and the newest: what a crash may repeat. More than come in the three days
/// of the standard schedule where a thousand alerts an hour would be many.
pub const WINDOW_CHANGES: usize = 16_384;
/// Pending changes in memory.
const WINDOW_BYTES: usize = 16 << 20;
/// Changes to a batch: what is remembered is remembered by the batch, so one pending change repeats so many.
pub const ROOM: usize = 64;
/// The rest of a run is awaited for so long: the parts of one tick are committed more often than this.
const RUN_LINGER: Duration = Duration::from_secs(1);
/// A run that goes on for longer than this has ends of batches inside of it that count.
const STRETCH_CHANGES: usize = WINDOW_CHANGES / 2;

/// What must stay in order: one key of a lane.
type Key = (Lane, Topic, Vec<u8>);

/// A message to be sent.
#[derive(Debug)]
pub struct Attempt {
    /// Whose outcome to tell.
    pub ticket: Ticket,
    /// What to send.
    pub message: Message,
}

#[derive(Debug)]
struct Pending {
    lane: Lane,
    /// One, or the alerts of a digest.
    members: Vec<Member>,
    envelope: Envelope,
    keys: Vec<Key>,
    /// Keys of which another message comes first.
    blocked: usize,
    /// When the schedule has its next attempt.
    due: Instant,
    /// When it is sent; earlier than `due` for an attempt beyond the schedule.
    at: Instant,
    /// Attempts that count.
    scheduled: usize,
    /// All attempts.
    tried: usize,
    first_at: Option<Instant>,
    failed_at: Option<Instant>,
    in_flight: Option<Start>,
}

/// How an attempt began.
#[derive(Clone, Copy, Debug)]
struct Start {
    at: Instant,
    /// To see whether anything gets through.
    is_probe: bool,
    /// As one of the schedule.
    counts: bool,
}

/// The window; see the module.
#[derive(Debug)]
pub struct Window {
    lanes: BTreeMap<Lane, LaneState>,
    pending: BTreeMap<Ticket, Pending>,
    queues: HashMap<Key, VecDeque<Ticket>>,
    /// First of all their keys, and not on their way.
    sendable: BTreeSet<(Instant, Ticket)>,
    /// Lanes with something to tell.
    telling: BTreeSet<Lane>,
    tickets: Ticket,
    in_flight: usize,
    changes: usize,
    bytes: usize,
    schedule: Schedule,
    endpoint: Endpoint,
}

impl Window {
    /// An empty one.
    pub fn new(schedule: Schedule, endpoint: Endpoint) -> Window {
        Window {
            lanes: BTreeMap::new(),
            pending: BTreeMap::new(),
            queues: HashMap::new(),
            sendable: BTreeSet::new(),
            telling: BTreeSet::new(),
            tickets: 0,
            in_flight: 0,
            changes: 0,
            bytes: 0,
            schedule,
            endpoint,
        }
    }

    /// How many changes it takes now.
    pub fn room(&self) -> usize {
        if self.bytes >= WINDOW_BYTES { 0 } else { WINDOW_CHANGES.saturating_sub(self.span()).min(ROOM) }
    }

    /// Changes that have not settled.
    pub fn waiting(&self) -> usize {
        self.changes
    }

    /// Whether nothing gets through at all.
    pub fn is_down(&self) -> bool {
        self.endpoint.is_down()
    }

    /// Takes a batch in.
    pub fn admit(&mut self, lane: &Lane, batch: &Batch, now: Instant) {
        let state = self.lanes.entry(lane.clone()).or_default();
        let goes_on = state.run.is_some() && state.last_changes() < STRETCH_CHANGES && state.continues(&batch.changes);
        let stretch = state.extend(batch.changes.len(), goes_on);
        for change in &batch.changes {
            self.admit_change(lane, Member { change: change.clone(), stretch }, now);
        }
        if let Some(state) = self.lanes.get_mut(lane) {
            state.end(stretch, batch.next.clone());
        }
        self.tell(lane);
    }

    fn admit_change(&mut self, lane: &Lane, member: Member, now: Instant) {
        let (topic, bytes) = (member.change.topic, member.change.bytes());
        let sort = Sort::of(lane, &member.change);
        let Some(state) = self.lanes.get_mut(lane) else { return };
        let sort = match sort {
            Ok(sort) => sort,
            Err(reason) => {
                state.rejected.push((member.change, reason));
                return;
            }
        };
        state.expect(member.stretch);
        (self.changes, self.bytes) = (self.changes + 1, self.bytes + bytes);
        match sort {
            Sort::OfRun(key) => self.join_run(lane, key, member, now),
            Sort::Alone(envelope) => {
                // What is no alert does not end a run of alerts.
                if topic == Topic::Alerts {
                    self.close_run(lane, now);
                }
                let overtaken = self.overtaken(lane, &member.change);
                self.enqueue(lane, vec![member], envelope, overtaken, now);
            }
        }
    }

    fn join_run(&mut self, lane: &Lane, key: RunKey, member: Member, now: Instant) {
        let closes_at = now + RUN_LINGER;
        if self.lanes.get(lane).and_then(|state| state.run.as_ref()).is_some_and(|run| run.key != key) {
            self.close_run(lane, now);
        }
        let Some(state) = self.lanes.get_mut(lane) else { return };
        let run = state.run.get_or_insert_with(|| Run { key, members: Vec::new(), closes_at });
        run.members.push(member);
        run.closes_at = closes_at;
    }

    fn close_run(&mut self, lane: &Lane, now: Instant) {
        if let Some(run) = self.lanes.get_mut(lane).and_then(|state| state.run.take()) {
            let envelope = digest::envelope(run.members.iter().map(|member| &member.change));
            self.enqueue(lane, run.members, envelope, BTreeSet::new(), now);
        }
    }

    /// The keys of pending alerts that a notice of an erasure must not overtake: the receiver would learn of the contact
    /// again after it has been told to forget it.
    fn overtaken(&self, lane: &Lane, change: &Change) -> BTreeSet<Key> {
        let alert = change.value.as_deref().filter(|_| change.topic == Topic::Alerts);
        let Some(notice) = alert.and_then(Notice::of) else { return BTreeSet::new() };
        let mut notices = Notices::default();
        notices.add(&notice, 1);
        let names = |member: &&Member| {
            let value = member.change.value.as_deref().filter(|_| member.change.topic == Topic::Alerts);
            value.is_some_and(|value| notices.left(value, 0) != Left::All)
        };
        let of_lane = self.pending.values().filter(|pending| pending.lane == *lane);
        of_lane.flat_map(|pending| &pending.members).filter(names).map(|member| key(lane, member)).collect()
    }

    /// `keys` are others than the members' that come first.
    fn enqueue(
        &mut self,
        lane: &Lane,
        members: Vec<Member>,
        envelope: Envelope,
        mut keys: BTreeSet<Key>,
        now: Instant,
    ) {
        self.tickets += 1;
        let ticket = self.tickets;
        // Without a key there is no order to keep.
        keys.extend(members.iter().filter(|member| !member.change.key.is_empty()).map(|member| key(lane, member)));
        let mut blocked = 0;
        for key in &keys {
            let queue = self.queues.entry(key.clone()).or_default();
            blocked += usize::from(!queue.is_empty());
            queue.push_back(ticket);
        }
        if blocked == 0 {
            self.sendable.insert((now, ticket));
        }
        let keys = keys.into_iter().collect();
        let pending = Pending {
            lane: lane.clone(),
            members,
            envelope,
            keys,
            blocked,
            due: now,
            at: now,
            scheduled: 0,
            tried: 0,
            first_at: None,
            failed_at: None,
            in_flight: None,
        };
        self.pending.insert(ticket, pending);
    }

    /// The next message to send now. Asked again until there is none.
    pub fn start(&mut self, now: Instant) -> Option<Attempt> {
        self.close_runs(now);
        self.make_room(now);
        if self.in_flight >= self.endpoint.allowed() || self.endpoint.silent_until().is_some_and(|at| at > now) {
            return None;
        }
        let due = if self.endpoint.is_down() { self.begun() } else { self.sendable.first().copied() };
        let due = due.filter(|(at, _)| *at <= now);
        let is_probe = due.is_none();
        let (at, ticket) = due.or_else(|| self.probe(now))?;
        // While nothing gets through the schedules of few run; probes with others do not count.
        let is_counted = !is_probe || self.begun().is_none();
        self.sendable.remove(&(at, ticket));
        let pending = self.pending.get_mut(&ticket)?;
        let counts = is_counted && pending.due <= now;
        pending.in_flight = Some(Start { at: now, is_probe, counts });
        pending.first_at.get_or_insert(now);
        self.in_flight += 1;
        Some(Attempt { ticket, message: pending.message() })
    }

    /// Of the messages whose schedule runs, the one that is to be sent first.
    fn begun(&self) -> Option<(Instant, Ticket)> {
        let is_begun = |ticket| self.pending.get(ticket).is_some_and(|pending| pending.scheduled > 0);
        self.sendable.iter().find(|(_, ticket)| is_begun(ticket)).copied()
    }

    /// While it is down, what shows whether anything gets through: what has not been tried, which is not suspected itself;
    /// else what was tried least recently, so that none that is refused for its own sake hides for long that others are
    /// not.
    fn probe(&self, now: Instant) -> Option<(Instant, Ticket)> {
        self.endpoint.probe_at().filter(|at| *at <= now)?;
        let failed_at = |ticket| self.pending.get(ticket).and_then(|pending| pending.failed_at);
        self.sendable.iter().min_by_key(|(_, ticket)| (failed_at(ticket), *ticket)).copied()
    }

    /// When there may be something to start, or to tell, though nothing is finished or admitted until then.
    pub fn wakes_at(&self) -> Option<Instant> {
        let runs = self.lanes.values().filter_map(|state| state.run.as_ref()).map(|run| run.closes_at);
        let first = self.sendable.first().filter(|_| self.in_flight < self.endpoint.allowed());
        let sendable = first.and_then(|(at, _)| {
            let begun = || self.begun().map(|(at, _)| at);
            let at = self.endpoint.probe_at().map_or(Some(*at), |probe_at| begun().into_iter().chain([probe_at]).min());
            at.max(self.endpoint.silent_until())
        });
        runs.chain(sendable).min()
    }

    /// Takes the outcome of an attempt. If it failed and there will be another: why.
    pub fn finish(&mut self, ticket: Ticket, outcome: Result<(), Failure>, now: Instant) -> Option<String> {
        let pending = self.pending.get_mut(&ticket)?;
        let start = pending.in_flight.take()?;
        self.in_flight -= 1;
        let Err(failure) = outcome else {
            let down_since = self.endpoint.accepted(now);
            self.settle(ticket, None);
            if let Some(since) = down_since {
                self.hurry(since);
            }
            return None;
        };
        self.endpoint.failed(ticket, &failure, start.is_probe, &mut self.schedule, now);
        let is_alone = !self.endpoint.is_down() && !self.endpoint.accepted_since(start.at);
        pending.failed_at = Some(now);
        pending.tried += 1;
        if pending.reschedule(&failure, start.counts, is_alone, &mut self.schedule, now) {
            self.sendable.insert((pending.at, ticket));
            return Some(failure.reason);
        }
        let reason = format!("{}{}; given up {}", failure.reason, failure.said, pending.effort(now));
        self.settle(ticket, Some(&reason));
        None
    }

    /// What failed while nothing got through is tried again at once.
    fn hurry(&mut self, since: Instant) {
        for (ticket, pending) in &mut self.pending {
            let sooner = pending.first_at.filter(|_| pending.failed_at.is_some_and(|at| at >= since));
            if let Some(sooner) = sooner
                && self.sendable.remove(&(pending.at, *ticket))
            {
                pending.at = sooner;
                self.sendable.insert((sooner, *ticket));
            }
        }
    }

    /// A change is delivered, or rejected for a reason.
    fn settle(&mut self, ticket: Ticket, rejected: Option<&str>) {
        let Some(pending) = self.pending.remove(&ticket) else { return };
        self.sendable.remove(&(pending.at, ticket));
        for key in &pending.keys {
            self.unblock(key);
        }
        if let Some(state) = self.lanes.get_mut(&pending.lane) {
            for Member { change, stretch } in pending.members {
                (self.changes, self.bytes) = (self.changes - 1, self.bytes - change.bytes());
                state.settle(stretch);
                if let Some(reason) = rejected {
                    state.rejected.push((change, reason.to_owned()));
                }
            }
        }
        self.tell(&pending.lane);
    }

    /// The first message of a key has settled.
    fn unblock(&mut self, key: &Key) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        queue.pop_front();
        let Some(next) = queue.front() else {
            self.queues.remove(key);
            return;
        };
        if let Some(pending) = self.pending.get_mut(next) {
            pending.blocked -= 1;
            if pending.blocked == 0 {
                self.sendable.insert((pending.at, *next));
            }
        }
    }

    fn tell(&mut self, lane: &Lane) {
        let has_news = |state: &LaneState| state.through.is_some() || !state.rejected.is_empty();
        if self.lanes.get(lane).is_some_and(has_news) {
            self.telling.insert(lane.clone());
        }
    }

    /// What has settled since it was last asked.
    pub fn news(&mut self) -> Option<Settled> {
        let lane = self.telling.pop_first()?;
        let state = self.lanes.get_mut(&lane)?;
        let (rejected, through) = (std::mem::take(&mut state.rejected), state.through.take());
        Some(Settled { lane, rejected, through })
    }

    /// Forgets a lane. The messages that are on their way, whose outcome nobody wants to know.
    pub fn release(&mut self, lane: &Lane) -> Vec<Ticket> {
        let Some(state) = self.lanes.remove(lane) else { return Vec::new() };
        self.telling.remove(lane);
        self.queues.retain(|(of, _, _), _| of != lane);
        let of_run = state.run.into_iter().flat_map(|run| run.members);
        let (mut on_their_way, mut members): (_, Vec<Member>) = (Vec::new(), of_run.collect());
        self.pending.retain(|ticket, pending| {
            if pending.lane == *lane {
                self.sendable.remove(&(pending.at, *ticket));
                on_their_way.extend(pending.in_flight.map(|_| *ticket));
                members.append(&mut pending.members);
            }
            pending.lane != *lane
        });
        self.changes -= members.len();
        self.bytes -= members.iter().map(|member| member.change.bytes()).sum::<usize>();
        self.in_flight -= on_their_way.len();
        on_their_way
    }

    fn span(&self) -> usize {
        self.lanes.values().map(LaneState::span).sum()
    }

    /// Ends the runs whose end has been awaited for long enough.
    fn close_runs(&mut self, now: Instant) {
        let is_over = |state: &LaneState| state.run.as_ref().is_some_and(|run| run.closes_at <= now);
        let over: Vec<Lane> =
            self.lanes.iter().filter(|(_, state)| is_over(state)).map(|(lane, _)| lane.clone()).collect();
        for lane in over {
            self.close_run(&lane, now);
        }
    }

    /// Gives up the oldest change that is refused, if the window is full mostly of changes that were delivered after it:
    /// otherwise all would wait for it until its schedule is over.
    fn make_room(&mut self, now: Instant) {
        while self.span() >= WINDOW_CHANGES && self.changes <= WINDOW_CHANGES / 2 {
            let Some((lane, state)) = self.lanes.iter().max_by_key(|(_, state)| state.span()) else { return };
            let first = state.first();
            let holds = |pending: &Pending| {
                pending.lane == *lane && pending.members.iter().any(|member| Some(member.stretch) == first)
            };
            let is_refused = |pending: &Pending| pending.failed_at.is_some() && pending.in_flight.is_none();
            let Some((ticket, pending)) =
                self.pending.iter().find(|(_, pending)| holds(pending) && is_refused(pending))
            else {
                return;
            };
            let (ticket, span) = (*ticket, state.span());
            let reason = format!(
                "given up {}, before its schedule is over, since {span} later changes cannot be remembered as delivered \
                 before it is settled",
                pending.effort(now)
            );
            self.settle(ticket, Some(&reason));
        }
    }
}

impl Pending {
    fn message(&self) -> Message {
        self.envelope.around(self.members.first().and_then(|member| member.change.value.as_deref()))
    }

    /// Sets the time of the next attempt; whether there is one.
    fn reschedule(
        &mut self,
        failure: &Failure,
        counts: bool,
        is_alone: bool,
        schedule: &mut Schedule,
        now: Instant,
    ) -> bool {
        if failure.fault == Fault::Throttled {
            // It is not this message that is unwelcome, so no attempt is counted; the endpoint says when.
            self.at = self.first_at.unwrap_or(now);
            return self.first_at.is_none_or(|first| now < first + schedule.span());
        }
        if counts {
            self.scheduled += 1;
            let Some(pause) = schedule.pause(self.scheduled) else { return false };
            self.due = now + pause;
        }
        self.due = self.due.max(now + failure.retry_after.unwrap_or_default());
        self.at = self.due;
        if failure.fault == Fault::Unavailable && is_alone && self.due > now + PROBE_EVERY {
            // Nothing else shows that the receiver is back.
            self.at = now + schedule.probe(self.tried - 1).max(failure.retry_after.unwrap_or_default());
        }
        true
    }

    /// How hard it was tried.
    fn effort(&self, now: Instant) -> String {
        let took = self.first_at.map_or(Duration::ZERO, |first| now - first);
        // Nobody reads on behind the first second.
        let took = if took < Duration::from_secs(1) { took.as_millis() } else { u128::from(took.as_secs()) * 1_000 };
        let took = SignedDuration::from_millis(i64::try_from(took).unwrap_or(i64::MAX));
        format!("after {} {} in {took:#}", self.tried, if self.tried == 1 { "attempt" } else { "attempts" })
    }
}

fn key(lane: &Lane, member: &Member) -> Key {
    (lane.clone(), member.change.topic, member.change.key.clone())
}

#[cfg(test)]
mod tests;
