//! Outputs that the broker has not acknowledged yet.
//!
//! A *stint* is one assignment of one source partition to this process; within it, outputs depart in the order of their
//! offsets and land in any. What has landed without a gap may be committed, and may count as read. Acknowledgements of a
//! stint that is over change nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, Message, OwnedHeaders};
use rdkafka::producer::{DeliveryResult, ProducerContext};

use super::client::{Context, lock};

/// How many outputs are under way at most: half a second's at the speed of one thread.
const RECORDS: usize = 100_000;
/// The same in bytes: what a queue may cost, whatever the size of its records.
const BYTES: usize = 64 << 20;

/// Names a stint; never used twice by a process.
pub(super) type Stint = u64;

/// All outputs under way.
#[derive(Default)]
pub(super) struct Flights {
    state: Mutex<State>,
    landed: Condvar,
}

#[derive(Default)]
struct State {
    stints: HashMap<Stint, Queue>,
    records: usize,
    bytes: usize,
    refused: Vec<Refused>,
    failure: Option<(String, KafkaError)>,
}

/// The outputs of a stint from the oldest that has not landed.
struct Queue {
    topic: String,
    partition: i32,
    first: u64,
    flights: VecDeque<Flight>,
}

struct Flight {
    offset: i64,
    has_landed: bool,
}

/// What an output is known by when it lands.
#[derive(Debug)]
pub(super) struct Ticket {
    stint: Stint,
    number: u64,
    offset: i64,
    bytes: usize,
    /// Whether it was sent as a batch of its own.
    pub(super) is_alone: bool,
}

/// An output that its topic does not take, for its size or for that of its batch.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) ticket: Box<Ticket>,
    pub(super) topic: String,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) headers: Option<OwnedHeaders>,
}

impl Flights {
    /// A stint begins.
    pub(super) fn begin(&self, stint: Stint, topic: &str, partition: i32) {
        let queue = Queue { topic: topic.to_owned(), partition, first: 0, flights: VecDeque::new() };
        lock(&self.state).stints.insert(stint, queue);
    }

    /// An output of the record at `offset` is about to be sent.
    pub(super) fn depart(&self, stint: Stint, offset: i64, bytes: usize) -> Box<Ticket> {
        let mut state = lock(&self.state);
        state.records += 1;
        state.bytes += bytes;
        let number = state.stints.get_mut(&stint).map_or(0, |queue| {
            queue.flights.push_back(Flight { offset, has_landed: false });
            queue.first + queue.flights.len() as u64 - 1
        });
        Box::new(Ticket { stint, number, offset, bytes, is_alone: false })
    }

    /// An output is durable, or matters no more.
    pub(super) fn land(&self, ticket: &Ticket) {
        let mut state = lock(&self.state);
        state.records -= 1;
        state.bytes -= ticket.bytes;
        if let Some(queue) = state.stints.get_mut(&ticket.stint) {
            let at = ticket.number.checked_sub(queue.first).and_then(|at| usize::try_from(at).ok());
            if let Some(flight) = at.and_then(|at| queue.flights.get_mut(at)) {
                flight.has_landed = true;
            }
            while queue.flights.front().is_some_and(|flight| flight.has_landed) {
                queue.flights.pop_front();
                queue.first += 1;
            }
        }
        drop(state);
        self.landed.notify_all();
    }

    /// The topic, partition and offset of the record that an output is of, while its stint lasts.
    pub(super) fn origin(&self, ticket: &Ticket) -> Option<(String, i32, i64)> {
        let state = lock(&self.state);
        state.stints.get(&ticket.stint).map(|queue| (queue.topic.clone(), queue.partition, ticket.offset))
    }

    /// The offset of the oldest record whose output is still under way.
    pub(super) fn oldest(&self, stint: Stint) -> Option<i64> {
        lock(&self.state).stints.get(&stint).and_then(|queue| queue.flights.front()).map(|flight| flight.offset)
    }

