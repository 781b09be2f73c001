//! What the workers are doing, for whoever asks whether all is well.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The state of all workers of a process.
#[derive(Debug, Default)]
pub struct Status {
    workers: Mutex<BTreeMap<usize, Doing>>,
}

/// What one worker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Doing {
    /// Whether the brokers let it write.
    pub is_connected: bool,
    /// Partitions that it works on.
    pub partitions: usize,
    /// Partitions whose states are being opened.
    pub opening: usize,
    /// Records to be applied again before anything new.
    pub behind: u64,
}

impl Status {
    pub(super) fn tell(&self, worker: usize, doing: Doing) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, doing);
    }

    /// Why the processor is not ready, if it is not.
    pub fn problem(&self) -> Option<String> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let away = workers.values().filter(|doing| !doing.is_connected).count();
        let opening: usize = workers.values().map(|doing| doing.opening).sum();
        let behind: u64 = workers.values().map(|doing| doing.behind).sum();
        if workers.is_empty() || away > 0 {
            Some(format!("{away} of {} workers wait for the brokers", workers.len()))
        } else if opening > 0 {
            Some(format!("{opening} partitions are being opened"))
        } else if behind > 0 {
            Some(format!("{behind} records are applied again before anything new"))
        } else {
            None
        }
    }

    /// Partitions worked on, partitions being opened, and records to be applied again.
    pub(crate) fn totals(&self) -> (usize, usize, u64) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.values().fold((0, 0, 0), |(partitions, opening, behind), doing| {
            (partitions + doing.partitions, opening + doing.opening, behind + doing.behind)
        })
    }
}
