//! `touchline replay`: files through the state machine into the file sink, with durable state and position.

mod journal;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use touchline_core::output::Topic;
use touchline_core::rules::Rules;
use touchline_core::step::Machine;
use touchline_ingest::identity::Identity;
use touchline_ingest::{Counts, Decoder, Format, Zones};
use touchline_processor::{Durability, MEMORY_MIN, Memory, Progress, Settings, Store, StoreError};
use touchline_sink::postgres::PostgresError;

use crate::cli::{Misconfigured, Usage};
use crate::config::{Config, SinkKind};
use crate::pipeline::{self, Pipeline};
use crate::sinks::SinkPlan;
use crate::{erasure, report, signals, telemetry};
use journal::Replay;
pub(crate) use journal::files_of;

/// Where the state is while nobody asked for it to be kept: beside the results, on the same disk.
const SCRATCH: &str = ".run";
/// Commits of a run that keeps no state need not be close together: only its sinks see them.
const SCRATCH_COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// What was asked for.
pub struct Options {
    /// The files, in order; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// The format of all of them; without it each one's name tells.
    pub format: Option<Format>,
    /// The moment to look from; without it the last event's.
    pub as_of: Option<Timestamp>,
    /// Where the results go.
    pub out: PathBuf,
    /// Where the state is kept; without it, only for this run.
    pub state: Option<PathBuf>,
    /// Rules, sources, memory, further sinks.
    pub config: Config,
    /// Wait for more, and let time pass by the clock.
    pub follow: bool,
    /// One JSON object instead of a report.
    pub json: bool,
}

/// What a run has done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    pub done: Progress,
    pub read: Counts,
    pub warnings: Vec<String>,
    pub last_tick: Option<Timestamp>,
    pub is_stopped: bool,
    pub wall: Duration,
}

/// The store of the one partition of an embedded state.
pub(crate) fn partition(dir: &Path) -> PathBuf {
    dir.join("p0")
}

/// Runs the command.
pub fn run(options: Options) -> Result<ExitCode> {
    let started = Instant::now();
    let reading = reading(&options);
    // What is wrong with the command is said before anything is made.
    let is_log = journal::look(&options.files, &reading, options.as_of)?;
    check_dir("--out", &options.out)?;
    options.state.iter().try_for_each(|dir| check_dir("--state", dir))?;
    let dir = match &options.state {
        Some(dir) => dir.clone(),
        None => begin_scratch(&options.out)?,
    };
    let mut store = pipeline::open(&partition(&dir), options.config.state.memory)?;
    // It is ours now, and nobody else's.
    let scratch = options.state.is_none().then(|| Scratch(dir.clone()));
    let mut machine = Machine::load(&mut store).context("the state cannot be read")?;
    let settings = settings(&options)?;
    machine.set_erasure_key(settings.erasures.clone()).map_err(|error| Misconfigured(error.to_string()))?;
    check_as_of(options.as_of, machine.last_tick())?;
    let journal = open_journal(&options, (reading, is_log), &dir, &store, &machine)?;
    let bar = journal.bar();
    let stop = signals::stop()?;
    // Nobody watches a replay by its metrics.
    let registry = prometheus::Registry::new();
    let pipeline = Pipeline::build(store, journal, settings, &sinks(&options), options.follow, &registry)?;
    let mut done = Progress::default();
    let ran = pipeline.run(&stop, |batch| {
        done.add(batch);
        bar.set_message(format!(
            "{}, {} opened",
            report::counted(done.events, "event", "events"),
            report::counted(done.opened, "lapse", "lapses")
        ));
    });
    let (journal, mut store) = ran.map_err(|error| with_advice(journal::as_usage(error), &options))?;
    bar.finish_and_clear();
    let summary = Summary {
        done,
        read: journal.counts().clone(),
        warnings: journal.warnings().to_vec(),
        last_tick: Machine::load(&mut store)?.last_tick(),
        is_stopped: stop.load(Ordering::Relaxed),
        wall: started.elapsed(),
    };
    let mut out = io::stdout().lock();
    if options.json {
        report::write_json(&mut out, &summary, &options)?;
    } else {
        report::write(&mut out, &summary, &options, &mut store)?;
    }
    out.flush()?;
    drop((journal, store, scratch));
    Ok(ExitCode::SUCCESS)
}

