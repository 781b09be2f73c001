//! By how much the log of events outlasts the snapshots.
//!
//! A state that is lost is made again from its newest snapshot and the log behind it, of which the broker removes what is
//! older than `retention.ms`. What is left of that once the snapshot's age is taken off is how long no other snapshot need
//! be made before a loss is for good. Of a process it is the least of its partitions'; unknown, it is not told at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{io, thread};

use jiff::Timestamp;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use tracing::debug;

use super::Config;
use crate::Snapshots;
use crate::metrics::Metrics;

/// How often the margin is told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often the retention is asked for: operators change it, seldom.
const ASK_EVERY: Duration = Duration::from_secs(300);
/// The same, and for the snapshots of a partition, where there was no answer.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// For an answer.
const WITHIN: Duration = Duration::from_secs(5);

/// The newest snapshot of each partition of this process, as far as it is known.
#[derive(Default)]
pub(super) struct Margin {
    newest: Mutex<BTreeMap<u32, Option<Timestamp>>>,
}

impl Margin {
    /// From here on a partition counts.
    pub fn own(&self, partition: i32) {
        if let Ok(partition) = u32::try_from(partition) {
            self.lock().entry(partition).or_default();
        }
    }

    /// From here on it is another's to watch.
    pub fn give_up(&self, partition: i32) {
        if let Ok(partition) = u32::try_from(partition) {
            self.lock().remove(&partition);
        }
    }

    /// A snapshot of that time is in the store.
    pub fn saved(&self, partition: u32, created: Timestamp) {
        if let Some(newest) = self.lock().get_mut(&partition) {
            *newest = (*newest).max(Some(created));
        }
    }

    /// Starts to tell the margin, until it is dropped. Nobody waits for the end: a store that does not answer may take long.
    pub fn start(self: &Arc<Self>, config: &Arc<Config>, snapshots: &Snapshots, metrics: &Metrics) -> io::Result<()> {
        let (margin, config) = (Arc::downgrade(self), config.clone());
        let (snapshots, metrics) = (snapshots.clone(), metrics.clone());
        let thread = thread::Builder::new().name("margin".to_owned());
        thread.spawn(move || watch(&margin, &config, &snapshots, &metrics)).map(drop)
    }

    /// A partition of which nothing is known yet.
    fn unknown(&self) -> Option<u32> {
        self.lock().iter().find(|(_, newest)| newest.is_none()).map(|(number, _)| *number)
    }

    /// Of the oldest of the newest snapshots, in seconds; `None` while there is none of which it is known.
    fn age(&self, now: Timestamp) -> Option<f64> {
        let oldest = self.lock().values().copied().flatten().min()?;
        Some(now.duration_since(oldest).as_secs_f64())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Option<Timestamp>>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watch(margin: &Weak<Margin>, config: &Config, snapshots: &Snapshots, metrics: &Metrics) {
    let (mut kept, mut ask_at, mut look_at) = (None, Instant::now(), Instant::now());
    while let Some(unknown) = margin.upgrade().map(|margin| margin.unknown()) {
        if Instant::now() >= ask_at {
            let asked = retention(config);
            ask_at = Instant::now() + if asked.is_ok() { ASK_EVERY } else { ASK_AGAIN };
            match asked {
                Ok(found) => kept = found,
                Err(error) => debug!(%error, "how long the log is kept is not known; asking again"),
            }
        }
        if let Some(partition) = unknown
            && Instant::now() >= look_at
        {
            match (snapshots.list(partition), margin.upgrade()) {
                (Ok(found), Some(margin)) => {
                    let newest = found.iter().map(|copy| copy.created).max();
                    // Where there is none yet, the first is due within minutes of now.
                    margin.saved(partition, newest.unwrap_or_else(Timestamp::now));
                    continue;
                }
                (Err(error), _) => {
                    look_at = Instant::now() + ASK_AGAIN;
                    debug!(partition, %error, "how old the newest snapshot is, is not known; asking again");
                }
                (Ok(_), None) => return,
            }
        }
        let age = margin.upgrade().and_then(|margin| margin.age(Timestamp::now()));
        metrics.snapshot_margin(kept.zip(age).map(|(kept, age)| kept - age));
        thread::sleep(TELL_EVERY);
    }
}

/// How long the log of events is kept, in seconds; for ever is infinite. `None` where the broker does not let it be seen.
fn retention(config: &Config) -> Result<Option<f64>, KafkaError> {
    let admin: AdminClient<DefaultClientContext> = config.client.create()?;
    let topic = ResourceSpecifier::Topic(&config.topics.events);
    let options = AdminOptions::new().request_timeout(Some(WITHIN));
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return Ok(None) };
    let described = runtime.block_on(admin.describe_configs([&topic], &options))?;
    let settings = described.into_iter().next().and_then(Result::ok);
    let ms = settings.and_then(|settings| settings.get("retention.ms")?.value.as_ref()?.parse().ok());
    Ok(ms.map(|ms: i64| if ms < 0 { f64::INFINITY } else { Duration::from_millis(ms.unsigned_abs()).as_secs_f64() }))
}