    /// Nothing of this stint matters any more.
    pub(super) fn end(&self, stint: Stint) {
        lock(&self.state).stints.remove(&stint);
    }

    /// How many outputs are under way.
    pub(super) fn records(&self) -> usize {
        lock(&self.state).records
    }

    /// Whether nothing more should depart.
    pub(super) fn is_full(&self) -> bool {
        lock(&self.state).is_full()
    }

    /// Waits until more may depart, at most so long; `false` if it still may not.
    pub(super) fn wait_for_room(&self, at_most: Duration) -> bool {
        self.wait(at_most, |state| !state.is_full())
    }

    /// Waits until all of these stints' outputs have landed, at most so long; `false` if they have not.
    pub(super) fn wait_for(&self, stints: &[Stint], at_most: Duration) -> bool {
        self.wait(at_most, |state| stints.iter().all(|stint| state.has_landed(*stint)))
    }

    /// Until the condition holds, something needs the caller, or the time is over; whether it holds.
    fn wait(&self, at_most: Duration, is_met: impl Fn(&State) -> bool) -> bool {
        let deadline = Instant::now() + at_most;
        let mut state = lock(&self.state);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if is_met(&state) {
                return true;
            }
            if left.is_zero() || state.failure.is_some() || !state.refused.is_empty() {
                return false;
            }
            state = match self.landed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// What topics have refused since the last call.
    pub(super) fn take_refused(&self) -> Vec<Refused> {
        std::mem::take(&mut lock(&self.state).refused)
    }

    /// Why outputs do not land at all.
    pub(super) fn failure(&self) -> Option<(String, KafkaError)> {
        lock(&self.state).failure.clone()
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.records >= RECORDS || self.bytes >= BYTES
    }

    fn has_landed(&self, stint: Stint) -> bool {
        self.stints.get(&stint).is_none_or(|queue| queue.flights.is_empty())
    }
}

impl ProducerContext for Context<Arc<Flights>> {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        match result {
            Ok(_) => self.0.land(&ticket),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), message)) => {
                let owned = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
                let (key, value) = (owned(message.key()), owned(message.payload()));
                let headers = message.headers().map(BorrowedHeaders::detach);
                let refused = Refused { ticket, topic: message.topic().to_owned(), key, value, headers };
                lock(&self.0.state).refused.push(refused);
                self.0.landed.notify_all();
            }
            Err((error, message)) => {
                lock(&self.0.state).failure.get_or_insert_with(|| (message.topic().to_owned(), error.clone()));
                self.0.landed.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_without_a_gap_counts_in_whatever_order_it_comes() {
        let flights = Flights::default();
        (1..3).for_each(|stint| flights.begin(stint, "t", 0));
        let tickets: Vec<_> = [10, 11, 15].map(|offset| flights.depart(1, offset, 100)).into();
        let other = flights.depart(2, 7, 1);
        let after = |at: usize| {
            flights.land(&tickets[at]);
            flights.oldest(1)
        };
        assert_eq!([after(1), after(0), after(2)], [Some(10), Some(15), None]);
        assert_eq!((flights.oldest(2), flights.records()), (Some(7), 1));
        flights.land(&other);
        assert!(flights.wait_for(&[1, 2], Duration::ZERO));
    }

    #[test]
    fn a_stint_that_is_over_gives_its_room_back_and_no_more() {
        let flights = Flights::default();
        [1, 3].iter().for_each(|stint| flights.begin(*stint, "t", 0));
        let old = flights.depart(1, 10, BYTES);
        assert!(flights.is_full() && !flights.wait_for_room(Duration::ZERO));
        assert_eq!(flights.origin(&old), Some(("t".to_owned(), 0, 10)));
        flights.end(1);
        assert_eq!(flights.origin(&old), None);
        let new = flights.depart(3, 10, 1);
        flights.land(&old);
        assert!(!flights.is_full());
        assert_eq!(flights.oldest(3), Some(10));
        flights.land(&new);
        assert_eq!((flights.oldest(3), flights.records()), (None, 0));
    }
}
