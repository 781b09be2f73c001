//! `touchline process`: the state machine between Kafka's topics.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use prometheus::Registry;
use rdkafka::ClientConfig;
use touchline_processor::kafka::{self, Instance};
use touchline_processor::{Memory, Metrics, Progress, Settings};

use crate::cli::Misconfigured;
use crate::config::Config;
use crate::report::resources;
use crate::{kafka as topics, signals};

/// What was asked for.
pub struct Options {
    /// The configuration.
    pub config: Config,
    /// Stop where the log ends now.
    pub until_end: bool,
    /// Go on with what is left of the log where there is no state.
    pub from_log_start: bool,
    /// Print one JSON object at the end.
    pub json: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    require_snapshots(&options.config)?;
    let stop = signals::stop()?;
    let client = topics::client(&options.config)?;
    topics::prepare(&options.config, &client, &stop)?;
    let instance = Instance::take(&options.config.state.dir)?;
    let registry = Registry::new();
    let done = work(options, client, &instance, &registry, &stop)?;
    if options.json {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", summary(options, done, started.elapsed()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The processor until it is stopped, or at its end.
pub fn work(
    options: &Options,
    client: ClientConfig,
    instance: &Instance,
    registry: &Registry,
    stop: &AtomicBool,
) -> Result<Progress> {
    let config = &options.config;
    let bytes = usize::try_from(config.state.memory).unwrap_or(usize::MAX);
    let names = &config.topics;
    let metrics = Metrics::register(registry).context("the processor's metrics")?;
    let kafka = kafka::Config {
        client,
        prefix: names.prefix.clone(),
        group: format!("{}.processor", names.prefix),
        instance: instance.name().to_owned(),
        topics: kafka::Topics {
            events: names.events.clone(),
            alerts: names.alerts.clone(),
            scores: names.scores.clone(),
            facts: names.facts.clone(),
            dead_letters: names.dead_letters.clone(),
        },
        dir: config.state.dir.clone(),
        memory: Memory::new(bytes, 1),
        threads: config.processor.threads as usize,
        settings: Settings {
            commit_interval: config.processor.commit_interval,
            publish: config.processor.publish.iter().copied().collect(),
        },
        until_end: options.until_end,
        from_log_start: options.from_log_start,
    };
    Ok(kafka::run(kafka, metrics, stop)?)
}

/// Without a copy, a lost disk would be lost state once the log has lost its beginning.
fn require_snapshots(config: &Config) -> Result<()> {
    if config.snapshots.is_some() {
        return Ok(());
    }
    Err(Misconfigured(
        "[snapshots] url is missing: say where copies of the state go, \"file:///DIR\" or \"s3://BUCKET\"; or \"none\", if \
         the log of events is kept for ever"
            .to_owned(),
    )
    .into())
}

fn summary(options: &Options, done: Progress, wall: Duration) -> serde_json::Value {
    let used = resources::used();
    serde_json::json!({
        "events": done.events,
        "wall_s": round(wall.as_secs_f64()),
        "cpu_s": used.as_ref().map(|used| round(used.cpu_s)),
        "max_rss_mb": used.as_ref().map(|used| round(used.max_rss_mb)),
        "alerts": done.opened,
        "scores": done.scores,
        "state_mb": round(megabytes(&options.config.state.dir)),
        "threads": options.config.processor.threads,
        "published": done.published,
        "dead_letters": done.dead_letters,
    })
}

fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// What a directory takes on the disk.
fn megabytes(dir: &std::path::Path) -> f64 {
    const BYTES_A_MB: f64 = 1_048_576.0;
    fn bytes(dir: &std::path::Path) -> u64 {
        let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
        let size = |entry: std::fs::DirEntry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        };
        entries.flatten().map(size).sum()
    }
    bytes(dir) as f64 / BYTES_A_MB
}
