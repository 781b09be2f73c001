//! The processor on Kafka: partitions of `touchline.events` in, alerts, scores, facts and dead letters out, exactly once.
//!
//! [`run`] starts the workers, each an OS thread with a consumer, a transactional producer and stores of its own. Kafka's
//! group protocol gives every partition to one of them, here or in another process. In reading order: `position`,
//! `active` (one partition), `open`, `transaction`, `worker` (all of it together).
//!
//! Invariants:
//! - A state is never ahead of what the group has committed: the transaction comes first, and the store is written some
//!   transactions later, all of it as of the last one.
//! - Between what a store holds and what the group has committed, nothing is published again.
//! - Nothing of a partition is sent after it has been given back.

pub(crate) mod active;
mod client;
pub(crate) mod clock;
mod cluster;
mod error;
mod instance;
mod margin;
mod open;
pub(crate) mod position;
mod restoring;
#[cfg(test)]
mod simulation;
mod status;
mod transaction;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use touchline_core::output::Topic;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::options::Memory;
use crate::snapshot::{Event, Snapshots, Uploader};
use crate::worker::{Progress, Settings};
use client::{Brokers, GroupConsumer};
pub use error::ProcessError;
pub use instance::Instance;
use margin::Margin;
pub use open::partition_dir;
pub use position::{Committed, ForeignOffset, Position, Stand};
pub(crate) use status::Doing;
pub use status::Status;
use worker::Worker;

/// Between two looks at how far the group has come.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Links to files of states on their way to the snapshots, in the state directory.
const CHECKPOINTS: &str = "checkpoints";
/// For the snapshots of partitions that are given up at the end.
const DRAIN_UPLOADS: Duration = Duration::from_secs(3);
/// For the broker to tell where a partition ends.
const ASK: Duration = Duration::from_secs(10);

/// The names of topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// What is read.
    pub events: String,
    /// What is written.
    pub alerts: String,
    /// What is written.
    pub scores: String,
    /// What is written.
    pub facts: String,
    /// What is written.
    pub dead_letters: String,
}

impl Topics {
    fn name(&self, topic: Topic) -> &str {
        match topic {
            Topic::Alerts => &self.alerts,
            Topic::Scores => &self.scores,
            Topic::Facts => &self.facts,
            Topic::DeadLetters => &self.dead_letters,
        }
    }
}

/// Where copies of states go, and how often.
#[derive(Clone, Debug)]
pub struct SnapshotPlan {
    /// Where.
    pub snapshots: Snapshots,
    /// A partition that changes is copied so often.
    pub every: Duration,
}

/// What the processor is made of.
#[derive(Clone)]
pub struct Config {
    /// How to reach the brokers, and what else the user has set.
    pub client: ClientConfig,
    /// In front of every name that this deployment has in Kafka.
    pub prefix: String,
    /// The consumer group.
    pub group: String,
    /// [`Instance::name`].
    pub instance: String,
    /// The topics.
    pub topics: Topics,
    /// How many partitions of the topic of events are used: the first ones.
    pub partitions: u32,
    /// Where the states are.
    pub dir: PathBuf,
    /// What they may cost, together.
    pub memory: Memory,
    /// Workers.
    pub threads: usize,
    /// When to commit, what to publish.
    pub settings: Settings,
    /// Copies of the states; `None`: told to do without.
    pub snapshots: Option<SnapshotPlan>,
    /// Stop where the log ended at the start.
    pub until_end: bool,
    /// Where there is no state and the log has lost its beginning, go on with what is left.
    pub from_log_start: bool,
}

impl Config {
    /// Whether a partition is one of those with events in them.
    fn is_used(&self, partition: i32) -> bool {
        u32::try_from(partition).is_ok_and(|partition| partition < self.partitions)
    }
}

/// What the workers of a process have in common.
struct Shared {
    metrics: Metrics,
    status: Arc<Status>,
    /// `None`: no copies are made.
    uploader: Option<Uploader>,
    margin: Arc<Margin>,
    /// Open states: they share the memory.
    stores: AtomicUsize,
    /// Where each partition ended at the start, if the run ends there.
    until_end: Option<Vec<(i32, i64)>>,
    total: Mutex<Progress>,
}

impl Shared {
    fn report(&self, progress: &Progress, tick: Option<Timestamp>) {
        self.metrics.report(progress, tick);
        self.total.lock().unwrap_or_else(PoisonError::into_inner).add(*progress);
    }
}

