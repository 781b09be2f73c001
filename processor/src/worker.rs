//! The commit cycle: read, apply, publish, commit; a batch at a time.
//!
//! A batch ends when the commit interval is over or when it holds enough. It may end inside of a record that takes many
//! slices (a tick that fires a million timers): the machine's record says so, and [`Worker::run`] finishes it first.
//! Everything between two commits is in memory. On any error it is dropped, and the next run starts from the last commit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use touchline_core::erasure::ErasureKey;
use touchline_core::record::Record;
use touchline_core::step::{Step, StepError};
use tracing::debug;

use crate::failpoint::{Point, reach};
use crate::journal::{Commit, HeldEvents, Input, Journal, Place};
use crate::outputs::Topics;
use crate::partition::Partition;
use crate::{Store, StoreError};

/// A batch is committed when it has this many records: more makes no commit cheaper per record.
const BATCH_RECORDS: u64 = 50_000;
/// The clock is read once for this many records: reading it costs a hundredth of one.
const CLOCK_EVERY: u64 = 32;

/// What can be chosen.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A batch is committed when this long has passed since the last one was.
    pub commit_interval: Duration,
    /// What is published; dead letters always are.
    pub publish: Topics,
    /// What forgotten contacts are known by.
    pub erasures: ErasureKey,
}

/// What one batch, or several, have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records of the log: events, ticks and rules.
    pub records: u64,
    /// Of them, events: new, known or wrong.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Events put off until their time comes.
    pub held: u64,
    /// What is no record.
    pub dead_letters: u64,
    /// Alert changes.
    pub alerts: u64,
    /// Of them, lapses opened for contacts.
    pub opened: u64,
    /// Contacts forgotten.
    pub erased: u64,
    /// Events of forgotten contacts, which were not taken.
    pub suppressed: u64,
    /// Records published.
    pub published: u64,
    /// Of them, scores.
    pub scores: u64,
}

impl Progress {
    /// Adds another batch's.
    pub fn add(&mut self, other: Progress) {
        self.records += other.records;
        self.events += other.events;
        self.bytes += other.bytes;
        self.held += other.held;
        self.dead_letters += other.dead_letters;
        self.alerts += other.alerts;
        self.opened += other.opened;
        self.erased += other.erased;
        self.suppressed += other.suppressed;
        self.published += other.published;
        self.scores += other.scores;
    }

    /// What has been read for it.
    pub(crate) fn inputs(&self) -> u64 {
        self.records + self.held + self.dead_letters
    }
}

/// Why a worker has stopped. Nothing of the last batch has been kept.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError<E> {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal failed.
    #[error(transparent)]
    Journal(E),
    /// The state machine could not go on.
    #[error(transparent)]
    Step(#[from] StepError<StoreError>),
}

/// One partition at work, embedded.
pub struct Worker<J> {
    journal: J,
    partition: Partition,
    settings: Settings,
}

impl<J: Journal> Worker<J> {
    /// A worker that goes on with `store` from where `journal` stands, which must be the store's position.
    pub fn new(journal: J, store: Store, settings: Settings) -> Result<Worker<J>, WorkerError<J::Error>> {
        Ok(Worker { journal, partition: Partition::load(store, &settings)?, settings })
    }

    /// Works until the journal's end, or until `stop` is set: then the record at hand is finished and committed, and what
    /// the journal cannot read again.
    /// Tells `progress` of every batch once it is committed.
    pub fn run(&mut self, stop: &AtomicBool, mut progress: impl FnMut(Progress)) -> Result<(), WorkerError<J::Error>> {
        let worked = Cycle::begin(self, &mut progress).work(stop);
        if worked.is_err() {
            // What went wrong first is what there is to tell.
            self.partition.abort().ok();
        }
        worked
    }

    /// The store.
    pub fn store(&mut self) -> &mut Store {
        &mut self.partition.store
    }

