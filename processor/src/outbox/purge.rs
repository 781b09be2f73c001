//! Contacts that were erased, out of what was published.
//!
//! Their last rows are tombstones, their alerts are rows like all others, and pointers lead to both. All of it goes once
//! every sink has it, with the notices that told of them. A sink that is not configured at the time is not told.

use std::sync::atomic::Ordering;

use rocksdb::WriteBatch;
use touchline_core::notice::{Left, Notice, Notices};
use touchline_core::output::Topic;

use super::{Outbox, Writer, lock, read_row};
use crate::outputs::Output;
use crate::overlay::scan;
use crate::{StoreError, keys};

/// What is written at once.
const BATCH_BYTES: usize = 4 << 20;

impl Outbox {
    /// Purges it, if anybody was erased and every sink has acknowledged all up to its end: nobody needs what goes.
    /// On the thread that commits.
    pub fn purge(&self, acknowledged: u64) -> Result<(), StoreError> {
        let end = self.end();
        if acknowledged < end || !self.inner.scrub.is_unpurged() {
            return Ok(());
        }
        // Who publishes dead letters meanwhile waits.
        let _next = lock(&self.inner.next);
        let notices = self.notices(end)?;
        let mut purge = Purge { outbox: self, batch: WriteBatch::new() };
        // Readers must see the floor before the pointers are gone, and those must be before the rows are.
        self.inner.floor.store(end, Ordering::Release);
        purge.batch.put(keys::FLOOR, end.to_be_bytes());
        purge.batch.delete_range(keys::pointer(0), keys::pointer(end));
        purge.write()?;
        for topic in [Topic::Alerts, Topic::Scores, Topic::Facts] {
            purge.topic(topic, end, &notices)?;
        }
        purge.write()?;
        self.inner.scrub.purged();
        Ok(())
    }

    fn notices(&self, end: u64) -> Result<Notices, StoreError> {
        let mut notices = Notices::default();
        self.each_row(Topic::Alerts, |_, sequence, output| {
            if let Some(notice) = output.value.filter(|_| sequence < end).and_then(Notice::of) {
                notices.add(&notice, sequence);
            }
            Ok(())
        })?;
        Ok(notices)
    }

    fn each_row(
        &self,
        topic: Topic,
        mut visit: impl FnMut(&[u8], u64, Output<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let db = &self.inner.db;
        let (from, to) = keys::rows_since(topic, 0);
        let mut rows = scan(db, &from, &to);
        while let Some((key, row)) = rows.item() {
            let (sequence, output) = read_row(key, row).map_err(|corrupt| StoreError::row(key, corrupt))?;
            visit(key, sequence, output)?;
            rows.next();
        }
        rows.status().map_err(|error| StoreError::of(db.path(), error))
    }
}

struct Purge<'a> {
    outbox: &'a Outbox,
    batch: WriteBatch,
}

impl Purge<'_> {
    fn topic(&mut self, topic: Topic, end: u64, notices: &Notices) -> Result<(), StoreError> {
        let outbox = self.outbox;
        outbox.each_row(topic, |key, sequence, output| {
            let left = match output.value {
                _ if sequence >= end => Left::All,
                // Other tombstones stay, for sinks that are not there now.
                None if notices.are_of_key(output.key) => Left::Nothing,
                None => Left::All,
                Some(value) if topic == Topic::Alerts && Notice::of(value).is_some() => Left::Nothing,
                Some(value) if topic == Topic::Alerts => notices.left(value, sequence),
                Some(_) => Left::All,
            };
            match left {
                Left::All => {}
                Left::Part(part) => {
                    Writer::new(&mut self.batch).row(sequence, Output { value: Some(&part), ..output });
                }
                Left::Nothing => self.batch.delete(key),
            }
            if self.batch.size_in_bytes() > BATCH_BYTES { self.write() } else { Ok(()) }
        })
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let db = &self.outbox.inner.db;
        db.write(std::mem::take(&mut self.batch)).map_err(|error| StoreError::of(db.path(), error))
    }
}
