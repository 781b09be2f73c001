//! Ingest on Kafka: source topics → `touchline.events`, how complete the sources are → `touchline.progress`, and ticks.
//!
//! Silence counts only when the line is known to be open, so this is the part that knows. Three things run, each on
//! threads of its own, all of them in every process:
//!
//! - The *reader* ([`reader`]) shares the sources' partitions with its group, decodes each record and forwards it keyed
//!   by account. At least once: an offset is committed once the outputs of all records before it are acknowledged, and
//!   whoever reads `touchline.events` drops the second of two events.
//! - *Completeness* ([`completeness`]), for each source by itself: every 250 ms a record to `touchline.progress`, whose
//!   time stamp t₀ is the broker's; then the true end of each partition that the reader owns; and once the reader has
//!   passed that end, the claim that the partition is complete through t₀ − `max_delay`.
//! - The *ticker* ([`ticker`]), of which one is active: the owner of `touchline.progress` in a group of its own. It
//!   appends the rules and, every second, a tick to each partition of `touchline.events`: the earliest completeness of
//!   all partitions of all required sources.
//!
//! No machine's clock takes part: all moments are the time stamps of one partition of one topic. Whatever fails, a broker
//! for hours included, is waited for or begun anew; nothing that has not been acknowledged counts as done.

mod client;
mod clock;
mod completeness;
mod config;
mod flight;
mod forward;
mod letter;
mod partitioner;
mod progress;
mod reader;
mod reading;
mod rules;
mod stop;
mod ticker;
mod writer;

use std::io;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use prometheus::Registry;
use prometheus::core::Collector;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{error, warn};

use crate::metrics::Metrics;
pub use config::{Config, RecordFormat, Source, Topics};
pub use partitioner::partition;
use progress::Unreadable;
use stop::Stop;

/// How long to wait before a part begins anew: short, for most of what fails is over in a moment …
const PAUSE: Duration = Duration::from_millis(500);
/// … and doubled up to this, for what lasts.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// All metrics that [`run`] registers, for who writes about them.
///
/// # Errors
/// One of them has a name that is none.
pub fn collectors() -> prometheus::Result<Vec<Box<dyn Collector>>> {
    Metrics::collectors()
}

/// Why ingest cannot run at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The clients' properties are wrong.
    #[error("a Kafka client cannot be made from [kafka]; mend its properties")]
    Client(#[source] KafkaError),
    /// Metrics of these names are registered already.
    #[error("the metrics of ingest cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// The system gives no more threads.
    #[error("the threads of ingest cannot be started")]
    Threads(#[from] io::Error),
}

/// Why a part of ingest has to begin anew.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("a Kafka client cannot be made; mend [kafka]")]
    Client(#[source] KafkaError),
    #[error("sources cannot be read on")]
    Read(#[source] KafkaError),
    #[error("this user needs Read on {0}, which the brokers do not allow")]
    Denied(String),
    #[error("a record cannot be written to {topic}; the topic must exist, and allow this user Write")]
    Write {
        topic: String,
        #[source]
        error: KafkaError,
    },
    #[error(
        "{topic} has the time stamps of its producers, so no moment can be told; set its `message.timestamp.type` to LogAppendTime"
    )]
    Clockless { topic: String },
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("the progress topic has lost the rules; they are written again")]
    NoRules,
    #[error("a thread cannot be started")]
    Thread(#[source] io::Error),
}

impl Failure {
    /// Whether another client has this one's name in its group now. Of a client that was cut off, that may be itself: the
    /// join of which it never heard the answer.
    fn is_replacement(&self) -> bool {
        let Failure::Read(error) = self else { return false };
        error.rdkafka_error_code() == Some(RDKafkaErrorCode::FencedInstanceId)
    }
}

/// Runs ingest until told to stop: reads, forwards, says how complete the sources are, and ticks if nobody else does.
/// Returns within seconds of `stop`, once what has been read is acknowledged and committed, or the time for that is over.
///
/// The topics of [`Config::topics`] exist; those of the sources may come later. A broker that is away is waited for.
///
/// # Errors
/// It could not start. Once it has, nothing ends it but `stop`.
pub fn run(config: &Config, registry: &Registry, stop: &AtomicBool) -> Result<(), StartError> {
    config.check().map_err(StartError::Client)?;
    let metrics = Metrics::register(registry, config.sources.iter().map(|source| &*source.name))?;
    let (metrics, stop) = (&metrics, Stop::new(stop));
    thread::scope(|scope| {
        let ticker = thread::Builder::new().name("touchline-ticker".to_owned());
        ticker.spawn_scoped(scope, move || {
            let mut proposal = rules::Proposal::default();
            supervise("ticker", metrics, stop, || {
                proposal.make(config, stop)?;
                ticker::run(config, metrics, stop).inspect_err(|failure| proposal.heed(failure))
            });
        })?;
        supervise("reader", metrics, stop, || reader::run(config, metrics, stop));
        Ok(())
    })
}

/// Runs a part again and again, with new clients each time, until it ends because it was told to.
fn supervise(part: &str, metrics: &Metrics, stop: Stop<'_>, mut run: impl FnMut() -> Result<(), Failure>) {
    let mut pause = PAUSE;
    while !stop.is_set() {
        let began = Instant::now();
        let Err(failure) = run() else { return };
        metrics.restarts.with_label_values(&[part]).inc();
        if began.elapsed() > LONGEST_PAUSE {
            pause = PAUSE;
        }
        let cause = std::error::Error::source(&failure).map(ToString::to_string).unwrap_or_default();
        if failure.is_replacement() {
            warn!(part, cause, "this member was replaced; it joins again in {pause:?}");
        } else {
            error!(part, cause, "ingest begins anew in {pause:?}: {failure}");
        }
        stop.pause(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
