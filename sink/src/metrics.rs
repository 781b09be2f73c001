//! What operations watch of the sinks: `touchline_sink_…`, by sink.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Upper bounds of delivery times, in seconds: a webhook within its second, a warehouse within its minute, and what waits
/// for a receiver that is away.
const DELIVERY_BUCKETS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 3_600.0, 86_400.0];

/// What is done with each of them.
type Register<'r> = dyn Fn(Box<dyn Collector>) -> Result<(), prometheus::Error> + 'r;

/// The metrics of all sinks of a process.
#[derive(Clone, Debug)]
pub struct Metrics {
    delivered: IntCounterVec,
    rejected: IntCounterVec,
    retries: IntCounterVec,
    missed: IntCounterVec,
    lag: IntGaugeVec,
    in_flight: IntGaugeVec,
    undelivered_since: IntGaugeVec,
    failing: IntGaugeVec,
    delivery: HistogramVec,
}

/// The metrics of one sink.
#[derive(Clone, Debug)]
pub struct SinkMetrics {
    /// Changes delivered.
    pub delivered: IntCounter,
    /// Changes that became dead letters.
    pub rejected: IntCounter,
    /// Attempts that failed and are repeated.
    pub retries: IntCounter,
    /// Records lost to retention.
    pub missed: IntCounter,
    /// Records published and not delivered.
    pub lag: IntGauge,
    /// Changes pending.
    pub in_flight: IntGauge,
    /// Unix time of the oldest change that has been read and is not delivered; 0 without one.
    pub undelivered_since: IntGauge,
    /// Whether the last attempt failed.
    pub failing: IntGauge,
    /// Seconds from publishing to delivery.
    pub delivery: Histogram,
}

impl Metrics {
    /// Registers them. Fails if they are registered already.
    pub fn new(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        Metrics::made(&|collector| registry.register(collector))
    }

    /// All that [`Metrics::new`] registers, for who writes about it.
    pub fn collectors() -> Result<Vec<Box<dyn Collector>>, prometheus::Error> {
        let all: RefCell<Vec<Box<dyn Collector>>> = RefCell::default();
        Metrics::made(&|collector| {
            all.borrow_mut().push(collector);
            Ok(())
        })?;
        Ok(all.into_inner())
    }

    fn made(register: &Register<'_>) -> Result<Metrics, prometheus::Error> {
        let counter = |name, help| -> Result<IntCounterVec, prometheus::Error> {
            let metric = IntCounterVec::new(Opts::new(name, help), &["sink"])?;
            register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauge = |name, help| -> Result<IntGaugeVec, prometheus::Error> {
            let metric = IntGaugeVec::new(Opts::new(name, help), &["sink"])?;
            register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let delivery = HistogramOpts::new(
            "touchline_sink_delivery_seconds",
            "From publishing to delivery: of each batch, its oldest change.",
        );
        let delivery = HistogramVec::new(delivery.buckets(DELIVERY_BUCKETS.to_vec()), &["sink"])?;
        register(Box::new(delivery.clone()))?;
        Ok(Metrics {
            delivered: counter("touchline_sink_delivered_total", "Changes delivered.")?,
            rejected: counter("touchline_sink_rejected_total", "Changes that can never be delivered: dead letters.")?,
            retries: counter("touchline_sink_retries_total", "Attempts that failed and are repeated.")?,
            missed: counter(
                "touchline_sink_missed_total",
                "Offsets that retention had removed before they were delivered.",
            )?,
            lag: gauge(
                "touchline_sink_lag_records",
                "Records published and not yet delivered, in this process's lanes.",
            )?,
            in_flight: gauge("touchline_sink_in_flight", "Changes that the sink has accepted and not yet delivered.")?,
            undelivered_since: gauge(
                "touchline_sink_undelivered_since_seconds",
                "Unix time at which the oldest change that was read and is not yet delivered was published; 0: there is none.",
            )?,
            failing: gauge(
                "touchline_sink_failing",
                "1 from an attempt that failed to the next that succeeds, and of a sink that has stopped.",
            )?,
            delivery,
        })
    }

    /// Those of this sink, from 0.
    pub fn of(&self, sink: &str) -> SinkMetrics {
        let label = &[sink];
        SinkMetrics {
            delivered: self.delivered.with_label_values(label),
            rejected: self.rejected.with_label_values(label),
            retries: self.retries.with_label_values(label),
            missed: self.missed.with_label_values(label),
            lag: self.lag.with_label_values(label),
            in_flight: self.in_flight.with_label_values(label),
            undelivered_since: self.undelivered_since.with_label_values(label),
            failing: self.failing.with_label_values(label),
            delivery: self.delivery.with_label_values(label),
        }
    }
}
