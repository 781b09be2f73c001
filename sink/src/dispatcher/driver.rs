//! Drives one sink.
//!
//! What is to be done stands in a queue of [`Step`]s, and each is done by itself. One that fails goes back to the front
//! until it succeeds, or until its lane is gone; so lanes come and go, and what is pending settles, whatever the sink is
//! waiting for. The feed is asked for a batch only when there is nothing else to do, which keeps the queue short.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio::{runtime, select, task, time};
use touchline_core::output::Topic;
use tracing::{debug, info, warn};

use super::lane::{Held, Taken};
use super::progress::{Progress, Report};
use super::{End, Phase, Route};
use crate::feed::{Event, Feed, FeedError, Rejection};
use crate::metrics::SinkMetrics;
use crate::retry::Backoff;
use crate::sink::{
    BATCH_BYTES, BATCH_CHANGES, Batch, BoxError, CURSOR_BYTES, Change, Cursor, Delivered, LANE_BYTES, Lane, Rejected,
    Settled, Sink, SinkError, Start,
};

/// Lines of this target tell of people. They are not written unless somebody asks for them by this name.
const PERSONAL: &str = "personal";

/// How often a sink without news may do what it has put off.
const IDLE_EVERY: Duration = Duration::from_secs(1);

/// How often metrics are looked after that no delivery changes.
const STAND_EVERY: Duration = Duration::from_millis(250);

/// A change that will never be delivered, and why.
type Refused = (Change, String);

/// Something to do.
#[derive(Debug)]
enum Step {
    Claim(Lane),
    Start(Lane, Start),
    Deliver(Lane, Batch),
    Reject(Lane, Vec<Refused>),
    Remember(Lane, Cursor),
    Idle,
    Close,
    Leave,
}

impl Step {
    fn lane(&self) -> Option<&Lane> {
        match self {
            Step::Claim(lane)
            | Step::Start(lane, _)
            | Step::Deliver(lane, _)
            | Step::Reject(lane, _)
            | Step::Remember(lane, _) => Some(lane),
            Step::Idle | Step::Close | Step::Leave => None,
        }
    }
}

/// What failed last; only its own success shows that it works again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// A step, which is repeated here.
    Step,
    /// Something pending, which the sink repeats.
    Pending,
    /// The feed, which repeats by itself.
    Feed,
}

/// One sink, what it reads from, and how it is doing.
pub struct Driver {
    feed: Box<dyn Feed>,
    sink: Box<dyn Sink>,
    phase: watch::Receiver<Phase>,
    report: Report,
    backoff: Backoff,
    lanes: BTreeMap<Lane, Held>,
    steps: VecDeque<Step>,
    /// No step is tried before.
    pause: Option<Instant>,
    /// What changes by itself is not told before.
    stand_at: Instant,
    trouble: Option<Trouble>,
    /// The feed's last word was that it has nothing new.
    is_idle: bool,
    /// The feed has been told that the end is near.
    is_finishing: bool,
    /// The feed has nothing more.
    is_over: bool,
    is_closed: bool,
}

impl Driver {
    pub fn new(
        route: Route,
        phase: watch::Receiver<Phase>,
        metrics: SinkMetrics,
    ) -> (Driver, watch::Receiver<Progress>) {
        let (report, receiver) = Report::new(metrics);
        let driver = Driver {
            feed: route.feed,
            sink: route.sink,
            phase,
            report,
            backoff: Backoff::default(),
            lanes: BTreeMap::new(),
            steps: VecDeque::new(),
            pause: None,
            stand_at: Instant::now(),
            trouble: None,
            is_idle: false,
            is_finishing: false,
            is_over: false,
            is_closed: false,
        };
        (driver, receiver)
    }

