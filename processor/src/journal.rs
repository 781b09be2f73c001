//! The log that a [`crate::Worker`] reads, and the order in which a batch becomes durable.
//!
//! A journal knows where its records come from (files, standard input, a partition) and what makes a batch durable. The
//! state and the position in it always change together, in [`Commit::store`] or [`Commit::store_all`]; what differs is what
//! a journal does before: nothing where the outbox is in the same database; where outputs go to another system, its
//! transaction with the outputs and the position comes first, because a state that is behind its journal's position can
//! catch up and one that is ahead cannot go back.

use jiff::Timestamp;
use touchline_core::record::Record;

use crate::outputs::{Output, OutputBatch};
use crate::store::{Durability, Held, HeldKey};
use crate::{Store, StoreError};

/// What comes next.
#[derive(Debug)]
pub enum Input<'a> {
    /// A record of the log.
    Record {
        /// The record.
        record: Record<'a>,
        /// A tick that stands before it in the log.
        tick: Option<Timestamp>,
        /// How long it was as it came, for the progress.
        bytes: usize,
        /// If it was held, what holds it no longer.
        held: Option<HeldKey>,
    },
    /// Something that is no record. It was reported when it is committed.
    DeadLetter {
        /// Its key on the topic of dead letters.
        key: Vec<u8>,
        /// The report, JSON.
        value: Vec<u8>,
    },
    /// An event whose time has not come for this journal: kept in the state, with no effect on it, until
    /// [`HeldEvents::first`] finds it.
    Hold {
        /// When it occurs.
        at: Timestamp,
        /// As it came.
        raw: Vec<u8>,
    },
    /// Nothing now. The journal has waited for it, though not for longer than a commit may.
    Idle,
    /// Nothing any more.
    End,
}

/// A place beside a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In front of it: its tick has begun, and the record is to be read again.
    Before,
    /// Just behind it.
    Behind,
}

/// A log.
pub trait Journal {
    /// Why it could not be read or committed to.
    type Error: std::error::Error + Send + Sync + From<StoreError> + 'static;

    /// The next of the log, which may be one of the `held` events.
    fn next<'a>(&'a mut self, held: &mut HeldEvents<'_>) -> Result<Input<'a>, Self::Error>;

    /// Told once, when it is to stop: whether it has something left that was read and cannot be read again. If so,
    /// [`Journal::next`] gives no more than that, and then [`Input::End`].
    fn drain(&mut self) -> bool {
        false
    }

    /// Where to go on, seen from what [`Journal::next`] returned last.
    fn position(&mut self, place: Place) -> Vec<u8>;

    /// Makes a batch durable. When it fails, nothing of the batch may become so later.
    fn commit(&mut self, commit: Commit<'_>) -> Result<(), Self::Error>;
}

/// The events that the state holds, those of this batch included.
pub struct HeldEvents<'a>(pub(crate) &'a mut Store);

impl HeldEvents<'_> {
    /// The first that occurs at or before `through`. It is the first until it is given back as an [`Input::Record`].
    pub fn first(&mut self, through: Timestamp) -> Result<Option<Held>, StoreError> {
        self.0.first_held(through)
    }
}

/// A batch that is to become durable.
pub struct Commit<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) outputs: &'a OutputBatch,
    pub(crate) position: &'a [u8],
}

impl Commit<'_> {
    /// What it publishes, in order.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = Output<'_>> {
        self.outputs.iter()
    }

    /// Where the journal stands behind it.
    pub fn position(&self) -> &[u8] {
        self.position
    }

    /// Whether memory wants the state to be written. A journal from which everything since the last write can be applied
    /// again, without publishing twice, need not write it before.
    pub fn is_due(&self) -> bool {
        self.store.is_full()
    }

    /// Writes state, position and outputs: the outputs go to the store's outbox, all in one.
    pub fn store_all(self, durability: Durability) -> Result<(), StoreError> {
        self.store.commit(self.position, Some(self.outputs), durability)
    }

    /// Writes state and position; the outputs are durable elsewhere.
    pub fn store(self, durability: Durability) -> Result<(), StoreError> {
        self.store.commit(self.position, None, durability)
    }
}
