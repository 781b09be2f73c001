//! The processor around the state machine: where its state lives, what it reads, how a batch is committed.
//!
//! [`Store`] keeps a partition's state in RocksDB and is the core's [`touchline_core::state::State`]; [`Outbox`] holds what
//! was published until every sink has read it; a [`Journal`] is the log that is read; [`Worker`] turns one into the other,
//! a batch at a time. Reading in this order: `keys`, `options`, `store`, `outbox`, `journal`, `worker`,
//! `snapshot`.
//!
//! Every error of this crate is fatal to the partition: nothing of the batch has been committed, the state on disk is that
//! of the last commit, and going on without a look at the cause could only do harm.

mod cache;
mod error;
mod failpoint;
mod inspect;
mod journal;
pub mod kafka;
mod key;
mod keys;
mod metrics;
mod options;
mod outbox;
mod outputs;
mod overlay;
mod partition;
mod scrub;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod worker;

pub use error::StoreError;
pub use inspect::{Stats, TableStats, Verification};
pub use journal::{Commit, HeldEvents, Input, Journal, Place};
pub use metrics::Metrics;
pub use options::{MEMORY_MIN, Memory};
pub use outbox::{Batch, CursorError, Limits, Outbox, OutboxError, Record};
pub use outputs::{Output, OutputBatch, Topics};
pub use snapshot::{
    Checkpoint, Event, Listed, RestoreProgress, Restored, Saved, SnapshotError, Snapshots, Stamp, Uploader,
};
pub use store::{Durability, Held, HeldKey, SCHEMA, SCHEMAS, Store};
pub use worker::{Progress, Settings, Worker, WorkerError};
