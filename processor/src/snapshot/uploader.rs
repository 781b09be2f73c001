//! The thread that uploads, so that no worker waits for a store.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::checkpoint::Checkpoint;
use super::remote::Remote;
use super::upload::upload;
use super::{Saved, SnapshotError, Snapshots, Stamp};
use crate::Store;

/// A partition's folder is swept this often at the most: it reads every manifest of the last day.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);

/// What the uploader has to tell, once each.
#[derive(Debug)]
pub enum Event<'a> {
    /// A snapshot is in the store.
    Saved {
        /// What it is of.
        stamp: &'a Stamp,
        /// What was uploaded.
        saved: &'a Saved,
    },
    /// A snapshot could not be made. It is tried again if the error is the store's.
    Failed {
        /// What it is of.
        stamp: &'a Stamp,
        /// Why.
        error: &'a SnapshotError,
    },
}

/// Uploads checkpoints, one after the other, on a thread of its own. Of a partition at most one waits: a newer one takes its
/// place. Dropped, it leaves the rest undone.
pub struct Uploader {
    queue: Arc<Queue>,
    directory: PathBuf,
    checkpoints: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Uploader {
    /// Starts the thread, which tells `on` of every snapshot. Checkpoints are made in `directory`, which has to be on the
    /// stores' file system and belong to this uploader alone: what is in it is removed.
    pub fn start(
        snapshots: Snapshots,
        directory: &Path,
        on: impl FnMut(Event<'_>) + Send + 'static,
    ) -> Result<Uploader, SnapshotError> {
        let failed = |error| SnapshotError::disk(directory, error);
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => std::fs::create_dir_all(directory).map_err(failed)?,
        }
        let queue = Arc::<Queue>::default();
        let thread = Thread { snapshots, queue: queue.clone(), on: Box::new(on), swept: HashMap::new() };
        let thread = std::thread::Builder::new().name("snapshots".to_owned()).spawn(move || thread.run());
        Ok(Uploader {
            queue,
            directory: directory.to_path_buf(),
            checkpoints: AtomicU64::new(0),
            thread: Mutex::new(Some(thread.map_err(failed)?)),
        })
    }

    /// Makes a checkpoint of a store as it was last committed, and lets it be uploaded. Returns once the checkpoint is made.
    pub fn checkpoint(&self, store: &Store, stamp: Stamp) -> Result<(), SnapshotError> {
        let number = self.checkpoints.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.join(format!("{}-{number}", stamp.partition));
        self.queue.put(store.checkpoint(&directory, stamp)?);
        Ok(())
    }

    /// Uploads what waits until `deadline`, and ends. Returns the partitions of which a checkpoint was not uploaded.
    pub fn drain(&self, deadline: Instant) -> Vec<u32> {
        self.queue.end(deadline);
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            warn!("the thread that uploads snapshots has panicked");
        }
        let rest = std::mem::take(&mut lock(&self.queue.state).waiting);
        rest.iter().map(|checkpoint| checkpoint.stamp.partition).collect()
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.drain(Instant::now());
    }
}

/// What waits to be uploaded.
#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    /// Something waits, or the end has come. One waits for it: the thread.
    changed: Notify,
    /// The end has come. One waits for it: the thread.
    ended: Notify,
}

#[derive(Default)]
struct Waiting {
    waiting: VecDeque<Checkpoint>,
    /// Those that newer ones have replaced. Removing their files is not for a worker to wait for.
    replaced: Vec<Checkpoint>,
    deadline: Option<Instant>,
}

impl Queue {
    fn put(&self, checkpoint: Checkpoint) {
        let mut state = lock(&self.state);
        let partition = checkpoint.stamp.partition;
        match state.waiting.iter_mut().find(|waiting| waiting.stamp.partition == partition) {
            // It keeps the place in the line.
            Some(waiting) => {
                let replaced = std::mem::replace(waiting, checkpoint);
                state.replaced.push(replaced);
            }
            None => state.waiting.push_back(checkpoint),
        }
        self.changed.notify_one();
    }

