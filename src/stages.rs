//! The corridor on Kafka: sources → ingest → events → processor → alerts, scores, facts → sinks.
//!
//! Each stage works alone and knows of the others only what stands in the topics; this is where those that one process
//! runs are built, back to front, and drained, front to back. Where ingest or the processor ends, the process does: another
//! one, or its supervisor, does better than half a corridor. A sink that ends (a receiver that is gone for good) holds back
//! nobody: the others go on, `/readyz` says which has stopped, and so does the exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use prometheus::Registry;
use rdkafka::ClientConfig;
use touchline_ingest::Identity;
use touchline_ingest::kafka as ingest;
use touchline_processor::kafka::Instance;
use touchline_sink::kafka::{KafkaFeed, KafkaFeedConfig};
use touchline_sink::{Dispatcher, End, Metrics, Route};
use tracing::{info, warn};

use crate::cli::{Misconfigured, Usage};
use crate::config::{self, Config};
use crate::http::{self, Health};
use crate::owners::{self, Group};
use crate::sinks::SinkPlan;
use crate::{kafka, process, signals};

/// How often a stop is looked for.
const POLL: Duration = Duration::from_millis(20);
/// Within ten seconds after SIGTERM all is drained: what a stage has not done by its share, its successor does.
const DRAIN_SINKS: Duration = Duration::from_secs(3);

/// What a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stages {
    /// All of it.
    All,
    /// From the sources to the events, and the clock.
    Ingest,
    /// One sink.
    Sink(String),
}

/// Runs stages until SIGTERM or Ctrl-C, and drains them.
pub fn run(config: &Config, stages: &Stages) -> Result<ExitCode> {
    let (has_ingest, has_processor) = (matches!(stages, Stages::All | Stages::Ingest), *stages == Stages::All);
    let sinks = chosen(config, stages)?;
    if has_ingest && config.sources.iter().all(|source| source.topics.is_empty()) {
        return Err(Misconfigured("there is no [[source]] with topics: nothing would be read".to_owned()).into());
    }
    if has_processor {
        process::require_snapshots(config)?;
    }
    let stop = signals::stop()?;
    let client = kafka::client(config)?;
    let (registry, health) = (Registry::new(), Health::default());
    let address = http::serve(&config.http, registry.clone(), health.clone())?;
    info!(%address, "metrics and health");
    let _watch = kafka::prepare(config, &client, &health, &stop)?;
    if stop.load(Ordering::Relaxed) {
        return Ok(ExitCode::SUCCESS);
    }
    let mut groups = Vec::new();
    let sinks = start_sinks(config, &client, &sinks, &registry, &health, &mut groups)?;
    let mut front = Vec::new();
    if has_processor {
        front.push(start_processor(config, &client, &registry, &health, &mut groups)?);
    }
    if has_ingest {
        front.push(start_ingest(config, &client, &registry, &mut groups)?);
    }
    let _owners = owners::watch(&client, &config.topics, groups, &stop)?;
    wait(&stop, &front, sinks.as_ref().map(|(dispatcher, _)| dispatcher));
    info!("draining");
    let ended: Vec<Result<()>> = front.into_iter().rev().map(Stage::drain).collect();
    let delivered = sinks.map_or(Ok(()), |(dispatcher, _held)| drain_sinks(dispatcher));
    ended.into_iter().chain([delivered]).collect::<Result<Vec<()>>>()?;
    info!("drained");
    Ok(ExitCode::SUCCESS)
}

/// A stage at work on a thread of its own.
struct Stage {
    name: &'static str,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Stage {
    fn start(name: &'static str, work: impl FnOnce(&AtomicBool) -> Result<()> + Send + 'static) -> Result<Stage> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || work(&seen))?;
        Ok(Stage { name, stop, thread })
    }

    fn drain(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join().map_err(|_| anyhow!("it panicked, which is a mistake in touchline"));
        ended.and_then(|ended| ended).context(self.name)
    }
}

/// Until told to stop, or until there is no use in going on.
fn wait(stop: &AtomicBool, front: &[Stage], sinks: Option<&Dispatcher>) {
    let is_over = || {
        let all_ended = |sinks: &Dispatcher| sinks.progress().all(|(_, progress)| progress.borrow().ended);
        front.iter().any(|stage| stage.thread.is_finished()) || (front.is_empty() && sinks.is_some_and(all_ended))
    };
    while !stop.load(Ordering::Relaxed) && !is_over() {
        thread::sleep(POLL);
    }
}

fn chosen(config: &Config, stages: &Stages) -> Result<Vec<SinkPlan>> {
    match stages {
        Stages::All => Ok(config.sinks.iter().map(SinkPlan::of).collect()),
        Stages::Ingest => Ok(Vec::new()),
        Stages::Sink(name) => match config.sinks.iter().find(|sink| sink.name == *name) {
            Some(sink) => Ok(vec![SinkPlan::of(sink)]),
            None => {
                let names: Vec<&str> = config.sinks.iter().map(|sink| &*sink.name).collect();
                Err(Usage(format!("there is no [[sink]] {name}; the configuration has: {}", names.join(", "))).into())
            }
        },
    }
}

