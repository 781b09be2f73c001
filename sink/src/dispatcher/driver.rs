//! Drives one sink.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::{runtime, select, task, time};
use touchline_core::output::Topic;
use tracing::{info, warn};

use super::{End, Phase, Progress, Route};
use crate::feed::{Feed, Rejection};
use crate::retry::Backoff;
use crate::sink::{
    BATCH_BYTES, BATCH_CHANGES, Batch, CURSOR_BYTES, Change, Cursor, Delivered, Lane, Rejected, Sink, SinkError, Start,
};

/// How often a sink without news may do what it has put off.
const IDLE_EVERY: Duration = Duration::from_secs(1);

/// One sink, what it reads from, and how it is doing.
pub struct Driver {
    feed: Arc<dyn Feed>,
    sink: Box<dyn Sink>,
    topics: Vec<Topic>,
    phase: watch::Receiver<Phase>,
    news: watch::Receiver<u64>,
    progress: watch::Sender<Progress>,
    backoff: Backoff,
    cursor: Option<Cursor>,
    lane: Lane,
    /// Changes to read at once; fewer while looking for one that the sink will not take.
    limit: usize,
}

impl Driver {
    pub fn new(
        feed: Arc<dyn Feed>,
        route: Route,
        phase: watch::Receiver<Phase>,
    ) -> (Driver, watch::Receiver<Progress>) {
        let (progress, receiver) = watch::channel(Progress::default());
        let news = feed.news();
        let (sink, topics, backoff) = (route.sink, route.topics, Backoff::default());
        let (cursor, lane, limit) = (None, Lane::new("outbox"), BATCH_CHANGES);
        let driver = Driver { feed, sink, topics, phase, news, progress, backoff, cursor, lane, limit };
        (driver, receiver)
    }

    /// Where the sink's progress is written.
    pub fn progress(&self) -> watch::Sender<Progress> {
        self.progress.clone()
    }

