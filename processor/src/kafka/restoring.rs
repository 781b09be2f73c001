//! States that come from snapshots: where there is none, where the log has left it behind, and where it is so far behind that
//! applying the log again would take longer.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::Config;
use super::error::ProcessError;
use super::open::{Log, Wanted};
use super::position::Stand;
use crate::SnapshotError;
use crate::snapshot::{Listed, RestoreProgress};

/// How often a restore says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// A snapshot so many records further than the state on the disk is worth fetching: a worker applies them again in some two
/// seconds, and a partition's state seldom comes sooner.
const WORTH_FETCHING: i64 = 200_000;

/// Brings a state back from its furthest copy that the log still goes on from, if there is one; `false` if it is no longer
/// wanted. A store that is out of reach is waited for. Where all copies are damaged, a log that is whole does as well.
pub(super) fn restored(config: &Config, wanted: &Wanted, log: &Log, path: &Path) -> Result<bool, ProcessError> {
    let (Some(plan), Ok(partition)) = (&config.snapshots, u32::try_from(wanted.partition)) else { return Ok(true) };
    let mut telling = Telling::new(wanted);
    let is_good = |copy: &Listed| copy.offset >= log.begin.unsigned_abs();
    match plan.snapshots.restore(partition, path, is_good, |progress| telling.tell(progress)) {
        Ok(Some(restored)) => {
            let offset = restored.listed.offset;
            info!(partition, offset, bytes = restored.bytes, "restored from a snapshot");
            Ok(true)
        }
        // Another worker of this process has brought it back meanwhile, and let go of it.
        Ok(None) | Err(SnapshotError::Occupied { .. }) => Ok(true),
        Err(_) if wanted.is_given_up.load(Ordering::Relaxed) => Ok(false),
        Err(error @ SnapshotError::Damaged { .. }) if log.begin == 0 => {
            let error = &error as &dyn std::error::Error;
            warn!(
                error,
                partition, "the log has its beginning: the state is made again from it, and nothing is said twice"
            );
            Ok(true)
        }
        Err(source) => Err(ProcessError::Restore { partition: wanted.partition, source }),
    }
}

/// Whether there is a copy from which the log still goes on.
pub(super) fn has_copy(config: &Config, wanted: &Wanted, log: &Log) -> Result<bool, ProcessError> {
    let (Some(plan), Ok(partition)) = (&config.snapshots, u32::try_from(wanted.partition)) else { return Ok(false) };
    let failed = |source| ProcessError::Restore { partition: wanted.partition, source };
    let copies = plan.snapshots.list(partition).map_err(failed)?;
    Ok(copies.iter().any(|copy| copy.offset >= log.begin.unsigned_abs()))
}

/// Whether the group has come so far beyond a state that there may be a copy worth fetching: a partition that was another
/// machine's for a while, and is back.
pub(super) fn is_far_behind(stand: &Stand, log: &Log) -> bool {
    log.committed.is_some_and(|committed| {
        committed.generation == stand.generation && committed.position.offset - stand.position.offset >= WORTH_FETCHING
    })
}

/// Fetches, beside the state on the disk, a copy that is so much further than it; whether there is one. The state will do
/// where there is none, the store does not answer, or a copy is damaged.
pub(super) fn fetched_further(config: &Config, wanted: &Wanted, log: &Log, stand: &Stand, beside: &Path) -> bool {
    let (Some(plan), Ok(partition)) = (&config.snapshots, u32::try_from(wanted.partition)) else { return false };
    let worth = log.begin.max(stand.position.offset + WORTH_FETCHING).unsigned_abs();
    // One beyond what the group has committed would be refused.
    let most = log.committed.map_or(0, |committed| committed.position.offset).unsigned_abs();
    let is_good = |copy: &Listed| copy.generation == stand.generation && (worth..=most).contains(&copy.offset);
    let mut telling = Telling::new(wanted);
    let progress = |progress: &RestoreProgress| match telling.tell(progress) {
        ControlFlow::Continue(()) if progress.waits_for.is_none() => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    // What a start that was killed has left.
    let _ = fs::remove_dir_all(beside);
    match plan.snapshots.restore(partition, beside, is_good, progress) {
        Ok(Some(restored)) => {
            let (state, offset) = (stand.position.offset, restored.listed.offset);
            info!(
                partition,
                state,
                offset,
                bytes = restored.bytes,
                "a snapshot is further than the state, and takes its place"
            );
            true
        }
        Ok(None) => false,
        Err(_) if wanted.is_given_up.load(Ordering::Relaxed) => false,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            warn!(error, partition, "no snapshot was fetched in the place of an older state, which goes on by itself");
            false
        }
    }
}

/// Tells how far a restore is: now and then in the log, always in the status.
struct Telling<'w> {
    wanted: &'w Wanted,
    begun: Instant,
    told_at: Instant,
}

impl Telling<'_> {
    fn new(wanted: &Wanted) -> Telling<'_> {
        Telling { wanted, begun: Instant::now(), told_at: Instant::now() }
    }

    fn tell(&mut self, progress: &RestoreProgress) -> ControlFlow<()> {
        const MB: u64 = 1_000_000;
        let RestoreProgress { bytes, total, waits_for } = progress;
        self.wanted.restoring.set(*bytes, *total);
        if self.told_at.elapsed() >= TELL_EVERY {
            self.told_at = Instant::now();
            let left = self.begun.elapsed().as_secs_f64() * (total - bytes.min(total)) as f64 / (*bytes).max(1) as f64;
            let partition = self.wanted.partition;
            match waits_for {
                Some(said) => {
                    warn!(partition, said, "restoring: the store of snapshots does not answer, and is waited for")
                }
                None if *bytes == 0 => info!(partition, "restoring: looking for a snapshot"),
                None => info!(partition, "restoring: {} of {} MB, {left:.0} s left", bytes / MB, total / MB),
            }
        }
        if self.wanted.is_given_up.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.wanted.restoring.clear();
    }
}
