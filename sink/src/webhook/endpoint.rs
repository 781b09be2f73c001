//! How the receiver is doing, and so how much is sent to it at once.
//!
//! A change that is refused says nothing of others, so sending goes on. But when several have failed and nothing has got
//! through since, the endpoint is *down*: one message at a time then shows whether anything gets through again, and all
//! others wait. Less is sent at once to a receiver that is overloaded, more again with each success.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::schedule::Schedule;

/// Names a pending message, in the order of admission.
pub type Ticket = u64;

/// So many messages that find no working receiver in a row: one may be the cause itself, two are not.
const UNAVAILABLE: usize = 2;
/// So many messages refused in a row, by a receiver that works: more than a batch of odd ones.
const REFUSED: usize = 8;

/// What a failed attempt says of the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There was no answer, or that of a gateway without a receiver behind it.
    Unavailable,
    /// The receiver has answered that it wants less.
    Throttled,
    /// The receiver has answered that it does not take this.
    Refused,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it says of the receiver.
    pub fault: Fault,
    /// What happened, for people.
    pub reason: String,
    /// What the receiver has said of it, which may repeat what it was sent: for the dead letter, and for no log.
    pub said: String,
    /// How long the receiver asks to wait.
    pub retry_after: Option<Duration>,
}

/// The receiver, as its answers show it.
#[derive(Debug)]
pub struct Endpoint {
    most: usize,
    allowed: usize,
    silent_until: Option<Instant>,
    probe_at: Option<Instant>,
    probes: usize,
    /// When the first attempt failed since anything got through.
    failing_since: Option<Instant>,
    accepted_at: Option<Instant>,
    unavailable: BTreeSet<Ticket>,
    refused: BTreeSet<Ticket>,
}

impl Endpoint {
    /// One that takes so many messages at once, for all that is known.
    pub fn new(most: usize) -> Endpoint {
        Endpoint {
            most,
            allowed: most,
            silent_until: None,
            probe_at: None,
            probes: 0,
            failing_since: None,
            accepted_at: None,
            unavailable: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Whether nothing gets through at all.
    pub fn is_down(&self) -> bool {
        self.unavailable.len() >= UNAVAILABLE || self.refused.len() >= REFUSED
    }

    /// How many messages may be on their way at once.
    pub fn allowed(&self) -> usize {
        self.allowed
    }

    /// It has asked that nothing is sent before.
    pub fn silent_until(&self) -> Option<Instant> {
        self.silent_until
    }

    /// While it is down, when it is next tried whether anything gets through.
    pub fn probe_at(&self) -> Option<Instant> {
        self.probe_at
    }

    /// Whether a message has got through since.
    pub fn accepted_since(&self, moment: Instant) -> bool {
        self.accepted_at.is_some_and(|at| at >= moment)
    }

    /// Notes that a message got through. If it was down until now: since when.
    pub fn accepted(&mut self, now: Instant) -> Option<Instant> {
        let down_since = self.failing_since.filter(|_| self.is_down());
        self.accepted_at = Some(now);
        self.allowed = (self.allowed + 1).min(self.most);
        (self.probe_at, self.probes, self.failing_since) = (None, 0, None);
        self.unavailable.clear();
        self.refused.clear();
        down_since
    }

    /// Notes that an attempt failed, which began as a probe or not.
    pub fn failed(
        &mut self,
        ticket: Ticket,
        failure: &Failure,
        was_probe: bool,
        schedule: &mut Schedule,
        now: Instant,
    ) {
        self.failing_since.get_or_insert(now);
        let is_overload = match failure.fault {
            // One that fails again and again says nothing new.
            Fault::Unavailable => self.unavailable.insert(ticket),
            Fault::Refused => {
                self.refused.insert(ticket);
                false
            }
            Fault::Throttled => {
                let pause = failure.retry_after.unwrap_or_else(|| schedule.probe(0));
                self.silent_until = self.silent_until.max(Some(now + pause));
                true
            }
        };
        if is_overload {
            self.allowed = (self.allowed / 2).max(1);
        }
        if self.is_down() {
            self.allowed = 1;
            self.probes += usize::from(was_probe);
            if was_probe || self.probe_at.is_none() {
                self.probe_at = Some(now + schedule.probe(self.probes));
            }
        }
    }
}
