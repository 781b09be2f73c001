//! How far a lane has come.
//!
//! What a feed remembers is the cursor behind a batch; a batch counts once it and all before it have settled. A lane is
//! kept as *stretches*: one or more batches with the cursor behind them, and how many of their changes are pending.
//! Settled stretches melt into what lies before them, so that there are no more of them than pending changes.

use std::collections::BTreeMap;

use crate::sink::{Change, Cursor};

use super::digest::RunKey;
use tokio::time::Instant;

/// Names a stretch, in the lane's order.
pub type StretchNumber = u64;

#[derive(Debug, Default)]
struct Stretch {
    pending: usize,
    changes: usize,
    /// `None`: more of it follows.
    next: Option<Cursor>,
}

/// Backlog alerts of which more may come.
#[derive(Debug)]
pub struct Run {
    /// What they have in common.
    pub key: RunKey,
    /// In order.
    pub members: Vec<Member>,
    /// Its end is not awaited for longer.
    pub closes_at: Instant,
}

/// A pending change, and where it counts.
#[derive(Clone, Debug)]
pub struct Member {
    /// The change.
    pub change: Change,
    /// Its stretch.
    pub stretch: StretchNumber,
}

/// One lane.
#[derive(Debug, Default)]
pub struct LaneState {
    stretches: BTreeMap<StretchNumber, Stretch>,
    numbers: StretchNumber,
    span: usize,
    /// The run at its end, unless it is closed.
    pub run: Option<Run>,
    /// To be told.
    pub rejected: Vec<(Change, String)>,
    /// To be told.
    pub through: Option<Cursor>,
}

impl LaneState {
    /// Changes from the oldest pending one on, settled ones among them: what a crash would repeat.
    pub fn span(&self) -> usize {
        self.span
    }

    /// The stretch that a further batch of so many changes belongs to: a new one, unless the last one goes on.
    pub fn extend(&mut self, changes: usize, goes_on: bool) -> StretchNumber {
        self.span += changes;
        if let Some(mut last) = self.stretches.last_entry()
            && (goes_on || last.get().next.is_none())
        {
            last.get_mut().changes += changes;
            return *last.key();
        }
        self.numbers += 1;
        self.stretches.insert(self.numbers, Stretch { changes, ..Stretch::default() });
        self.numbers
    }

    /// Changes of the last stretch.
    pub fn last_changes(&self) -> usize {
        self.stretches.last_key_value().map_or(0, |(_, stretch)| stretch.changes)
    }

    /// Another change of the stretch is pending.
    pub fn expect(&mut self, number: StretchNumber) {
        if let Some(stretch) = self.stretches.get_mut(&number) {
            stretch.pending += 1;
        }
    }

    /// A batch has been taken in whole; this is the cursor behind it.
    pub fn end(&mut self, number: StretchNumber, next: Option<Cursor>) {
        if let Some(stretch) = self.stretches.get_mut(&number) {
            stretch.next = next;
        }
        self.melt(number);
    }

    /// A pending change of the stretch has settled.
    pub fn settle(&mut self, number: StretchNumber) {
        if let Some(stretch) = self.stretches.get_mut(&number) {
            stretch.pending = stretch.pending.saturating_sub(1);
        }
        self.melt(number);
    }

    /// The oldest stretch.
    pub fn first(&self) -> Option<StretchNumber> {
        self.stretches.first_key_value().map(|(number, _)| *number)
    }

    /// Takes a settled stretch away: into the one before it, or as what the lane has come through.
    fn melt(&mut self, number: StretchNumber) {
        let Some(stretch) = self.stretches.remove(&number) else { return };
        if stretch.pending > 0 || stretch.next.is_none() {
            self.stretches.insert(number, stretch);
        } else if let Some((_, before)) = self.stretches.range_mut(..number).next_back() {
            before.changes += stretch.changes;
            before.next = stretch.next;
        } else {
            self.span -= stretch.changes;
            self.through = stretch.next;
        }
    }
}