fn start_sinks(
    config: &Config,
    client: &ClientConfig,
    plans: &[SinkPlan],
    registry: &Registry,
    health: &Health,
    groups: &mut Vec<Group>,
) -> Result<Option<(Dispatcher, Vec<Instance>)>> {
    if plans.is_empty() {
        return Ok(None);
    }
    let topics = &config.topics;
    let (mut routes, mut instances) = (Vec::new(), Vec::new());
    for plan in plans {
        let instance = Instance::take(&config.state.dir, &format!("sink.{}", plan.name))?;
        let group = format!("{}.sink.{}", topics.prefix, plan.name);
        let read: Vec<&str> = plan.topics.iter().map(|topic| topics.output(*topic)).collect();
        groups.push(Group::of_sink(&group, &read, instance.name(), topics));
        let feed = KafkaFeed::new(KafkaFeedConfig {
            client: client.clone(),
            group,
            instance: instance.name().to_owned(),
            topics: plan.topics.iter().map(|topic| (*topic, topics.output(*topic).to_owned())).collect(),
            dead_letters: topics.dead_letters.clone(),
        })?;
        routes.push(Route { sink: plan.open(topics.prefix.as_bytes(), true)?, feed: Box::new(feed) });
        instances.push(instance);
    }
    let metrics = Metrics::new(registry)?;
    let dispatcher = Dispatcher::start(routes, &metrics).context("the threads of the sinks cannot be started")?;
    for (name, progress) in dispatcher.progress() {
        let progress = progress.clone();
        let problem = move || {
            let progress = progress.borrow();
            let ended = progress.ended.then(|| "it has stopped, and the log says why".to_owned());
            ended.or_else(|| progress.failing.clone())
        };
        health.watch(format!("sink {name}"), Box::new(problem));
    }
    Ok(Some((dispatcher, instances)))
}

fn start_processor(
    config: &Config,
    client: &ClientConfig,
    registry: &Registry,
    health: &Health,
    groups: &mut Vec<Group>,
) -> Result<Stage> {
    let options = process::Options { config: config.clone(), until_end: false, from_log_start: false, json: false };
    let (client, registry) = (client.clone(), registry.clone());
    let instance = Instance::take(&config.state.dir, process::INSTANCE)?;
    let prepared = process::Prepared::new(&options, client, &instance, &registry)?;
    prepared.watch(health);
    groups.push(prepared.group(&config.topics));
    Stage::start("processor", move |stop| {
        let _held = instance;
        prepared.run(stop).map(drop)
    })
}

fn start_ingest(config: &Config, client: &ClientConfig, registry: &Registry, groups: &mut Vec<Group>) -> Result<Stage> {
    let instance = Instance::take(&config.state.dir, "ingest")?;
    let topics = &config.topics;
    let ingest = ingest::Config {
        client: client.clone(),
        instance: instance.name().to_owned(),
        prefix: topics.prefix.clone(),
        topics: ingest::Topics {
            events: topics.events.clone(),
            partitions: topics.partitions,
            progress: topics.progress.clone(),
            dead_letters: topics.dead_letters.clone(),
        },
        sources: config.sources.iter().filter(|source| !source.topics.is_empty()).map(source).collect(),
        identity: Identity::new(config.internal.iter().cloned()),
        rules: config.rules(),
    };
    let (instance_name, registry) = (instance.name(), registry.clone());
    groups.extend(ingest.groups().map(|(name, read)| Group::new(&name, read, instance_name, topics)));
    Stage::start("ingest", move |stop| {
        let _held = instance;
        Ok(ingest::run(&ingest, &registry, stop)?)
    })
}

fn source(source: &config::Source) -> ingest::Source {
    ingest::Source {
        name: source.name.clone(),
        topics: source.topics.iter().cloned().collect(),
        format: ingest::RecordFormat::Canonical,
        zone: source.timezone.clone(),
        max_delay: source.max_delay,
    }
}

fn drain_sinks(dispatcher: Dispatcher) -> Result<()> {
    let begun = Instant::now();
    for outcome in dispatcher.finish(DRAIN_SINKS) {
        match outcome.end {
            End::Closed => {}
            End::Failed(error) => {
                return Err(anyhow::Error::new(error).context(format!("sink {} has stopped", outcome.sink)));
            }
            // What it had not delivered it will be sent again.
            End::Abandoned => {
                warn!(sink = outcome.sink, waited = ?begun.elapsed(), "left before everything was delivered")
            }
        }
    }
    Ok(())
}
