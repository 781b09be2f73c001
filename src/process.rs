//! `touchline process`: the state machine between Kafka's topics.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use prometheus::Registry;
use rdkafka::ClientConfig;
use touchline_processor::kafka::{self, Instance, SnapshotPlan, Status};
use touchline_processor::{Memory, Metrics, Progress, Settings, Snapshots};

use crate::cli::Misconfigured;
use crate::config::{Config, Topics};
use crate::erasure;
use crate::http::{self, Health};
use crate::owners::{self, Group};
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

/// The stage's name in the state directory.
pub const INSTANCE: &str = "process";

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    let config = &options.config;
    require_snapshots(config)?;
    let stop = signals::stop()?;
    let client = topics::client(config)?;
    let (registry, health) = (Registry::new(), Health::default());
    if !options.until_end {
        http::serve(&config.http, registry.clone(), health.clone())?;
    }
    // Who is stopped while it waits has begun nothing.
    let Some(_watch) = topics::prepare(config, &client, &health, &stop)? else { return Ok(ExitCode::SUCCESS) };
    let instance = Instance::take(&config.state.dir, INSTANCE)?;
    let prepared = Prepared::new(options, client.clone(), &instance, &registry)?;
    prepared.watch(&health);
    let _owners = owners::watch(&client, &config.topics, vec![prepared.group(&config.topics)], &stop)?;
    let done = prepared.run(&stop)?;
    if options.json {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", summary(options, done, started.elapsed()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The processor, ready to run.
pub struct Prepared {
    config: kafka::Config,
    metrics: Metrics,
    status: Arc<Status>,
}

impl Prepared {
    /// Takes from the configuration what concerns it.
    pub fn new(options: &Options, client: ClientConfig, instance: &Instance, registry: &Registry) -> Result<Prepared> {
        let config = &options.config;
        let bytes = usize::try_from(config.state.memory).unwrap_or(usize::MAX);
        let names = &config.topics;
        let metrics = Metrics::register(registry).context("the processor's metrics")?;
        let config = kafka::Config {
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
            partitions: names.partitions,
            dir: config.state.dir.clone(),
            memory: Memory::new(bytes, 1),
            threads: config.processor.threads as usize,
            settings: Settings {
                commit_interval: config.processor.commit_interval,
                publish: config.processor.publish.iter().copied().collect(),
                erasures: erasure::key(config)?,
            },
            snapshots: snapshots(config)?,
            until_end: options.until_end,
            from_log_start: options.from_log_start,
        };
        Ok(Prepared { config, metrics, status: Arc::default() })
    }

    /// Lets it say whether it is ready.
    pub fn watch(&self, health: &Health) {
        let status = self.status.clone();
        health.watch("processor", Box::new(move || status.problem()));
    }

    /// The group that it is in.
    pub fn group(&self, ours: &Topics) -> Group {
        Group::new(&self.config.group, [&ours.events], &self.config.instance, ours)
    }

    /// Works until `stop` is set, or at its end.
    pub fn run(self, stop: &AtomicBool) -> Result<Progress> {
        Ok(kafka::run(self.config, self.metrics, self.status, stop)?)
    }
}

/// Where copies of the states go, unless the configuration says to do without.
pub fn snapshots(config: &Config) -> Result<Option<SnapshotPlan>> {
    let Some((url, every)) = config.snapshots.as_ref().and_then(|it| Some((it.url.as_ref()?, it.every))) else {
        return Ok(None);
    };
    let snapshots = Snapshots::open(url, &config.topics.events, config.topics.partitions)
        .map_err(|error| Misconfigured(format!("[snapshots] url: {error}")))?;
    Ok(Some(SnapshotPlan { snapshots, every }))
}

/// Without a copy, a lost disk would be lost state once the log has lost its beginning.
pub fn require_snapshots(config: &Config) -> Result<()> {
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