    /// Delivers until drained, abandoned or failed, blocking this thread.
    pub fn run(mut self) -> End {
        let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return End::Failed(SinkError::Fatal(error.into())),
        };
        let mut phase = self.phase.clone();
        runtime.block_on(async {
            select! {
                biased;
                // An error means that the dispatcher is gone, which says the same.
                _ = phase.wait_for(|phase| *phase == Phase::Abandoned) => End::Abandoned,
                result = self.follow() => match result {
                    Ok(()) => End::Closed,
                    Err(error) => End::Failed(error),
                },
            }
        })
    }

    async fn follow(&mut self) -> Result<(), SinkError> {
        self.cursor = self.left_off().await?;
        self.progress.send_modify(|progress| progress.acknowledged = self.cursor.clone());
        loop {
            // Both before reading: what is published after that is news, and the feed's end is its end at the drain.
            let draining = *self.phase.borrow_and_update() >= Phase::Draining;
            self.news.borrow_and_update();
            let batch = self.read().await?;
            let caught_up = batch.is_none();
            self.progress.send_if_modified(|it| std::mem::replace(&mut it.caught_up, caught_up) != caught_up);
            match batch {
                Some(batch) => self.deliver(batch).await?,
                None if draining => return self.close().await,
                None => self.rest().await?,
            }
            // A sink that never waits would not let this thread see that it is to stop.
            task::yield_now().await;
        }
    }

    async fn left_off(&mut self) -> Result<Option<Cursor>, SinkError> {
        loop {
            match self.sink.claim(&self.lane).await {
                Ok(Start::At(cursor)) => return Ok(cursor),
                Ok(Start::Remembered) => return Ok(None),
                Err(error) => self.again(error).await?,
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Batch>, SinkError> {
        loop {
            match self.feed.read(self.cursor.as_ref(), &self.topics, self.limit) {
                Ok(batch) => return batch.map(|batch| within_bounds(batch, self.limit)).transpose(),
                Err(error) => self.again(error.into()).await?,
            }
        }
    }

    /// Delivers the batch, or as much of it as can be; or sets out to read less of it, if one change is in the way.
    async fn deliver(&mut self, mut batch: Batch) -> Result<(), SinkError> {
        loop {
            match self.sink.deliver(&self.lane, &batch).await {
                Ok(Delivered::Pending) => return Err(SinkError::fatal("nothing may be pending yet")),
                Ok(Delivered::Stored) => {
                    self.acknowledge(batch);
                    return Ok(());
                }
                Err(SinkError::RejectThese(rejected)) => self.reject(&mut batch, &rejected).await?,
                Err(SinkError::RejectSome(_)) if batch.changes.len() > 1 => {
                    self.limit = batch.changes.len() / 2;
                    return Ok(());
                }
                Err(SinkError::RejectSome(source)) => {
                    let this = Rejected { position: 0, reason: chain(&*source) };
                    self.reject(&mut batch, &[this]).await?;
                }
                Err(error) => self.again(error).await?,
            }
        }
    }

    fn acknowledge(&mut self, batch: Batch) {
        self.works();
        self.limit = (self.limit * 2).min(BATCH_CHANGES);
        self.cursor = batch.next;
        self.progress.send_modify(|progress| {
            progress.acknowledged = self.cursor.clone();
            progress.delivered += batch.changes.len() as u64;
        });
    }

    /// Notes that what failed before has worked.
    fn works(&mut self) {
        if self.backoff.attempts() > 0 {
            info!(sink = self.sink.name(), attempts = self.backoff.attempts(), "works again");
            self.backoff.reset();
            self.progress.send_modify(|progress| progress.failing = None);
        }
    }

    /// Turns the rejected changes into dead letters and takes them out of the batch.
    async fn reject(&mut self, batch: &mut Batch, rejected: &[Rejected]) -> Result<(), SinkError> {
        let reason_of = |position| rejected.iter().find(|it| it.position == position).map(|it| it.reason.as_str());
        let mut these: Vec<(Change, &str)> = Vec::new();
        let mut others = Vec::with_capacity(batch.changes.len());
        for (position, change) in std::mem::take(&mut batch.changes).into_iter().enumerate() {
            match reason_of(position) {
                Some(reason) => these.push((change, reason)),
                None => others.push(change),
            }
        }
        batch.changes = others;
        let Some((_, reason)) = these.first() else {
            return Err(SinkError::fatal("it rejected changes that it was not given, which is a mistake in touchline"));
        };
        let name = self.sink.name().to_owned();
        warn!(sink = name, count = these.len(), first_reason = reason, "changes rejected; they become dead letters");
        // A dead letter that is rejected stands among the dead letters already; another one would be read here again.
        let rejections: Vec<_> = these
            .iter()
            .filter(|(change, _)| change.topic != Topic::DeadLetters)
            .map(|(change, reason)| Rejection { sink: &name, change, reason })
            .collect();
        while let Err(error) = self.feed.reject(&rejections) {
            self.again(error.into()).await?;
        }
        self.progress.send_modify(|progress| progress.rejected += these.len() as u64);
        Ok(())
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        while let Err(error) = self.sink.close().await {
            self.again(error).await?;
        }
        self.works();
        Ok(())
    }

    /// Until there is news, or it is time to look again.
    async fn rest(&mut self) -> Result<(), SinkError> {
        while let Err(error) = self.sink.idle().await {
            self.again(error).await?;
        }
        self.works();
        select! {
            Ok(()) = self.news.changed() => {}
            Ok(()) = self.phase.changed() => {}
            () = time::sleep(IDLE_EVERY) => {}
        }
        Ok(())
    }

    /// Waits, if it makes sense to try again; else gives the error back. The beginning of the drain cuts a pause short.
    async fn again(&mut self, error: SinkError) -> Result<(), SinkError> {
        let SinkError::Retry(source) = error else { return Err(error) };
        let (pause, attempts, reason) = (self.backoff.pause(), self.backoff.attempts(), chain(&*source));
        warn!(sink = self.sink.name(), attempts, ?pause, reason, "not delivered; trying again");
        self.progress.send_modify(|progress| {
            progress.retries += 1;
            progress.failing = Some(reason);
        });
        select! {
            Ok(()) = self.phase.changed() => {}
            () = time::sleep(pause) => {}
        }
        Ok(())
    }
}

/// Holds the feed to what it promises, since sinks rely on it.
fn within_bounds(batch: Batch, limit: usize) -> Result<Batch, SinkError> {
    let bytes: usize = batch.changes.iter().map(Change::bytes).sum();
    let many = batch.changes.len() > limit || bytes > BATCH_BYTES && batch.changes.len() > 1;
    if many || batch.next.as_ref().is_some_and(|next| next.as_bytes().len() > CURSOR_BYTES) {
        return Err(SinkError::fatal("the feed gave more than it was asked for, which is a mistake in touchline"));
    }
    Ok(batch)
}

/// An error and its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
