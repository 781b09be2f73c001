//! What operations can watch of the processor.

use std::cell::RefCell;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry};

use crate::kafka::Doing;
use crate::worker::Progress;

/// Seconds that a commit takes: a fraction of the interval when all is well, up to the transaction's time-out.
const COMMIT_BUCKETS: [f64; 10] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 3.0, 10.0];

/// The processor's metrics; clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    events: IntCounter,
    records: IntCounter,
    dead_letters: IntCounter,
    published: IntCounter,
    alerts: IntCounter,
    lapses: IntCounter,
    erased: IntCounter,
    suppressed: IntCounter,
    commits: Histogram,
    aborted: IntCounter,
    snapshots: IntCounter,
    snapshots_failed: IntCounter,
    snapshot: Gauge,
    tick: Gauge,
    partitions: IntGauge,
    opening: IntGauge,
    behind: IntGauge,
    restored: IntGauge,
    to_restore: IntGauge,
    /// It has a value where it is known: else it would be old.
    margin: GaugeVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// One of these names is registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Metrics> {
        Metrics::made(&|collector| registry.register(collector))
    }

    /// All that [`Metrics::register`] registers, for who writes about it.
    pub fn collectors() -> prometheus::Result<Vec<Box<dyn Collector>>> {
        let all: RefCell<Vec<Box<dyn Collector>>> = RefCell::default();
        Metrics::made(&|collector| {
            all.borrow_mut().push(collector);
            Ok(())
        })?;
        Ok(all.into_inner())
    }

    fn made(register: &Register<'_>) -> prometheus::Result<Metrics> {
        let counter = |name: &str, help: &str| registered(register, IntCounter::new(format!("{PREFIX}{name}"), help)?);
        let gauge = |name: &str, help: &str| registered(register, IntGauge::new(format!("{PREFIX}{name}"), help)?);
        let commits = Opts::new(format!("{PREFIX}commit_seconds"), "Time that commits took, transaction and state.");
        Ok(Metrics {
            events: counter("events_total", "Events applied: new, known or wrong.")?,
            records: counter("records_total", "Records of the log applied: events, ticks and rules.")?,
            dead_letters: counter("dead_letters_total", "Records that could not be processed.")?,
            published: counter("published_total", "Records published.")?,
            alerts: counter("alerts_total", "Alert changes published.")?,
            lapses: counter("lapses_total", "Lapses opened for contacts.")?,
            erased: counter("erased_total", "Contacts erased.")?,
            suppressed: counter("suppressed_total", "Events of erased contacts that were not taken.")?,
            commits: registered(
                register,
                Histogram::with_opts(HistogramOpts::from(commits).buckets(COMMIT_BUCKETS.to_vec()))?,
            )?,
            partitions: gauge("partitions", "Partitions worked on.")?,
            opening: gauge("partitions_opening", "Partitions whose states are being opened or restored.")?,
            behind: gauge("replay_records", "Records to be applied again before anything new is.")?,
            restored: gauge(
                "restored_bytes",
                "Of the snapshots that are being restored, the bytes that are here. 0 while none is.",
            )?,
            to_restore: gauge("restore_bytes", "Bytes of the snapshots that are being restored. 0 while none is.")?,
            margin: registered(
                register,
                GaugeVec::new(
                    Opts::new(
                        format!("{PREFIX}snapshot_margin_seconds"),
                        "By how much the retention of the topic of events (retention.ms) outlasts the newest snapshot, of the partition where it is least. At 0 a state that is lost can no longer be made again. +Inf where the log is kept for ever; absent without snapshots.",
                    ),
                    &[],
                )?,
            )?,
            snapshots: counter("snapshots_total", "Snapshots of partitions uploaded.")?,
            snapshots_failed: counter("snapshots_failed_total", "Attempts at a snapshot that failed.")?,
            snapshot: registered(
                register,
                Gauge::new(format!("{PREFIX}snapshot_timestamp_seconds"), "When the newest snapshot was uploaded.")?,
            )?,
            aborted: counter("transactions_failed_total", "Transactions that failed, and were made again.")?,
            tick: registered(
                register,
                Gauge::new(format!("{PREFIX}tick_timestamp_seconds"), "The last tick applied, as a Unix time.")?,
            )?,
        })
    }

    pub(crate) fn report(&self, done: &Progress, tick: Option<Timestamp>) {
        for (counter, by) in [
            (&self.events, done.events),
            (&self.records, done.records),
            (&self.dead_letters, done.dead_letters),
            (&self.published, done.published),
            (&self.alerts, done.alerts),
            (&self.lapses, done.opened),
            (&self.erased, done.erased),
            (&self.suppressed, done.suppressed),
        ] {
            counter.inc_by(by);
        }
        if let Some(tick) = tick {
            self.tick.set(tick.as_second() as f64);
        }
    }

    pub(crate) fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    pub(crate) fn status(&self, doing: Doing) {
        let (restored, to_restore) = doing.restored;
        for (gauge, value) in [
            (&self.partitions, doing.partitions as u64),
            (&self.opening, doing.opening as u64),
            (&self.behind, doing.behind),
            (&self.restored, restored),
            (&self.to_restore, to_restore),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// `None`: it is not known.
    pub(crate) fn snapshot_margin(&self, seconds: Option<f64>) {
        match seconds {
            Some(seconds) => self.margin.with_label_values::<&str>(&[]).set(seconds),
            None => self.margin.reset(),
        }
    }

    pub(crate) fn snapshot_saved(&self, at: Timestamp) {
        self.snapshots.inc();
        self.snapshot.set(at.as_second() as f64);
    }

    pub(crate) fn snapshot_failed(&self) {
        self.snapshots_failed.inc();
    }

    pub(crate) fn aborted(&self) {
        self.aborted.inc();
    }
}

/// In front of every name.
const PREFIX: &str = "touchline_processor_";

/// What is done with each of them.
type Register<'r> = dyn Fn(Box<dyn Collector>) -> prometheus::Result<()> + 'r;

fn registered<C: Collector + Clone + 'static>(register: &Register<'_>, collector: C) -> prometheus::Result<C> {
    register(Box::new(collector.clone()))?;
    Ok(collector)
}
