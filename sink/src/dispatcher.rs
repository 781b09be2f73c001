//! One driver for all sinks.
//!
//! Each sink has a thread with a runtime of its own, so that one that computes, blocks or hangs holds back no other. It
//! claims the lanes that its feed assigns, reads each from where the sink left off, and delivers batch after batch:
//! - [`SinkError::Retry`]: again after a pause, for ever; nothing is dropped. Lanes come and go meanwhile.
//! - [`SinkError::RejectThese`]: dead letters for these, durable first; then the batch again without them.
//! - [`SinkError::RejectSome`]: each half of the batch by itself, down to one change, which is the one.
//! - [`SinkError::Lost`]: the lane is claimed again, and read from where the sink then says.
//! - [`SinkError::Fatal`]: this sink ends where it is; the others go on.
//!
//! Draining: when nothing more will be published, each sink is brought to its feed's end, what is pending settles, and it
//! is closed. Whichever has not got there in time is abandoned as if the process had crashed, which every sink survives.

mod driver;
mod lane;
mod progress;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::error;

use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::sink::{Sink, SinkError};
use driver::Driver;
pub(crate) use driver::chain;
pub use progress::{LaneProgress, Progress};

/// For a sink that has been told to abandon its work: enough to come back from an await and release its locks.
const ABANDON_WITHIN: Duration = Duration::from_secs(1);

/// A sink and what it is sent.
pub struct Route {
    /// The sink.
    pub sink: Box<dyn Sink>,
    /// The changes that it wants, as it alone sees them.
    pub feed: Box<dyn Feed>,
}

/// How a sink ended.
#[derive(Debug)]
pub enum End {
    /// All was delivered, and it is closed.
    Closed,
    /// It could not go on. This has been logged.
    Failed(SinkError),
    /// It had not finished in time; it goes on from its cursor when it is started again.
    Abandoned,
}

/// What became of a sink.
#[derive(Debug)]
pub struct Outcome {
    /// Its name.
    pub sink: String,
    /// How it ended.
    pub end: End,
    /// How far it came.
    pub progress: Progress,
}

/// What the sinks are to do; only ever rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Deliver, and wait for more.
    Following,
    /// Deliver to the feed's end, then close.
    Draining,
    /// Leave everything as it is.
    Abandoned,
}

struct Task {
    name: String,
    progress: watch::Receiver<Progress>,
    end: Option<End>,
}

/// The sinks at work. Dropping it abandons them.
pub struct Dispatcher {
    tasks: Vec<Task>,
    phase: watch::Sender<Phase>,
    ends: mpsc::Receiver<(usize, End)>,
}

impl Dispatcher {
    /// Starts every sink on its own thread. Fails if a thread cannot be started.
    pub fn start(routes: Vec<Route>, metrics: &Metrics) -> io::Result<Dispatcher> {
        let phase = watch::Sender::new(Phase::Following);
        let (ended, ends) = mpsc::channel();
        let mut tasks = Vec::with_capacity(routes.len());
        for (number, route) in routes.into_iter().enumerate() {
            let name = route.sink.name().to_owned();
            let (driver, progress) = Driver::new(route, phase.subscribe(), metrics.of(&name));
            let (ended, sink) = (ended.clone(), name.clone());
            thread::Builder::new().name(format!("sink {name}")).spawn(move || {
                let end = run(driver, &sink);
                // No one listens once the drain's deadline has passed.
                ended.send((number, end)).ok();
            })?;
            tasks.push(Task { name, progress, end: None });
        }
        Ok(Dispatcher { tasks, phase, ends })
    }

    /// The name and progress of every sink, in the order of the routes. The receivers stay good after the end.
    pub fn progress(&self) -> impl Iterator<Item = (&str, &watch::Receiver<Progress>)> {
        self.tasks.iter().map(|task| (task.name.as_str(), &task.progress))
    }

    /// Tells every sink to deliver what its feed still has for it, close and end. Nothing may be published into an outbox
    /// from here on.
    pub fn drain(&self) {
        self.raise(Phase::Draining);
    }

    /// Blocks until every sink has ended, or `within` has passed; whether all have ended.
    pub fn wait(&mut self, within: Duration) -> bool {
        let start = Instant::now();
        while self.tasks.iter().any(|task| task.end.is_none()) {
            let left = within.saturating_sub(start.elapsed());
            let Ok((number, end)) = self.ends.recv_timeout(left) else { return false };
            if let Some(task) = self.tasks.get_mut(number) {
                task.end = Some(end);
            }
        }
        true
    }

    /// Drains; abandons whichever sink has not ended `within` the time. Blocks until then.
    pub fn finish(mut self, within: Duration) -> Vec<Outcome> {
        self.drain();
        if !self.wait(within) {
            self.raise(Phase::Abandoned);
            self.wait(ABANDON_WITHIN);
        }
        let outcome = |task: Task| Outcome {
            sink: task.name,
            end: task.end.unwrap_or(End::Abandoned),
            progress: task.progress.borrow().clone(),
        };
        self.tasks.into_iter().map(outcome).collect()
    }

    fn raise(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let rises = *phase < to;
            *phase = to.max(*phase);
            rises
        });
    }
}

/// Drives one sink to its end and drops it, so that what it had locked is free when the end is known.
fn run(driver: Driver, sink: &str) -> End {
    let report = driver.report();
    // A panic must not make a sink silent.
    let end = catch_unwind(AssertUnwindSafe(|| driver.run()))
        .unwrap_or_else(|_| End::Failed(SinkError::fatal("it panicked, which is a mistake in touchline")));
    if let End::Failed(error) = &end {
        let reason = chain(error);
        error!(sink, error = reason, "sink stopped; once that is mended, start it again: it goes on where it stopped");
        report.stopped(&reason);
    }
    report.ended();
    end
}
