//! What ingest counts: `touchline_ingest_…`, and the clock that its ticker moves. Nothing here names a contact.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// What has become of a source's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Event,
    DeadLetter,
    Internal,
    Tombstone,
}

const OUTCOMES: [(Outcome, &str); 4] = [
    (Outcome::Event, "event"),
    (Outcome::DeadLetter, "dead_letter"),
    (Outcome::Internal, "internal"),
    (Outcome::Tombstone, "tombstone"),
];

/// All metrics of the Kafka side.
pub(crate) struct Metrics {
    /// By source and outcome, ready to be counted.
    taken: Vec<[IntCounter; OUTCOMES.len()]>,
    dead_letters: IntCounterVec,
    pub(crate) expired: IntCounter,
    pub(crate) in_flight: IntGauge,
    pub(crate) restarts: IntCounterVec,
    /// Both have values only where the ticker is: elsewhere they would be old.
    clock_lag: GaugeVec,
    source_lag: GaugeVec,
}

impl Metrics {
    /// Registers them. `sources` are the names by index.
    ///
    /// # Errors
    /// One of these names is taken.
    pub(crate) fn register<'a>(
        registry: &Registry,
        sources: impl Iterator<Item = &'a str>,
    ) -> prometheus::Result<Metrics> {
        Metrics::made(&|collector| registry.register(collector), sources)
    }

    /// All that [`Metrics::register`] registers, for who writes about it.
    pub(crate) fn collectors() -> prometheus::Result<Vec<Box<dyn Collector>>> {
        let all: RefCell<Vec<Box<dyn Collector>>> = RefCell::default();
        let keep = |collector| {
            all.borrow_mut().push(collector);
            Ok(())
        };
        Metrics::made(&keep, std::iter::empty())?;
        Ok(all.into_inner())
    }

    fn made<'a>(
        register: &dyn Fn(Box<dyn Collector>) -> prometheus::Result<()>,
        sources: impl Iterator<Item = &'a str>,
    ) -> prometheus::Result<Metrics> {
        let counters = |name, help, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            register(Box::new(counters.clone()))?;
            prometheus::Result::Ok(counters)
        };
        let gauges = |name, help, labels: &[&str]| {
            let gauges = GaugeVec::new(Opts::new(name, help), labels)?;
            register(Box::new(gauges.clone()))?;
            prometheus::Result::Ok(gauges)
        };
        let records = counters(
            "touchline_ingest_records_total",
            "Records read from sources, by what became of them: event, dead_letter, internal (of our own people, not tracked) or tombstone (without a value).",
            &["source", "outcome"],
        )?;
        let taken =
            sources.map(|source| OUTCOMES.map(|(_, outcome)| records.with_label_values(&[source, outcome]))).collect();
        let expired = IntCounter::new(
            "touchline_ingest_expired_total",
            "Offsets of source partitions that retention or a deletion took before they were read.",
        )?;
        register(Box::new(expired.clone()))?;
        let in_flight =
            IntGauge::new("touchline_ingest_in_flight", "Outputs that the broker has not acknowledged yet.")?;
        register(Box::new(in_flight.clone()))?;
        Ok(Metrics {
            taken,
            dead_letters: counters(
                "touchline_ingest_dead_letters_total",
                "Records that are no event, by what is wrong with them.",
                &["reason"],
            )?,
            expired,
            in_flight,
            restarts: counters(
                "touchline_ingest_restarts_total",
                "How often a part of ingest (reader, ticker) began anew with new clients after an error.",
                &["part"],
            )?,
            clock_lag: gauges(
                "touchline_clock_lag_seconds",
                "How far the last tick is behind the broker's time. Only the process that ticks has it.",
                &[],
            )?,
            source_lag: gauges(
                "touchline_source_lag_seconds",
                "How far a required source's completeness is behind the broker's time: the greatest holds the clock. +Inf while a partition or a whole topic has never been complete.",
                &["source"],
            )?,
        })
    }

    /// A record of the source of this index has been read.
    pub(crate) fn taken(&self, source: usize, outcome: Outcome) {
        let at = OUTCOMES.iter().position(|(each, _)| *each == outcome);
        if let Some(counter) = at.and_then(|at| self.taken.get(source)?.get(at)) {
            counter.inc();
        }
    }

    /// A record was no event.
    pub(crate) fn dead_letter(&self, reason: &str) {
        self.dead_letters.with_label_values(&[reason]).inc();
    }

    /// Seconds between the broker's time and the last tick.
    pub(crate) fn clock_is_behind(&self, seconds: f64) {
        self.clock_lag.with_label_values::<&str>(&[]).set(seconds);
    }

    /// The same of each required source.
    pub(crate) fn sources_are_behind<'a>(&self, seconds: impl Iterator<Item = (&'a str, f64)>) {
        for (source, seconds) in seconds {
            self.source_lag.with_label_values(&[source]).set(seconds);
        }
    }

    /// Another process ticks, or none does, or other sources are required.
    pub(crate) fn does_not_tick(&self) {
        self.clock_lag.reset();
        self.source_lag.reset();
    }
}