    /// Puts one back that was not uploaded, unless there is a newer one.
    fn put_back(&self, checkpoint: Checkpoint) {
        let mut state = lock(&self.state);
        if !state.waiting.iter().any(|waiting| waiting.stamp.partition == checkpoint.stamp.partition) {
            state.waiting.push_back(checkpoint);
        }
    }

    fn end(&self, deadline: Instant) {
        lock(&self.state).deadline.get_or_insert(deadline);
        self.changed.notify_one();
        self.ended.notify_one();
    }

    /// Waits for the next; `None` at the end.
    async fn next(&self) -> Option<Checkpoint> {
        loop {
            let (next, replaced, is_end) = {
                let mut state = lock(&self.state);
                (state.waiting.pop_front(), std::mem::take(&mut state.replaced), state.deadline.is_some())
            };
            drop(replaced);
            if next.is_some() || is_end {
                return next;
            }
            self.changed.notified().await;
        }
    }

    /// Waits for the end, and returns its deadline.
    async fn end_begins(&self) -> Instant {
        loop {
            let deadline = lock(&self.state).deadline;
            match deadline {
                Some(deadline) => return deadline,
                None => self.ended.notified().await,
            }
        }
    }

    /// Waits until the deadline has passed.
    async fn is_late(&self) {
        let deadline = self.end_begins().await;
        tokio::time::sleep_until(deadline.into()).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one call: a panic elsewhere leaves none by halves.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type OnEvent = Box<dyn FnMut(Event<'_>) + Send>;

struct Thread {
    snapshots: Snapshots,
    queue: Arc<Queue>,
    on: OnEvent,
    /// When a partition's folder was last swept.
    swept: HashMap<u32, Instant>,
}

impl Thread {
    fn run(mut self) {
        match self.snapshots.runtime() {
            Ok(runtime) => {
                runtime.block_on(self.work());
                runtime.shutdown_background();
            }
            Err(error) => warn!(error = &error as &dyn std::error::Error, "no snapshots can be uploaded"),
        }
    }

    async fn work(&mut self) {
        let (queue, mut backoff) = (self.queue.clone(), Backoff::default());
        while let Some(checkpoint) = queue.next().await {
            let attempt = tokio::select! {
                attempt = self.attempt(&checkpoint) => attempt,
                () = queue.is_late() => return queue.put_back(checkpoint),
            };
            let Err(error) = attempt else {
                backoff = Backoff::default();
                continue;
            };
            let Stamp { partition, offset, .. } = checkpoint.stamp;
            (self.on)(Event::Failed { stamp: &checkpoint.stamp, error: &error });
            warn!(error = &error as &dyn std::error::Error, partition, offset, "a snapshot was not uploaded");
            if is_ours(&error) {
                continue;
            }
            queue.put_back(checkpoint);
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = queue.is_late() => return,
            }
        }
    }

    async fn attempt(&mut self, checkpoint: &Checkpoint) -> Result<(), SnapshotError> {
        let stamp = &checkpoint.stamp;
        let folder = self.snapshots.folder(Remote::connect(&self.snapshots.location)?, stamp.partition);
        let saved = upload(&folder, checkpoint, &self.snapshots.origin).await?;
        (self.on)(Event::Saved { stamp, saved: &saved });
        let Saved { uploaded_bytes, bytes, took, .. } = saved;
        info!(partition = stamp.partition, offset = stamp.offset, uploaded_bytes, bytes, ?took, "snapshot");
        if self.swept.get(&stamp.partition).is_some_and(|swept| swept.elapsed() < SWEEP_EVERY) {
            return Ok(());
        }
        let swept = tokio::select! {
            swept = self.snapshots.sweep_folder(&folder, &saved) => swept,
            // It can wait; a snapshot cannot.
            _ = self.queue.end_begins() => Ok(()),
        };
        match swept {
            Ok(()) => drop(self.swept.insert(stamp.partition, Instant::now())),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(error, partition = stamp.partition, "old snapshots were not removed");
            }
        }
        Ok(())
    }
}

/// Whether a checkpoint is no good, or cannot be read: the next may be.
fn is_ours(error: &SnapshotError) -> bool {
    matches!(error, SnapshotError::Disk { .. } | SnapshotError::Full { .. } | SnapshotError::Store(_))
}
