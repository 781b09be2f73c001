//! What a batch has changed so far, over what the database holds.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};
use std::ops::ControlFlow;

use rocksdb::{DB, DBRawIterator, ReadOptions};
use touchline_core::state::Row;

/// Rows written (`Some`) or deleted (`None`) since the last commit.
#[derive(Default)]
pub(crate) struct Overlay {
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    /// By table: scans of several go on side by side.
    ahead: BTreeMap<u8, Ahead>,
}

/// Rows of the database that were read ahead: all from `from` (inclusive) to `to` (exclusive).
///
/// A tick takes one timer after another, and an iterator for each would cost more than all else that a timer needs. So a
/// scan that goes on where the last one ended reads twice as far, up to [`AHEAD_ROWS`].
#[derive(Default)]
struct Ahead {
    rows: Vec<Row>,
    from: Vec<u8>,
    to: Vec<u8>,
}

/// As many as the state machine takes between two commits at least.
const AHEAD_ROWS: usize = 256;
/// Timers are small; held events can be as large as a record may be.
const AHEAD_BYTES: usize = 256 << 10;

/// What a row costs beside its bytes: its place in the map, the allocator.
const ROW_BYTES: usize = 96;

impl Overlay {
    /// What the batch says of a row, if it says anything.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.rows.get(key).map(|value| value.as_deref())
    }

    /// Writes (`Some`) or deletes (`None`) a row.
    pub(crate) fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.bytes += ROW_BYTES + key.len() + value.as_ref().map_or(0, Vec::len);
        self.rows.insert(key, value);
    }

    /// The first row from `from` (inclusive) to `to` (exclusive). `show` is given what is read for it and for those after it.
    pub(crate) fn first(
        &mut self,
        db: &DB,
        from: &[u8],
        to: &[u8],
        mut show: impl FnMut(&[Row]),
    ) -> Result<Option<Row>, rocksdb::Error> {
        let Overlay { rows, ahead, .. } = self;
        let ahead = ahead.entry(from.first().copied().unwrap_or_default()).or_default();
        let mut from = Cow::Borrowed(from);
        while *from < *to {
            if !ahead.covers(&from) {
                ahead.read(db, &from, to)?;
                show(&ahead.rows);
            }
            let end = to.min(&ahead.to);
            if let Some((key, value)) = first(ahead.rows_in(&from, end), changes(rows, &from, end)) {
                return Ok(Some((key.to_vec(), value.to_vec())));
            }
            from = Cow::Owned(end.to_vec());
        }
        Ok(None)
    }

    /// The last row from `from` (inclusive) to `to` (exclusive).
    pub(crate) fn last(&self, db: &DB, from: &[u8], to: &[u8]) -> Result<Option<Row>, rocksdb::Error> {
        let mut found = None;
        if from < to {
            merge(db, from, to, Direction::Backward, self.range(from, to).rev(), |key, value| {
                found = Some((key.to_vec(), value.to_vec()));
                ControlFlow::Break(())
            })?;
        }
        Ok(found)
    }

    /// What the batch has changed from `from` (inclusive) to `to` (exclusive), which must not be less.
    fn range(&self, from: &[u8], to: &[u8]) -> impl DoubleEndedIterator<Item = (&[u8], Option<&[u8]>)> {
        changes(&self.rows, from, to)
    }

    /// All that the batch has changed, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.rows.iter().map(|(key, value)| (&key[..], value.as_deref()))
    }

    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The batch has been committed, or never will be: the database says it all.
    pub(crate) fn clear(&mut self) {
        *self = Overlay::default();
    }
}

fn changes<'a>(
    rows: &'a BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    from: &[u8],
    to: &[u8],
) -> impl DoubleEndedIterator<Item = (&'a [u8], Option<&'a [u8]>)> {
    let range = rows.range::<[u8], _>((Included(from), Excluded(to)));
    range.map(|(key, value)| (&key[..], value.as_deref()))
}

impl Ahead {
    fn covers(&self, key: &[u8]) -> bool {
        *self.from <= *key && *key < *self.to
    }

