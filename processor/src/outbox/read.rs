//! Reading an outbox from a cursor.

use touchline_core::output::Topic;

use super::cursor::{Copy, Cursor};
use super::{CursorError, Outbox, read_row};
use crate::outputs::Topics;
use crate::overlay::{past_the_cache, scan};
use crate::{StoreError, keys};

/// Rows and pointers that one read looks at, at most: many may be superseded or of other topics, and a read should not
/// take long. (Tests want to see it.)
const SCAN: usize = if cfg!(test) { 20 } else { 50_000 };

/// A sink that is this far behind, and by this share of all that was ever published, copies the rows that have changed
/// instead of following the log: to read all rows in their order takes an eighth of the time, for each, of finding one that
/// a pointer leads to. (Tests want to see it.)
const FAR: u64 = if cfg!(test) { 15 } else { 50_000 };
const FAR_SHARE: u64 = 8;

/// How much one read returns at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records; at least one is read.
    pub records: usize,
    /// Bytes of keys and values, unless the first record alone has more.
    pub bytes: usize,
}

impl Default for Limits {
    /// Enough to make a sink's transaction cheap per record, few enough to repeat.
    fn default() -> Limits {
        Limits { records: 4096, bytes: 4 << 20 }
    }
}

/// A published record as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log. Records of the compacted topics may come by key, and not in this order; the others' never do.
    pub sequence: u64,
    /// Where it was published.
    pub topic: Topic,
    /// Its key, UTF-8.
    pub key: Vec<u8>,
    /// JSON, or a tombstone.
    pub value: Option<Vec<u8>>,
}

/// What one read returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The records; there may be none although the cursor has moved.
    pub records: Vec<Record>,
    /// Where to go on, once the records are stored: at most 1,100 bytes.
    pub cursor: Vec<u8>,
    /// Whether nothing more had been committed.
    pub is_end: bool,
}

/// Why an outbox could not be read.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// Not from there.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Outbox {
    /// The records of `topics` behind `cursor`, or from the beginning. Topics that are new to the cursor are copied
    /// first, once a copy that is under way has ended.
    pub fn read(&self, cursor: Option<&[u8]>, topics: Topics, limits: Limits) -> Result<Batch, OutboxError> {
        loop {
            let mut cursor = self.start(cursor, topics)?;
            let log = cursor.log;
            let mut reading = Reading { outbox: self, limits, left: SCAN, bytes: 0, records: Vec::new() };
            let is_end = reading.copy(&mut cursor)? && reading.follow(&mut cursor)?;
            // Trimmed in the meantime: what was read may have holes.
            if log >= self.floor() {
                let is_end = is_end && cursor.topics == topics;
                let cursor = cursor.encode(self.inner.state);
                return Ok(Batch { records: reading.records, cursor, is_end });
            }
        }
    }

    /// The sequence that a sink with this cursor needs the log from: the outbox may be trimmed up to there.
    pub fn acknowledged(&self, cursor: Option<&[u8]>) -> Result<u64, CursorError> {
        // What has read nothing yet may be about to note where the log ends.
        cursor.map_or(Ok(self.floor()), |bytes| Ok(self.decode(bytes)?.log))
    }

    /// Whether a sink with this cursor has all that it needs of the rows themselves.
    pub fn has_copied(&self, cursor: Option<&[u8]>) -> bool {
        cursor.is_some_and(|bytes| self.decode(bytes).is_ok_and(|cursor| cursor.copy.is_none()))
    }

    fn decode(&self, bytes: &[u8]) -> Result<Cursor, CursorError> {
        let cursor = Cursor::decode(bytes, self.inner.state)?;
        if cursor.log <= self.end() { Ok(cursor) } else { Err(CursorError::Ahead) }
    }

    fn start(&self, cursor: Option<&[u8]>, topics: Topics) -> Result<Cursor, CursorError> {
        let copy = |topics, since| Some(Copy { topics, since, after: Vec::new() });
        let cursor = cursor.map(|bytes| self.decode(bytes)).transpose()?;
        let end = self.end();
        let Some(mut cursor) = cursor.filter(|cursor| cursor.log >= self.floor()) else {
            return Ok(Cursor { topics, log: end, copy: copy(topics, 0) });
        };
        if let Some(copy) = &mut cursor.copy {
            // Topics that are new wait for the end of a copy that is under way.
            copy.topics = copy.topics.and(topics);
            cursor.topics = cursor.topics.and(topics);
            return Ok(cursor);
        }
        let (added, behind) = (topics.without(cursor.topics), end - cursor.log);
        if added != Topics::NONE {
            cursor.copy = copy(added, 0);
        } else if behind >= FAR && behind >= end / FAR_SHARE {
            (cursor.copy, cursor.log) = (copy(topics, cursor.log), end);
        }
        cursor.topics = topics;
        Ok(cursor)
    }
}

