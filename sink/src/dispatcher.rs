//! One driver for all sinks.
//!
//! Each sink has a thread with a runtime of its own, so that one that computes, blocks or hangs holds back no other. It
//! reads the feed from where the sink left off and delivers, batch after batch:
//! - [`SinkError::Retry`]: again after a pause, for ever; nothing is dropped.
//! - [`SinkError::RejectThese`]: dead letters for these, durable first; then the batch again without them.
//! - [`SinkError::RejectSome`]: the same place is read again with half as many changes, down to one, which is the one.
//! - [`SinkError::Fatal`]: this sink ends where it is; the others go on.
//!
//! Draining: when nothing more will be published, each sink is brought to the feed's end and closed. Whichever has not
//! got there in time is abandoned as if the process had crashed, which every sink survives.

mod driver;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use touchline_core::output::Topic;
use tracing::error;

use crate::feed::Feed;
use crate::sink::{Cursor, Sink, SinkError};
use driver::Driver;

/// For a sink that has been told to abandon its work: enough to come back from an await and release its locks.
const ABANDON_WITHIN: Duration = Duration::from_secs(1);

/// A sink and what it is sent.
pub struct Route {
    /// The sink.
    pub sink: Box<dyn Sink>,
    /// Changes of other topics pass it by.
    pub topics: Vec<Topic>,
}

/// How far a sink has come: for trimming the feed, for metrics and for people.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The sink has stored all before it; the feed may forget that. `None`: nothing yet.
    pub acknowledged: Option<Cursor>,
    /// Changes delivered by this process.
    pub delivered: u64,
    /// Changes that went to the dead letters.
    pub rejected: u64,
    /// Attempts that failed and were repeated.
    pub retries: u64,
    /// Why the last attempt failed, until one succeeds.
    pub failing: Option<String>,
    /// Whether the last look at the feed found nothing new.
    pub caught_up: bool,
    /// Whether it has ended, in whatever way.
    pub ended: bool,
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
    pub fn start(feed: Arc<dyn Feed>, routes: Vec<Route>) -> io::Result<Dispatcher> {
        let phase = watch::Sender::new(Phase::Following);
        let (ended, ends) = mpsc::channel();
        let mut tasks = Vec::with_capacity(routes.len());
        for (number, route) in routes.into_iter().enumerate() {
            let name = route.sink.name().to_owned();
            let (driver, progress) = Driver::new(feed.clone(), route, phase.subscribe());
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

    /// Tells every sink to deliver what the feed has now, close and end. Nothing may be published from here on.
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
    let progress = driver.progress();
    // A panic must not make a sink silent.
    let end = catch_unwind(AssertUnwindSafe(|| driver.run()))
        .unwrap_or_else(|_| End::Failed(SinkError::fatal("it panicked, which is a mistake in touchline")));
    if let End::Failed(error) = &end {
        error!(sink, error = driver::chain(error), "sink stopped; started again, it goes on where it stopped");
    }
    progress.send_modify(|progress| progress.ended = true);
    end
}
