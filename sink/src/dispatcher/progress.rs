//! How far a sink has come, told in one place: to whoever trims the feed or shows it, and to the metrics.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::metrics::SinkMetrics;
use crate::sink::{Cursor, Lane};

/// How far a sink has come: for trimming the feed, for metrics and for people.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The lanes that it has claimed and not lost.
    pub lanes: BTreeMap<Lane, LaneProgress>,
    /// Changes delivered by this process.
    pub delivered: u64,
    /// Changes that went to the dead letters.
    pub rejected: u64,
    /// Changes on their way.
    pub in_flight: u64,
    /// Records that retention removed before this process could deliver them.
    pub missed: u64,
    /// Attempts that failed and were repeated.
    pub retries: u64,
    /// Why the last attempt failed, until one succeeds.
    pub failing: Option<String>,
    /// Whether the last look at the feed found nothing new.
    pub caught_up: bool,
    /// Whether it has ended, in whatever way.
    pub ended: bool,
}

/// How far a sink has come in a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneProgress {
    /// The sink has stored all before it; the feed may forget that. `None`: nothing yet.
    pub acknowledged: Option<Cursor>,
    /// Records behind that, about, as far as the feed knows.
    pub lag: Option<u64>,
}

/// Writes the progress and the metrics of one sink.
#[derive(Clone)]
pub struct Report {
    progress: watch::Sender<Progress>,
    metrics: SinkMetrics,
}

impl Report {
    pub fn new(metrics: SinkMetrics) -> (Report, watch::Receiver<Progress>) {
        let (progress, receiver) = watch::channel(Progress::default());
        (Report { progress, metrics }, receiver)
    }

    pub fn acknowledged(&self, lane: &Lane, acknowledged: Option<Cursor>, lag: Option<u64>) {
        let here = LaneProgress { acknowledged, lag };
        self.progress.send_modify(|progress| drop(progress.lanes.insert(lane.clone(), here)));
    }

    pub fn gone(&self, lane: &Lane) {
        self.progress.send_modify(|progress| drop(progress.lanes.remove(lane)));
    }

    /// Changes delivered, the oldest of them published then.
    pub fn delivered(&self, changes: u64, published_at: Option<SystemTime>) {
        self.metrics.delivered.inc_by(changes);
        if let Some(age) = published_at.and_then(|at| SystemTime::now().duration_since(at).ok()) {
            self.metrics.delivery.observe(age.as_secs_f64());
        }
        self.progress.send_modify(|progress| progress.delivered += changes);
    }

    pub fn rejected(&self, changes: u64) {
        self.metrics.rejected.inc_by(changes);
        self.progress.send_modify(|progress| progress.rejected += changes);
    }

    pub fn failed(&self, reason: &str) {
        self.metrics.retries.inc();
        self.metrics.failing.set(1);
        self.progress.send_modify(|progress| {
            progress.retries += 1;
            progress.failing = Some(reason.to_owned());
        });
    }

    /// It delivers nothing any more until it is started again.
    pub fn stopped(&self, reason: &str) {
        self.metrics.failing.set(1);
        self.progress.send_modify(|progress| progress.failing = Some(reason.to_owned()));
    }

    pub fn works(&self) {
        self.metrics.failing.set(0);
        self.progress.send_modify(|progress| progress.failing = None);
    }

    pub fn caught_up(&self, caught_up: bool) {
        let is_new = |progress: &mut Progress| std::mem::replace(&mut progress.caught_up, caught_up) != caught_up;
        self.progress.send_if_modified(is_new);
    }

    /// What is behind and under way, now.
    pub fn standing(&self, in_flight: u64, undelivered_since: Option<SystemTime>, missed: u64) {
        let since = undelivered_since.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        self.metrics.undelivered_since.set(since.map_or(0, |since| since.as_secs() as i64));
        self.metrics.in_flight.set(in_flight as i64);
        self.metrics.missed.inc_by(missed.saturating_sub(self.metrics.missed.get()));
        let lag: u64 = self.progress.borrow().lanes.values().filter_map(|lane| lane.lag).sum();
        self.metrics.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
        self.progress.send_if_modified(|progress| {
            let before = (progress.in_flight, progress.missed);
            (progress.in_flight, progress.missed) = (in_flight, missed);
            before != (in_flight, missed)
        });
    }

    pub fn ended(&self) {
        self.progress.send_modify(|progress| progress.ended = true);
    }
}
