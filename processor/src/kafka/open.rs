//! Partitions are opened on a thread of their own: it may take a minute, and the worker must go on polling.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use tracing::{info, warn};

use super::Config;
use super::active::Active;
use super::client::GroupConsumer;
use super::cluster::{CommittedOffset, Member, Opening};
use super::error::ProcessError;
use super::position::{Committed, Position, Stand};
use super::restoring::{fetched_further, has_copy, is_far_behind, restored};
use super::status::Restoring;
use crate::partition::Partition;
use crate::{Store, StoreError};

/// What is in the way is said so often.
pub(super) const SAY_EVERY: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// What is to be opened.
pub(super) struct Wanted {
    pub partition: i32,
    /// Set when it is no longer wanted.
    pub is_given_up: Arc<AtomicBool>,
    /// How far its restore is, if it is restored.
    pub restoring: Arc<Restoring>,
}

/// What has become of it.
pub(super) struct Opened {
    pub wanted: Wanted,
    /// `None`: given up.
    pub active: Option<Result<Box<Active>, ProcessError>>,
}

/// The thread.
pub(super) struct Opener {
    requests: Sender<Wanted>,
    opened: Receiver<Opened>,
}

impl Opener {
    pub fn start(config: Arc<Config>, member: Arc<GroupConsumer>, worker: usize) -> Result<Opener, ProcessError> {
        let (requests, wanted) = mpsc::channel::<Wanted>();
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("open {worker}"));
        let work = move || {
            for wanted in wanted {
                let active = opened(&config, &*member, &wanted).transpose();
                if sender.send(Opened { wanted, active }).is_err() {
                    return;
                }
            }
        };
        thread.spawn(work).map_err(ProcessError::Thread)?;
        Ok(Opener { requests, opened: receiver })
    }
}

impl Opening for Opener {
    fn want(&self, wanted: Wanted) {
        // The thread ends when this is dropped, not before.
        self.requests.send(wanted).ok();
    }

    fn opened(&self) -> Option<Opened> {
        self.opened.try_recv().ok()
    }
}

/// The directory of a partition's state.
pub fn partition_dir(dir: &Path, partition: i32) -> PathBuf {
    dir.join(format!("p{partition}"))
}

/// What the broker says of a partition.
pub(super) struct Log {
    /// How far the group has come.
    pub committed: Option<Committed>,
    /// The first offset that is still there.
    pub begin: i64,
    /// Where it ends.
    pub end: i64,
}

/// Opens a partition as soon as it can be; `None` if it is no longer wanted.
fn opened(config: &Config, member: &impl Member, wanted: &Wanted) -> Result<Option<Box<Active>>, ProcessError> {
    loop {
        let Some(log) = ask(member, wanted)? else { return Ok(None) };
        match open(config, wanted, &log) {
            // No other process works in the directory: another worker of this one is letting go of it, or somebody looks at it.
            Err(ProcessError::Store(StoreError::Locked { .. })) => thread::sleep(PAUSE),
            opened => return opened,
        }
    }
}

/// Opens a partition's state; `None` if it is no longer wanted.
pub(super) fn open(config: &Config, wanted: &Wanted, log: &Log) -> Result<Option<Box<Active>>, ProcessError> {
    let path = partition_dir(&config.dir, wanted.partition);
    if !path.exists() && !config.from_log_start && !restored(config, wanted, log, &path)? {
        return Ok(None);
    }
    let (mut store, mut stand) = stored(config, &path)?;
    if stand.as_ref().is_some_and(|stand| stand.position.offset < log.begin) {
        let has_copy = has_copy(config, wanted, log)?;
        if has_copy || config.from_log_start {
            drop(store);
            put_aside(&path)?;
            if has_copy && !restored(config, wanted, log, &path)? {
                return Ok(None);
            }
            (store, stand) = stored(config, &path)?;
        }
    } else if let Some(behind) = stand.as_ref().filter(|stand| is_far_behind(stand, log)) {
        let further = path.with_extension("further");
        if fetched_further(config, wanted, log, behind, &further) {
            if wanted.is_given_up.load(Ordering::Relaxed) {
                return Ok(None);
            }
            drop(store);
            replace(&path, &further)?;
            (store, stand) = stored(config, &path)?;
        }
    }
    let was_clean = store.reopen()?;
    let is_new = stand.is_none();
    let stand = start(config, wanted.partition, &path, log, stand, was_clean)?;
    let mut partition = Partition::load(store, &config.settings)
        .map_err(|source| ProcessError::Step { partition: wanted.partition, source })?;
    partition.machine.set_generation(stand.generation);
    let mut active = Active::new(wanted.partition, partition, stand);
    active.publish_from(log.committed);
    let (offset, until) = (active.stand.position.offset, active.until.map(|until| until.offset));
    info!(partition = wanted.partition, offset, is_new, until, "partition opened");
    Ok(Some(Box::new(active)))
}

