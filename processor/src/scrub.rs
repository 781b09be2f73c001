//! What has been deleted for good leaves the disk.
//!
//! A row that is deleted stays in RocksDB's files until these are compacted, which may be never. So after a contact was
//! forgotten, all files are, by a thread of their own. A row in the state says that it is due, until it is done: a process
//! that ends before does it when it comes back.
//!
//! One trace is left until the state is next opened, or its MANIFEST has grown enough to be written anew: that names the
//! first and the last key of each file, also of those that are gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rocksdb::{BottommostLevelCompaction, CompactOptions, DB, WriteBatch};
use tracing::warn;

use crate::keys;

/// Many contacts are forgotten at once, if any: the first is gone within seconds, the others within this.
const PAUSE: Duration = Duration::from_secs(60 * 60);

/// What is to be done. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Due(Arc<Flags>);

#[derive(Default)]
struct Flags {
    /// What was deleted is still in files.
    scrub: AtomicBool,
    /// It is still in the outbox, until sinks have all that is there.
    purge: AtomicBool,
}

impl Due {
    pub(crate) fn is_unpurged(&self) -> bool {
        self.0.purge.load(Ordering::Acquire)
    }

    /// What is no longer in the outbox is still in files.
    pub(crate) fn purged(&self) {
        self.0.scrub.store(true, Ordering::Release);
        self.0.purge.store(false, Ordering::Release);
    }

    fn take(&self) -> bool {
        self.0.scrub.swap(false, Ordering::AcqRel)
    }

    fn is_unscrubbed(&self) -> bool {
        self.0.scrub.load(Ordering::Acquire)
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Scrub {
    due: Due,
    /// Something is deleted for good with the next commit.
    is_wanted: bool,
    /// There is nothing to be scrubbed any more, and the state does not say so yet.
    is_done: bool,
    begun_at: Option<Instant>,
    running: Option<Running>,
}

struct Running {
    db: Arc<DB>,
    thread: Option<JoinHandle<()>>,
}

impl Scrub {
    /// `is_due`: the state says so; `is_publishing`: it has an outbox.
    pub(crate) fn new(is_due: bool, is_publishing: bool) -> Scrub {
        let scrub = Scrub::default();
        scrub.due.0.scrub.store(is_due, Ordering::Release);
        scrub.due.0.purge.store(is_due && is_publishing, Ordering::Release);
        scrub
    }

    pub(crate) fn due(&self) -> Due {
        self.due.clone()
    }

    /// Something is deleted for good with the next commit.
    pub(crate) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Says in a commit whether it is due; `is_publishing`: the commit writes to the outbox.
    pub(crate) fn mark(&mut self, batch: &mut WriteBatch, is_publishing: bool) {
        if self.running.as_ref().is_some_and(Running::is_finished) {
            (self.running, self.is_done) = (None, true);
        }
        if std::mem::take(&mut self.is_wanted) {
            self.due.0.scrub.store(true, Ordering::Release);
            self.due.0.purge.fetch_or(is_publishing, Ordering::AcqRel);
        }
        if self.due.is_unscrubbed() {
            self.is_done = false;
            batch.put(keys::SCRUB, []);
        } else if self.is_done && !self.due.is_unpurged() {
            self.is_done = false;
            batch.delete(keys::SCRUB);
        }
    }

    /// After a commit: begins, if it is due and was not done just before.
    pub(crate) fn start(&mut self, db: &Arc<DB>) {
        let is_too_soon = self.begun_at.is_some_and(|begun| begun.elapsed() < PAUSE);
        if self.running.is_some() || is_too_soon || !self.due.take() {
            return;
        }
        let of_thread = db.clone();
        match thread::Builder::new().name("scrub".to_owned()).spawn(move || compact(&of_thread)) {
            Ok(thread) => {
                self.running = Some(Running { db: db.clone(), thread: Some(thread) });
                self.begun_at = Some(Instant::now());
            }
            Err(error) => {
                self.due.0.scrub.store(true, Ordering::Release);
                warn!(%error, "what was erased stays in the files of the state for now: no thread");
            }
        }
    }

    /// Does at once what is left to do; whether there was anything.
    pub(crate) fn finish(&mut self, db: &DB) -> bool {
        let running = self.running.take();
        let was_running = running.is_some();
        running.into_iter().for_each(Running::wait);
        let is_due = self.due.take();
        if is_due {
            compact(db);
        }
        (was_running || is_due || std::mem::take(&mut self.is_done)) && !self.due.is_unpurged()
    }
}

impl Running {
    fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn wait(mut self) {
        self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Running {
    /// A state that is closed is not waited for: what was not done is still due when it is opened again.
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if !thread.is_finished() {
            self.db.cancel_all_background_work(false);
        }
        thread.join().ok();
    }
}

/// Rewrites all files: also those of the last level, where a deleted row may have been left with nothing to delete it.
fn compact(db: &DB) {
    let mut options = CompactOptions::default();
    options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
    // The state goes on being compacted as usual meanwhile.
    options.set_exclusive_manual_compaction(false);
    db.compact_range_opt::<&[u8], &[u8]>(None, None, &options);
}
