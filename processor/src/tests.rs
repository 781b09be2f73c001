//! Tests of the crate, against models that are too simple to be wrong.

mod active;
mod cache;
mod keys;
mod outbox;
mod outputs;
mod scrub;
mod snapshot;
mod store;
pub(crate) mod worker;

use std::path::Path;

use touchline_core::output::{Outputs, Topic};

use crate::{Durability, MEMORY_MIN, Memory, OutputBatch, Store, Topics};

pub(crate) fn memory() -> Memory {
    Memory::new(MEMORY_MIN, 1)
}

fn open(path: &Path) -> Store {
    Store::open(path, &memory()).unwrap()
}

/// Commits these as one batch.
fn publish(store: &mut Store, records: &[(Topic, &str, Option<&str>)]) {
    let mut batch = OutputBatch::new(Topics::ALL);
    for (topic, key, value) in records {
        batch.publish(*topic, key.as_bytes(), value.map(str::as_bytes));
    }
    store.commit(b"somewhere", Some(&batch), Durability::Logged).unwrap();
}

/// All rows of the database.
pub(crate) fn rows(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    store
        .db()
        .iterator(rocksdb::IteratorMode::Start)
        .map(|row| row.unwrap())
        .map(|(k, v)| (k.into(), v.into()))
        .collect()
}
