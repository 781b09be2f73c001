//! A lane that the sink has claimed.

use std::collections::VecDeque;
use std::time::SystemTime;

use crate::sink::{Batch, Cursor};

/// A batch that is on its way.
#[derive(Clone, Debug)]
pub struct Taken {
    pub next: Option<Cursor>,
    pub changes: u64,
    pub published_at: Option<SystemTime>,
}

impl Taken {
    pub fn of(batch: &Batch) -> Taken {
        Taken { next: batch.next.clone(), changes: batch.changes.len() as u64, published_at: batch.published_at }
    }
}

/// What is known of the lane.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// All before it is delivered or rejected.
    pub acknowledged: Option<Cursor>,
    /// In the order of the lane.
    pub pending: VecDeque<Taken>,
    /// Changes among the pending that were rejected.
    rejected: u64,
}

impl From<Option<Cursor>> for Held {
    fn from(acknowledged: Option<Cursor>) -> Held {
        Held { acknowledged, ..Held::default() }
    }
}

impl Held {
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// So many changes became dead letters; if they are pending, they do not count as delivered.
    pub fn rejected(&mut self, changes: u64) {
        if !self.is_settled() {
            self.rejected += changes;
        }
    }

    /// The batches up to the one that ends there: how many changes were delivered of each, and when it was published.
    pub fn settle(&mut self, through: &Cursor) -> Option<Vec<(u64, Option<SystemTime>)>> {
        let last = self.pending.iter().position(|taken| taken.next.as_ref() == Some(through))?;
        let settled = self.pending.drain(..=last).map(|taken| {
            let rejected = taken.changes.min(self.rejected);
            self.rejected -= rejected;
            (taken.changes - rejected, taken.published_at)
        });
        Some(settled.collect())
    }
}