/// What the sink cannot know: why its schema is of another state than this run's.
fn with_advice(error: anyhow::Error, options: &Options) -> anyhow::Error {
    let is_other = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(PostgresError::OtherFeed { .. }))
    };
    if options.state.is_none() && error.chain().any(is_other) {
        return error.context(
            "without --state every run is a state of its own: to fill the same tables again and again, give --state DIR",
        );
    }
    error
}

/// A directory of ours may not exist yet, but nothing else may have its name.
fn check_dir(flag: &str, dir: &Path) -> Result<()> {
    match dir.metadata() {
        Ok(found) if !found.is_dir() => {
            Err(Usage(format!("{flag} {} is not a directory: name one, or a new one", dir.display())).into())
        }
        _ => Ok(()),
    }
}

/// A state that goes with the run, however the run ends. What cannot be removed, the next run removes.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An empty state that goes with the run. One that a killed run has left is removed first; not so that of a run which is
/// still at work there.
fn begin_scratch(out: &Path) -> Result<PathBuf> {
    let dir = out.join(SCRATCH);
    if dir.exists() {
        let left = Store::open(&partition(&dir), &Memory::new(MEMORY_MIN, 1));
        if let Err(StoreError::Locked { .. }) = left {
            anyhow::bail!(
                "{} is in use by another touchline: stop that one, or choose another directory",
                out.display()
            );
        }
        drop(left);
        fs::remove_dir_all(&dir).with_context(|| format!("{} cannot be removed", dir.display()))?;
    }
    Ok(dir)
}

fn check_as_of(as_of: Option<Timestamp>, last_tick: Option<Timestamp>) -> Result<()> {
    match (as_of, last_tick) {
        (Some(as_of), Some(tick)) if as_of < tick => Err(Usage(format!(
            "--as-of {as_of} lies before {tick}, up to which this state has already looked; time never goes back: \
             give a later moment, or another --state to look again"
        ))
        .into()),
        _ => Ok(()),
    }
}

/// How the files are read.
fn reading(options: &Options) -> touchline_ingest::Options {
    let config = &options.config;
    let zones = Zones::new(config.sources.iter().map(|source| (source.name.clone(), source.timezone.clone())));
    let decoder = Decoder { zones, identity: Identity::new(config.internal.iter().cloned()) };
    touchline_ingest::Options { format: options.format, follow: options.follow, decoder, ..Default::default() }
}

fn open_journal(
    options: &Options,
    (reading, is_log): (touchline_ingest::Options, bool),
    dir: &Path,
    store: &Store,
    machine: &Machine,
) -> Result<Replay> {
    let config = &options.config;
    let plan = journal::Plan {
        files: options.files.clone(),
        reading,
        is_log,
        as_of: options.as_of,
        max_delay: config
            .sources
            .iter()
            .filter(|source| source.required)
            .map(|source| source.max_delay)
            .max()
            .unwrap_or_default(),
        durability: if options.state.is_some() { Durability::Synced } else { Durability::Unlogged },
        journal: options.state.as_ref().map(|_| dir.join("journal.jsonl")),
        rules: rules(config, machine.rules()),
        tick: machine.last_tick(),
        is_quiet: options.json,
    };
    Replay::open(plan, store.position()?.as_deref())
}

/// The rules to begin with, if they are not in force: `since` is carried on and not compared.
fn rules(config: &Config, in_force: &Rules) -> Option<Rules> {
    let rules = config.rules();
    let since = rules.since.or(in_force.since);
    let rules = Rules { since, ..rules };
    (rules != *in_force).then_some(rules)
}

fn settings(options: &Options) -> Result<Settings> {
    let interval = options.config.processor.commit_interval;
    Ok(Settings {
        commit_interval: if options.state.is_some() { interval } else { interval.max(SCRATCH_COMMIT_INTERVAL) },
        publish: options.config.processor.publish.iter().copied().collect(),
        erasures: erasure::key(&options.config)?,
    })
}

fn sinks(options: &Options) -> Vec<SinkPlan> {
    let (topics, replaces) = (Topic::ALL.to_vec(), options.state.is_none());
    let out = SinkPlan { name: "out".to_owned(), kind: SinkKind::File(options.out.clone()), topics, replaces };
    let configured = options.config.sinks.iter().map(|sink| SinkPlan { replaces, ..SinkPlan::of(sink) });
    std::iter::once(out).chain(configured).collect()
}

/// A bar over the bytes of the input.
fn bar(total: Option<u64>, is_quiet: bool) -> indicatif::ProgressBar {
    telemetry::bar(total, "bytes", is_quiet)
}
