//! The corridor, embedded: files → journal → worker → outbox → sinks, built back to front and drained front to back.
//!
//! The worker runs on the thread that calls [`Pipeline::run`]; every sink has its own, reads the outbox from its own
//! cursor and holds back nobody. One write makes state, position and outputs durable together; only then does a sink see
//! them.

mod outbox;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use prometheus::Registry;
use touchline_processor::{Journal, Memory, Outbox, Progress, Settings, Store, Worker};
use touchline_sink::{Cursor, Dispatcher, End, Metrics, Outcome, Route};

use crate::sinks::SinkPlan;
use outbox::OutboxFeed;

/// How long sinks may take to deliver what is left once nothing more is published. The file sink writes its sorted files
/// then, which takes minutes for hundreds of millions of facts.
const DRAIN_WITHIN: Duration = Duration::from_secs(3_600);

/// The stages, ready to run.
pub struct Pipeline<J> {
    worker: Worker<J>,
    outbox: Outbox,
    dispatcher: Dispatcher,
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
        Ok(Pipeline { worker, outbox, dispatcher })
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
        let outcomes = self.dispatcher.finish(DRAIN_WITHIN);
        worked?;
        outcomes.into_iter().try_for_each(delivered)?;
        Ok(self.worker.into_parts())
    }
}

/// Lets the outbox forget what every sink has stored.
fn trim(outbox: &Outbox, dispatcher: &Dispatcher) {
    let acknowledged = dispatcher.progress().map(|(_, progress)| {
        let progress = progress.borrow();
        // An outbox is one lane. What has not claimed it yet may need everything.
        let Some(lane) = progress.lanes.values().next() else { return 0 };
        outbox.acknowledged(lane.acknowledged.as_ref().map(Cursor::as_bytes)).unwrap_or(0)
    });
    let trimmed = acknowledged.min().map_or(Ok(()), |sequence| outbox.trim(sequence));
    if let Err(error) = trimmed {
        // What is not trimmed now is trimmed later.
        tracing::warn!(%error, "the outbox could not be trimmed");
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