/// Works until `stop` is set, or to the end if that was asked for; drains, and tells what was done.
pub fn run(config: Config, metrics: Metrics, status: Arc<Status>, stop: &AtomicBool) -> Result<Progress, ProcessError> {
    let until_end = if config.until_end { Some(ends(&config, stop)?) } else { None };
    let margin = Arc::<Margin>::default();
    let uploader =
        config.snapshots.as_ref().map(|plan| start_uploader(&config, plan, &metrics, &margin)).transpose()?;
    let (config, stores) = (Arc::new(config), AtomicUsize::new(0));
    let shared = Arc::new(Shared { metrics, status, uploader, margin, stores, until_end, total: Mutex::default() });
    // A run that ends by itself is not watched.
    if let Some(plan) = config.snapshots.as_ref().filter(|_| !config.until_end) {
        shared.margin.start(&config, &plan.snapshots, &shared.metrics).map_err(ProcessError::Thread)?;
    }
    let (cluster, is_over) = (Arc::new(Brokers(config.clone())), AtomicBool::new(false));
    let mut outcome = Ok(());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..config.threads)
            .map(|number| {
                let (cluster, is_over) = (cluster.clone(), &is_over);
                let (config, shared) = (config.clone(), shared.clone());
                let work = move || {
                    let worked = Worker::start(cluster, config, shared, number).and_then(|worker| worker.run(is_over));
                    // Without one of them, some partitions are nobody's: another process can do better.
                    if worked.is_err() {
                        is_over.store(true, Ordering::Relaxed);
                    }
                    worked
                };
                thread::Builder::new().name(format!("worker {number}")).spawn_scoped(scope, work)
            })
            .collect();
        if workers.iter().any(Result::is_err) {
            is_over.store(true, Ordering::Relaxed);
        }
        watch(&config, &shared, stop, &is_over);
        for worker in workers {
            let worked = match worker {
                Ok(worker) => worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(error) => Err(ProcessError::Thread(error)),
            };
            if outcome.is_ok() {
                outcome = worked;
            }
        }
    });
    outcome?;
    if let Some(uploader) = &shared.uploader {
        let left = uploader.drain(Instant::now() + DRAIN_UPLOADS);
        if !left.is_empty() {
            // Whoever has these partitions next goes on from an older copy, and the log.
            warn!(partitions = ?left, "left before their snapshots were in the store");
        }
    }
    let total = *shared.total.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(total)
}

fn start_uploader(
    config: &Config,
    plan: &SnapshotPlan,
    metrics: &Metrics,
    margin: &Arc<Margin>,
) -> Result<Uploader, ProcessError> {
    let (metrics, margin) = (metrics.clone(), margin.clone());
    let on = move |event: Event<'_>| match event {
        Event::Saved { stamp, saved } => {
            metrics.snapshot_saved(Timestamp::now());
            margin.saved(stamp.partition, saved.created);
        }
        Event::Failed { .. } => metrics.snapshot_failed(),
    };
    Uploader::start(plan.snapshots.clone(), &checkpoints_dir(&config.dir), on).map_err(ProcessError::Snapshots)
}

/// Where, in the state directory, checkpoints are on their way to the snapshots. It belongs to whoever holds the
/// [`Instance`] of the processor.
pub fn checkpoints_dir(dir: &Path) -> PathBuf {
    dir.join(CHECKPOINTS)
}

/// Waits until the workers are to stop.
fn watch(config: &Config, shared: &Shared, stop: &AtomicBool, is_over: &AtomicBool) {
    let observer = shared.until_end.as_ref().map(|ends| (client::observer(config), ends));
    while !stop.load(Ordering::Relaxed) && !is_over.load(Ordering::Relaxed) {
        thread::sleep(LOOK_EVERY);
        match &observer {
            Some((Ok(observer), ends)) => match has_reached(observer, ends) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => warn!(%error, "how far the group has come is not known; asking again"),
            },
            Some((Err(error), _)) => {
                warn!(%error, "the group cannot be watched");
                break;
            }
            None => {}
        }
    }
    is_over.store(true, Ordering::Relaxed);
}

/// Whether the group, in whatever process, has come to these ends.
fn has_reached(observer: &GroupConsumer, ends: &[(i32, i64)]) -> Result<bool, KafkaError> {
    let partitions: Vec<_> = ends.iter().map(|(partition, _)| *partition).collect();
    let committed = open::committed(observer, &partitions)?;
    let reached = |partition: i32| {
        let found = committed.iter().find(|(number, _)| *number == partition);
        found.and_then(|(_, committed)| committed.as_ref().ok()?.as_ref().map(|it| it.position.offset)).unwrap_or(0)
    };
    Ok(ends.iter().all(|(partition, end)| reached(*partition) >= *end))
}

/// Where each partition ends now.
fn ends(config: &Config, stop: &AtomicBool) -> Result<Vec<(i32, i64)>, ProcessError> {
    while !stop.load(Ordering::Relaxed) {
        match ends_now(config) {
            Ok(ends) if !ends.is_empty() => {
                info!(?ends, "until the end");
                return Ok(ends);
            }
            Ok(_) => warn!(topic = config.topics.events, "the topic does not exist yet; waiting for it"),
            Err(error) => warn!(%error, "where the log ends is not known; asking again"),
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(Vec::new())
}

fn ends_now(config: &Config) -> Result<Vec<(i32, i64)>, KafkaError> {
    let observer = client::observer(config)?.consumer;
    let found = observer.fetch_metadata(Some(&config.topics.events), ASK)?;
    let partitions = found.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id());
    let used = partitions.filter(|id| config.is_used(*id));
    used.map(|id| Ok((id, observer.fetch_watermarks(&config.topics.events, id, ASK)?.1))).collect()
}