    /// Where the sink's progress is written.
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// Delivers until drained, abandoned or failed, blocking this thread.
    pub fn run(mut self) -> End {
        let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return End::Failed(SinkError::Fatal(error.into())),
        };
        let mut phase = self.phase.clone();
        let end = runtime.block_on(async {
            select! {
                biased;
                // An error means that the dispatcher is gone, which says the same.
                _ = phase.wait_for(|phase| *phase == Phase::Abandoned) => End::Abandoned,
                result = self.follow() => match result {
                    Ok(()) => End::Closed,
                    Err(error) => End::Failed(error),
                },
            }
        });
        drop(self);
        // What a sink or feed has left to other threads is not waited for.
        runtime.shutdown_background();
        end
    }

    async fn follow(&mut self) -> Result<(), SinkError> {
        while !self.is_closed {
            if !self.is_finishing && *self.phase.borrow_and_update() >= Phase::Draining {
                self.feed.finish();
                self.is_finishing = true;
                // A pause is cut short.
                self.pause = None;
            }
            match self.steps.pop_front() {
                Some(step) if self.pause.is_none() => self.take(step).await?,
                Some(step) => {
                    self.steps.push_front(step);
                    self.wait().await?;
                }
                None if self.is_over && self.lanes.values().all(Held::is_settled) => {
                    self.steps.extend([Step::Close, Step::Leave]);
                }
                None => self.wait().await?,
            }
            // A sink that never waits would not let this thread see that it is to stop.
            task::yield_now().await;
        }
        Ok(())
    }

    /// Until something happens.
    async fn wait(&mut self) -> Result<(), SinkError> {
        let is_paused = self.pause.is_some();
        let room = if is_paused || self.is_over { 0 } else { self.sink.room().min(BATCH_CHANGES) };
        let (now, pause) = (Instant::now(), self.pause);
        let wake = pause.map_or(now + IDLE_EVERY, |pause| pause.min(now + IDLE_EVERY));
        self.stand(now);
        select! {
            Ok(()) = self.phase.changed() => Ok(()),
            event = self.feed.next(room) => self.hear(event, room),
            settled = self.sink.settled() => self.settle(settled),
            () = time::sleep_until(wake) => {
                match pause {
                    Some(pause) if wake < pause => {}
                    Some(_) => self.pause = None,
                    None if self.is_idle => self.steps.push_back(Step::Idle),
                    None => {}
                }
                Ok(())
            }
        }
    }

    fn hear(&mut self, event: Result<Event, FeedError>, room: usize) -> Result<(), SinkError> {
        let event = match event {
            Ok(event) => event,
            Err(FeedError::Retry(source)) => {
                self.note(Trouble::Feed, &source);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        match event {
            Event::Assigned(lane) if lane.as_str().len() > LANE_BYTES => {
                return Err(SinkError::fatal(format!("the name of the lane {lane} is too long")));
            }
            Event::Assigned(lane) => self.steps.push_back(Step::Claim(lane)),
            Event::Revoked(lane) => {
                self.sink.release(&lane);
                self.let_go(&lane);
                self.report.gone(&lane);
            }
            Event::Batch(lane, batch) => {
                self.works(Trouble::Feed);
                self.is_idle = false;
                self.report.caught_up(false);
                self.steps.push_back(Step::Deliver(lane, within_bounds(batch, room)?));
            }
            Event::Idle => {
                self.works(Trouble::Feed);
                self.is_idle = true;
                self.report.caught_up(true);
                self.steps.push_back(Step::Idle);
            }
            Event::End => self.is_over = true,
        }
        Ok(())
    }

    fn settle(&mut self, settled: Result<Settled, SinkError>) -> Result<(), SinkError> {
        let settled = match settled {
            Ok(settled) => settled,
            Err(SinkError::Retry(source)) => {
                self.note(Trouble::Pending, &source);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let Settled { lane, rejected, through } = settled;
        // To give up is no success.
        if rejected.is_empty() {
            self.works(Trouble::Pending);
        }
        if !self.lanes.contains_key(&lane) {
            return Ok(());
        }
        // Dead letters first: what is remembered is not looked at again.
        if !rejected.is_empty() {
            self.steps.push_back(Step::Reject(lane.clone(), rejected));
        }
        self.steps.extend(through.map(|cursor| Step::Remember(lane, cursor)));
        Ok(())
    }

    /// Does one step, or puts it back.
    async fn take(&mut self, step: Step) -> Result<(), SinkError> {
        let result = match &step {
            Step::Deliver(lane, batch) => match self.sink.deliver(lane, batch).await {
                Ok(delivered) => self.delivered(lane.clone(), batch, delivered),
                Err(error) => Err(error),
            },
            Step::Claim(lane) => {
                let start = self.sink.claim(lane).await;
                start.map(|start| self.steps.push_front(Step::Start(lane.clone(), start)))
            }
            Step::Start(lane, from) => match self.feed.start(lane, from).await {
                Ok(cursor) => {
                    self.lanes.insert(lane.clone(), Held::from(cursor));
                    self.tell(lane);
                    Ok(())
                }
                Err(error) => Err(error.into()),
            },
            Step::Reject(lane, refused) => self.reject(lane, refused).await,
            Step::Remember(lane, cursor) => self.remember(lane, cursor),
            Step::Idle => self.sink.idle().await,
            Step::Close => self.sink.close().await,
            Step::Leave => {
                let left = self.feed.close().await;
                self.is_closed = left.is_ok();
                left.map_err(SinkError::from)
            }
        };
        match result {
            Ok(()) => {
                self.works(Trouble::Step);
                Ok(())
            }
            Err(error) => self.failed(step, error),
        }
    }

    /// What to do instead of a step that has failed.
    fn failed(&mut self, step: Step, error: SinkError) -> Result<(), SinkError> {
        match (step, error) {
            (step, SinkError::Retry(source)) => {
                self.steps.push_front(step);
                self.again(&source);
            }
            (_, SinkError::Lost(lane)) => {
                self.sink.release(&lane);
                self.let_go(&lane);
                self.steps.push_front(Step::Claim(lane.clone()));
                self.again(&SinkError::Lost(lane).into());
            }
            (Step::Deliver(lane, batch), SinkError::RejectThese(rejected)) => {
                let (refused, others) = without(batch, &rejected)?;
                self.steps.push_front(Step::Deliver(lane.clone(), others));
                self.steps.push_front(Step::Reject(lane, refused));
            }
            (Step::Deliver(lane, mut batch), SinkError::RejectSome(_)) if batch.changes.len() > 1 => {
                let changes = batch.changes.split_off(batch.changes.len() / 2);
                let second = Batch { changes, next: batch.next.take(), published_at: batch.published_at };
                self.steps.push_front(Step::Deliver(lane.clone(), second));
                self.steps.push_front(Step::Deliver(lane, batch));
            }
            (Step::Deliver(lane, batch), SinkError::RejectSome(source)) => {
                let this = Rejected { position: 0, reason: chain(&*source) };
                return self.failed(Step::Deliver(lane, batch), SinkError::RejectThese(vec![this]));
            }
            (_, error) => return Err(error),
        }
        Ok(())
    }

    fn delivered(&mut self, lane: Lane, batch: &Batch, delivered: Delivered) -> Result<(), SinkError> {
        let taken = Taken::of(batch);
        match delivered {
            Delivered::Stored => {
                self.report.delivered(taken.changes, taken.published_at);
                let next = batch.next.clone();
                next.map_or(Ok(()), |next| self.acknowledge(&lane, next))
            }
            Delivered::Pending => {
                self.lanes.entry(lane).or_default().pending.push_back(taken);
                Ok(())
            }
        }
    }

    /// What is pending of the lane up to `through` has settled.
    fn remember(&mut self, lane: &Lane, through: &Cursor) -> Result<(), SinkError> {
        let Some(held) = self.lanes.get_mut(lane) else { return Ok(()) };
        let Some(settled) = held.settle(through) else {
            return Err(SinkError::fatal("a batch settled that was not pending, which is a mistake in touchline"));
        };
        settled.into_iter().for_each(|(changes, published_at)| self.report.delivered(changes, published_at));
        self.acknowledge(lane, through.clone())
    }

    fn acknowledge(&mut self, lane: &Lane, next: Cursor) -> Result<(), SinkError> {
        self.feed.remember(lane, &next)?;
        self.lanes.entry(lane.clone()).or_default().acknowledged = Some(next);
        self.tell(lane);
        Ok(())
    }

    /// Turns the changes into dead letters.
    async fn reject(&mut self, lane: &Lane, refused: &[Refused]) -> Result<(), SinkError> {
        let Some((_, reason)) = refused.first() else { return Ok(()) };
        let sink = self.sink.name().to_owned();
        warn!(sink, %lane, count = refused.len(), "changes rejected; they become dead letters, which say why");
        // It may repeat what was refused.
        debug!(target: PERSONAL, sink, %lane, reason, "the first was rejected");
        // A dead letter that is rejected stands among the dead letters already; another one would be read here again.
        let others = refused.iter().filter(|(change, _)| change.topic != Topic::DeadLetters);
        let rejections: Vec<_> =
            others.map(|(change, reason)| Rejection { sink: &sink, lane, change, reason }).collect();
        if !rejections.is_empty() {
            self.feed.reject(&rejections).await?;
        }
        let count = refused.len() as u64;
        self.report.rejected(count);
        if let Some(held) = self.lanes.get_mut(lane) {
            held.rejected(count);
        }
        Ok(())
    }

    /// Forgets what was to be done for the lane.
    fn let_go(&mut self, lane: &Lane) {
        self.lanes.remove(lane);
        self.steps.retain(|step| step.lane() != Some(lane));
    }

    fn tell(&self, lane: &Lane) {
        if let Some(held) = self.lanes.get(lane) {
            let lag = self.feed.lag(lane, held.acknowledged.as_ref());
            self.report.acknowledged(lane, held.acknowledged.clone(), lag);
        }
    }

    /// Tells what changes by itself, now and then: the lag of a sink that is away grows.
    fn stand(&mut self, now: Instant) {
        if now < self.stand_at {
            return;
        }
        self.stand_at = now + STAND_EVERY;
        self.lanes.keys().for_each(|lane| self.tell(lane));
        let pending = || self.lanes.values().flat_map(|held| &held.pending);
        let in_hand = self.steps.iter().filter_map(|step| match step {
            Step::Deliver(_, batch) => batch.published_at,
            _ => None,
        });
        let since = pending().filter_map(|taken| taken.published_at).chain(in_hand).min();
        self.report.standing(pending().map(|taken| taken.changes).sum(), since, self.feed.missed());
    }

    /// Sets out to try again after a pause.
    fn again(&mut self, source: &BoxError) {
        let pause = self.backoff.pause();
        self.pause = Some(Instant::now() + pause);
        let (attempts, reason) = (self.backoff.attempts(), chain(&**source));
        warn!(sink = self.sink.name(), attempts, ?pause, reason, "not delivered; trying again");
        self.trouble = Some(Trouble::Step);
        self.report.failed(&reason);
    }

    /// Notes a failure that somebody else repeats. Only the first is for people: there may be hundreds a second.
    fn note(&mut self, trouble: Trouble, source: &BoxError) {
        let (sink, reason) = (self.sink.name(), chain(&**source));
        match self.trouble.replace(trouble) {
            None => warn!(sink, reason, "not delivered; trying again"),
            Some(_) => debug!(sink, reason, "not delivered; trying again"),
        }
        self.report.failed(&reason);
    }

    /// Notes that what failed before has worked.
    fn works(&mut self, what: Trouble) {
        if what == Trouble::Step {
            self.backoff.reset();
        }
        if self.trouble == Some(what) && !(what == Trouble::Feed && self.feed.is_waiting()) {
            info!(sink = self.sink.name(), "works again");
            self.trouble = None;
            self.report.works();
        }
    }
}

/// The rejected changes with their reasons, and the batch without them.
fn without(mut batch: Batch, rejected: &[Rejected]) -> Result<(Vec<Refused>, Batch), SinkError> {
    let reason_of = |position| rejected.iter().find(|it| it.position == position).map(|it| it.reason.clone());
    let (mut refused, mut others) = (Vec::new(), Vec::with_capacity(batch.changes.len()));
    for (position, change) in std::mem::take(&mut batch.changes).into_iter().enumerate() {
        match reason_of(position) {
            Some(reason) => refused.push((change, reason)),
            None => others.push(change),
        }
    }
    if refused.is_empty() {
        return Err(SinkError::fatal("it rejected changes that it was not given, which is a mistake in touchline"));
    }
    batch.changes = others;
    Ok((refused, batch))
}

/// Holds the feed to what it promises, since sinks rely on it.
fn within_bounds(batch: Batch, room: usize) -> Result<Batch, SinkError> {
    let bytes: usize = batch.changes.iter().map(Change::bytes).sum();
    let many = batch.changes.len() > room || bytes > BATCH_BYTES && batch.changes.len() > 1;
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
