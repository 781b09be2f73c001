//! The commit cycle: read, apply, publish, commit; a batch at a time.
//!
//! A batch ends when the commit interval is over or when it holds enough. It may end inside of a record that takes many
//! slices (a tick that fires a million timers): the machine's record says so, and [`Worker::run`] finishes it first.
//! Everything between two commits is in memory. On any error it is dropped, and the next run starts from the last commit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use touchline_core::output::{Outputs, Topic};
use touchline_core::record::Record;
use touchline_core::step::{Counts, Machine, Step, StepError};
use tracing::debug;

use crate::failpoint::{Point, reach};
use crate::journal::{Commit, HeldEvents, Input, Journal, Place};
use crate::outputs::{OutputBatch, Topics};
use crate::{HeldKey, Store, StoreError};

/// A batch is committed when it has this many records: more makes no commit cheaper per record.
const BATCH_RECORDS: u64 = 50_000;
/// A batch is committed when it publishes this much: it is in memory twice while it is written.
const BATCH_BYTES: usize = 32 << 20;
/// The clock is read once for this many records: reading it costs a hundredth of one.
const CLOCK_EVERY: u64 = 32;

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A batch is committed when this long has passed since the last one was.
    pub commit_interval: Duration,
    /// What is published; dead letters always are.
    pub publish: Topics,
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
    /// Records published.
    pub published: u64,
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
        self.published += other.published;
    }

    fn count(&mut self, record: &Record<'_>, bytes: usize) {
        self.records += 1;
        self.events += u64::from(matches!(record, Record::Event(_)));
        self.bytes += bytes as u64;
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

/// One partition at work.
pub struct Worker<J> {
    journal: J,
    store: Store,
    settings: Settings,
    outputs: OutputBatch,
}

impl<J: Journal> Worker<J> {
    /// A worker that goes on with `store` from where `journal` stands, which must be the store's position.
    pub fn new(journal: J, store: Store, settings: Settings) -> Worker<J> {
        Worker { journal, store, settings, outputs: OutputBatch::new(settings.publish) }
    }

    /// Works until the journal's end, or until `stop` is set: then the record at hand is finished and committed.
    /// Tells `progress` of every batch once it is committed.
    pub fn run(&mut self, stop: &AtomicBool, mut progress: impl FnMut(Progress)) -> Result<(), WorkerError<J::Error>> {
        let worked = Cycle::begin(self, &mut progress).and_then(|mut cycle| cycle.work(stop));
        if worked.is_err() {
            self.store.abort();
            self.outputs.clear();
        }
        worked
    }

    /// The store.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Takes it apart again.
    pub fn into_parts(self) -> (J, Store) {
        (self.journal, self.store)
    }
}

fn take(
    machine: &mut Machine,
    store: &mut Store,
    outputs: &mut OutputBatch,
    record: &Record<'_>,
    held: Option<HeldKey>,
) -> Result<Step, StepError<StoreError>> {
    if let Some(held) = held {
        store.release(held);
    }
    machine.apply(record, store, outputs)
}

/// One run of a worker.
struct Cycle<'w, J> {
    worker: &'w mut Worker<J>,
    machine: Machine,
    /// What the batch has done so far, but for what the machine counts.
    batch: Progress,
    /// What the machine had counted before the batch.
    counted: Counts,
    /// Where a commit would leave the journal.
    place: Place,
    /// Whether there is anything to commit.
    is_dirty: bool,
    /// Records until the next look at the clock.
    patience: u64,
    committed_at: Instant,
    progress: &'w mut dyn FnMut(Progress),
}

impl<'w, J: Journal> Cycle<'w, J> {
    fn begin(
        worker: &'w mut Worker<J>,
        progress: &'w mut dyn FnMut(Progress),
    ) -> Result<Cycle<'w, J>, WorkerError<J::Error>> {
        Ok(Cycle {
            machine: Machine::load(&mut worker.store)?,
            worker,
            batch: Progress::default(),
            counted: Counts::default(),
            place: Place::Behind,
            is_dirty: false,
            patience: CLOCK_EVERY,
            committed_at: Instant::now(),
            progress,
        })
    }

    fn work(&mut self, stop: &AtomicBool) -> Result<(), WorkerError<J::Error>> {
        if self.machine.is_unfinished() {
            self.finish(Step::More)?;
        }
        while !stop.load(Ordering::Relaxed) {
            let worker = &mut *self.worker;
            let input = worker.journal.next(&mut HeldEvents(&mut worker.store)).map_err(WorkerError::Journal)?;
            self.is_dirty |= !matches!(input, Input::Idle | Input::End);
            match input {
                Input::Record { record, tick, bytes, held } => {
                    self.batch.count(&record, bytes);
                    self.batch.records += u64::from(tick.is_some());
                    let ticked = match tick {
                        Some(tick) => {
                            self.machine.apply(&Record::tick(tick), &mut worker.store, &mut worker.outputs)?
                        }
                        None => Step::Done,
                    };
                    let step = if ticked == Step::Done {
                        take(&mut self.machine, &mut worker.store, &mut worker.outputs, &record, held)?
                    } else {
                        // Commits may come before the record is applied, so it cannot stay borrowed.
                        let record = record.into_owned();
                        self.place = Place::Before;
                        self.finish(ticked)?;
                        self.place = Place::Behind;
                        let worker = &mut *self.worker;
                        take(&mut self.machine, &mut worker.store, &mut worker.outputs, &record, held)?
                    };
                    self.finish(step)?;
                }
                Input::DeadLetter { key, value } => {
                    self.batch.dead_letters += 1;
                    worker.outputs.publish(Topic::DeadLetters, &key, Some(&value));
                }
                Input::Hold { at, raw } => {
                    self.batch.held += 1;
                    worker.store.hold(at, raw)?;
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
            self.is_dirty = true;
            step = self.machine.resume(&mut self.worker.store, &mut self.worker.outputs)?;
        }
        Ok(())
    }

    fn commit_if_due(&mut self) -> Result<(), WorkerError<J::Error>> {
        let worker = &self.worker;
        let inputs = self.batch.records + self.batch.held + self.batch.dead_letters;
        let is_full = inputs >= BATCH_RECORDS || worker.outputs.bytes() >= BATCH_BYTES || worker.store.is_full();
        if is_full || self.is_time() { self.commit() } else { Ok(()) }
    }

    fn is_time(&mut self) -> bool {
        self.patience = self.patience.checked_sub(1).unwrap_or(CLOCK_EVERY);
        self.patience == CLOCK_EVERY && self.committed_at.elapsed() >= self.worker.settings.commit_interval
    }

    fn commit(&mut self) -> Result<(), WorkerError<J::Error>> {
        if self.is_dirty {
            let Worker { journal, store, outputs, .. } = &mut *self.worker;
            reach(Point::Applied)?;
            self.machine.flush(store, outputs)?;
            reach(Point::Flushed)?;
            let position = journal.position(self.place);
            journal.commit(Commit { store, outputs, position: &position }).map_err(WorkerError::Journal)?;
            reach(Point::Committed)?;
            self.is_dirty = false;
            self.report();
        }
        self.committed_at = Instant::now();
        Ok(())
    }

    fn report(&mut self) {
        let (counts, outputs) = (self.machine.counts(), &mut self.worker.outputs);
        let batch = Progress {
            alerts: counts.alerts - self.counted.alerts,
            opened: counts.opened - self.counted.opened,
            published: outputs.len() as u64,
            ..std::mem::take(&mut self.batch)
        };
        self.counted = counts;
        outputs.clear();
        debug!(?batch, "committed");
        (self.progress)(batch);
    }
}
