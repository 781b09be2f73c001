//! The corridor, embedded: files → journal → worker → outbox → sinks, built back to front and drained front to back.
//!
//! The worker runs on the thread that calls [`Pipeline::run`]; every sink has its own, reads the outbox from its own
//! cursor and holds back nobody. One write makes state, position and outputs durable together; only then does a sink see
//! them.

mod outbox;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use prometheus::Registry;
use touchline_processor::{Journal, Memory, Outbox, Progress, Settings, Store, Worker};
use touchline_sink::{Cursor, Dispatcher, End, Metrics, Outcome, Route};
use tracing::warn;

use crate::config::SinkKind;
use crate::sinks::SinkPlan;
use outbox::OutboxFeed;

/// How long sinks may take to deliver what is left once nothing more is published. The file sink writes its sorted files
/// then, which takes minutes for hundreds of millions of facts.
const DRAIN_WITHIN: Duration = Duration::from_secs(3_600);
/// How long a run that is stopped waits for receivers and databases, if a later run can go on there: they may be away for
/// days, and whoever stops it does not want to wait.
const LEAVE_AFTER: Duration = Duration::from_secs(5);
/// How often it is looked whom there is to wait for.
const POLL: Duration = Duration::from_millis(100);

/// The stages, ready to run.
pub struct Pipeline<J> {
    worker: Worker<J>,
    outbox: Outbox,
    dispatcher: Dispatcher,
    /// Sinks that may be left before all is delivered, because the next run delivers it.
    may_wait: Vec<String>,
}

impl<J: Journal> Pipeline<J> {
    /// Builds everything behind the journal, sinks first.
    pub fn build(
        store: Store,
        journal: J,
        settings: Settings,
        sinks: &[SinkPlan],
        following: bool,
        registry: &Registry,
    ) -> Result<Pipeline<J>> {
        let outbox = store.outbox().clone();
        let state = outbox.state().to_be_bytes();
        let mut routes = Vec::with_capacity(sinks.len());
        for plan in sinks {
            let feed = OutboxFeed::new(outbox.clone(), plan.name.clone(), plan.topics.iter().copied().collect());
            routes.push(Route { sink: plan.open(&state, following)?, feed: Box::new(feed) });
        }
        let metrics = Metrics::new(registry)?;
        let dispatcher = Dispatcher::start(routes, &metrics).context("the threads of the sinks cannot be started")?;
        let worker = Worker::new(journal, store, settings).context("the state cannot be read")?;
        let may_wait = |plan: &&SinkPlan| !plan.replaces && !matches!(plan.kind, SinkKind::File(_));
        let may_wait = sinks.iter().filter(may_wait).map(|plan| plan.name.clone()).collect();
        Ok(Pipeline { worker, outbox, dispatcher, may_wait })
    }

    /// Works until the journal's end, until told to stop, or until no sink is left; then lets every sink deliver what is
    /// left. The parts are handed back for a last look.
    pub fn run(mut self, stop: &AtomicBool, mut progress: impl FnMut(Progress)) -> Result<(J, Store)> {
        let (outbox, dispatcher) = (&self.outbox, &self.dispatcher);
        let worked = self.worker.run(stop, |batch| {
            progress(batch);
            trim(outbox, dispatcher);
            if dispatcher.progress().all(|(_, progress)| progress.borrow().ended) {
                // Their errors tell why.
                stop.store(true, Ordering::Relaxed);
            }
        });
        let is_stopped = stop.load(Ordering::Relaxed);
        drain(&mut self.dispatcher, if is_stopped { &self.may_wait } else { &[] });
        trim(&self.outbox, &self.dispatcher);
        let outcomes = self.dispatcher.finish(Duration::ZERO);
        worked?;
        outcomes.into_iter().try_for_each(|outcome| match outcome.end {
            End::Abandoned if is_stopped && self.may_wait.contains(&outcome.sink) => {
                warn!(sink = outcome.sink, "left before everything was delivered; the same command goes on there");
                Ok(())
            }
            _ => delivered(outcome),
        })?;
        let (journal, mut store) = self.worker.into_parts();
        store.finish_scrub()?;
        Ok((journal, store))
    }
}

/// Lets every sink deliver what is left; those that may wait for the next run have not as long.
fn drain(dispatcher: &mut Dispatcher, may_wait: &[String]) {
    let begun = Instant::now();
    dispatcher.drain();
    while !dispatcher.wait(POLL) && begun.elapsed() < DRAIN_WITHIN {
        let mut at_work = dispatcher.progress().filter(|(_, progress)| !progress.borrow().ended);
        if begun.elapsed() >= LEAVE_AFTER && at_work.all(|(name, _)| may_wait.iter().any(|sink| sink == name)) {
            break;
        }
    }
}

/// Lets the outbox forget what every sink has stored.
fn trim(outbox: &Outbox, dispatcher: &Dispatcher) {
    let mut is_copied = true;
    let acknowledged = dispatcher.progress().map(|(_, progress)| {
        let progress = progress.borrow();
        // An outbox is one lane. What has not claimed it yet may need everything.
        let cursor = progress.lanes.values().next().and_then(|lane| lane.acknowledged.as_ref()).map(Cursor::as_bytes);
        is_copied &= outbox.has_copied(cursor);
        cursor.map_or(0, |cursor| outbox.acknowledged(Some(cursor)).unwrap_or(0))
    });
    let acknowledged = acknowledged.min().unwrap_or(0);
    let purge = || if is_copied { outbox.purge(acknowledged) } else { Ok(()) };
    if let Err(error) = outbox.trim(acknowledged).and_then(|()| purge()) {
        // What is not trimmed now is trimmed later.
        warn!(%error, "the outbox could not be trimmed");
    }
}

fn delivered(outcome: Outcome) -> Result<()> {
    match outcome.end {
        End::Closed => Ok(()),
        End::Failed(error) => Err(anyhow::Error::new(error).context(format!("sink {} has stopped", outcome.sink))),
        End::Abandoned => Err(anyhow!(
            "sink {} has not delivered everything within {} minutes; another run goes on where it stopped",
            outcome.sink,
            DRAIN_WITHIN.as_secs() / 60
        )),
    }
}

/// Opens the state of a directory's one partition.
pub fn open(path: &Path, memory: u64) -> Result<Store> {
    let memory = Memory::new(usize::try_from(memory).unwrap_or(usize::MAX), 1);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("the state directory {} cannot be made", parent.display()))?;
    }
    Ok(Store::open(path, &memory)?)
}