    /// Takes it apart again.
    pub fn into_parts(self) -> (J, Store) {
        (self.journal, self.partition.store)
    }
}

/// One run of a worker.
struct Cycle<'w, J> {
    worker: &'w mut Worker<J>,
    /// Where a commit would leave the journal.
    place: Place,
    /// Records until the next look at the clock.
    patience: u64,
    committed_at: Instant,
    progress: &'w mut dyn FnMut(Progress),
}

impl<'w, J: Journal> Cycle<'w, J> {
    fn begin(worker: &'w mut Worker<J>, progress: &'w mut dyn FnMut(Progress)) -> Cycle<'w, J> {
        Cycle { worker, place: Place::Behind, patience: CLOCK_EVERY, committed_at: Instant::now(), progress }
    }

    fn work(&mut self, stop: &AtomicBool) -> Result<(), WorkerError<J::Error>> {
        if self.worker.partition.machine.is_unfinished() {
            self.finish(Step::More)?;
        }
        let mut is_draining = false;
        loop {
            if !is_draining && stop.load(Ordering::Relaxed) {
                is_draining = self.worker.journal.drain();
                if !is_draining {
                    break;
                }
            }
            let Worker { journal, partition, .. } = &mut *self.worker;
            match journal.next(&mut HeldEvents(&mut partition.store)).map_err(WorkerError::Journal)? {
                Input::Record { record, tick, bytes, held } => {
                    partition.batch.events += u64::from(matches!(record, Record::Event(_)));
                    partition.batch.bytes += bytes as u64;
                    let ticked = tick.map_or(Ok(Step::Done), |tick| partition.apply(&Record::tick(tick)))?;
                    let step = if ticked == Step::Done {
                        partition.apply_held(&record, held)?
                    } else {
                        // Commits may come before the record is applied, so it cannot stay borrowed.
                        let record = record.into_owned();
                        self.place = Place::Before;
                        self.finish(ticked)?;
                        self.place = Place::Behind;
                        self.worker.partition.apply_held(&record, held)?
                    };
                    self.finish(step)?;
                }
                Input::DeadLetter { key, value } => partition.dead_letter(&key, &value),
                Input::Hold { at, raw } => {
                    partition.batch.held += 1;
                    partition.is_dirty = true;
                    partition.store.hold(at, raw)?;
                }
                Input::Idle => self.patience = 0,
                Input::End => break,
            }
            self.commit_if_due()?;
        }
        self.commit()
    }

    /// Goes on with a record until it is done.
    fn finish(&mut self, mut step: Step) -> Result<(), WorkerError<J::Error>> {
        while step == Step::More {
            // A slice takes its time.
            self.patience = 0;
            self.commit_if_due()?;
            step = self.worker.partition.resume()?;
        }
        Ok(())
    }

    fn commit_if_due(&mut self) -> Result<(), WorkerError<J::Error>> {
        let partition = &self.worker.partition;
        let is_full = partition.batch.inputs() >= BATCH_RECORDS || partition.is_full();
        if is_full || self.is_time() { self.commit() } else { Ok(()) }
    }

    fn is_time(&mut self) -> bool {
        self.patience = self.patience.checked_sub(1).unwrap_or(CLOCK_EVERY);
        self.patience == CLOCK_EVERY && self.committed_at.elapsed() >= self.worker.settings.commit_interval
    }

    fn commit(&mut self) -> Result<(), WorkerError<J::Error>> {
        let Worker { journal, partition, .. } = &mut *self.worker;
        if partition.is_dirty {
            reach(Point::Applied)?;
            partition.save();
            let position = journal.position(self.place);
            let Partition { store, outputs, .. } = &mut *partition;
            journal.commit(Commit { store, outputs, position: &position }).map_err(WorkerError::Journal)?;
            reach(Point::Committed)?;
            let batch = partition.committed();
            debug!(?batch, "committed");
            (self.progress)(batch);
        }
        self.committed_at = Instant::now();
        Ok(())
    }
}