/// The state on the disk, a new one if there is none, and what it says of itself.
fn stored(config: &Config, path: &Path) -> Result<(Store, Option<Stand>), ProcessError> {
    let store = Store::open(path, &config.memory)?;
    let decode = |bytes: Vec<u8>| {
        let stand = Stand::decode(&bytes).map_err(|source| ProcessError::Position { path: path.to_owned(), source })?;
        same_log(stand, config, path)
    };
    let stand = store.position()?.map(decode).transpose()?;
    Ok((store, stand))
}

/// What is behind the log is of no use, and is not ours to delete. Returns where it is now.
fn put_aside(path: &Path) -> Result<PathBuf, ProcessError> {
    let aside = path.with_extension("behind");
    let failed = |source| ProcessError::Directory { path: aside.clone(), source };
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(failed)?;
    }
    fs::rename(path, &aside).map_err(failed)?;
    Ok(aside)
}

/// Puts a further state in the place of one that it has outrun. Killed in between, there is none, and the next start restores
/// it again.
fn replace(path: &Path, further: &Path) -> Result<(), ProcessError> {
    let aside = put_aside(path)?;
    fs::rename(further, path).map_err(|source| ProcessError::Directory { path: path.to_owned(), source })?;
    fs::remove_dir_all(&aside).map_err(|source| ProcessError::Directory { path: aside, source })
}

/// Where to go on.
fn start(
    config: &Config,
    partition: i32,
    path: &Path,
    log: &Log,
    stand: Option<Stand>,
    was_clean: bool,
) -> Result<Stand, ProcessError> {
    let gap = |what: String| ProcessError::Gap { partition, what, begin: log.begin };
    let Some(mut stand) = stand else {
        let committed = log.committed.map_or(0, |committed| committed.generation);
        let generation = match log.begin {
            // What is left of the log gives another state.
            _ if config.from_log_start => committed + 1,
            0 => committed,
            _ => return Err(gap(format!("there is no state in {}", path.display()))),
        };
        let (topic, position) = (config.topics.events.clone(), Position::at(log.begin));
        return Ok(Stand { topic, partitions: config.partitions, generation, position });
    };
    let ahead = |committed: String| {
        let (path, state) = (path.to_owned(), stand.position.offset);
        ProcessError::Ahead { partition, path, state, committed }
    };
    match log.committed {
        Some(committed) if committed.position < stand.position => {
            Err(ahead(format!("offset {}", committed.position.offset)))
        }
        // The group's offsets expire when nobody has asked for them for a week.
        None if !was_clean => Err(ahead("nothing, while the state was not closed cleanly".to_owned())),
        // And go with a topic that is deleted.
        _ if stand.position.offset > log.end => Err(ahead(format!("none of it, and the log ends at {}", log.end))),
        _ if stand.position.offset < log.begin => {
            Err(gap(format!("the state in {} stands at offset {}", path.display(), stand.position.offset)))
        }
        committed => {
            stand.generation = committed.map_or(stand.generation, |it| it.generation.max(stand.generation));
            Ok(stand)
        }
    }
}

fn same_log(stand: Stand, config: &Config, path: &Path) -> Result<Stand, ProcessError> {
    if stand.topic == config.topics.events && stand.partitions == config.partitions {
        return Ok(stand);
    }
    let tell = |topic: &str, partitions: u32| format!("topic {topic} with {partitions} partitions");
    Err(ProcessError::OtherLog {
        path: path.to_owned(),
        was: tell(&stand.topic, stand.partitions),
        is: tell(&config.topics.events, config.partitions),
    })
}

/// Asks until there is an answer; `None` if it is no longer wanted.
fn ask(member: &impl Member, wanted: &Wanted) -> Result<Option<Log>, ProcessError> {
    let mut said_at: Option<Instant> = None;
    while !wanted.is_given_up.load(Ordering::Relaxed) {
        match asked(member, wanted.partition) {
            Ok(log) => return log.map(Some),
            Err(error) => {
                // It is asked until the broker is back, which may be hours.
                if said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                    warn!(partition = wanted.partition, %error, "where to go on is not known yet; asking again");
                    said_at = Some(Instant::now());
                }
                thread::sleep(PAUSE);
            }
        }
    }
    Ok(None)
}

/// What the broker says of a partition, now.
pub(super) fn asked(member: &impl Member, partition: i32) -> Result<Result<Log, ProcessError>, KafkaError> {
    let committed = committed(member, &[partition])?.pop().map_or(Ok(None), |(_, committed)| committed);
    let (begin, end) = member.bounds(partition)?;
    Ok(committed.map(|committed| Log { committed, begin, end }))
}

/// The offset that the group has committed for a partition, if it has, and if it was this version.
pub(super) type FoundOffset = Result<Option<Committed>, ProcessError>;

/// The offset that the group has committed for each of these partitions, as far as it has.
pub(super) fn committed(member: &impl Member, partitions: &[i32]) -> Result<Vec<(i32, FoundOffset)>, KafkaError> {
    let read = |(partition, found): (i32, Option<CommittedOffset>)| {
        let committed = found.map(|(offset, metadata)| Committed::read(offset, &metadata)).transpose();
        (partition, committed.map_err(|source| ProcessError::Foreign { partition, source }))
    };
    Ok(member.committed(partitions)?.into_iter().map(read).collect())
}
