//! One partition between two commits: its state machine, its store, and what it is about to publish.
//!
//! Whoever drives it reads the log, calls [`Partition::apply`] and, until a record is done, [`Partition::resume`]; before
//! a commit [`Partition::save`], after it [`Partition::committed`]. After any error [`Partition::abort`]: the partition is
//! again what its store last committed.

use touchline_core::erasure::ErasureKey;
use touchline_core::output::{Outputs, Topic};
use touchline_core::record::Record;
use touchline_core::step::{Counts, Machine, Step, StepError};

use crate::outputs::OutputBatch;
use crate::worker::{Progress, Settings};
use crate::{HeldKey, Store, StoreError};

/// A batch is committed when it publishes this much. While it is written it is in memory three times: here, and where it goes
/// as a row and a pointer to it. With four times as much an event of `replay` costs an eighth less, and 170 MiB more.
const BATCH_BYTES: usize = 8 << 20;

/// See the module.
pub(crate) struct Partition {
    pub machine: Machine,
    pub store: Store,
    erasures: ErasureKey,
    pub outputs: OutputBatch,
    /// What the batch has done so far, but for what the machine counts.
    pub batch: Progress,
    /// What the machine had counted before the batch.
    counted: Counts,
    /// Whether there is anything to commit.
    pub is_dirty: bool,
}

impl Partition {
    /// The partition as its store has it.
    pub fn load(mut store: Store, settings: &Settings) -> Result<Partition, StepError<StoreError>> {
        Ok(Partition {
            machine: machine(&mut store, &settings.erasures)?,
            store,
            erasures: settings.erasures.clone(),
            outputs: OutputBatch::new(settings.publish),
            batch: Progress::default(),
            counted: Counts::default(),
            is_dirty: false,
        })
    }

    /// Takes the next record of the log.
    pub fn apply(&mut self, record: &Record<'_>) -> Result<Step, StepError<StoreError>> {
        self.is_dirty = true;
        self.batch.records += 1;
        self.machine.apply(record, &mut self.store, &mut self.outputs)
    }

    /// The same, of a record that may have been held and is no longer: not before it is applied, since a commit may come
    /// before.
    pub fn apply_held(&mut self, record: &Record<'_>, held: Option<HeldKey>) -> Result<Step, StepError<StoreError>> {
        if let Some(held) = held {
            self.store.release(held);
        }
        self.apply(record)
    }

    /// Goes on with an unfinished record, for one slice.
    pub fn resume(&mut self) -> Result<Step, StepError<StoreError>> {
        self.is_dirty = true;
        self.machine.resume(&mut self.store, &mut self.outputs)
    }

    /// Reports something that is no record.
    pub fn dead_letter(&mut self, key: &[u8], value: &[u8]) {
        self.is_dirty = true;
        self.batch.dead_letters += 1;
        self.outputs.publish(Topic::DeadLetters, key, Some(value));
    }

    /// Brings the machine's own row up to date: before every commit.
    pub fn save(&mut self) {
        self.machine.save(&mut self.store);
    }

    /// Whether the batch should not grow: it is in memory.
    pub fn is_full(&self) -> bool {
        self.outputs.bytes() >= BATCH_BYTES || self.store.is_full()
    }

    /// What the batch, which has been committed, has done.
    pub fn committed(&mut self) -> Progress {
        let counts = self.machine.counts();
        let done = Progress {
            alerts: counts.alerts - self.counted.alerts,
            opened: counts.opened - self.counted.opened,
            erased: counts.erased - self.counted.erased,
            suppressed: counts.suppressed - self.counted.suppressed,
            published: self.outputs.len() as u64,
            scores: self.outputs.scores(),
            ..std::mem::take(&mut self.batch)
        };
        self.counted = counts;
        self.outputs.clear();
        self.is_dirty = false;
        done
    }

    /// Forgets the batch.
    pub fn abort(&mut self) -> Result<(), StepError<StoreError>> {
        self.store.abort();
        self.outputs.clear();
        self.batch = Progress::default();
        self.is_dirty = false;
        self.counted = Counts::default();
        self.machine = machine(&mut self.store, &self.erasures)?;
        Ok(())
    }
}

fn machine(store: &mut Store, erasures: &ErasureKey) -> Result<Machine, StepError<StoreError>> {
    let mut machine = Machine::load(store)?;
    machine.set_erasure_key(erasures.clone())?;
    Ok(machine)
}