/// One read.
struct Reading<'o> {
    outbox: &'o Outbox,
    limits: Limits,
    left: usize,
    bytes: usize,
    records: Vec<Record>,
}

impl Reading<'_> {
    /// Copies rows; returns whether there are no more.
    fn copy(&mut self, cursor: &mut Cursor) -> Result<bool, StoreError> {
        let Some(copy) = &mut cursor.copy else { return Ok(true) };
        let db = &self.outbox.inner.db;
        for topic in Topic::ALL.into_iter().filter(|topic| copy.topics.contains(*topic)) {
            let (start, end) = keys::rows_since(topic, copy.since);
            let from = start.max(touchline_core::keys::after(&copy.after));
            if from >= end {
                continue;
            }
            let mut rows = scan(db, &from, &end);
            while let Some((key, row)) = rows.item() {
                // What is at or behind the cursor's sequence is about to come.
                if !self.take(key, row, |sequence| (copy.since..cursor.log).contains(&sequence))? {
                    return Ok(false);
                }
                copy.after.clear();
                copy.after.extend_from_slice(key);
                rows.next();
            }
            rows.status().map_err(|error| StoreError::of(db.path(), error))?;
        }
        cursor.copy = None;
        Ok(true)
    }

    /// Follows the log; returns whether there is no more.
    fn follow(&mut self, cursor: &mut Cursor) -> Result<bool, StoreError> {
        let db = &self.outbox.inner.db;
        let failed = |error| StoreError::of(db.path(), error);
        let end = self.outbox.end();
        if cursor.log >= end {
            return Ok(true);
        }
        let options = past_the_cache();
        let mut pointers = scan(db, &keys::pointer(cursor.log), &keys::pointer(end));
        while let Some((pointer, key)) = pointers.item() {
            let sequence = keys::read_sequence(pointer, 1).map_err(|corrupt| StoreError::row(pointer, corrupt))?;
            cursor.log = sequence;
            let topic = keys::read_topic(key).map_err(|corrupt| StoreError::row(pointer, corrupt))?;
            let is_taken = if cursor.topics.contains(topic) {
                // A missing row reads as an empty one: damaged.
                let row = db.get_pinned_opt(key, &options).map_err(failed)?;
                self.take(key, row.as_deref().unwrap_or_default(), |latest| latest == sequence)?
            } else {
                self.pass()
            };
            if !is_taken {
                return Ok(false);
            }
            pointers.next();
        }
        pointers.status().map_err(failed)?;
        cursor.log = end;
        Ok(true)
    }

    /// Takes the record of a row, if its sequence is `wanted`; returns whether there was room for it.
    fn take(&mut self, key: &[u8], row: &[u8], wanted: impl Fn(u64) -> bool) -> Result<bool, StoreError> {
        let (sequence, output) = read_row(key, row).map_err(|corrupt| StoreError::row(key, corrupt))?;
        if !wanted(sequence) {
            return Ok(self.pass());
        }
        let bytes = output.key.len() + output.value.map_or(0, <[u8]>::len);
        let is_full = self.records.len() >= self.limits.records || self.bytes + bytes > self.limits.bytes;
        if is_full && !self.records.is_empty() || !self.pass() {
            return Ok(false);
        }
        self.bytes += bytes;
        let (key, value) = (output.key.to_vec(), output.value.map(<[u8]>::to_vec));
        self.records.push(Record { sequence, topic: output.topic, key, value });
        Ok(true)
    }

    /// Counts what was looked at; returns whether there is time for it.
    fn pass(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }
}