    fn rows_in(&self, from: &[u8], to: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
        let start = self.rows.partition_point(|(key, _)| **key < *from);
        let rows = self.rows.iter().skip(start).map(|(key, value)| (&key[..], &value[..]));
        rows.take_while(move |(key, _)| *key < to)
    }

    fn read(&mut self, db: &DB, from: &[u8], to: &[u8]) -> Result<(), rocksdb::Error> {
        let most = if *from == *self.to { (2 * self.rows.len()).clamp(1, AHEAD_ROWS) } else { 1 };
        self.rows.clear();
        let (mut rows, mut bytes) = (range(db, from, to, Direction::Forward), 0);
        while let Some((key, value)) = rows.item()
            && self.rows.len() < most
            && bytes < AHEAD_BYTES
        {
            bytes += key.len() + value.len();
            self.rows.push((key.to_vec(), value.to_vec()));
            rows.next();
        }
        rows.status()?;
        self.from = from.to_vec();
        self.to = match rows.key() {
            Some(next) => next.to_vec(),
            None => to.to_vec(),
        };
        Ok(())
    }
}

/// The first of the stored rows once the changes are made.
fn first<'a>(
    stored: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Option<(&'a [u8], &'a [u8])> {
    let mut changes = changes.peekable();
    for (key, value) in stored {
        while let Some((changed, change)) = changes.next_if(|(changed, _)| *changed < key) {
            if let Some(value) = change {
                return Some((changed, value));
            }
        }
        match changes.next_if(|(changed, _)| *changed == key) {
            Some((_, None)) => {}
            Some((_, Some(value))) => return Some((key, value)),
            None => return Some((key, value)),
        }
    }
    changes.find_map(|(key, change)| Some((key, change?)))
}

/// Which way to go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// By key.
    Forward,
    /// Against it.
    Backward,
}

/// Visits what `db` will hold from `from` (inclusive) to `to` (exclusive) once `changes`, which are of that range and in the
/// same direction, are written; until `visit` breaks. `from` must be less than `to`.
pub(crate) fn merge<'c>(
    db: &DB,
    from: &[u8],
    to: &[u8],
    direction: Direction,
    changes: impl Iterator<Item = (&'c [u8], Option<&'c [u8]>)>,
    mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> Result<(), rocksdb::Error> {
    let mut rows = range(db, from, to, direction);
    let mut changes = changes.peekable();
    loop {
        let order = match (changes.peek(), rows.key()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((changed, _)), Some(stored)) if direction == Direction::Forward => (*changed).cmp(stored),
            (Some((changed, _)), Some(stored)) => stored.cmp(changed),
        };
        let flow = if order == Ordering::Greater {
            rows.item().map(|(key, value)| visit(key, value))
        } else {
            changes.next().and_then(|(key, value)| value.map(|value| visit(key, value)))
        };
        if flow == Some(ControlFlow::Break(())) {
            break;
        }
        if order != Ordering::Less {
            match direction {
                Direction::Forward => rows.next(),
                Direction::Backward => rows.prev(),
            }
        }
    }
    rows.status()
}

/// The rows of the database from `from` (inclusive) to `to` (exclusive), at the first in this direction.
pub(crate) fn range<'d>(db: &'d DB, from: &[u8], to: &[u8], direction: Direction) -> DBRawIterator<'d> {
    rows(db, ReadOptions::default(), from, to, direction)
}

/// The same from the first on, for who reads much and once: what is in use stays in the cache.
pub(crate) fn scan<'d>(db: &'d DB, from: &[u8], to: &[u8]) -> DBRawIterator<'d> {
    rows(db, past_the_cache(), from, to, Direction::Forward)
}

/// Reads that leave the cache as it is.
pub(crate) fn past_the_cache() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options
}

fn rows<'d>(db: &'d DB, mut options: ReadOptions, from: &[u8], to: &[u8], direction: Direction) -> DBRawIterator<'d> {
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    let mut rows = db.raw_iterator_opt(options);
    match direction {
        Direction::Forward => rows.seek_to_first(),
        Direction::Backward => rows.seek_to_last(),
    }
    rows
}
