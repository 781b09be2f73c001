//! What the workers are doing, for whoever asks whether all is well.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The state of all workers of a process.
#[derive(Debug, Default)]
pub struct Status {
    workers: Mutex<BTreeMap<usize, Doing>>,
}

/// What one worker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doing {
    /// Whether the brokers let it write.
    pub is_connected: bool,
    /// Partitions that it works on.
    pub partitions: usize,
    /// Partitions whose states are being opened.
    pub opening: usize,
    /// Records to be applied again before anything new.
    pub behind: u64,
    /// Of the snapshots that are being restored: bytes that are here, and all of them.
    pub restored: (u64, u64),
}

/// How far the restore of one partition is; nothing, while it is not restored.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    bytes: AtomicU64,
    total: AtomicU64,
}

impl Restoring {
    pub fn set(&self, bytes: u64, total: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    pub fn clear(&self) {
        self.set(0, 0);
    }

    /// Bytes that are here, and all of them.
    pub fn get(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

impl Status {
    pub(super) fn tell(&self, worker: usize, doing: Doing) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, doing);
    }

    /// Why the processor is not ready, if it is not.
    pub fn problem(&self) -> Option<String> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, away) = (workers.len(), workers.values().filter(|doing| !doing.is_connected).count());
        drop(workers);
        let Doing { opening, behind, restored: (bytes, total), .. } = self.totals();
        if count == 0 || away > 0 {
            Some(format!("{away} of {count} workers wait for the brokers"))
        } else if opening > 0 && total > 0 {
            Some(format!("{opening} partitions are being opened: {} of {} MB restored", bytes / MB, total / MB))
        } else if opening > 0 {
            Some(format!("{opening} partitions are being opened"))
        } else if behind > 0 {
            Some(format!("{behind} records are applied again before anything new"))
        } else {
            None
        }
    }

    /// What all workers do together.
    pub(crate) fn totals(&self) -> Doing {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.values().fold(Doing::default(), |sum, doing| Doing {
            is_connected: sum.is_connected || doing.is_connected,
            partitions: sum.partitions + doing.partitions,
            opening: sum.opening + doing.opening,
            behind: sum.behind + doing.behind,
            restored: (sum.restored.0 + doing.restored.0, sum.restored.1 + doing.restored.1),
        })
    }
}

/// Bytes of a megabyte, as people are told.
const MB: u64 = 1_000_000;
