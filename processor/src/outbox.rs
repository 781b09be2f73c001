//! What was published, until every sink has it: the embedded processor's topics.
//!
//! - A *row* holds a published record: the latest of each key of the compacted topics, every one of the others.
//! - The *log* holds a pointer to the row of every record, by sequence. A pointer whose row has a newer sequence is
//!   superseded: what it led to has been overwritten, and the newer pointer follows.
//!
//! Writing is puts only. Rows stay; pointers that all sinks have passed are trimmed. A sink without a cursor, or with one
//! below the trimmed floor, first copies the rows and then follows the log from where it ended when the copy began; so
//! does one that is far behind, with the rows that have changed since.
//! Sequences that a batch has superseded itself are never written: gaps mean nothing.
//!
//! Rows of contacts that were erased are purged once every sink has their tombstones.
//!
//! Any thread may read and trim while another commits; what is read has been committed.

mod cursor;
mod purge;
mod read;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocksdb::{DB, WriteBatch, WriteOptions};
use touchline_core::codec::{Corrupt, put_bytes};

use crate::failpoint::{Point, reach};
use crate::outputs::{Output, OutputBatch};
use crate::scrub::Due;
use crate::{StoreError, keys};
pub use cursor::CursorError;
pub use read::{Batch, Limits, OutboxError, Record};

/// Pointers are trimmed this many at a time: each trim leaves a range tombstone that reads have to look at until it is
/// compacted away. (Tests have no use for as many.)
const TRIM_STEP: u64 = if cfg!(test) { 5 } else { 100_000 };

/// A row's value follows; without it, the row is a tombstone.
const HAS_VALUE: u8 = 1;
/// The record's key precedes the value, because the row's key does not tell it.
const HAS_KEY: u8 = 2;

/// The embedded topics of one state. Clones are the same outbox.
#[derive(Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
}

type Listener = Box<dyn Fn() + Send + Sync>;

struct Inner {
    db: Arc<DB>,
    /// Which state it is: cursors of others are refused.
    state: u64,
    /// The next sequence; locked from when sequences are given out until they are written.
    next: Mutex<u64>,
    /// What readers may read: `next` as of the last write.
    end: AtomicU64,
    floor: AtomicU64,
    scrub: Due,
    listeners: Mutex<Vec<Listener>>,
}

impl Outbox {
    /// The outbox in `db`, which is the state that is named `state`.
    pub(crate) fn open(db: Arc<DB>, state: u64, scrub: Due) -> Result<Outbox, StoreError> {
        let number = |key: &[u8]| -> Result<u64, StoreError> {
            match db.get_pinned(key).map_err(|error| StoreError::of(db.path(), error))? {
                Some(value) => keys::read_sequence(&value, 0).map_err(|corrupt| StoreError::row(key, corrupt)),
                None => Ok(0),
            }
        };
        let (end, floor) = (number(&keys::END)?, number(&keys::FLOOR)?);
        let (next, end, floor) = (Mutex::new(end), AtomicU64::new(end), AtomicU64::new(floor));
        Ok(Outbox { inner: Arc::new(Inner { db, state, next, end, floor, scrub, listeners: Mutex::default() }) })
    }

    /// Which state it is of: a number at random.
    pub fn state(&self) -> u64 {
        self.inner.state
    }

    /// The sequence behind the last record.
    pub fn end(&self) -> u64 {
        self.inner.end.load(Ordering::Acquire)
    }

    /// The first sequence that has not been trimmed.
    pub fn floor(&self) -> u64 {
        self.inner.floor.load(Ordering::Acquire)
    }

    /// Calls `listener` after every commit that has published something, on the committing thread: it should only wake
    /// somebody up.
    pub fn on_news(&self, listener: impl Fn() + Send + Sync + 'static) {
        lock(&self.inner.listeners).push(Box::new(listener));
    }

    /// Forgets the pointers before `sequence`: the smallest that a sink has acknowledged ([`Outbox::acknowledged`]).
    pub fn trim(&self, sequence: u64) -> Result<(), StoreError> {
        let (floor, sequence) = (self.floor(), sequence.min(self.end()));
        if sequence < floor.saturating_add(TRIM_STEP) {
            return Ok(());
        }
        // Readers must see the floor before the pointers are gone. A crash in between only leaves pointers nobody reads.
        self.inner.floor.store(sequence, Ordering::Release);
        let mut batch = WriteBatch::new();
        batch.put(keys::FLOOR, sequence.to_be_bytes());
        batch.delete_range(keys::pointer(floor), keys::pointer(sequence));
        let db = &self.inner.db;
        let trimmed = db.write(batch);
        // Most pointers are in files that hold nothing else.
        let trimmed = trimmed.and_then(|()| db.delete_file_in_range(keys::pointer(0), keys::pointer(sequence - 1)));
        trimmed.map_err(|error| StoreError::of(db.path(), error))
    }

    /// Publishes a record in a synced write of its own, if none of this `name` was: for what sinks publish (dead letters),
    /// who may ask again after a crash.
    pub fn add_once(&self, name: &[u8], output: Output<'_>) -> Result<(), StoreError> {
        let db = &self.inner.db;
        let failed = |error| StoreError::of(db.path(), error);
        let mut next = lock(&self.inner.next);
        let once = keys::once(name);
        if db.get_pinned(&once).map_err(failed)?.is_some() {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        let mut writer = Writer::new(&mut batch);
        writer.row(*next, output);
        writer.pointer(*next, output);
        batch.put(once, []);
        batch.put(keys::END, (*next + 1).to_be_bytes());
        let mut options = WriteOptions::new();
        options.set_sync(true);
        db.write_opt(batch, &options).map_err(failed)?;
        *next += 1;
        self.announce(next);
        Ok(())
    }

    /// Remembers how far the sink of this name has come. After a loss of power it may be as it was a little before; never
    /// so that what the sink then needs is trimmed, since both are written to one log.
    pub fn remember(&self, sink: &str, cursor: &[u8]) -> Result<(), StoreError> {
        let db = &self.inner.db;
        db.put(keys::reader(sink), cursor).map_err(|error| StoreError::of(db.path(), error))
    }

    /// What was [remembered](Outbox::remember) last of the sink of this name.
    pub fn remembered(&self, sink: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let db = &self.inner.db;
        db.get(keys::reader(sink)).map_err(|error| StoreError::of(db.path(), error))
    }

    /// Writes `batch` together with the records of `outputs`.
    pub(crate) fn commit(
        &self,
        mut batch: WriteBatch,
        outputs: Option<&OutputBatch>,
        options: &WriteOptions,
    ) -> Result<(), StoreError> {
        let mut next = lock(&self.inner.next);
        let outputs = outputs.filter(|outputs| !outputs.is_empty());
        if let Some(outputs) = outputs {
            append(&mut batch, outputs, *next);
            batch.put(keys::END, (*next + outputs.len() as u64).to_be_bytes());
        }
        reach(Point::Write)?;
        let db = &self.inner.db;
        db.write_opt(batch, options).map_err(|error| StoreError::of(db.path(), error))?;
        reach(Point::Written)?;
        if let Some(outputs) = outputs {
            *next += outputs.len() as u64;
            self.announce(next);
        }
        Ok(())
    }

    fn announce(&self, next: MutexGuard<'_, u64>) {
        self.inner.end.store(*next, Ordering::Release);
        drop(next);
        lock(&self.inner.listeners).iter().for_each(|listener| listener());
    }
}

/// A lock that a panic elsewhere does not make useless: what it guards is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds the records to the batch, the first with the sequence `first`; by key, which is cheaper to insert.
fn append(batch: &mut WriteBatch, outputs: &OutputBatch, first: u64) {
    let sequence = |place: usize| first + place as u64;
    let mut records: Vec<(usize, Output<'_>)> = outputs.iter().enumerate().collect();
    records.sort_unstable_by(|(a, left), (b, right)| order(left, right).then(a.cmp(b)));
    records.dedup_by(|(place, later), (kept, earlier)| {
        let supersedes = later.topic.is_compacted() && order(later, earlier).is_eq();
        if supersedes {
            (*kept, *earlier) = (*place, *later);
        }
        supersedes
    });
    let mut writer = Writer::new(batch);
    for (place, output) in &records {
        writer.row(sequence(*place), *output);
    }
    records.sort_unstable_by_key(|(place, _)| *place);
    for (place, output) in &records {
        writer.pointer(sequence(*place), *output);
    }
}

/// By topic, and by key where the latest of a key counts.
fn order(left: &Output<'_>, right: &Output<'_>) -> std::cmp::Ordering {
    let by_key = || if left.topic.is_compacted() { left.key.cmp(right.key) } else { std::cmp::Ordering::Equal };
    left.topic.cmp(&right.topic).then_with(by_key)
}

struct Writer<'a> {
    batch: &'a mut WriteBatch,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Writer<'_> {
    fn new(batch: &mut WriteBatch) -> Writer<'_> {
        Writer { batch, key: Vec::new(), value: Vec::new() }
    }

    fn row(&mut self, sequence: u64, output: Output<'_>) {
        let has_key = !output.topic.is_compacted() || keys::is_long(output.key);
        let flags = if output.value.is_some() { HAS_VALUE } else { 0 } | if has_key { HAS_KEY } else { 0 };
        self.value.clear();
        self.value.extend_from_slice(&sequence.to_be_bytes());
        self.value.push(flags);
        if has_key {
            put_bytes(&mut self.value, output.key);
        }
        self.value.extend_from_slice(output.value.unwrap_or_default());
        self.locate(sequence, output);
        self.batch.put(&self.key, &self.value);
    }

    fn pointer(&mut self, sequence: u64, output: Output<'_>) {
        self.locate(sequence, output);
        self.batch.put(keys::pointer(sequence), &self.key);
    }

    fn locate(&mut self, sequence: u64, output: Output<'_>) {
        if output.topic.is_compacted() {
            keys::row(output.topic, output.key, &mut self.key);
        } else {
            keys::entry(output.topic, sequence, &mut self.key);
        }
    }
}

/// What [`Writer::row`] wrote under `key`: the sequence, and the record.
fn read_row<'a>(key: &'a [u8], row: &'a [u8]) -> Result<(u64, Output<'a>), Corrupt> {
    let corrupt = Corrupt { what: "published record" };
    let topic = keys::read_topic(key)?;
    let (sequence, rest) = row.split_at_checked(size_of::<u64>()).ok_or(corrupt)?;
    let sequence = keys::read_sequence(sequence, 0)?;
    let mut reader = touchline_core::codec::Reader::new(rest, corrupt.what);
    let flags = reader.byte()?;
    let key = if flags & HAS_KEY != 0 { reader.bytes()? } else { key.get(2..).ok_or(corrupt)? };
    let value = (flags & HAS_VALUE != 0).then_some(reader.rest());
    Ok((sequence, Output { topic, key, value }))
}

/// Whether a published record reads.
pub(crate) fn check_row(key: &[u8], row: &[u8]) -> Result<(), Corrupt> {
    read_row(key, row).map(drop)
}
